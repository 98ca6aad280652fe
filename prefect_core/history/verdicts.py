"""Verdicts: an earlier result stands for the call, it does not, or the result that was stored of the run is no more."""

TAKEN, AGAIN, DROPPED, ROLLED_BACK = "taken over", "runs again", "dropped", "rolled back"
CACHED, NOT_CACHED = "cached", "not cached"
