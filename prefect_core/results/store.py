"""Where the values of keyed transactions are, said in one object."""

from __future__ import annotations

from typing import Any

from prefect_core.locking import LockManager
from prefect_core.serializers import SerializerSpec, check_serializer
from prefect_core.storage import StorageSpec, check_storage


class ResultStore:
    """A storage for values and their keys, a serializer, and what locks keys; None leaves each to the run around.

    With a storage of its own, keys are kept there and not in the history, so that processes with other histories find them.
    """

    def __init__(
        self,
        result_storage: StorageSpec | None = None,
        serializer: SerializerSpec | None = None,
        lock_manager: LockManager | None = None,
    ) -> None:
        self.result_storage: Any = check_storage(result_storage)
        self.serializer: Any = check_serializer(serializer)
        self.lock_manager = lock_manager

    @classmethod
    def of(cls, store: ResultStore | StorageSpec | None) -> ResultStore:
        """Return the store that `store=` means: one as it is, a folder or URL, or None. Raises `TypeError`."""
        return store if isinstance(store, ResultStore) else cls(store)
