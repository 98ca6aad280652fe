"""A history in memory: nothing outlives the process. For tests, and for whoever wants no file."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from prefect_core.errors import HistoryError
from prefect_core.history.batch import Batch, Row, end, end_unbegun, expand, expand_begun
from prefect_core.history.memory_control import MemoryControl
from prefect_core.history.memory_lost import course_of, ended_row, failed_state, is_open, lost_state
from prefect_core.history.memory_owed import MemoryEndings
from prefect_core.history.memory_pauses import MemoryPauses
from prefect_core.history.memory_sent import MemorySent
from prefect_core.history.requests import LOST
from prefect_core.history.rows import (
    AttemptRow,
    FlowRow,
    FlowRunRow,
    LogRow,
    StateRow,
    TaskRunRow,
    flow_run_row,
    task_run_row,
)
from prefect_core.history.store import EVERY_RUN, HistoryStats, RunFilter, id_bounds, not_found
from prefect_core.state_kinds import FINAL, PAUSED, StateType

RunRow = TypeVar("RunRow", FlowRunRow, TaskRunRow)


class MemoryStore(MemoryEndings):
    """A `HistoryStore` in dictionaries."""

    is_shared = False

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._flow_runs: dict[int, FlowRunRow] = {}
        self._task_runs: dict[int, Row] = {}
        self._attempts: dict[int, dict[int, AttemptRow]] = {}
        self._states: dict[int, dict[int, StateRow]] = {}
        self._logs: dict[int, LogRow] = {}
        self._children: dict[int, int] = {}
        self._openings = 0
        self._losses: dict[int, int] = {}
        pauses = MemoryPauses(self._of_results["pause"], self._fail, self._lock)
        sent = MemorySent(self._is_open, self._lock)
        self._control = MemoryControl(self._end_process, self._end_tree, self._lock, pauses, sent)

    def next_key(self) -> int:
        with self._lock:
            self._openings += 1
            self._control.add_lease(self._openings)
            return self._openings << 32

    def control(self) -> MemoryControl:
        return self._control

    def let_go(self, *, has_open_runs: bool) -> None:
        self._control.let_go(self._openings, has_open_runs=has_open_runs)

    def write(self, batch: Batch) -> None:
        with self._lock:
            self._control.check_lease(self._openings)
            for row in map(flow_run_row, batch.flow_runs):
                self._flow_runs[row.key] = _after(self._flow_runs.get(row.key), row)
                if row.parent_task_run is not None:
                    self._children[row.parent_task_run] = row.key
            self._add(batch.task_runs, batch.attempts, batch.states)
            for run, attempt, states in map(expand, batch.plain):
                self._add([run], [attempt], states)
            for run, state in map(expand_begun, batch.begun):
                self._add([run], [], [state])
            for last in batch.ended:
                run, attempt, states = end(self._task_runs[last[0]], last)
                self._add([run], [attempt], states)
            for last in batch.unbegun:
                run, state = end_unbegun(self._task_runs[last[0]], last)
                self._add([run], [], [state])
            self._take_of_results(batch.of_results)
            for log in batch.logs:
                self._logs[log[0]] = LogRow(*log)
            if batch.incomplete is not None:
                self._losses[batch.incomplete[0]] = batch.incomplete[1]

    def write_at_once(self, batch: Batch) -> None:
        self.write(batch)

    def _add(self, task_runs: Iterable[Row], attempts: Iterable[Row], states: Iterable[Row]) -> None:
        for row in task_runs:
            self._task_runs[row[0]] = row
        for attempt in attempts:
            self._attempts.setdefault(attempt[0], {})[attempt[1]] = AttemptRow(*attempt)
        for state in states:
            self._states.setdefault(state[0], {}).setdefault(state[1], StateRow(*state))

    def _task_run_rows(self, root: int | None = None) -> list[TaskRunRow]:
        with self._lock:
            parents = {row.key: row.parent_flow_run for row in self._flow_runs.values()}
            rows = [task_run_row(row, self._children.get(key)) for key, row in sorted(self._task_runs.items())]

        def is_inside(flow_run: int | None) -> bool:
            while flow_run is not None and flow_run != root:
                flow_run = parents.get(flow_run)
            return flow_run == root

        return [row for row in rows if root is None or is_inside(row.flow_run)]

    def _attempts_of(self, run: int) -> int:
        return max(self._attempts.get(run, {}), default=0)

    def recall(self, key: int) -> tuple[int, int] | None:
        states = self.states(key)
        if not states:
            return None
        return states[-1].seq, min((state.timestamp_us for state in states if state.type == "RUNNING"), default=0)

    def checkpoint(self) -> None:
        """There is nothing to tidy up."""

    def reopen(self) -> None:
        """There is nothing to open."""

    def close(self) -> None:
        """What was recorded stays readable for as long as the store is held."""

    def flow_runs(self, wanted: RunFilter = EVERY_RUN) -> list[FlowRunRow]:
        with self._lock:
            found = [
                row for row in self._flow_runs.values() if _matches(row, wanted, row.flow_name, row.parent_flow_run)
            ]
        return _newest_first((row for row in found if not wanted.root_only or row.parent_flow_run is None), wanted)

    def flow_run(self, name: str | int) -> FlowRunRow:
        return _one(self.flow_runs(), name, "flow run")

    def task_runs(self, wanted: RunFilter = EVERY_RUN) -> list[TaskRunRow]:
        with self._lock:
            rows = [task_run_row(row, self._children.get(key)) for key, row in self._task_runs.items()]
        return _newest_first((row for row in rows if _matches(row, wanted, row.task_name, row.flow_run)), wanted)

    def task_run(self, name: str | int) -> TaskRunRow:
        return _one(self.task_runs(), name, "task run")

    def states(self, key: int) -> list[StateRow]:
        with self._lock:
            return sorted(self._states.get(key, {}).values(), key=lambda state: state.seq)

    def attempts(self, key: int) -> list[AttemptRow]:
        with self._lock:
            return sorted(self._attempts.get(key, {}).values(), key=lambda attempt: attempt.attempt)

    def children(self, key: int) -> list[FlowRunRow]:
        return self.flow_runs(RunFilter(flow_run=key))[::-1]

    def logs(
        self, key: int | None = None, *, tree: bool = False, level: int = 0, limit: int | None = None
    ) -> list[LogRow]:
        with self._lock:
            runs: set[int | None] = {key}
            if tree and key is not None:
                flow_runs = self._tree(key)
                runs = {*flow_runs, *(row.key for row in self.task_runs() if row.flow_run in flow_runs)}
            found = [log for log in self._logs.values() if log.run in runs and log.level >= level]
        return sorted(found, key=lambda log: (log.timestamp_us, log.key))[:limit]

    def counts_by_state(self, flow_run: int) -> dict[str, int]:
        return dict(Counter(row.state_name for row in self.task_runs(RunFilter(flow_run=flow_run))))

    def counts_by_worker(self, flow_run: int) -> dict[str, int]:
        workers = [row.worker for row in self.task_runs(RunFilter(flow_run=flow_run)) if row.worker]
        return dict(sorted(Counter(workers).items(), key=lambda each: (-each[1], each[0])))

    def flows(self) -> list[FlowRow]:
        by_flow: dict[str, list[FlowRunRow]] = {}
        for row in self.flow_runs():
            by_flow.setdefault(row.flow_name, []).append(row)
        return [_flow(name, runs) for name, runs in sorted(by_flow.items())]

    def delete_flow_run(self, key: int) -> int:
        with self._lock:
            flow_runs = self._tree(key) & self._flow_runs.keys()
            return self._delete({*flow_runs, *(row.key for row in self.task_runs() if row.flow_run in flow_runs)})

    def prune(self, before_us: int, state_types: Sequence[str] = ()) -> int:
        def has_ended(row: FlowRunRow | TaskRunRow) -> bool:
            return (
                row.ended_us is not None
                and row.ended_us < before_us
                and (not state_types or row.state_type in state_types)
            )

        with self._lock:
            roots = [row.key for row in self.flow_runs(RunFilter(root_only=True)) if has_ended(row)]
            gone = sum(map(self.delete_flow_run, roots))
            alone = (row for row in self.task_runs() if row.flow_run is None and row.child_flow_run is None)
            return gone + self._delete({row.key for row in alone if has_ended(row)})

    def has_unanswered(self) -> bool:
        return bool(self._control.unanswered())

    def _is_open(self, flow_run: int) -> bool:
        row = self._flow_runs.get(flow_run)
        return row is not None and is_open(row)

    def _open_roots(self) -> list[int]:
        return [row.key for row in self.flow_runs(RunFilter(root_only=True)) if StateType(row.state_type) not in FINAL]

    def _end_process(self, number: int, keeps_paused: bool, cancelled: int | None) -> list[int]:
        with self._lock:
            inside = self._end_tree(cancelled, LOST) if cancelled is not None else []
            rows: list[FlowRunRow | TaskRunRow] = [*self.flow_runs(), *self.task_runs()]
            its_runs = [row for row in rows if row.process == number and is_open(row)]
            ended = [
                row
                for row in its_runs
                if row.state_type != PAUSED.value or not (keeps_paused or self._is_suspended(row.key))
            ]
            return sorted([*inside, *self._end_lost(ended, LOST, are_cancelled=False)])

    def _end_tree(self, root: int, message: str) -> list[int]:
        with self._lock:
            tree = self._tree(root)
            flow_runs = [row for row in self.flow_runs() if row.key in tree and is_open(row)]
            task_runs = [row for row in self.task_runs() if row.flow_run in tree and is_open(row)]
            return self._end_lost([*flow_runs, *task_runs], message, are_cancelled=True)

    def _end_lost(self, rows: Sequence[FlowRunRow | TaskRunRow], message: str, *, are_cancelled: bool) -> list[int]:
        for row in rows:
            state = lost_state(row, self.states(row.key)[-1], message, is_cancelled=are_cancelled)
            if isinstance(row, FlowRunRow) and not are_cancelled:
                state = self._named_loss(row, state)
            self._end(row, state)
        return sorted(row.key for row in rows)

    def _is_suspended(self, run: int) -> bool:
        return any(pause.is_suspended and pause.is_open for pause in self._control.pauses(run))

    def _fail(self, run: int, message: str) -> bool:
        """End a flow run that is Paused, Failed; False for any other."""
        row = self._flow_runs.get(run)
        if row is None or row.state_type != PAUSED.value:
            return False
        self._end(row, failed_state(self.states(run)[-1], message))
        return True

    def _end(self, row: FlowRunRow | TaskRunRow, state: StateRow) -> None:
        self._states[row.key][state.seq] = state
        if isinstance(row, FlowRunRow):
            self._flow_runs[row.key] = replace(row, **course_of(state))
            self._owe_hooks(state)
        else:
            self._task_runs[row.key] = ended_row(self._task_runs[row.key], state)
        for attempt in self.attempts(row.key):
            if attempt.ended_us is None:
                self._attempts[row.key][attempt.attempt] = replace(
                    attempt, ended_us=state.timestamp_us, state_type=state.type, state_name=state.name
                )

    def _tree(self, key: int) -> set[int]:
        found, new = {key}, [key]
        while new:
            new = [row.key for row in self._flow_runs.values() if row.parent_flow_run in new]
            found.update(new)
        return found

    def _delete(self, keys: set[int]) -> int:
        for key in keys:
            self._flow_runs.pop(key, None)
            self._task_runs.pop(key, None)
            self._states.pop(key, None)
            self._attempts.pop(key, None)
            self._losses_of.pop(key, None)
        self._forget_of_results(keys)
        self._control.forget(keys)
        self._logs = {key: log for key, log in self._logs.items() if log.run not in keys}
        self._children = {parent: child for parent, child in self._children.items() if child not in keys}
        return len(keys)

    def stats(self) -> HistoryStats:
        with self._lock:
            rows = {
                "process": self._openings,
                "flow_run": len(self._flow_runs),
                "task_run": len(self._task_runs),
                "attempt": sum(map(len, self._attempts.values())),
                "state": sum(map(len, self._states.values())),
                "log": len(self._logs),
                "result": len(self._of_results["result"]),
            }
        version = f"Python {sys.version_info.major}.{sys.version_info.minor}"
        return HistoryStats(rows, 0, 0, 0, version, min(self._losses, default=None), sum(self._losses.values()))

    def backup(self, path: Path) -> None:
        raise HistoryError(f"A history in memory can't be copied to {path}; only one in a file can.")

    def check(self) -> list[str]:
        with self._lock:
            runs = self._flow_runs.keys() | self._task_runs.keys()
            loose = {"state": self._states.keys() - runs, "attempt": self._attempts.keys() - runs}
            problems = [f"{len(keys)} runs have rows of {table} only." for table, keys in loose.items() if keys]
            stateless = runs - self._states.keys()
            return [*problems, f"{len(stateless)} runs have no state."] if stateless else problems


def _after(before: FlowRunRow | None, row: FlowRunRow) -> FlowRunRow:
    # Of a run that was let go, the recorder no longer knows the parameters.
    if before is None or row.parameters_text != "{}":
        return row
    return replace(row, parameters_text=before.parameters_text)


def _matches(row: FlowRunRow | TaskRunRow, wanted: RunFilter, name: str, flow_run: int | None) -> bool:
    return (
        (wanted.name is None or name == wanted.name)
        and (wanted.flow_run is None or flow_run == wanted.flow_run)
        and (not wanted.state_types or row.state_type in wanted.state_types)
        and (not wanted.state_names or row.state_name in wanted.state_names)
        and set(wanted.tags) <= set(row.tags)
        and (wanted.since_us is None or row.created_us >= wanted.since_us)
        and (wanted.until_us is None or row.created_us < wanted.until_us)
    )


def _newest_first(rows: Iterable[RunRow], wanted: RunFilter) -> list[RunRow]:
    ordered = sorted(rows, key=attrgetter("uid"), reverse=True)[wanted.offset :]
    return ordered[: wanted.limit]


def _one(newest_first: list[RunRow], name: str | int, kind: str) -> RunRow:
    if isinstance(name, int):
        similar = [row for row in newest_first if row.key == name]
    else:
        low, high = id_bounds(name) or (1, 0)
        similar = [row for row in newest_first if low <= row.uid <= high]
    if len(similar) == 1:
        return similar[0]
    for row in newest_first:
        if row.name == name:
            return row
    raise not_found(kind, name, [row.id for row in similar[:3]])


def _flow(name: str, newest_first: list[FlowRunRow]) -> FlowRow:
    last = newest_first[0]
    return FlowRow(name, len(newest_first), last.name, last.created_us, last.state_name, last.state_type)
