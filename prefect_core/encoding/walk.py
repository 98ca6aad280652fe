"""The walk through one value, from the outside in.

Each container's piece is made of its parts' pieces. A long piece is replaced by its hash at once, and the hash is kept for the
length of the walk: a container that is met in a thousand places is walked once, and the walk takes time and memory by the number of
objects, not by the number of ways to reach them. Whether a piece is long follows from the value, so sharing makes no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prefect_core.encoding.pieces import (
    ATOMS,
    COLUMN_FROM,
    LONGEST,
    SIZES,
    SPECIAL,
    column,
    shortened,
    size,
    sized,
    text,
)
from prefect_core.encoding.refusals import Refusal
from prefect_core.errors import describe

Special = Callable[[object], bytes | None]
How = Callable[[Any, "Walk"], bytes]
"""Returns the piece of a value of one kind, however long."""

DEEPEST = 200
"""A value may have this many containers inside each other; the walk is a recursion, and must not use up the caller's stack."""


class Walk:
    """One walk: who is asked first, how kinds are encoded, and which containers are done or still open."""

    __slots__ = ("_done", "_hows", "_open", "_special")

    def __init__(self, special: Special | None, hows: dict[type, How]) -> None:
        self._special = special
        # Has a `__missing__` that decides on a new type.
        self._hows = hows
        self._open: set[int] = set()
        # With the container itself, so that no other object gets its id meanwhile.
        self._done: dict[int, tuple[object, bytes]] = {}

    def encode(self, value: object) -> bytes:
        """Return the short piece of any value. Raises `Refusal`, and nothing else."""
        kind = type(value)
        atom = ATOMS.get(kind)
        if atom is not None:
            return atom(value)
        if self._special is not None:
            piece = self._asked(value)
            if piece is not None:
                return piece
        key = id(value)
        done = self._done.get(key)
        if done is not None:
            return done[1]
        if key in self._open:
            raise Refusal(value, "it holds itself")
        if len(self._open) >= DEEPEST:
            raise Refusal(value, f"it lies more than {DEEPEST} levels deep")
        self._open.add(key)
        try:
            piece = self._hows[kind](value, self)
        except Refusal:
            raise
        except Exception as error:
            raise Refusal(value, f"reading it raised {describe(error)}") from error
        self._open.discard(key)
        if len(piece) > LONGEST:
            piece = shortened(piece)
            self._done[key] = (value, piece)
        return piece

    def keep(self, value: object, piece: bytes) -> bytes:
        """Return the piece of an array or table, for the next time it is met too: it is short, but was not had for nothing."""
        piece = shortened(piece)
        self._done[id(value)] = (value, piece)
        return piece

    def _asked(self, value: object) -> bytes | None:
        assert self._special is not None
        try:
            stands = self._special(value)
        except Exception as error:
            raise Refusal(value, f"reading it raised {describe(error)}") from error
        return None if stands is None else sized(SPECIAL, stands)

    def items(self, values: Sequence[Any], step: Callable[[int], str] = "[{}]".format) -> bytes:
        """Return the number and the pieces of a row of values, to go behind a tag."""
        length = len(values)
        if length >= COLUMN_FROM:
            whole = column(values)
            if whole is not None:
                return whole
        parts = []
        encode = self.encode
        try:
            for value in values:
                atom = ATOMS.get(type(value))
                parts.append(encode(value) if atom is None else atom(value))
        except Refusal as refusal:
            refusal.within(step(len(parts)))
            raise
        return (SIZES[length] if length < COLUMN_FROM else size(len(parts))) + b"".join(parts)

    def fields(self, values: Sequence[tuple[str, Any]], step: Callable[[str], str] = ".{}".format) -> bytes:
        """Return the number, names and pieces of named values, to go behind a tag."""
        parts = [size(len(values))]
        for name, value in values:
            try:
                parts.append(text(name) + self.encode(value))
            except Refusal as refusal:
                refusal.within(step(name))
                raise
        return b"".join(parts)

    def part(self, value: object, step: str) -> bytes:
        """Return the piece of a part that is reached by `step`."""
        try:
            return self.encode(value)
        except Refusal as refusal:
            refusal.within(step)
            raise
