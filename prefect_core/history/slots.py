"""Who gets which slots: the rules, for a ledger that keeps them, whichever store that is in.

Slots are given out by whoever changes something, inside that change: a request that ends makes room, and those who are next get it with
the same commit. So nobody has to compete, and who waits only has to look.

    pool        the slots of one limit; or those that one request holds of it, lent to requests that are made inside of it
    order       by priority, then by arrival; a request that a pool has too little room for closes it to all behind it
    all or none a request takes of all its pools at once. One that waits for one of them takes nothing of the others, and closes none
    of them, since whoever holds what it waits for may need them first

Slots of a limit with a decay come back as a leaky bucket used as a meter leaks (ITU-T I.371, annex A, where it is shown to be the same
as a token bucket): the level rises by what is taken and falls at a constant rate to nothing, and a request fits while level and request
together do not exceed the slots.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from prefect_core.history.limits import Answer, Asked, LimitRow, Refusal
from prefect_core.history.process import IsGone, ProcessIdentity, is_over

_ROUNDING = 1e-9
_NOBODY = (-(1 << 63), 0)


class Pool(NamedTuple):
    """The slots of a limit (`lender` 0), or those that a request holds of it."""

    name: str
    lender: int = 0


class Claim(NamedTuple):
    """What a request takes of one pool, or waits for."""

    pool: Pool
    occupy: int


class Owned(NamedTuple):
    """A request. `place` is its place among those who wait: the priority, negated, and its key."""

    key: int
    place: tuple[int, int]
    is_rate: bool
    is_granted: bool


class Waiting(NamedTuple):
    """Who waits at a pool."""

    place: tuple[int, int]
    occupy: int


class Party(NamedTuple):
    """A process that has requests, by its number, and when the first of them runs out if it says nothing."""

    process: int
    identity: ProcessIdentity | None
    expires_us: int


class Ledger(Protocol):
    """Limits, requests and their claims, for the length of one transaction."""

    def limit(self, name: str) -> LimitRow | None: ...
    def set_level(self, name: str, level: float, at_us: int) -> None: ...
    def taken(self, pool: Pool) -> int: ...
    def holders(self, name: str) -> list[tuple[int, int, int]]:
        """Return key, owner and slots of the requests that hold slots of a limit, in order of arrival."""
        ...

    def next_waiting(self, pool: Pool, after: tuple[int, int]) -> Waiting | None: ...
    def is_closed(self, pool: Pool, before: tuple[int, int], room: float) -> bool:
        """Tell whether somebody waits at a pool, before a place, who wants more than `room`."""
        ...

    def request(self, key: int) -> Owned | None: ...
    def claims(self, key: int) -> list[Claim]: ...
    def add(self, asked: Asked, claims: list[Claim], process: int, at_us: int) -> int: ...
    def grant(self, key: int, at_us: int, *, is_spent: bool) -> None:
        """Let a request have its slots; one that is spent holds none of them."""
        ...

    def drop(self, key: int) -> None: ...
    def hand_on(self, lent: Pool, to: Pool) -> None:
        """Let what is taken of one pool, or waited for, be that of another."""
        ...

    def parties(self) -> list[Party]: ...
    def requests_of(self, process: int, until_us: int | None) -> list[int]:
        """Return the requests of a process; of those only that run out until a moment, if it is given."""
        ...


class Office:
    """Gives out slots within one transaction."""

    def __init__(self, ledger: Ledger, now_us: int) -> None:
        self._ledger = ledger
        self._now_us = now_us
        self.granted: list[int] = []
        """Keys of the requests that were waiting and have got their slots."""
        self.due_us: int | None = None
        """When somebody may be served next, since slots come back by then."""

    def ask(self, asked: Asked, process: int) -> Answer:
        """Take a request: it gets its slots at once, or waits, or is refused."""
        limits = {name: self._ledger.limit(name) for name in asked.names}
        missing = tuple(name for name, limit in limits.items() if limit is None)
        if asked.needs_all and missing:
            return Answer(None, False, missing)
        claims = []
        for limit in [limit for limit in limits.values() if limit is not None]:
            claim = self._claim(asked, limit)
            if isinstance(claim, Refusal):
                return Answer(None, False, missing, claim)
            claims.append(claim)
        if not claims:
            return Answer(None, True, missing)
        key = self._ledger.add(asked, claims, process, self._now_us)
        is_granted = self._serve(key, {})
        if not is_granted:
            self._foresee(claims)
        return Answer(key, is_granted, missing)

    def _claim(self, asked: Asked, limit: LimitRow) -> Claim | Refusal:
        if asked.is_rate and not limit.decay_per_second:
            return Refusal(limit.name, limit.slots, lacks_decay=True)
        if asked.around:
            inside = [(key, slots) for key, owner, slots in self._ledger.holders(limit.name) if owner in asked.around]
            if inside:
                key, slots = max(inside)
                return Claim(Pool(limit.name, key), min(asked.occupy, slots))
        if asked.occupy > limit.slots:
            return Refusal(limit.name, limit.slots, lacks_decay=False)
        return Claim(Pool(limit.name), asked.occupy)

    def end(self, key: int) -> None:
        """End a request, whether it holds slots or waits, and serve those who wait for what it leaves."""
        ledger = self._ledger
        request = ledger.request(key)
        if request is None:
            return
        claims = ledger.claims(key)
        for pool, occupy in claims:
            if request.is_granted:
                self._spend(pool, occupy)
                # What it has lent to others who go on is theirs from now on, which is no more than it had.
                ledger.hand_on(Pool(pool.name, key), pool)
        ledger.drop(key)
        self.settle(pool for pool, _ in claims)

    def change(self, name: str) -> None:
        """Serve who waits for a limit that is another now, or let go of those whom it can serve no more."""
        limit, pool = self._ledger.limit(name), Pool(name)
        place = _NOBODY
        while limit is not None and (waiting := self._ledger.next_waiting(pool, place)) is not None:
            place = waiting.place
            if waiting.occupy > limit.slots:
                self._ledger.drop(place[1])
        self.settle([pool])

    def sweep(self, is_gone: IsGone) -> None:
        """End the requests of processes that are gone."""
        for key in over(self._ledger, self._now_us, is_gone):
            self.end(key)

    def settle(self, pools: Iterable[Pool]) -> None:
        """Serve those who wait for slots of some pools, in order."""
        rooms: dict[Pool, float] = {}
        for pool in dict.fromkeys(pools):
            place = _NOBODY
            while (waiting := self._ledger.next_waiting(pool, place)) is not None:
                place = waiting.place
                if waiting.occupy > self._room(pool, rooms):
                    self._foresee([Claim(pool, waiting.occupy)])
                    break
                if self._serve(place[1], rooms):
                    self.granted.append(place[1])

    def _serve(self, key: int, rooms: dict[Pool, float]) -> bool:
        """Let a request have its slots if there is room for it everywhere, and nobody before it wants more."""
        ledger, request = self._ledger, self._ledger.request(key)
        assert request is not None
        claims = ledger.claims(key)
        for pool, occupy in claims:
            room = self._room(pool, rooms)
            if occupy > room or ledger.is_closed(pool, request.place, room):
                return False
        ledger.grant(key, self._now_us, is_spent=request.is_rate)
        for pool, occupy in claims:
            rooms.pop(pool, None)
            if request.is_rate:
                self._spend(pool, occupy)
        return True

    def _room(self, pool: Pool, rooms: dict[Pool, float]) -> float:
        if pool not in rooms:
            rooms[pool] = self._size(pool) - self._ledger.taken(pool) + _ROUNDING
        return rooms[pool]

    def _size(self, pool: Pool) -> float:
        if pool.lender:
            return sum(claim.occupy for claim in self._ledger.claims(pool.lender) if claim.pool.name == pool.name)
        limit = self._ledger.limit(pool.name)
        return math.inf if limit is None else limit.slots - limit.level_at(self._now_us)

    def _spend(self, pool: Pool, occupy: int) -> None:
        """Have slots of a limit with a decay come back by that."""
        limit = self._ledger.limit(pool.name)
        if limit is not None and limit.decay_per_second and not pool.lender and occupy:
            self._ledger.set_level(pool.name, limit.level_at(self._now_us) + occupy, self._now_us)

    def _foresee(self, claims: list[Claim]) -> None:
        """Find out when slots that somebody waits for come back."""
        for pool, occupy in claims:
            limit = self._ledger.limit(pool.name) if not pool.lender else None
            if limit is None or not limit.decay_per_second:
                continue
            free = limit.slots - self._ledger.taken(pool)
            if occupy > free:
                # Somebody has to give slots back first.
                continue
            lacking = max(0.0, occupy + limit.level_at(self._now_us) - free)
            due_us = self._now_us + math.ceil(1_000_000 * lacking / limit.decay_per_second)
            self.due_us = due_us if self.due_us is None else min(self.due_us, due_us)


def over(ledger: Ledger, now_us: int, is_gone: IsGone) -> list[int]:
    """Return the requests whose process is gone, as far as can be known."""
    found: list[int] = []
    for process, identity, expires_us in ledger.parties():
        if is_over(identity, expires_us, now_us, is_gone):
            has_ended = identity is not None and is_gone(identity)
            found += ledger.requests_of(process, None if has_ended else now_us)
    return found
