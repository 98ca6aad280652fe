"""`prefect-core limit`: how many may do something at once, who does, and who waits for it."""

from __future__ import annotations

from typing import Any

import click

from prefect_core import clock, ids
from prefect_core.cli import output
from prefect_core.cli.asked import opened
from prefect_core.cli.commands import Group
from prefect_core.errors import ObjectNotFound
from prefect_core.history.limits import TAG_PREFIX, LimitRow, LimitTable, RequestRow
from prefect_core.history.process import is_gone
from prefect_core.limits import names

_SHOWN = 3


@click.group("limit", cls=Group)
def limit() -> None:
    """Make, list and remove concurrency limits, and see who holds slots.

    NAME is what `concurrency(NAME)` and `rate_limit(NAME)` name in the code. The limit on a tag, which tasks with that tag obey, is named
    by the tag and --tag, or as tag:TAG.
    """


_tag_option = click.option("--tag", "is_tag", is_flag=True, help="NAME is a tag: limit the tasks that have it.")


@limit.command("create")
@click.argument("name")
@click.argument("slots", type=click.IntRange(0))
@_tag_option
@click.option(
    "--slot-decay-per-second",
    "decay",
    type=click.FloatRange(0),
    default=0.0,
    help="Let so many slots come back a second, as a rate limit needs it; 0, and they are held.",
)
def create(name: str, slots: int, is_tag: bool, decay: float) -> None:
    """Make a limit of so many slots, or change one, also while it is in use.

    With 0 slots, whoever asks is refused: tasks with such a tag fail.
    """
    name = _name(name, is_tag)
    try:
        names.checked(name, slots, decay)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with opened() as store:
        table = store.limits()
        before = {row.name: row for row in table.limits()}.get(name)
        names.make(name, slots, decay, table)
    if before is None:
        output.say(f"Made the limit {name!r}: {_size(slots, decay)}.")
    else:
        was = _size(before.slots, before.decay_per_second)
        output.say(f"Changed the limit {name!r}, which was there: {_size(slots, decay)}, before {was}.")


def _name(name: str, is_tag: bool) -> str:
    return names.of_tag(name) if is_tag else name


def _size(slots: int, decay: float) -> str:
    text = f"{slots:,} slot{'' if slots == 1 else 's'}"
    return f"{text}, {decay:g} a second come back" if decay else text


@limit.command("rm")
@click.argument("name")
@_tag_option
def rm(name: str, is_tag: bool) -> None:
    """Remove a limit. Who waits for its slots goes on, and it limits nobody any more."""
    name = _name(name, is_tag)
    with opened() as store:
        if not names.remove(name, store.limits()):
            raise _unknown(store.limits(), name)
    output.say(f"Removed the limit {name!r}.")


def _unknown(table: LimitTable, name: str) -> ObjectNotFound:
    known = [row.name for row in table.limits()]
    if TAG_PREFIX + name in known:
        return ObjectNotFound(f"There is no limit {name!r}, but one on the tag {name!r}: add --tag.")
    shown = ", ".join(map(repr, known)) or "none"
    return ObjectNotFound(f"There is no limit {name!r}; there is {shown}.")


@limit.command("ls")
@output.json_option
def ls(as_json: bool) -> None:
    """List the limits, with the slots that are taken and who holds them."""
    with opened() as store:
        limits, requests = _read(store.limits())
    if as_json:
        output.write_json([_form(row, requests.get(row.name, [])) for row in limits])
        return
    output.table(
        ("LIMIT", "SLOTS", "TAKEN", "WAITING", "DECAY/S", "HELD BY"),
        [_cells(row, requests.get(row.name, [])) for row in limits],
    )


