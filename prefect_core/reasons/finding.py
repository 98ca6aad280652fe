"""Deciding why a run is as it is: from the history, and where that does not tell, from the process that has the run.

Runs that wait for others are followed to the one that does not, so that what is told at the end of a chain is what has to change.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from prefect_core import clock
from prefect_core.control.reaping import reap
from prefect_core.errors import ObjectNotFound
from prefect_core.history.rows import FlowRunRow, TaskRunRow
from prefect_core.reasons import ends, held_up, looking, owners
from prefect_core.reasons.answer import Why
from prefect_core.reasons.kinds import (
    Followed,
    IsCancelling,
    IsRunning,
    NotBegun,
    Reason,
    StandsForSubflow,
    WaitingForRuns,
)
from prefect_core.reasons.looking import Found
from prefect_core.state_kinds import CANCELLING, PENDING, RUNNING, SCHEDULED, StateType

if TYPE_CHECKING:
    from prefect_core.history.store import HistoryStore
    from prefect_core.reasons.looking import Row

_NO_ANSWER: owners.Account = {}
_SHOWN = 10
LONGEST_CHAIN = 1_000
"""Runs that are followed at most."""


class _Search:
    """One question, and what was learned on the way."""

    def __init__(self, store: HistoryStore) -> None:
        self._store = store
        self._limits = held_up.Limits(store)
        self.has_answered: bool | None = None

    def follow(self, row: Row) -> Reason:
        """Return the reason of a run, with those that it lies in."""
        first = found = self._reason(row)
        chain: list[Row] = []
        seen = {row.uid}
        while found.further is not None and found.further.uid not in seen and len(chain) < LONGEST_CHAIN:
            chain.append(found.further)
            seen.add(found.further.uid)
            found = self._reason(found.further)
        if not chain:
            return first.reason
        assert isinstance(first.reason, Followed)
        return replace(first.reason, chain=tuple(map(looking.ref, chain)), root=found.reason)

    def _reason(self, row: Row) -> Found:
        if looking.has_ended(row):
            return Found(ends.of_ended(self._store, row))
        subflow = self._subflow(row)
        if subflow is not None and subflow.state_type != PENDING.value:
            return Found(StandsForSubflow(looking.ref(subflow)), subflow)
        kind = StateType(row.state_type)
        if kind is CANCELLING:
            return self._cancelling(row)
        full = self._limits.held_up(row)
        if full is not None:
            return full
        if kind is RUNNING:
            return self._running(row)
        return self._not_running(row)

    def _subflow(self, row: Row) -> FlowRunRow | None:
        if not isinstance(row, TaskRunRow) or row.child_flow_run is None:
            return None
        try:
            return self._store.flow_run(row.child_flow_run)
        except ObjectNotFound:
            return None

    def _not_running(self, row: Row) -> Found:
        """Return what keeps a run from running, or from running again, that waits for no limit."""
        paused = held_up.by_pause(self._store, row)
        if paused is not None and paused.run.id == str(row.id):
            return Found(paused)
        if StateType(row.state_type) is SCHEDULED:
            return self._scheduled(row)
        waiting = self._for_inputs(row)
        if waiting is not None:
            return waiting
        if paused is not None:
            return Found(paused)
        if isinstance(row, TaskRunRow):
            return owners.of_account(self._store, row, self._ask(row))
        return Found(NotBegun(row.state_timestamp))

    def _scheduled(self, row: Row) -> Found:
        reason = held_up.by_schedule(self._store, row)
        if reason.due is not None and reason.due <= clock.to_datetime(clock.now_us()) and isinstance(row, TaskRunRow):
            account = self._ask(row)
            if account.get("step") == "late body":
                return owners.of_account(self._store, row, account)
        return Found(reason)

    def _for_inputs(self, row: Row) -> Found | None:
        still_open = [one for one in ends.inputs(self._store, row) if not looking.has_ended(one)]
        if not still_open:
            return None
        # One that runs will end by itself; what keeps another from running is what to look at.
        further = next((one for one in still_open if StateType(one.state_type) is not RUNNING), still_open[0])
        return Found(WaitingForRuns(tuple(map(looking.ref, still_open[:_SHOWN])), len(still_open)), further)

    def _running(self, row: Row) -> Found:
        account = self._ask(row)
        if (waiting := owners.for_input(account)) is not None:
            return Found(waiting)
        children, further = self._children(row)
        step, runner = account.get("step"), account.get("runner")
        if isinstance(row, FlowRunRow):
            runner = row.runner
        reason = IsRunning(
            since=row.state_timestamp,
            seconds=_seconds_since(row),
            attempt=max(1, row.run_count),
            process=looking.owner(self._store, row),
            runner=runner,
            has_returned=step == "children" if step in ("body", "children") else None,
            children=children,
        )
        return Found(reason, further)

    def _cancelling(self, row: Row) -> Found:
        children, further = self._children(row)
        asked = looking.canceller(self._store, row)
        return Found(IsCancelling(row.state_timestamp, _seconds_since(row), asked, children), further)

    def _children(self, row: Row) -> tuple[dict[str, int], Row | None]:
        """Count the runs in a run by state, and choose the one to look at: the one that runs longest, since the others may wait for it."""
        if isinstance(row, FlowRunRow):
            counts = self._store.counts_by_state(row.key)
            still_open = looking.open_children(self._store, row.key)
        else:
            counts = {}
            around = looking.open_children(self._store, row.flow_run) if row.flow_run is not None else []
            still_open = [one for one in around if one.parent_task_run == row.key]
            for one in still_open:
                counts[one.state_name] = counts.get(one.state_name, 0) + 1
        running = [one for one in still_open if StateType(one.state_type) is RUNNING]
        further: Row | None = min(running, key=lambda one: one.state_us, default=still_open[0] if still_open else None)
        if further is not None:
            # Under its own name, not that of what stands for it.
            further = self._subflow(further) or further
        return counts, further

    def _ask(self, row: Row) -> owners.Account:
        if self.has_answered is False:
            # Nobody waits twice as long because a chain is.
            return _NO_ANSWER
        account = owners.asked(self._store, row)
        if account != {}:
            self.has_answered = account is not None
        return account or _NO_ANSWER


def _seconds_since(row: Row) -> float:
    return max(0.0, (clock.now_us() - row.state_us) / 1_000_000)


def why(store: HistoryStore, name: str) -> Why:
    """Find a run, flow run or task run, by id, unique start of an id or name, and say why it is as it is.

    Runs of dead processes are ended first. The process of the run may be asked, for two seconds at most. Raises `ObjectNotFound`,
    `HistoryError`.
    """
    reap(store.control())
    return why_of(store, looking.find(store, name))


def why_of(store: HistoryStore, row: Row) -> Why:
    """Say why a run is as it is."""
    search = _Search(store)
    reason = search.follow(row)
    is_over = looking.has_ended(row)
    return Why(
        run=looking.ref(row),
        state_type=row.state_type,
        message=row.state_message,
        since=row.state_timestamp,
        reason=reason,
        process=None if is_over else looking.owner(store, row),
        has_answered=search.has_answered,
        requests=() if is_over else looking.unanswered(store, row),
    )
