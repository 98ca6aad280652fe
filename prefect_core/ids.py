"""Time-ordered identifiers: UUID version 7 (RFC 9562, method 1: a fixed-length counter), as plain integers.

An identifier is made for every run, so it costs some integer operations and no random bytes: 48 bits of milliseconds, a 32-bit
counter that starts at random, and 42 bits drawn once per process. Two processes collide only if they drew the same 42 bits and the
same count in the same millisecond. After `fork` the child draws anew. They are unique, not secret.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

_COUNTER_BITS = 32
_COUNTER_MASK = (1 << _COUNTER_BITS) - 1
_VERSION = 7 << 76
_VARIANT = 0b10 << 62

_counter: itertools.count[int]
_process_bits: int


def _draw() -> None:
    global _counter, _process_bits
    drawn = int.from_bytes(os.urandom(10), "big")
    _process_bits = drawn & ((1 << 42) - 1)
    _counter = itertools.count(drawn >> 49)


_draw()
os.register_at_fork(after_in_child=_draw)


def new_id(now_us: int) -> int:
    """Return a fresh 128-bit identifier that sorts by `now_us`, wall microseconds."""
    count = next(_counter) & _COUNTER_MASK
    # The counter's upper 12 bits stand in rand_a, the lower 20 at the top of rand_b.
    return (
        ((now_us // 1000) << 80)
        | _VERSION
        | ((count >> 20) << 64)
        | _VARIANT
        | ((count & 0xFFFFF) << 42)
        | _process_bits
    )


def as_uuid(uid: int) -> UUID:
    """Return the identifier as the UUID that users see."""
    from uuid import UUID  # loads a good deal, and most processes show no identifier

    return UUID(int=uid)


def as_text(uid: int) -> str:
    """Return the identifier in the usual hyphenated form."""
    digits = f"{uid:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
