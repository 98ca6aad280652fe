"""The bytes that stand for one value: tags, sizes, and the pieces of atoms.

A piece tells by itself where it ends, so a row of pieces can be read in one way only. It begins with a tag of one byte:

    N T F . !       None, True, False, Ellipsis, NotImplemented
    i f c s b y     int, float, complex, str, bytes, bytearray: size and content
    l t S Z d       list, tuple, set, frozenset, dict: size and pieces
    K               any other kind: its name, how many pieces follow, and these
    *               what the caller's `special` gave
    #               sha256 of a piece that is longer than `LONGEST`

The last keeps a value that is met a thousand times from being written a thousand times: see `walk.py`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import islice
from math import isnan, nan
from struct import Struct
from sys import byteorder
from typing import Any

LONGEST = 256
"""A piece over this many bytes is replaced by its hash."""

NONE, TRUE, FALSE, ELLIPSIS, NOT_IMPLEMENTED = b"N", b"T", b"F", b".", b"!"
LIST, TUPLE, SET, FROZENSET, DICT = b"l", b"t", b"S", b"Z", b"d"
KIND, SPECIAL, HASHED = b"K", b"*", b"#"

_double = Struct("<d").pack
_NAN = _double(nan)


def size(number: int) -> bytes:
    """Return a count so that the reader knows where it ends: one byte, or 255 and eight more."""
    return SIZES[number] if number < 254 else b"\xff" + number.to_bytes(8, "little")


# 254 is kept for columns, below.
SIZES = [bytes([number]) for number in range(254)]
_INT = [b"i" + size(number) for number in range(9)]
_STR = [b"s" + size(number) for number in range(64)]


def shortened(piece: bytes) -> bytes:
    """Return a piece, or what stands for it when it is long."""
    return piece if len(piece) <= LONGEST else HASHED + sha256(piece).digest()


def sized(tag: bytes, content: bytes | bytearray | memoryview) -> bytes:
    """Return the piece of plain bytes; long ones are hashed where they lie, without a copy."""
    length = len(content)
    head = tag + size(length)
    if length <= LONGEST - len(head):
        return head + content
    hasher = sha256(head)
    hasher.update(content)
    return HASHED + hasher.digest()


def _int(value: int) -> bytes:
    length = (value.bit_length() >> 3) + 1
    raw = value.to_bytes(length, "little", signed=True)
    return _INT[length] + raw if length < 9 else sized(b"i", raw)


def _float(value: float) -> bytes:
    return b"f" + (_NAN if isnan(value) else _double(value))


def _complex(value: complex) -> bytes:
    return b"c" + _float(value.real) + _float(value.imag)


def text(value: str) -> bytes:
    """Return the piece of a string; a surrogate on its own, as in the name of a file, is a character like any other."""
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "surrogatepass")
    length = len(raw)
    return _STR[length] + raw if length < 64 else sized(b"s", raw)


ATOMS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: NONE,
    bool: lambda value: TRUE if value else FALSE,
    int: _int,
    float: _float,
    complex: _complex,
    str: text,
    bytes: lambda value: sized(b"b", value),
    bytearray: lambda value: sized(b"y", value),
    type(...): lambda _: ELLIPSIS,
    type(NotImplemented): lambda _: NOT_IMPLEMENTED,
}


def record(name: str, *pieces: bytes) -> bytes:
    """Return the piece of a kind that has no tag of its own."""
    return KIND + text(name) + size(len(pieces)) + b"".join(pieces)


# Long columns: rows of strings, ints or floats and nothing else are written at once instead of one by one, five times as fast.
# Which rows are so written follows from the row alone; otherwise equal rows could differ.

COLUMN_FROM = 16
_COLUMN = b"\xfe"
_AT_ONCE = 1 << 16


def column(values: Sequence[Any]) -> bytes | None:
    """Return what stands for many atoms of one type, or None if they are not that."""
    kinds = set(map(type, values))
    if len(kinds) != 1:
        return None
    kind = kinds.pop()
    if kind is str:
        return _column_of_text(values)
    if kind is int:
        try:
            return _column_of_numbers(b"i", array("q", values))
        except OverflowError:
            return None
    if kind is float:
        if any(map(isnan, values)):
            values = [nan if isnan(value) else value for value in values]
        return _column_of_numbers(b"f", array("d", values))
    return None


def _column_of_numbers(tag: bytes, numbers: array[Any]) -> bytes:
    if byteorder == "big":
        numbers.byteswap()
    return _COLUMN + tag + size(len(numbers)) + sha256(numbers).digest()


def _column_of_text(values: Sequence[str]) -> bytes:
    lengths = _column_of_numbers(b"s", array("q", map(len, values)))
    hasher = sha256()
    row = iter(values)
    while chunk := list(islice(row, _AT_ONCE)):
        hasher.update("".join(chunk).encode("utf-8", "surrogatepass"))
    return lengths + hasher.digest()
