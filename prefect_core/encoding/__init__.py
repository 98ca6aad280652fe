"""A digest of values that is the same in every process: by it a call is known again, and the result of an equal one found.

**No two different values share an encoding.** A value's encoding is a *piece*: a tag that says its type, how much follows, and its
content, which for a container is the pieces of its parts. Where a piece ends follows from the piece, so a row of pieces can be
cut apart in one way only, and `[1, 2]`, `[[1], 2]`, `[1, [2]]`, `"1"`, `1`, `1.0`, `True`, `b""` and `""` all differ. A piece over
256 bytes is replaced by its sha256, so beyond that "no two" means: as far as sha256 goes.

**Equal values of equal types share one.** What is left out of a piece is what can differ between equal values: the order of dicts
and sets, hash seeds, addresses, strides, byte order, chunks, and which parts are one object met twice. Where `==` and the eye disagree,
the eye wins, since a needless run costs less than a wrong result: `0.0` and `-0.0`, `Decimal("1.0")` and `Decimal("1.00")`, one moment in
two time zones, and deques of other `maxlen` compare equal but differ here. NaN is equal to NaN, whatever its sign and payload.

**Only known content counts.** Pickle would take any object, but its bytes depend on what was pickled before, on sharing and on versions.
What is encoded is therefore listed: `docs/identity.md` has the table, and one module here each family:

    pieces     tags, sizes, atoms, long rows of atoms          walk       the recursion: sharing, circles, depth
    builtin    containers, dates, paths, numbers               named      classes, functions, methods, tasks
    fields     dataclasses, attrs, pydantic, Enum              arrays     NumPy
    frames     pandas                                          arrow      pyarrow, polars
    kinds      which type is encoded how                       refusals   why not, where, and what to do
    code       code of functions

Anything else is refused: subclasses of built-ins, which may hold more than their content, objects of unknown classes, and what a name
does not tell apart, such as lambdas and local functions.

An encoding that changes makes everybody's stored results unknown: `tests/unit/encoding/test_pinned.py` holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from prefect_core.encoding.code import of_code
from prefect_core.encoding.kinds import HOWS
from prefect_core.encoding.pieces import ATOMS
from prefect_core.encoding.refusals import Refusal
from prefect_core.encoding.walk import Walk
from prefect_core.errors import NotEncodable as NotEncodable
from prefect_core.errors import describe

__all__ = ["NotEncodable", "code_digest", "digest"]


def digest(value: object, special: Callable[[object], bytes | None] | None = None) -> bytes:
    """Return 32 bytes that are equal for equal values of equal types, in every process.

    `special` is asked first about everything that is no atom (None, numbers, strings, bytes): the bytes that it returns stand for the
    object. Raises `NotEncodable`, and nothing else that is an `Exception`.
    """
    try:
        atom = ATOMS.get(type(value))
        return sha256(Walk(special, HOWS).encode(value) if atom is None else atom(value)).digest()
    except Refusal as refusal:
        raise refusal.error() from refusal.__cause__
    except Exception as error:
        # A type's metaclass may refuse even the look-up.
        raise Refusal(value, f"reading it raised {describe(error)}").error() from error


def code_digest(function: Any) -> bytes:
    """Return 16 bytes of a function's code: the same in every process of one Python version, and after a move to other lines or files.

    They cover bytecode, constants and names, nested functions, and the function behind a partial, method, task or `functools.wraps`;
    not defaults and closures, which are values. A function without code, such as `len`, counts by its name. Raises `NotEncodable`.
    """
    try:
        return sha256(of_code(function)).digest()[:16]
    except Refusal as refusal:
        raise refusal.error() from refusal.__cause__
    except Exception as error:
        raise Refusal(function, f"reading it raised {describe(error)}").error() from error
