"""Dask's own futures and collections: as places of values that our tasks made, and as arguments that a user passes to them."""

from __future__ import annotations

import threading
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

import distributed

from prefect_core.errors import RunnerError, SerializationError, ValueLost, describe
from prefect_core.references import Reference
from prefect_runners import dask_worker

if TYPE_CHECKING:
    from prefect_runners.dask_session import Session

_FIRST = 1_000


class DaskReference(Reference):
    """The value of an attempt on a Dask cluster."""

    __slots__ = ("_name", "_session")

    def __init__(self, home: object, native: Any, name: str, session: Session) -> None:
        super().__init__(home, native)
        self._name = name
        self._session = session

    def fetch(self) -> Any:
        return self._session.fetch(self.native, self._name)


class InChunk:
    """The value of an attempt in a chunk: a Dask task of its own takes it out, once somebody needs it."""

    __slots__ = ("_chunk", "_holder", "_lock", "_taken_out", "key")

    def __init__(self, chunk: Any, key: str, holder: str) -> None:
        """`chunk` is the future of the whole, `key` by what the attempt is known in it, `holder` the worker that has it."""
        self._chunk = chunk
        self._holder = holder
        self._taken_out: Any = None
        self._lock = threading.Lock()
        self.key = key

    @property
    def status(self) -> str:
        """As that of a future."""
        chunk: Any = self._chunk  # looked at first: it goes when the other is there
        return str((self._taken_out or chunk).status)

    def future(self, client: Any) -> distributed.Future:
        """Return a future of the value alone."""
        with self._lock:
            if self._taken_out is None:
                chunk, place = dask_worker.chunk_and_place(self.key)
                options: dict[str, Any] = {"key": f"value-{place}-{chunk}", "pure": False, "priority": _FIRST}
                if self._holder:
                    # Elsewhere the whole chunk would have to go there.
                    options |= {"workers": [self._holder], "allow_other_workers": True}
                # In a context of its own: annotations of whoever's thread this is are not meant for it.
                submit = partial(client.submit, dask_worker.value_of, self._chunk, place, **options)
                self._taken_out = Context().run(submit)
                # The others of the chunk don't stay for it.
                self._chunk = None
            return self._taken_out


def future_of(native: Any, client: Any) -> Any:
    """Return the future to hand on for something that `references.place_of` was given. Raises `SerializationError`."""
    if isinstance(native, InChunk):
        return native.future(client)
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
    return isinstance(native, distributed.Future | InChunk) and native.status in {"error", "cancelled", "lost"}


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
