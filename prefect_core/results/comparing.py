"""Finds out in what a call differs from the calls of earlier executions that it might have been."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prefect_core.identity import WAIT_FOR

if TYPE_CHECKING:
    from prefect_core.history import HistoryStore
    from prefect_core.history.rows import TaskRunRow
    from prefect_core.history.stored import IdentityRow


class Nearest(NamedTuple):
    """The earlier call that a call is most like, and in what they differ."""

    run: TaskRunRow
    identity: IdentityRow
    arguments: tuple[str, ...]
    """Parameters with other values."""
    has_other_key: bool
    has_other_number: bool
    """The arguments are the same, and of the calls with these it was another one."""


class _Difference(NamedTuple):
    arguments: tuple[str, ...]
    has_other_key: bool
    has_other_number: bool

    @property
    def size(self) -> tuple[int, bool]:
        return len(self.arguments) + self.has_other_key, self.has_other_number


def nearest(store: HistoryStore, identity: IdentityRow, earlier: list[IdentityRow]) -> Nearest | None:
    """Return the earlier call that this one is most like, of several the last; None if there was none."""
    mine = identity.arguments
    compared = ((_compared(identity, mine, call), call) for call in reversed(earlier))
    found = min(compared, key=lambda one: one[0].size, default=None)
    if found is None:
        return None
    what, call = found
    return Nearest(store.task_run(call.run), call, *what)


def _compared(identity: IdentityRow, mine: dict[str, str], call: IdentityRow) -> _Difference:
    if identity.given_key != call.given_key:
        # With a key, arguments are not looked at.
        return _Difference((), True, False)
    # There may be very many calls, and to decode takes longest.
    theirs = mine if call.arguments_text == identity.arguments_text else call.arguments
    others = tuple(name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name))
    return _Difference(others, False, not others and identity.occurrence != call.occurrence)


def difference(identity: IdentityRow, row: TaskRunRow, one: Nearest, earlier: list[IdentityRow]) -> str:
    """Say in what a call differs from the nearest of the earlier ones."""
    name = one.run.name
    if one.has_other_key:
        return f"it has {_key(identity)}, and the nearest earlier call, {name}, had {_key(one.identity)}"
    if one.arguments:
        names = " and ".join(_argument(argument, row) for argument in one.arguments)
        return f"{names} {'differs' if len(one.arguments) == 1 else 'differ'} from the nearest earlier call, {name}"
    if one.has_other_number:
        before = sum(call.arguments == identity.arguments for call in earlier)
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
