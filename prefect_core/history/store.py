"""The two faces of a history: what the recorder writes to, and what readers ask.

The writing half is used by one thread at a time; the reading half by any thread. Times are wall microseconds; runs are
found by key inside and by id, start of an id or name outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from prefect_core.errors import ObjectNotFound
from prefect_core.history.housekeeping import ResultsHousekeeping
from prefect_core.history.owed import Endings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from uuid import UUID

    from prefect_core.history.batch import Batch
    from prefect_core.history.control import Control
    from prefect_core.history.limits import LimitTable
    from prefect_core.history.locks import LockTable
    from prefect_core.history.process import ProcessIdentity
    from prefect_core.history.rows import AttemptRow, FlowRow, FlowRunRow, LogRow, StateRow, TaskRunRow
    from prefect_core.history.stored import (
        CacheRow,
        EarlierCall,
        IdentityRow,
        KeptRow,
        Reopened,
        ResultRow,
        UnheldRow,
        VerdictRow,
    )


IN_MEMORY = "A history in memory ends with its process, so no other can run its runs again."
"""Why a run of a history that is not shared can't be run again."""


class RunFilter(NamedTuple):
    """Which runs a reader wants: all that is given must hold; newest first."""

    name: str | None = None
    """Name of the flow, or of the task."""
    state_types: Sequence[str] = ()
    state_names: Sequence[str] = ()
    tags: Sequence[str] = ()
    """Tags that a run must all have."""
    since_us: int | None = None
    until_us: int | None = None
    """Created at or after `since_us`, and before `until_us`."""
    flow_run: int | None = None
    """Key of the flow run: of the parent for flow runs, of the owner for task runs."""
    root_only: bool = False
    """Only flow runs that no other flow run called."""
    limit: int | None = None
    offset: int = 0


EVERY_RUN = RunFilter()


class HistoryStats(NamedTuple):
    """Size and condition of a history."""

    rows: dict[str, int]
    bytes: int
    wal_bytes: int
    schema_version: int
    engine: str
    """Name and version of the database, as "SQLite 3.40.1"."""
    incomplete_since_us: int | None
    missing_rows: int


class HistoryWriter(Protocol):
    """The half of a history that a recorder needs."""

    def next_key(self) -> int:
        """Return the first of the 2**32 keys that belong to this process alone, which has a lease from now on."""
        ...

    def write(self, batch: Batch) -> None:
        """Make a batch durable, all of it or nothing; waits for other writers. Raises `HistoryError` when it can't be written.

        `LeaseLost` if the lease of this process was taken, also by the next.
        """
        ...

    def write_at_once(self, batch: Batch) -> None:
        """Do the same, but raise `HistoryError` too where others have to be waited for."""
        ...

    def recall(self, key: int) -> tuple[int, int] | None:
        """Return the number of a run's last state and its first start (0 = none), or None if the run is unknown."""
        ...

    def has_unanswered(self) -> bool:
        """Tell whether there is a request without an answer; cheap to ask often. Raises `HistoryError`."""
        ...

    def checkpoint(self) -> None:
        """Tidy up after a write, if it is time and nobody is in the way. Never raises, never waits long."""
        ...

    def reopen(self) -> None:
        """Drop connections that met an error and make new ones. Raises `HistoryError`."""
        ...

    def let_go(self, *, has_open_runs: bool) -> None:
        """Give up the lease of this process: it ends, and may have left runs open. Raises `HistoryError`."""
        ...

    def close(self) -> None:
        """Let go of everything; closing twice does nothing."""
        ...


