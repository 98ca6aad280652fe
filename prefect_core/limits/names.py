"""Making, changing and removing limits, in the history that this process records into."""

from __future__ import annotations

from prefect_core import history
from prefect_core.history.limits import TAG_PREFIX, LimitTable
from prefect_core.limits import known


def of_tag(tag: str) -> str:
    """Return the name of the limit on a tag."""
    return tag if tag.startswith(TAG_PREFIX) else TAG_PREFIX + tag


def checked(name: str, slots: int, decay_per_second: float) -> None:
    """Raise `ValueError` for what can't be a limit."""
    if not name or name == TAG_PREFIX or not name.isprintable():
        raise ValueError(f"A limit has a name of printable characters; got {name!r}.")
    if slots < 0:
        raise ValueError(f"'slots' must be a non-negative number, got {slots!r}")
    if not 0 <= decay_per_second < float("inf"):
        raise ValueError(f"'slot_decay_per_second' must be a non-negative number, got {decay_per_second!r}")
    if decay_per_second and name.startswith(TAG_PREFIX):
        raise ValueError("The limit on a tag has no decay: its slots are held while a task runs.")


def make(name: str, slots: int, decay_per_second: float = 0.0, table: LimitTable | None = None) -> bool:
    """Make a limit, or change it; returns whether it is new. Raises `ValueError` for what can't be one."""
    checked(name, slots, decay_per_second)
    is_new = (table if table is not None else history.current().limits()[0]).put(name, slots, decay_per_second)
    known.forget()
    return is_new


def remove(name: str, table: LimitTable | None = None) -> bool:
    """Remove a limit; False if there is none of that name."""
    was_there = (table if table is not None else history.current().limits()[0]).remove(name)
    known.forget()
    return was_there
