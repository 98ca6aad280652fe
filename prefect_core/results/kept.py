"""What became of a run's value: kept in memory for the next attempt of the flow run, inside the history, or as an object of a storage.

Each making of a value has a number (`result`), by which dependents tell whether an input is still the one they used: that of a stored
one is its own, others have that of their value.
"""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

from prefect_core import clock, ids
from prefect_core.errors import MissingResult, NotEncodable, ObjectDamaged, OutOfReach, describe
from prefect_core.identity import fingerprint
from prefect_core.serializers import resolve_serializer
from prefect_core.settings import current as settings
from prefect_core.storage import Written, read_checked, resolve_storage
from prefect_core.stored import Stored

if TYPE_CHECKING:
    from prefect_core.buffers import Buffer
    from prefect_core.history.batch import Row
    from prefect_core.history.stored import EarlierCall, ResultRow
    from prefect_core.serializers import Serializer
    from prefect_core.settings import Settings


class Remembered:
    """A value that only this process has: the state holds it."""

    __slots__ = ("inputs", "result")

    def __init__(self, value: Any, inputs: tuple[int, ...]) -> None:
        self.inputs = inputs
        try:
            # Dependents may be stored, and another process makes the same value again.
            self.result = fingerprint(value)
        except NotEncodable:
            # Below 0, where no result of the history is, and in no other process either.
            self.result = -ids.new_id(clock.now_us())

    def is_still(self, value: Any) -> bool:
        """Tell whether nobody is known to have changed the value since it was made."""
        try:
            return self.result < 0 or fingerprint(value) == self.result
        except NotEncodable:
            return False

    def rows(self, run_key: int, attempt: int) -> list[tuple[str, Row]]:
        return []


def _numbers(text: str | None) -> tuple[int, ...]:
    return tuple(json.loads(text)) if text and text != "[]" else ()


_found: tuple[Settings | None, dict[str, Serializer]] = (None, {})


def _serializer_called(spec: str) -> Serializer:
    """Return a serializer by its spec; found once for as long as the settings, which may forbid some, are the same."""
    global _found
    now = settings()
    if _found[0] is not now:
        _found = (now, {})
    known = _found[1].get(spec)
    if known is None:
        known = _found[1][spec] = resolve_serializer(spec)
    return known