@limit.command("inspect")
@click.argument("name")
@_tag_option
@output.json_option
def inspect(name: str, is_tag: bool, as_json: bool) -> None:
    """Show a limit, all who hold slots of it, and all who wait, in the order in which they will get them."""
    name = _name(name, is_tag)
    with opened() as store:
        limits, requests = _read(store.limits())
        found = [row for row in limits if row.name == name]
        if not found:
            raise _unknown(store.limits(), name)
    asked = requests.get(name, [])
    if as_json:
        output.write_json(_form(found[0], asked))
    else:
        _show(found[0], asked)


def _show(row: LimitRow, asked: list[RequestRow]) -> None:
    output.record(
        [
            ("Limit", row.name),
            ("Slots", f"{row.slots:,}"),
            ("Taken", f"{_taken(row, asked):g}"),
            ("Decay per second", f"{row.decay_per_second:g}"),
            ("Made", output.local(clock.to_datetime(row.created_us))),
        ]
    )
    for title, some in (("Held by", _holders(asked)), ("Waiting", _waiters(asked))):
        if some:
            output.heading(f"\n{title}")
            output.table(("RUN", "PROCESS", "SLOTS", "PRIORITY", "SINCE", "ID"), [_line(one) for one in some])


def _line(one: RequestRow) -> tuple[str, ...]:
    slots = f"{one.occupy} of its parent's" if one.lender else str(one.occupy)
    since = output.local(clock.to_datetime(_since_us(one)))
    return one.label, _process(one), slots, str(one.priority), since, ids.as_text(one.run) if one.run else "-"


def _read(table: LimitTable) -> tuple[list[LimitRow], dict[str, list[RequestRow]]]:
    by_name: dict[str, list[RequestRow]] = {}
    for request in table.requests(is_gone):
        by_name.setdefault(request.name, []).append(request)
    return table.limits(), by_name


def _holders(asked: list[RequestRow]) -> list[RequestRow]:
    return [one for one in asked if one.granted_us is not None and one.occupy]


def _waiters(asked: list[RequestRow]) -> list[RequestRow]:
    return [one for one in asked if one.granted_us is None]


def _taken(row: LimitRow, asked: list[RequestRow]) -> float:
    held = sum(one.occupy for one in _holders(asked) if not one.lender)
    return round(held + row.level_at(clock.now_us()), 3)


def _since_us(one: RequestRow) -> int:
    return one.granted_us if one.granted_us is not None else one.asked_us


def _process(one: RequestRow) -> str:
    return f"{one.process.host}:{one.process.pid}" if one.process is not None else "-"


def _cells(row: LimitRow, asked: list[RequestRow]) -> tuple[str, ...]:
    holders = _holders(asked)
    told = [
        f"{one.label} ({_process(one)}, since {output.local(clock.to_datetime(_since_us(one)))})"
        for one in holders[:_SHOWN]
    ]
    if len(holders) > _SHOWN:
        told.append(f"{len(holders) - _SHOWN} more")
    numbers = (str(row.slots), f"{_taken(row, asked):g}", str(len(_waiters(asked))), f"{row.decay_per_second:g}")
    return row.name, *numbers, ", ".join(told) or "-"


def _form(row: LimitRow, asked: list[RequestRow]) -> dict[str, Any]:
    return {
        "name": row.name,
        "tag": row.name.removeprefix(TAG_PREFIX) if row.name.startswith(TAG_PREFIX) else None,
        "slots": row.slots,
        "slots_taken": _taken(row, asked),
        "slot_decay_per_second": row.decay_per_second,
        "created": output.iso(clock.to_datetime(row.created_us)),
        "holders": [_form_of(one) for one in _holders(asked)],
        "waiters": [_form_of(one) for one in _waiters(asked)],
    }


def _form_of(one: RequestRow) -> dict[str, Any]:
    return {
        "run": one.label,
        "run_id": ids.as_text(one.run) if one.run else None,
        "process": _process(one),
        "slots": one.occupy,
        "is_of_parent": bool(one.lender),
        "priority": one.priority,
        "since": output.iso(clock.to_datetime(_since_us(one))),
    }
