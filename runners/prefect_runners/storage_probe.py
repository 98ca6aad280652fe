"""Whether what workers write to a storage is read in the flow's process: tried once for each storage of a run, with a few bytes."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

from prefect_core.engine import remote
from prefect_core.errors import ObjectMissing, RunnerError, describe
from prefect_core.payload import Payload
from prefect_core.storage import Storage, StorageSpec, resolve_storage


class NoWorkers(Exception):
    """There is nobody yet who could be asked."""


class Probes:
    """What is known of storages. `run_there` calls a function on a worker, and raises `NoWorkers` where there is none yet."""

    def __init__(self, run_there: Callable[..., Any]) -> None:
        self._run_there = run_there
        self._refusals: dict[str, str | None] = {}
        self._lock = threading.Lock()

    def look_at(self, payload: Payload) -> None:
        """Try the storage that was named for the value of a payload, if one was. Raises `RunnerError` unless all reach it."""
        if payload.storage is not None:
            refusal = self.refusal(payload.storage)
            if refusal is not None:
                raise RunnerError(refusal)

    def refusal(self, spec: StorageSpec) -> str | None:
        """Return why a storage is no place for results of this run, or None if it is one."""
        storage = resolve_storage(spec)
        if type(resolve_storage(storage.url)) is not type(storage):
            # One of the user's own, which is not what workers would make of its URL: the flow's process writes there.
            return None
        if storage.url not in self._refusals:
            with self._lock:
                if storage.url not in self._refusals:
                    try:
                        self._refusals[storage.url] = self._tried(storage)
                    except NoWorkers:
                        # Whoever comes next asks again.
                        return None
        return self._refusals[storage.url]

    def _tried(self, storage: Storage) -> str | None:
        key, content = f"prefect-core-probe-{secrets.token_hex(8)}", secrets.token_bytes(16)
        try:
            worker = self._run_there(leave, storage.url, key, content)
        except NoWorkers:
            raise
        except Exception as error:
            return _refusal(storage, f"a worker can't write there ({describe(error)})")
        try:
            with closing(storage.open(key)) as stream:
                found = stream.read()
        except ObjectMissing:
            self._remove_there(storage, key)
            return _refusal(storage, f"what {worker} has written there is not found from here")
        except Exception as error:
            self._remove_there(storage, key)
            return _refusal(storage, f"what {worker} has written there can't be read here ({describe(error)})")
        with suppress(Exception):
            # A storage that lets nothing be removed is as good.
            storage.delete(key)
        return (
            None if found == content else _refusal(storage, f"what {worker} has written there is not what is read here")
        )

    def _remove_there(self, storage: Storage, key: str) -> None:
        with suppress(Exception):
            self._run_there(remove, storage.url, key)


def _refusal(storage: Storage, reason: str) -> str:
    return (
        f"The flow's process and the workers don't share the result storage {storage.url}: {reason}. Give a result_storage that all of "
        "them reach, such as a folder of a shared disk or s3://bucket/prefix."
    )


def leave(url: str, key: str, content: bytes) -> str:
    """Write the probe on a worker, and return the worker's name. Raises what the storage raises."""
    resolve_storage(url).write(key, [content])
    return remote.process_name()


def remove(url: str, key: str) -> None:
    """Remove a probe on a worker that wrote it."""
    resolve_storage(url).delete(key)
