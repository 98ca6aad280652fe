"""Which keys an object may have: names that mean the same everywhere and never lead out of the storage."""

from __future__ import annotations

import os
import re
from hashlib import sha256

from prefect_core.errors import shown

MOST_BYTES = 1024
MOST_BYTES_OF_A_PART = 255
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")
TEMPORARY = ".tmp-"
"""What the names begin with under which objects are written before they get their own."""


def check_key(key: str) -> str:
    """Return the key. Raises `ValueError`, which names the key and the reason, for one that is refused."""
    reason = "it is no string" if not isinstance(key, str) else _reason(key)
    if reason:
        raise ValueError(f"The storage key {shown(key, 100)} is refused: {reason}.")
    return key


def temporary_name() -> str:
    """Return a name under which nothing is yet, and which no key has."""
    return f"{TEMPORARY}{os.urandom(16).hex()}"


def is_temporary(name: str) -> bool:
    """Tell whether a name, the last part of a path, is one of those."""
    return name.startswith(TEMPORARY)


def _reason(key: str) -> str:
    if not key:
        return "it is empty"
    if key.startswith("/"):
        return "it is an absolute path"
    if "\\" in key:
        return "it has a backslash"
    if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in key):
        return "it has a control character"
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        return "it is no valid Unicode"
    if length > MOST_BYTES:
        return f"it has {length} bytes, and {MOST_BYTES} are the most"
    return next(filter(None, map(_reason_of_part, key.split("/"))), "")


def _reason_of_part(part: str) -> str:
    if not part:
        return "a name in it is empty"
    if part in {".", ".."}:
        return f"it has the name {part!r}, which leads elsewhere"
    if part.startswith(TEMPORARY):
        return f"names that begin with {TEMPORARY!r} are those of objects not yet written"
    length = len(part.encode())
    return (
        f"a name in it has {length} bytes, and {MOST_BYTES_OF_A_PART} are the most"
        if length > MOST_BYTES_OF_A_PART
        else ""
    )


def file_name_of(text: str) -> str:
    """Return a name for a file that stands for any text: the text itself if it is a plain word, else its SHA-256."""
    if _PLAIN_WORD.fullmatch(text):
        return text
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
