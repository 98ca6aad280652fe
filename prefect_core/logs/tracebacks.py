"""Tracebacks as users should see them: from the first frame that is theirs, and as they were in a worker."""

from __future__ import annotations

import traceback
from types import TracebackType

RAISED_IN_WORKER = "Raised in worker "
"""Begins the note by which an exception of a worker keeps its traceback."""

_OURS = frozenset({"prefect_core", "prefect_runners"})
_MOST_FRAMES = 60
"""Runs inside runs by the hundred show their traceback at every level: whole ones would take seconds and megabytes."""


def users_part(frames: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame on that is not the engine's; of a very long one, the end."""
    while frames is not None and _is_ours(frames.tb_frame.f_globals.get("__name__", "")):
        frames = frames.tb_next
    length, frame = 0, frames
    while frame is not None:
        length, frame = length + 1, frame.tb_next
    for _ in range(length - _MOST_FRAMES):
        assert frames is not None
        frames = frames.tb_next
    return frames


def _is_ours(module: str) -> bool:
    # The bodies of the test kit are a user's for all that we know.
    return module.partition(".")[0] in _OURS and not module.startswith("prefect_core.testing.")


def text_of(error: BaseException) -> str:
    """Return what Python prints of an exception, without the engine's frames; of one from a worker what was printed there."""
    text = text_in_worker(error)
    if text is None:
        text = "".join(traceback.format_exception(type(error), error, users_part(error.__traceback__))).rstrip("\n")
    return text


def text_in_worker(error: BaseException) -> str | None:
    """Return the traceback that an exception had in the worker that raised it; None for one that was raised here."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, str) and note.startswith(RAISED_IN_WORKER):
            return note.partition("\n")[2]
    return None
