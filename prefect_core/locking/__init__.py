"""Who may compute the value of a cache key, or be inside a transaction with it: at most one at a time under SERIALIZABLE.

A *lock manager* excludes processes (and whoever else it reaches) from each other; its locks are named by key and held by a *holder*, a
text. Inside one process, those who want a key first queue for its *turn* (`turns`), so that of many at most one asks the lock manager, and
none of the others keeps a thread. `KeyLock` joins the two.
"""

from __future__ import annotations

from prefect_core.locking.database import DatabaseLockManager
from prefect_core.locking.filesystem import FileSystemLockManager
from prefect_core.locking.interface import IsolationLevel, LockManager
from prefect_core.locking.key_lock import KeyLock
from prefect_core.locking.memory import MemoryLockManager

__all__ = [
    "DatabaseLockManager",
    "FileSystemLockManager",
    "IsolationLevel",
    "KeyLock",
    "LockManager",
    "MemoryLockManager",
]
