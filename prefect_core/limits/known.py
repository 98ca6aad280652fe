"""Which tags have a limit: asked for every run that has tags, and so remembered for a moment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prefect_core import clock, history
from prefect_core.errors import HistoryError
from prefect_core.history.limits import TAG_PREFIX

if TYPE_CHECKING:
    from collections.abc import Collection

KNOWN_SECONDS = 0.25
"""How long a limit that another process makes, changes or removes may go unnoticed."""

_until = 0.0
_of: object = None
_tags: frozenset[str] = frozenset()


def limited(tags: Collection[str]) -> tuple[str, ...]:
    """Return the names of the limits on some tags, sorted."""
    if clock.current().monotonic() >= _until or _of is not history.current():
        _look()
    # Most tags have none.
    if _tags.isdisjoint(tags):
        return ()
    return tuple(sorted(TAG_PREFIX + tag for tag in _tags.intersection(tags)))


def _look() -> None:
    global _until, _of, _tags
    recorder = history.current()
    try:
        rows = recorder.limits()[0].limits()
    except HistoryError:
        # In a worker on another machine: what its body calls there is limited by the slots of the task that it is the body of.
        rows = []
    _tags = frozenset(row.name.removeprefix(TAG_PREFIX) for row in rows if row.name.startswith(TAG_PREFIX))
    _of = recorder
    _until = clock.current().monotonic() + KNOWN_SECONDS


def forget() -> None:
    """Look at the next question: limits were changed here."""
    global _until
    _until = 0.0


os.register_at_fork(after_in_child=forget)