class StoredResults(Protocol):
    """The part of a history that knows stored results."""

    def identity(self, run: int) -> IdentityRow | None:
        """Return by what a run is known again, or None if that was never asked."""
        ...

    def kept(self, run: int) -> KeptRow | None:
        """Return what was kept of a run's value, or None."""
        ...

    def verdicts(self, run: int) -> list[VerdictRow]:
        """Return what was decided about a run's earlier results, first to last."""
        ...

    def calls_at(self, root: int, site: bytes, before_us: int) -> list[IdentityRow]:
        """Return by what the runs of one task in one parent are known that were created before a moment, first to last.

        The parent is this root flow run, or in it.
        """
        ...

    def known_identities(self, root: int) -> dict[bytes, int]:
        """Return the task runs, by identity, of a flow run and all flow runs in it."""
        ...

    def known_calls(self, runs: Sequence[int]) -> list[EarlierCall]:
        """Return some hundreds of these task runs."""
        ...

    def highest_indexes(self, root: int) -> dict[tuple[int, str], int]:
        """Return the greatest number of a task run by flow run and task name, in a flow run and all flow runs in it."""
        ...

    def unheld(self, run: int) -> UnheldRow | None:
        """Return which parameters of a flow run JSON can't hold; None where it holds all."""
        ...

    def result(self, key: int) -> ResultRow | None:
        """Return a stored result."""
        ...

    def result_at(self, storage: str, key: str, sha256: bytes) -> int | None:
        """Return the number of the result whose bytes are this object of a storage, or None."""
        ...

    def locks(self) -> LockTable:
        """Return the locks that are kept here."""
        ...

    def limits(self) -> LimitTable:
        """Return the concurrency limits that are kept here."""
        ...

    def cached(self, key: str) -> CacheRow | None:
        """Return the result of a cache key, expired or not."""
        ...

    def reopen_run(
        self,
        run: int,
        process: int,
        asked_by: str,
        is_gone: Callable[[ProcessIdentity], bool | None],
        as_of_us: int | None = None,
    ) -> Reopened:
        """Let `process` run a flow run again that did not complete, and end what its last process left open.

        Of several that ask at once, one gets it; with `as_of_us`, the moment of the state that they all saw, no other later. Raises
        `NotRunnableAgain` for a run that completed, is paused, or may still be under way: `is_gone` tells of its last process whether it
        has ended, None if that can't be known.
        """
        ...

    def results(self, flow_run: int | None = None, limit: int | None = None) -> list[ResultRow]:
        """Return stored results, newest first: of a flow run and all runs in it, or all. `value` is left out."""
        ...


class HistoryStore(HistoryWriter, StoredResults, ResultsHousekeeping, Endings, Protocol):
    """A history."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes can open it."""
        ...

    def control(self) -> Control:
        """Return the leases and requests that are kept here; closed with the store."""
        ...

    def flow_runs(self, wanted: RunFilter = EVERY_RUN) -> list[FlowRunRow]:
        """Return flow runs, newest first."""
        ...

    def flow_run(self, name: str | int) -> FlowRunRow:
        """Find a flow run by key, id, unique start of an id, or name (the newest of that name). Raises `ObjectNotFound`."""
        ...

    def task_runs(self, wanted: RunFilter = EVERY_RUN) -> list[TaskRunRow]:
        """Return task runs, newest first."""
        ...

    def task_run(self, name: str | int) -> TaskRunRow:
        """Find a task run by key, id, unique start of an id, or name (the newest of that name). Raises `ObjectNotFound`."""
        ...

    def states(self, key: int) -> list[StateRow]:
        """Return the states of a run, first to last."""
        ...

    def attempts(self, key: int) -> list[AttemptRow]:
        """Return the attempts of a run, first to last."""
        ...

    def children(self, key: int) -> list[FlowRunRow]:
        """Return the flow runs called in a flow run, first to last."""
        ...

    def logs(
        self, key: int | None = None, *, tree: bool = False, level: int = 0, limit: int | None = None
    ) -> list[LogRow]:
        """Return log records in order of time: of one run (None: of no run); with `tree` of a flow run and all runs in it."""
        ...

    def counts_by_state(self, flow_run: int) -> dict[str, int]:
        """Count the task runs of a flow run by the name of their state."""
        ...

    def counts_by_worker(self, flow_run: int) -> dict[str, int]:
        """Count the task runs of a flow run by the worker of their last attempt, those with most first."""
        ...

    def flows(self) -> list[FlowRow]:
        """Return the flows that ran, by name."""
        ...

    def delete_flow_run(self, key: int) -> int:
        """Delete a flow run with its task runs and subflow runs; returns how many runs went."""
        ...

    def prune(self, before_us: int, state_types: Sequence[str] = ()) -> int:
        """Delete the root flow runs, with all that is in them, and the task runs outside of flows that ended before a moment.

        Others get to write in between. Returns how many runs went.
        """
        ...

    def stats(self) -> HistoryStats:
        """Return size and condition of the history."""
        ...

    def backup(self, path: Path) -> None:
        """Write a copy of the history, as of one moment, to a new file, while others go on writing."""
        ...

    def check(self) -> list[str]:
        """Look for damage; returns one sentence per problem, none for a sound history."""
        ...


def id_bounds(text: str) -> tuple[int, int] | None:
    """Return the least and the greatest id that begins with `text`, or None if it is no start of an id."""
    digits = text.replace("-", "").lower()
    if not digits or len(digits) > 32 or not set(digits) <= set("0123456789abcdef"):
        return None
    return int(digits.ljust(32, "0"), 16), int(digits.ljust(32, "f"), 16)


def not_found(kind: str, name: str | int, similar: Sequence[UUID] = ()) -> ObjectNotFound:
    """Return the error for a name that no run, or more than one, answers to."""
    if similar:
        shown = ", ".join(map(str, similar))
        return ObjectNotFound(
            f"Several {kind}s have an id that begins with {name!r}, among them {shown}; give more of it."
        )
    return ObjectNotFound(f"The history holds no {kind} with id or name {name!r}.")
