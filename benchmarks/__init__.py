"""How fast, against the bare engine underneath, in one run. One question per file."""
