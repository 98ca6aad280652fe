"""Concurrency limits that are kept in the history: rows, requests for slots, and what a desk (`prefect_core.limits`) asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from prefect_core.history.process import IsGone, ProcessIdentity

TAG_PREFIX = "tag:"
"""The limit on a tag is the one whose name is this and the tag."""


class LimitRow(NamedTuple):
    """A limit. Of one with a decay, `level` slots had not come back yet at `level_us`."""

    name: str
    slots: int
    decay_per_second: float
    level: float
    level_us: int
    created_us: int

    def level_at(self, now_us: int) -> float:
        """Return how many slots have not come back yet; a clock that was set back lets nothing come back, and nothing be taken."""
        return max(0.0, self.level - self.decay_per_second * max(0, now_us - self.level_us) / 1_000_000)


class Asked(NamedTuple):
    """A request for `occupy` slots of each of some limits, all of them or none."""

    names: tuple[str, ...]
    occupy: int
    owner: int
    """Uid of the run whose slots they will be, or one drawn for a block of code."""
    label: str
    """Who that is, for people."""
    run: int = 0
    """Uid of the run, or of the one that the block is in; 0 for none."""
    around: frozenset[int] = frozenset()
    """The owners that this is inside of; what one of them holds of a limit is lent to it, in place of more."""
    priority: int = 0
    lease_us: int = 60_000_000
    is_rate: bool = False
    """Whether the slots are only taken, to come back by the limit's decay, and not held."""
    needs_all: bool = False
    """Whether nothing is to be taken if one of the limits does not exist."""


class Refusal(NamedTuple):
    """Why a request can't be met: the limit has fewer slots than are asked for, or no decay although it is to be taken as a rate."""

    name: str
    slots: int
    lacks_decay: bool


class Answer(NamedTuple):
    """What became of a request: `key` stands for it until it is ended; None if there is nothing to hold or wait for."""

    key: int | None
    is_granted: bool
    missing: tuple[str, ...] = ()
    refusal: Refusal | None = None


class Exchanged(NamedTuple):
    """Answers, one for each request, in order; the keys of requests that have got their slots, any process's; and when to look again."""

    answers: list[Answer]
    granted: list[int]
    due_us: int | None


class Seen(NamedTuple):
    """The requests of one process that hold slots and those that wait; and when slots come back that somebody waits for, if it is known."""

    held: set[int]
    waiting: set[int]
    due_us: int | None


class RequestRow(NamedTuple):
    """A request, once for each limit that it names. `granted_us` is None while it waits; `lender` is the request it takes of, or 0."""

    key: int
    name: str
    occupy: int
    lender: int
    label: str
    run: int
    process: ProcessIdentity | None
    priority: int
    asked_us: int
    granted_us: int | None


class LimitTable(Protocol):
    """The concurrency limits of one history, from any thread. Every method may raise `HistoryError`."""

    def limits(self) -> list[LimitRow]:
        """Return all limits, by name."""
        ...

    def put(self, name: str, slots: int, decay_per_second: float) -> bool:
        """Make a limit or change it; returns whether it is new. Who holds slots keeps them; who can't be served any more is let go."""
        ...

    def remove(self, name: str) -> bool:
        """Remove a limit, which then limits nobody; False if there is none."""
        ...

    def requests(self, is_gone: IsGone) -> list[RequestRow]:
        """Return who holds slots and who waits, the living only, by limit, and in the order in which they have got or will get them."""
        ...

    def exchange(self, process: int, wishes: Sequence[Asked | int]) -> Exchanged:
        """Take requests, and end those whose keys are given, in order and all at once."""
        ...

    def look(self, process: int, is_gone: IsGone) -> Seen:
        """End the requests of processes that are gone, give out what is free, and tell how the requests of a process stand."""
        ...

    def held(self, process: int) -> set[int]:
        """Return the keys of the requests of a process that hold slots."""
        ...

    def version(self) -> int:
        """Return a number that is another one whenever something may have changed; asked some ten times a second, it costs nothing."""
        ...

    def renew(self, process: int) -> set[int]:
        """Say that a process lives; returns the keys of its requests that hold slots."""
        ...
