"""What looking after stored results asks of a history: who refers to which result, and letting go of results and their objects.

A result is dropped together with the last row that refers to it, and the object that it names is doomed in the same transaction; whoever
keeps house deletes doomed objects after that commit (see `results.housekeeping`). So a kill in between loses nothing and leaves nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from prefect_core.history.process import ProcessIdentity
    from prefect_core.history.stored import DoomedRow, Holders, ReopeningRow

    IsGone = Callable[[ProcessIdentity], bool | None]
    """Tells of a process whether it has ended; None if that can't be known."""


class ResultStats(NamedTuple):
    """How many results are stored, and their bytes: all, and those inside the history."""

    rows: int
    bytes: int
    bytes_inside: int
    doomed: int
    """Objects of dropped results that are yet to be deleted."""


class ResultsHousekeeping(Protocol):
    """The part of a history that lets go of stored results."""

    def reopenings(self, run: int) -> list[ReopeningRow]:
        """Return who let a flow run run again, first to last."""
        ...

    def check_runnable(self, run: int, is_gone: IsGone) -> None:
        """Raise `NotRunnableAgain` if `reopen_run` would as things stand now."""
        ...

    def holders(self, results: Sequence[int]) -> dict[int, Holders]:
        """Return who refers to each of these results."""
        ...

    def results_in_use(self, is_gone: IsGone) -> set[int]:
        """Return the results of root flow runs that have not ended and whose process may still live."""
        ...

    def drop_results(self, results: Sequence[int], reason: str, is_gone: IsGone) -> list[int]:
        """Drop results whoever refers to them, unless they are in use, and note why as a verdict of their runs; returns which went.

        Others get to write in between.
        """
        ...

    def unreferenced_results(self, before_us: int) -> list[int]:
        """Return the results made before a moment that nothing refers to."""
        ...

    def doomed(self, most: int, besides: Collection[str] = ()) -> list[DoomedRow]:
        """Return at most so many objects whose result is gone, of all storages but these."""
        ...

    def forget_doomed(self, objects: Sequence[DoomedRow]) -> None:
        """Take objects off the list of those that are to be deleted."""
        ...

    def named_objects(self, storage: str, objects: Sequence[str]) -> set[str]:
        """Return which of these objects of a storage a result names."""
        ...

    def result_storages(self) -> list[str]:
        """Return the storages that results, or objects to be deleted, are in."""
        ...

    def result_stats(self) -> ResultStats:
        """Count the stored results."""
        ...
