"""Finds out in what a call differs from the calls of earlier executions that it might have been."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prefect_core.identity import WAIT_FOR

if TYPE_CHECKING:
    from prefect_core.history.rows import TaskRunRow
    from prefect_core.history.stored import IdentityRow, KnownCall


class Nearest(NamedTuple):
    """The earlier call that a call is most like, and in what they differ."""

    call: KnownCall
    arguments: tuple[str, ...]
    """Parameters with other values."""
    has_other_key: bool
    has_other_number: bool
    """The arguments are the same, and of the calls with these it was another one."""


def nearest(identity: IdentityRow, earlier: list[KnownCall]) -> Nearest | None:
    """Return the earlier call that this one is most like, of several the last; None if there was none."""
    found = [_compared(identity, call) for call in earlier]
    return min(reversed(found), key=_distance, default=None)


def _distance(one: Nearest) -> tuple[int, bool]:
    return len(one.arguments) + one.has_other_key, one.has_other_number


def _compared(identity: IdentityRow, call: KnownCall) -> Nearest:
    mine, theirs = identity.arguments, call.identity.arguments
    has_other_key = identity.given_key != call.identity.given_key
    names = {**mine, **theirs}
    # With a key, arguments are not looked at.
    others = () if has_other_key else tuple(name for name in names if mine.get(name) != theirs.get(name))
    has_other_number = not others and not has_other_key and identity.occurrence != call.identity.occurrence
    return Nearest(call, others, has_other_key, has_other_number)


def difference(identity: IdentityRow, row: TaskRunRow, one: Nearest, earlier: list[KnownCall]) -> str:
    """Say in what a call differs from the nearest of the earlier ones."""
    name = one.call.run.name
    if one.has_other_key:
        return f"it has {_key(identity)}, and the nearest earlier call, {name}, had {_key(one.call.identity)}"
    if one.arguments:
        names = " and ".join(_argument(argument, row) for argument in one.arguments)
        return f"{names} {'differs' if len(one.arguments) == 1 else 'differ'} from the nearest earlier call, {name}"
    if one.has_other_number:
        before = sum(call.identity.arguments == identity.arguments for call in earlier)
        calls = "was one call" if before == 1 else f"were {before} calls"
        return f"there {calls} with these arguments, and this is number {identity.occurrence + 1}"
    return f"the earlier call {name} is the same, and was not taken"


def _key(identity: IdentityRow) -> str:
    return "no key" if identity.given_key is None else f"the key {identity.given_key!r}"


def _argument(name: str, row: TaskRunRow) -> str:
    if name == WAIT_FOR:
        return "what it waits for"
    is_of_a_run = any(one.parameter == name for one in row.inputs)
    return f"argument {name!r} (the value of another call)" if is_of_a_run else f"argument {name!r}"
