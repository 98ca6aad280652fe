"""How commands read what they are asked for: moments, kinds of state, runs by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from prefect_core import clock, history
from prefect_core.cli import output
from prefect_core.control.reaping import reap
from prefect_core.errors import HistoryError
from prefect_core.history.rows import FlowRunRow, TaskRunRow
from prefect_core.history.store import HistoryStore, RunFilter
from prefect_core.state_kinds import StateType

F = TypeVar("F", bound=Callable[..., Any])
RunRow = TypeVar("RunRow", FlowRunRow, TaskRunRow)

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_NAMES = {
    name.lower(): name
    for name in ("AwaitingRetry", "KeepsCrashing", "Late", "NotReady", "Retrying", "Suspended", "TimedOut")
}


if TYPE_CHECKING:
    _IntType = click.ParamType[int]
else:
    # Before click 8.4, the class has no parameter.
    _IntType = click.ParamType


class Moment(_IntType):
    """A moment, as wall microseconds: an age such as 90s, 30m, 12h, 7d, 2w or 1d12h, or a date or time in ISO 8601, local by default."""

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
            self.fail(
                f"{value!r} is neither an age, such as 30m or 7d, nor a date, such as 2026-01-31 or 2026-01-31T12:00.",
                param,
                ctx,
            )


class Size(_IntType):
    """A number of bytes, such as 4096, 500kB, 64MiB or 2G: with kB, MB and GB in powers of 1000, else of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        matched = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?", value.strip().lower())
        if matched is None or (matched[3] == "ib" and not matched[2]):
            self.fail(f"{value!r} is no size, such as 4096, 500kB, 64MiB or 2G.", param, ctx)
        base = 1000 if matched[3] == "b" else 1024
        return int(float(matched[1]) * base ** " kmgt".index(matched[2] or " "))


MOMENT = Moment()
SIZE = Size()


def state_option(text: str) -> Callable[[F], F]:
    """Give a command the repeatable option `--state`, as parameter `in_states`."""
    return click.option("--state", "in_states", multiple=True, metavar="STATE", help=text)


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
    found: dict[int, RunRow] = {}
    for one in (wanted._replace(state_types=in_states.types), wanted._replace(state_names=in_states.names)):
        for run in read(one):
            found[run.uid] = run
    return [found[uid] for uid in sorted(found, reverse=True)[: wanted.limit]]


@contextmanager
def opened(*, marks_lost: bool = True) -> Iterator[HistoryStore]:
    """Open the history for the length of the block; first, unless told not to, end the runs whose process is found to have ended."""
    store = history.open_store()
    try:
        if marks_lost:
            try:
                reap(store.control())
            except HistoryError as error:
                # What is there can be shown all the same.
                output.say(f"Runs of processes that have ended may be shown as under way: {error}")
        yield store
    finally:
        store.close()
