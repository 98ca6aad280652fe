"""Counts the task runs of each task as they move through their states: what `--progress` draws.

The engine's threads only put what they see at the end of a queue; whoever draws folds it into counts first.
"""

from __future__ import annotations

from collections import Counter, deque

from prefect_core.runs import FlowRun, Run, TaskRun
from prefect_core.state_kinds import FINAL, StateType
from prefect_core.states import State

FlowOrTask = tuple[str, str]


class Tally:
    """The task runs of one task in one flow."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.total = 0
        self.ended = 0
        self.by_state: Counter[tuple[str, str]] = Counter()
        """Task runs by kind and name of state, of those that have left Pending."""

    @property
    def is_over(self) -> bool:
        """Tell whether all runs known so far have ended."""
        return self.ended == self.total

    @property
    def has_failures(self) -> bool:
        """Tell whether some run failed or crashed."""
        return any(count and kind in {"FAILED", "CRASHED"} for (kind, _), count in self.by_state.items())

    def in_words(self) -> str:
        """Return the counts as "11 Completed, 1 Failed, 3 Running"."""
        return ", ".join(f"{count} {name}" for (_, name), count in sorted(self.by_state.items()) if count)


class Tallies:
    """All tallies of a run of a root flow, in the order in which the tasks were first seen."""

    def __init__(self) -> None:
        self._events: deque[tuple[Run, StateType, str]] = deque()
        self._open: dict[int, tuple[Tally, tuple[str, str]]] = {}
        self._by_task: dict[FlowOrTask, Tally] = {}
        self.root: FlowRun | None = None
        self.root_state = ""

    def listen(self, run: Run, state: State) -> None:
        """Take note of a state; from any thread."""
        self._events.append((run, state.type, state.name))

    def fold(self) -> list[Tally]:
        """Count what was noted since the last time, and return all tallies. One thread at a time."""
        events = self._events
        for _ in range(len(events)):
            run, kind, name = events.popleft()
            if isinstance(run, TaskRun):
                self._count(run, kind, name)
            elif self.root is None or run is self.root:
                self.root, self.root_state = run, name
        return list(self._by_task.values())

    def _count(self, run: TaskRun, kind: StateType, name: str) -> None:
        known = self._open.pop(run.key, None)
        if known is None:
            tally = self._tally_of(run)
            tally.total += 1
        else:
            tally, before = known
            tally.by_state[before] -= 1
        tally.by_state[kind.value, name] += 1
        if kind in FINAL or name == "NotReady":
            tally.ended += 1
        else:
            self._open[run.key] = tally, (kind.value, name)

    def _tally_of(self, run: TaskRun) -> Tally:
        flow = run.flow_run.flow_name if run.flow_run is not None else ""
        known = self._by_task.get((flow, run.task_name))
        if known is None:
            is_inner = run.flow_run is not None and run.flow_run is not self.root
            known = self._by_task[flow, run.task_name] = Tally(
                f"{flow} > {run.task_name}" if is_inner else run.task_name
            )
        return known