class KeptValue(Stored):
    """A stored value: its bytes, or where they are, and by what they are recognised."""

    __slots__ = (
        "_later",
        "_source",
        "_waiting",
        "around",
        "cached",
        "inputs",
        "is_borrowed",
        "is_new",
        "object",
        "result",
        "serializer",
        "sha256",
        "size",
        "storage",
        "value",
    )

    def __init__(self, result: int, serializer: str, inputs: tuple[int, ...]) -> None:
        self.result = result
        self.serializer = serializer
        self.inputs = inputs
        self.storage: str | None = None
        self.object: str | None = None
        self.value: bytes | None = None
        self.size = 0
        self.sha256 = b""
        self.is_new = True
        self.is_borrowed = False
        """Whether another history wrote the object, which is not for this one to delete."""
        self.cached: tuple[str, int | None] | None = None
        """The cache key that finds the value, and when it expires, in wall microseconds."""
        self._later: list[bytes] | None = None
        self._waiting: list[tuple[int, int]] | None = None
        self._source: KeptValue | None = None
        self.around: int | None = None
        """Of a value that is no run's: the run around it, 0 for none."""

    def put_inside(self, pieces: list[Buffer]) -> None:
        """Keep the bytes in the history, with the state that announces them."""
        self.value = b"".join(pieces)
        self.size = len(self.value)
        self.sha256 = hashlib.sha256(self.value).digest()

    def let_go_of_bytes(self) -> None:
        """Keep no bytes that the history has too; whoever needs the value has it."""
        self.value = None

    def put_outside(self, storage: str, key: str, written: Written) -> None:
        """Take note of the object that holds the bytes."""
        self.storage, self.object = storage, key
        self.size, self.sha256 = written

    # Inside a transaction: nothing is told of the value, and nothing written, before that commits.

    def hold(self) -> None:
        """Keep back what there is to tell, until `release`."""
        self._waiting = []

    @property
    def is_held(self) -> bool:
        """Whether nobody is told of the value yet."""
        return self._waiting is not None

    def put_outside_later(self, storage: str, key: str, pieces: list[Buffer]) -> None:
        """Keep the bytes that are to be an object in memory; the value itself may change before they are written."""
        self._later = [bytes(piece) for piece in pieces]
        self.storage, self.object = storage, key

    def shared(self) -> KeptValue:
        """Return what another run keeps of the same value while that is held back."""
        twin = KeptValue(self.result, self.serializer, ())
        twin._source = self
        twin.is_new = False
        return twin

    def write_object(self) -> bool:
        """Write the object that was put off, if there is one and somebody refers to it. Raises `StorageError`."""
        if self._later is None or not (self._waiting or self.around is not None):
            return False
        assert self.storage is not None
        assert self.object is not None
        written = resolve_storage(self.storage).write(self.object, self._later)
        self.put_outside(self.storage, self.object, written)
        self._later = None
        return True

    def delete_object(self) -> None:
        """Delete the object again. Raises `StorageError`."""
        assert self.storage is not None
        assert self.object is not None
        resolve_storage(self.storage).delete(self.object)

    def release(self) -> list[tuple[str, Row]]:
        """Return the rows that were kept back."""
        waiting, self._waiting = self._waiting or [], None
        if self.around is not None:
            return self._first_rows(None, self.around)
        return [row for run in waiting for row in self.rows(*run)]

    @classmethod
    def of_row(cls, row: ResultRow, inputs: tuple[int, ...] = ()) -> KeptValue:
        """Return what a result in the history stands for."""
        kept = cls(row.key, row.serializer, inputs)
        kept.storage, kept.object, kept.value = row.storage, row.object, row.value
        kept.size, kept.sha256, kept.is_new = row.size, row.sha256, False
        return kept

    @classmethod
    def of_call(cls, call: EarlierCall) -> KeptValue | None:
        """Return the value that was kept of an earlier call, or None."""
        if call.result is None:
            return None
        kept = cls(call.result, call.serializer, _numbers(call.kept_inputs))
        kept.storage, kept.object, kept.value = call.storage, call.object, call.value
        kept.size, kept.sha256, kept.is_new = call.size, call.sha256, False
        return kept

    @property
    def is_inside(self) -> bool:
        """Whether the history holds the bytes."""
        return self.storage is None

    @property
    def url(self) -> str | None:
        """The storage that other processes may find the object in; None if they can't."""
        return self.storage if self._later is None and self.storage is not None and is_shared(self.storage) else None

    def by_place(self) -> tuple[Any, ...]:
        """Return what stands in a pickle for the value (`references.Elsewhere`)."""
        return _load_here, (self.storage, self.object, self.size, self.sha256, self.serializer)

    def load(self) -> Any:
        """Return the value. Raises `ObjectMissing`, `ObjectDamaged`, `StorageError`, or what the serializer raises."""
        serializer = _serializer_called(self.serializer)
        if self._source is not None:
            return self._source.load()
        if self._later is not None:
            return serializer.load(io.BytesIO(b"".join(self._later)))
        if self.value is not None:
            if hashlib.sha256(self.value).digest() != self.sha256:
                raise ObjectDamaged(f"The stored result {self.result} in the history is not what was written.")
            return serializer.loads(self.value)
        if self.storage is None:
            raise MissingResult(f"The bytes of the stored result {self.result} are in the history, and here no more.")
        assert self.object is not None
        written = Written(self.size, self.sha256)
        return read_checked(resolve_storage(self.storage), self.object, written, serializer.load)

    def rows(self, run_key: int, attempt: int) -> list[tuple[str, Row]]:
        """Return the rows that tell of it; a value taken from another run is not told again."""
        if self._waiting is not None:
            self._waiting.append((run_key, attempt))
            return []
        rows = self._first_rows(run_key, run_key)
        rows.append(("kept", (run_key, attempt, self.result, json.dumps(self.inputs, separators=(",", ":")))))
        return rows

    def _first_rows(self, maker: int | None, run_key: int) -> list[tuple[str, Row]]:
        """Return what is told once: of the value itself, and under which key it is found."""
        rows = self.own_rows(maker)
        if self.cached is not None:
            (key, expires_us), self.cached = self.cached, None
            rows.append(("cache", (key, self.result, run_key, expires_us, clock.now_us())))
        return rows

    def own_rows(self, maker: int | None = None) -> list[tuple[str, Row]]:
        """Return the row that tells of the value itself, once; `maker` is the run that it is the value of."""
        if not self.is_new:
            return []
        self.is_new = False
        place = (self.storage, self.object, self.value, self.size, self.sha256)
        rows: list[tuple[str, Row]] = [("result", (self.result, self.serializer, *place, maker, clock.now_us()))]
        return [*rows, ("borrowed", (self.result,))] if self.is_borrowed else rows

    def __repr__(self) -> str:
        place = "the history" if self.storage is None else f"{self.storage}/{self.object}"
        return f"<stored result of {self.size:,} bytes in {place}>"


def is_shared(url: str) -> bool:
    """Tell whether a storage may be found by other processes under its URL."""
    return not url.startswith("memory:")


def _load_here(url: str, key: str, size: int, sha256: bytes, serializer: str) -> Any:
    """Return a value that another process has stored. Raises `OutOfReach`."""
    try:
        return read_checked(resolve_storage(url), key, Written(size, sha256), _serializer_called(serializer).load)
    except Exception as error:
        raise OutOfReach(url, describe(error)) from error
