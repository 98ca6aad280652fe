"""How a figure is taken: ours and the bare engine in turn, A B A B ..., in one process; medians, and the ratio pair by pair.

Absolute times depend on the machine and on what else it does; the ratio of two neighbours does not, much.
"""

from __future__ import annotations

import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefect_core import settings


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    what: str
    ours: float
    bare: float
    ratio: float
    spread: tuple[float, float]
    limit: float | None
    unit: str = "µs a task"

    @property
    def is_met(self) -> bool:
        return self.limit is None or self.ratio <= self.limit

    def __str__(self) -> str:
        limit = "" if self.limit is None else f"limit {self.limit:g}x  {'met' if self.is_met else 'MISSED'}"
        low, high = self.spread
        return (
            f"{self.what:<58} ours {self.ours:>9.2f}  bare {self.bare:>9.2f}  {self.unit:<10} "
            f"ratio {self.ratio:>5.2f}x ({low:.2f} to {high:.2f})  {limit}"
        )


@contextmanager
def throwaway_home() -> Iterator[Path]:
    """Record into an empty history for the length of the block; must be entered before the first flow runs."""
    with tempfile.TemporaryDirectory(prefix="prefect-core-bench-") as folder:
        os.environ["PREFECT_CORE_HOME"] = folder
        os.environ.setdefault("PREFECT_CORE_LOGGING_LEVEL", "WARNING")
        # Flows and tasks of the benchmark's own module have read them by now.
        settings.forget()
        yield Path(folder)


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes, with no garbage left over from the last."""
    gc.collect()
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def compare(
    what: str,
    ours: Callable[[], object],
    bare: Callable[[], object],
    count: int,
    limit: float | None,
    repeats: int = 5,
    rest_seconds: float = 0,
) -> Figure:
    """Time both `repeats` times in turn after one warm-up of each; figures are microseconds for each of `count` tasks.

    Before each there is a rest, where one leaves something behind (an engine still lets go of its tasks) that the other should not pay for.
    """

    def rested(work: Callable[[], object]) -> float:
        time.sleep(rest_seconds)
        return seconds(work)

    ours()
    bare()
    pairs = [(rested(ours), rested(bare)) for _ in range(repeats)]
    ratios = [a / b for a, b in pairs]
    per_task = 1e6 / count
    return Figure(
        what,
        statistics.median(a for a, _ in pairs) * per_task,
        statistics.median(b for _, b in pairs) * per_task,
        statistics.median(ratios),
        (min(ratios), max(ratios)),
        limit,
    )


def resident_mb() -> float:
    """Return the memory that is this process's own, without garbage; what it shares with the store of a Ray is Ray's."""
    gc.collect()
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


def growth(what: str, megabytes: float, most: float) -> Figure:
    """Make the figure of what a process has grown by, against what it may."""
    share = max(megabytes, 0.0) / most
    return Figure(what, megabytes, most, share, (share, share), 1.0, "MB")


def check_recorded(expected: int) -> None:
    """Raise unless the history holds exactly `expected` task runs, all of them Completed."""
    from contextlib import closing

    from prefect_core import history

    history.current().flush()
    counts: dict[str, int] = {}
    with closing(history.open_store()) as store:
        for run in store.flow_runs():
            for state, number in store.counts_by_state(run.key).items():
                counts[state] = counts.get(state, 0) + number
    if counts != {"Completed": expected}:
        raise AssertionError(f"The history should hold {expected} completed task runs; it holds {counts}.")


def against_limit(what: str, taken: list[float], limit: float, scale: float, unit: str) -> Figure:
    """Compare what was taken with a limit that is not a multiple of anything: a ratio of 1 is just met. Shown in a `scale` of `unit`."""
    ratios = [one / limit for one in taken]
    median = statistics.median(taken)
    spread = (min(ratios), max(ratios))
    return Figure(f"{what}; bare: the limit", median * scale, limit * scale, median / limit, spread, 1, unit)
