"""Dask's own futures and collections: as places of values that our tasks made, and as arguments that a user passes to them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import distributed

from prefect_core import references
from prefect_core.errors import RunnerError, SerializationError, ValueLost, describe
from prefect_core.pickling import Pickler
from prefect_core.references import Reference

if TYPE_CHECKING:
    from prefect_runners.dask_session import Session

_COLLECTIONS = {
    "dask.array": ("Array",),
    "dask.bag": ("Bag", "Item"),
    "dask.dataframe": ("DataFrame", "Series", "Index", "Scalar"),
    "dask.delayed": ("Delayed", "DelayedAttr", "DelayedLeaf"),
}


class DaskReference(Reference):
    """The value of an attempt on a Dask cluster."""

    __slots__ = ("_name", "_session")

    def __init__(self, home: object, native: Any, name: str, session: Session) -> None:
        super().__init__(home, native)
        self._name = name
        self._session = session

    def fetch(self) -> Any:
        return self._session.fetch(self.native, self._name)


def register() -> None:
    """Let arguments hold Dask's futures, and collections of the modules that are loaded by now."""
    table = Pickler.dispatch_table
    table[distributed.Future] = references.place_of
    for module, names in _COLLECTIONS.items():
        loaded = sys.modules.get(module)
        for name in names:
            kind = getattr(loaded, name, None)
            if isinstance(kind, type):
                table[kind] = references.place_of


def future_of(native: Any, client: Any) -> Any:
    """Return the future to hand on for something that `references.place_of` was given. Raises `SerializationError`."""
    if not isinstance(native, distributed.Future):
        return client.compute(native)
    theirs: Any = native.client
    if theirs is not None and theirs is not client and theirs.scheduler.address != client.scheduler.address:
        raise SerializationError(
            f"The Dask future {native.key!r} is of the cluster at {theirs.scheduler.address}, and this task runs on the one at "
            f"{client.scheduler.address}. Pass its value (`future.result()`), or give the runner that cluster's address."
        )
    return native


def is_lost(native: Any) -> bool:
    """Tell whether a native input will never be there."""
    return isinstance(native, distributed.Future) and native.status in {"error", "cancelled", "lost"}


def fetched(future: Any, name: str, worker: str | None, broken: str | None) -> Any:
    """Return the value that an attempt has left. Raises `ValueLost` if it is gone, `RunnerError` if it can't be fetched."""
    if broken is not None:
        raise ValueLost(f"The value of {name!r} is lost. {broken}")
    where = f"with Dask worker {worker}" if worker is not None else "on the Dask cluster"
    lost = f"The value of {name!r} was lost {where}."
    if is_lost(future) and (worker is not None or future.status != "error"):
        raise ValueLost(lost)
    try:
        outcome = future.result()
    except (distributed.CancelledError, distributed.KilledWorker) as error:
        raise ValueLost(lost) from error
    except Exception as error:
        raise RunnerError(
            f"The value of {name!r} could not be fetched from the Dask cluster: {describe(error)}"
        ) from error
    return outcome.value
