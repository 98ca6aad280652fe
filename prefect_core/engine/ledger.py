"""What earlier attempts of a root flow run left of its calls, found by identity.

Calls of an earlier process are read from the history, some hundreds at a time in the order in which they were made, since they mostly
come in about that order again. Calls of an earlier attempt in this process are remembered where a later attempt may ask.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from prefect_core.history.plain import inputs_from
from prefect_core.results.kept import KeptValue
from prefect_core.runs import FlowRun, TaskRun
from prefect_core.state_kinds import COMPLETED, StateType
from prefect_core.states import NO_DATA, State
from prefect_core.stored import Kept

if TYPE_CHECKING:
    from prefect_core.history import HistoryStore
    from prefect_core.history.rows import FlowRunRow
    from prefect_core.history.stored import EarlierCall

_AT_ONCE = 512
_NO_TAGS: frozenset[str] = frozenset()
_KINDS = {kind.value: kind for kind in StateType}


class Earlier(NamedTuple):
    """A call of an earlier attempt: its run, how that ended, and what was kept of its value (None: nothing can be taken over)."""

    run: TaskRun
    state: State
    kept: Kept | None
    code: bytes | None


class Ledger:
    """The calls of one root flow run."""

    def __init__(self, root: int = 0, stored: HistoryStore | None = None) -> None:
        """Read what `stored` knows of the flow run with key `root`, if it is run again."""
        self._stored = stored
        self._reading = threading.Lock()
        self._remembered: dict[bytes, Earlier] = {}
        self._keys: dict[bytes, int] = {}
        self._in_order: list[int] = []
        self._read: dict[int, EarlierCall] = {}
        self._indexes: dict[tuple[int, str], int] = {}
        self._children: dict[int, dict[int | None, FlowRunRow]] = {}
        if stored is not None:
            self._keys = stored.known_identities(root)
            self._in_order = sorted(self._keys.values())
            self._indexes = stored.highest_indexes(root)

    def find(self, identity: bytes, flow_run: FlowRun | None) -> Earlier | None:
        """Return the call with this identity that was made in an earlier attempt, in the flow run that it is made in now."""
        remembered = self._remembered.pop(identity, None)
        if remembered is not None:
            self._keys.pop(identity, None)
            return remembered
        key = self._keys.pop(identity, None) if self._keys else None
        return None if key is None else _revived(self._read_call(key), flow_run)

    def _read_call(self, key: int) -> EarlierCall:
        call = self._read.pop(key, None)
        if call is None:
            assert self._stored is not None
            with self._reading:
                if key not in self._read:
                    begin = bisect_left(self._in_order, key)
                    for one in self._stored.known_calls(self._in_order[begin : begin + _AT_ONCE]):
                        self._read[one.key] = one
                call = self._read.pop(key)
        return call

    def child_of(self, run: TaskRun) -> FlowRun | None:
        """Return the flow run that an earlier call's task run stands for."""
        if run.child_flow_run is None and run.flow_run is not None and self._stored is not None:
            row = self._children_of(run.flow_run.key).get(run.key)
            if row is not None:
                run.child_flow_run = flow_run_of(row, run)
        return run.child_flow_run

    def _children_of(self, flow_run: int) -> dict[int | None, FlowRunRow]:
        """Return the flow runs that earlier processes made in a flow run, by the task runs that stand for them."""
        with self._reading:
            if flow_run not in self._children:
                assert self._stored is not None
                self._children[flow_run] = {row.parent_task_run: row for row in self._stored.children(flow_run)}
            return self._children[flow_run]

    def remember(self, identity: bytes, earlier: Earlier) -> None:
        """Keep a call that has ended for the next attempt in this process."""
        self._remembered[identity] = earlier

    def first_index(self, flow_run: int, name: str) -> int:
        """Return the first number that no earlier run of this name has in its flow run."""
        highest = self._indexes.get((flow_run, name))
        return 0 if highest is None else highest + 1


class Reopening:
    """A flow run that is to be run again: its record, taken by the first call of a flow inside the block."""

    def __init__(self, run: FlowRun, ledger: Ledger) -> None:
        self.run = run
        self.ledger = ledger


_reopening: ContextVar[Reopening | None] = ContextVar("prefect_core.reopening", default=None)


@contextmanager
def reopening(run: FlowRun, ledger: Ledger) -> Iterator[None]:
    """Let the first flow that is called in the block go on with `run`, in place of a new one."""
    token = _reopening.set(Reopening(run, ledger))
    try:
        yield
    finally:
        _reopening.reset(token)


def take_reopened() -> Reopening | None:
    """Return what a call that begins now goes on with, once."""
    again = _reopening.get()
    if again is not None:
        _reopening.set(None)
    return again


def _revived(call: EarlierCall, flow_run: FlowRun | None) -> Earlier:
    state = State(_KINDS[call.state_type], call.state_name, call.state_message, data=NO_DATA)
    state.timestamp_us = call.state_us
    tags = frozenset(json.loads(call.tags)) if call.tags else _NO_TAGS
    run = TaskRun(state, call.task_name, call.task_key, flow_run, call.number, tags)
    run.uid, run.key = int.from_bytes(call.uid, "big"), call.key
    run.created_us, run.started_us, run.ended_us = call.created_us, call.started_us or 0, call.ended_us or 0
    run.run_count, run.attempt, run.worker = call.run_count, call.attempts or 0, call.worker
    if call.inputs:
        run.inputs = inputs_from(call.inputs)
    if call.name:
        run.name = call.name
    state.task_uid = run.uid
    # What an earlier attempt of the run kept says nothing of the last one.
    is_kept = state.type is COMPLETED and call.kept_attempt == run.attempt
    return Earlier(run, state, KeptValue.of_call(call) if is_kept else None, call.code)


def flow_run_of(row: FlowRunRow, parent: TaskRun | None, attempts: int | None = None) -> FlowRun:
    """Return the record of a flow run that the history knows."""
    state = State(StateType(row.state_type), row.state_name, row.state_message, data=NO_DATA)
    state.timestamp_us = row.state_us
    run = FlowRun(state, row.name, row.flow_name, frozenset(row.tags), parent)
    run.uid, run.key, run.created_us = row.uid, row.key, row.created_us
    run.started_us, run.ended_us, run.run_count = row.started_us or 0, row.ended_us or 0, row.run_count
    run.attempt = row.run_count if attempts is None else attempts
    run.flow_version, run.entrypoint, run.runner_name = row.flow_version, row.entrypoint, row.runner
    run.parameters = row.parameters
    run.state.flow_uid = run.uid
    return run
