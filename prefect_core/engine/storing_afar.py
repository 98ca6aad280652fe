"""Storing a large value where it was made: the worker writes the object, and the flow's process hears what the history needs.

The order of promises is that of all stored values: the object is durable before the reply is sent, and the reply comes before the row. A
worker that is killed in between leaves an object that no row names. Small values come with the reply and are stored by the flow's process.

A worker may be on a machine that does not have the storage, or has another one of that name. So the flow's process looks whether the
object is there; if not, it fetches the value and stores it itself, as it does where a worker could not, and asks for no more of it.
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from prefect_core import history, logs
from prefect_core.crash_points import crash_point
from prefect_core.engine.steps import Block, Life
from prefect_core.errors import StorageError, describe
from prefect_core.results.kept import KeptValue
from prefect_core.serializers import resolve_serializer
from prefect_core.storage import Written, resolve_storage

if TYPE_CHECKING:
    from prefect_core.context import RunContext
    from prefect_core.payload import Payload

Made = tuple[Any, ...]
"""What a worker says: the order, the object's key, size and SHA-256; or (order, bytes for the history); or (order, what kept it from that,
whether that was the storage)."""


class Order(NamedTuple):
    """Where a large value goes, as what bytes, and how many of these the history takes instead."""

    url: str
    key: str
    serializer: str
    most_inside: int


def order_of(payload: Payload, unreached: set[str]) -> tuple[Any, ...] | None:
    """Return what the place of an attempt is told to store; None for nothing. `unreached` are storages that it does not share."""
    if payload.storing is None:
        return None
    try:
        order: Order | None = payload.storing()
    except Exception:
        # What stands against storing is said when there is a value.
        return None
    return None if order is None or order.url in unreached else tuple(order)


def carry_out(order: Order, value: Any) -> Made:
    """Store a value, at the far end. Never raises."""
    try:
        pieces = resolve_serializer(order.serializer).dump(value)
    except Exception as error:
        return tuple(order), describe(error), False
    if sum(memoryview(piece).nbytes for piece in pieces) <= order.most_inside:
        return tuple(order), b"".join(pieces)
    try:
        # A key of this execution alone: should an engine run an attempt twice, the second leaves the first one's object as it is.
        key = f"{order.key}.{secrets.token_hex(4)}"
        written = resolve_storage(order.url).write(key, pieces)
        crash_point("keeping.after_object_afar")
        return tuple(order), key, *written
    except Exception as error:
        return tuple(order), describe(error), True


class StoredAfar:
    """What the flow's process makes of it."""

    __slots__ = ("_made", "_unreached")

    def __init__(self, made: Made, unreached: set[str]) -> None:
        """`unreached` are the storages that the workers of a runner are known not to reach."""
        self._made = made
        self._unreached = unreached

    def kept(self, around: RunContext) -> Life[KeptValue | None]:
        """Return the stored value, or None if the flow's process has to store it."""
        order, made = Order(*self._made[0]), self._made[1:]
        kept = KeptValue(history.current().new_key(), order.serializer, ())
        if len(made) == 1:
            kept.put_inside([made[0]])
            return kept
        if len(made) == 2:
            reason, is_of_storage = made
            if is_of_storage:
                self._refuse(around, order.url, reason)
            return None
        key, size, sha256 = made
        try:
            found: int | None = yield Block(partial(_size_of, order.url, key))
        except StorageError as error:
            self._refuse(around, order.url, describe(error))
            return None
        if found != size:
            self._refuse(around, order.url, "What a worker has written there is not found from here.")
            return None
        kept.put_outside(order.url, key, Written(size, sha256))
        return kept

    def _refuse(self, around: RunContext, url: str, reason: str) -> None:
        refuse(self._unreached, around, url, reason)


def refuse(unreached: set[str], around: RunContext, url: str, reason: str) -> None:
    """Take note, and say once, that the workers of a runner share no storage of this URL with the flow's process."""
    if url not in unreached:
        unreached.add(url)
        logs.note(
            around,
            logs.WARNING,
            f"Workers and the flow's process don't share the storage {url}: {reason} Stored values go through the flow's process now. Name "
            "a storage that all reach (result_storage=, PREFECT_CORE_RESULTS_STORAGE).",
        )


def _size_of(url: str, key: str) -> int | None:
    return resolve_storage(url).size(key)
