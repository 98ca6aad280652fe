"""How commands read what they are asked for: moments, kinds of state, runs by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import click

from prefect_core import clock, history
from prefect_core.history.rows import FlowRunRow, TaskRunRow
from prefect_core.history.store import HistoryStore, RunFilter
from prefect_core.state_kinds import StateType

RunRow = TypeVar("RunRow", FlowRunRow, TaskRunRow)

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_NAMES = {name.lower(): name for name in ("AwaitingRetry", "Late", "NotReady", "Retrying", "Suspended", "TimedOut")}


class Moment(click.ParamType):
    """A moment, as wall microseconds: an age such as 90s, 30m, 12h, 7d, 2w or 1d12h, or a date or time as ISO 8601 writes it, local by default."""

    name = "age or date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = value.strip().lower()
        if re.fullmatch(r"(\d+[smhdw])+", text):
            seconds = sum(int(count) * _SECONDS[unit] for count, unit in re.findall(r"(\d+)([smhdw])", text))
            return clock.now_us() - seconds * 1_000_000
        try:
            return clock.from_datetime(datetime.fromisoformat(value).astimezone())
        except ValueError:
            self.fail(f"{value!r} is neither an age, such as 30m or 7d, nor a date, such as 2026-01-31 or 2026-01-31T12:00.", param, ctx)


MOMENT = Moment()


class States(NamedTuple):
    """Kinds and names of states, of which a run must be in one."""

    types: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def states(texts: Iterable[str]) -> States:
    """Sort what was given into kinds ("failed" is any failed state, timeouts too) and names ("TimedOut" and custom ones)."""
    types: list[str] = []
    names: list[str] = []
    for text in texts:
        if text.upper() in StateType.__members__:
            types.append(text.upper())
        else:
            names.append(_NAMES.get(text.lower(), text))
    return States(tuple(types), tuple(names))


def runs(read: Callable[[RunFilter], list[RunRow]], wanted: RunFilter, in_states: States) -> list[RunRow]:
    """Return the runs, newest first, that are in one of the states."""
    if not (in_states.types and in_states.names):
        return read(wanted._replace(state_types=in_states.types, state_names=in_states.names))
    found = {
        run.key: run
        for run in (*read(wanted._replace(state_types=in_states.types)), *read(wanted._replace(state_names=in_states.names)))
    }
    return sorted(found.values(), key=lambda run: run.uid, reverse=True)[: wanted.limit]


@contextmanager
def opened() -> Iterator[HistoryStore]:
    """Open the history for the length of the block."""
    store = history.open_store()
    try:
        yield store
    finally:
        store.close()
