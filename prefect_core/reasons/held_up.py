"""What holds a run up that the history tells of: limits, pauses, retries."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from prefect_core import clock, ids
from prefect_core.history.process import is_gone
from prefect_core.reasons import looking
from prefect_core.reasons.kinds import FullLimit, Holder, IsPaused, IsScheduled, Retry, WaitingForLimit
from prefect_core.reasons.looking import Found
from prefect_core.state_kinds import PAUSED

if TYPE_CHECKING:
    from prefect_core.history.limits import LimitRow, RequestRow
    from prefect_core.history.rows import FlowRunRow
    from prefect_core.history.store import HistoryStore
    from prefect_core.reasons.looking import Row

_SHOWN = 10


class Limits:
    """The limits, and who has slots of them or waits for some, as they were when they were first asked for."""

    def __init__(self, store: HistoryStore) -> None:
        self._store = store

    @cached_property
    def _limits(self) -> dict[str, LimitRow]:
        return {limit.name: limit for limit in self._store.limits().limits()}

    @cached_property
    def _requests(self) -> list[RequestRow]:
        return self._store.limits().requests(is_gone) if self._limits else []

    def held_up(self, row: Row) -> Found | None:
        """Return the limits that a run, or code in it, waits for; None if it waits for none."""
        limits = self._limits
        mine = [one for one in self._requests if one.run == row.uid and one.granted_us is None and one.name in limits]
        if not mine:
            return None
        full = [
            _full(one, limits[one.name], [other for other in self._requests if other.name == one.name]) for one in mine
        ]
        # Of several that are wanted together, some may have room.
        blocking = [one for one, has_room in full if not has_room] or [one for one, _ in full]
        reason = WaitingForLimit(tuple(blocking), clock.to_datetime(min(one.asked_us for one in mine)))
        return Found(reason, self._first_holder(blocking))

    def _first_holder(self, full: list[FullLimit]) -> Row | None:
        ids = [one.holders[0].run_id for one in full if one.holders]
        if not ids or ids[0] is None:
            return None
        return looking.by_id(self._store, ids[0]) or looking.by_id(self._store, ids[0], "flow_run")


def _full(mine: RequestRow, limit: LimitRow, asked: list[RequestRow]) -> tuple[FullLimit, bool]:
    """Return what a request waits for at one limit, and whether there is room for it there."""
    pool = [one for one in asked if one.lender == mine.lender]
    held = [one for one in pool if one.granted_us is not None and one.occupy]
    ahead = 0
    for one in pool:
        if one.granted_us is None:
            if one.key == mine.key:
                break
            ahead += 1
    lent = sum(one.occupy for one in asked if one.key == mine.lender)
    slots = lent if mine.lender else limit.slots
    level = 0.0 if mine.lender else limit.level_at(clock.now_us())
    has_room = not ahead and sum(one.occupy for one in held) + level + mine.occupy <= slots
    holders = tuple(_holder(one) for one in held[:_SHOWN])
    full = FullLimit(limit.name, slots, limit.decay_per_second, mine.occupy, holders, len(held), ahead)
    return full, has_room


def _holder(one: RequestRow) -> Holder:
    run = ids.as_text(one.run) if one.run else None
    since = clock.to_datetime(one.granted_us or one.asked_us)
    return Holder(one.label, run, looking.process(one.process), one.occupy, since)


def by_pause(store: HistoryStore, row: Row) -> IsPaused | None:
    """Return the pause that keeps a run from going on: its own, or that of a flow run around it; None if there is none."""
    paused = next((one for one in looking.around(store, row) if one.state_type == PAUSED.value), None)
    return _pause(store, paused) if paused is not None else None


def _pause(store: HistoryStore, row: FlowRunRow) -> IsPaused:
    """Return what is known of the pause of a flow run that is Paused. All that the history knows of pauses is asked for here alone."""
    details = _last_details(store, row)
    key, until = details.get("pause_key"), _moment(details.get("pause_timeout"))
    is_suspended = bool(details.get("pause_reschedule")) or row.state_name == "Suspended"
    return IsPaused(looking.ref(row), row.state_timestamp, key, until, is_suspended, row.state_message)


def by_schedule(store: HistoryStore, row: Row) -> Retry | IsScheduled:
    """Return when a run goes on that is Scheduled."""
    due = _moment(_last_details(store, row).get("scheduled_time"))
    if row.state_name != "AwaitingRetry" or due is None:
        return IsScheduled(due)
    left = max(0.0, (due - clock.to_datetime(clock.now_us())).total_seconds())
    return Retry(due, left, row.run_count, row.state_message)


def _last_details(store: HistoryStore, row: Row) -> dict[str, Any]:
    states = store.states(row.key)
    return states[-1].details if states else {}


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
