"""The concurrency limits of a history in memory."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prefect_core import clock
from prefect_core.history.limits import Asked, Exchanged, LimitRow, RequestRow, Seen
from prefect_core.history.process import IsGone, ProcessIdentity, this_process
from prefect_core.history.slots import Claim, Office, Owned, Party, Pool, Waiting, over


@dataclass
class _Request:
    """One row of a request, with its claims."""

    asked: Asked
    claims: list[Claim]
    process: int
    identity: ProcessIdentity
    asked_us: int
    renewed_us: int
    granted_us: int | None = None

    @property
    def expires_us(self) -> int:
        return self.renewed_us + self.asked.lease_us


class _Rows:
    """A `Ledger` in dictionaries."""

    def __init__(self) -> None:
        self.limits: dict[str, LimitRow] = {}
        self.requests: dict[int, _Request] = {}
        self.changes = 0
        self._keys = itertools.count(1)

    def limit(self, name: str) -> LimitRow | None:
        return self.limits.get(name)

    def set_level(self, name: str, level: float, at_us: int) -> None:
        self.limits[name] = self.limits[name]._replace(level=level, level_us=at_us)

    def taken(self, pool: Pool) -> int:
        return sum(
            claim.occupy
            for request in self.requests.values()
            for claim in request.claims
            if claim.pool == pool and request.granted_us is not None
        )

    def holders(self, name: str) -> list[tuple[int, int, int]]:
        return [
            (key, request.asked.owner, claim.occupy)
            for key, request in self.requests.items()
            for claim in request.claims
            if claim.pool.name == name and claim.occupy and request.granted_us is not None
        ]

    def _in_order(self, pool: Pool) -> Iterator[Waiting]:
        rows = ((_place(key, one.asked), one) for key, one in self.requests.items() if one.granted_us is None)
        for place, request in sorted(rows, key=lambda row: row[0]):
            yield from (Waiting(place, claim.occupy) for claim in request.claims if claim.pool == pool)

    def next_waiting(self, pool: Pool, after: tuple[int, int]) -> Waiting | None:
        return next((one for one in self._in_order(pool) if one.place > after), None)

    def is_closed(self, pool: Pool, before: tuple[int, int], room: float) -> bool:
        return any(one.place < before and one.occupy > room for one in self._in_order(pool))

    def request(self, key: int) -> Owned | None:
        one = self.requests.get(key)
        if one is None:
            return None
        return Owned(key, _place(key, one.asked), one.asked.is_rate, one.granted_us is not None)

    def claims(self, key: int) -> list[Claim]:
        return list(self.requests[key].claims) if key in self.requests else []

    def add(self, asked: Asked, claims: list[Claim], process: int, at_us: int) -> int:
        key = next(self._keys)
        self.requests[key] = _Request(asked, claims, process, this_process(), at_us, at_us)
        return key

    def grant(self, key: int, at_us: int, *, is_spent: bool) -> None:
        self.changes += 1
        request = self.requests[key]
        request.granted_us = at_us
        if is_spent:
            request.claims = [claim._replace(occupy=0) for claim in request.claims]

    def drop(self, key: int) -> None:
        self.changes += 1
        del self.requests[key]

    def hand_on(self, lent: Pool, to: Pool) -> None:
        for request in self.requests.values():
            request.claims = [one._replace(pool=to) if one.pool == lent else one for one in request.claims]

    def parties(self) -> list[Party]:
        found: dict[int, Party] = {}
        for one in self.requests.values():
            expires_us = min(one.expires_us, found[one.process].expires_us if one.process in found else one.expires_us)
            found[one.process] = Party(one.process, one.identity, expires_us)
        return list(found.values())

    def requests_of(self, process: int, until_us: int | None) -> list[int]:
        return [
            key
            for key, one in self.requests.items()
            if one.process == process and (until_us is None or one.expires_us <= until_us)
        ]


def _place(key: int, asked: Asked) -> tuple[int, int]:
    return -asked.priority, key


class MemoryLimits:
    """A `LimitTable` in dictionaries."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows = _Rows()

    def limits(self) -> list[LimitRow]:
        with self._lock:
            return [limit for _, limit in sorted(self._rows.limits.items())]

    def put(self, name: str, slots: int, decay_per_second: float) -> bool:
        now_us = clock.now_us()
        with self._lock:
            before = self._rows.limits.get(name)
            level = before.level_at(now_us) if before is not None else 0.0
            created_us = before.created_us if before is not None else now_us
            self._rows.limits[name] = LimitRow(name, slots, decay_per_second, level, now_us, created_us)
            Office(self._rows, now_us).change(name)
        return before is None

    def remove(self, name: str) -> bool:
        now_us = clock.now_us()
        with self._lock:
            if self._rows.limits.pop(name, None) is None:
                return False
            Office(self._rows, now_us).change(name)
        return True

    def requests(self, is_gone: IsGone) -> list[RequestRow]:
        now_us = clock.now_us()
        with self._lock:
            gone = over(self._rows, now_us, is_gone)
            rows = [
                RequestRow(
                    key,
                    claim.pool.name,
                    claim.occupy,
                    claim.pool.lender,
                    request.asked.label,
                    request.asked.run,
                    request.identity,
                    request.asked.priority,
                    request.asked_us,
                    request.granted_us,
                )
                for key, request in self._rows.requests.items()
                for claim in request.claims
                if key not in gone and claim.pool.name in self._rows.limits
            ]
        return sorted(rows, key=lambda row: (row.name, row.granted_us is None, row.granted_us, -row.priority, row.key))

    def exchange(self, process: int, wishes: Sequence[Asked | int]) -> Exchanged:
        with self._lock:
            office = Office(self._rows, clock.now_us())
            answers = []
            for wish in wishes:
                if isinstance(wish, Asked):
                    answers.append(office.ask(wish, process))
                else:
                    office.end(wish)
        return Exchanged(answers, office.granted, office.due_us)

    def look(self, process: int, is_gone: IsGone) -> Seen:
        with self._lock:
            rows = self._rows
            office = Office(rows, clock.now_us())
            office.sweep(is_gone)
            office.settle(Pool(name) for name, limit in rows.limits.items() if limit.decay_per_second)
            mine = {key: one.granted_us is not None for key, one in rows.requests.items() if one.process == process}
        held = {key for key, is_held in mine.items() if is_held}
        return Seen(held, mine.keys() - held, office.due_us)

    def held(self, process: int) -> set[int]:
        with self._lock:
            rows = self._rows.requests.items()
            return {key for key, one in rows if one.process == process and one.granted_us is not None}

    def version(self) -> int:
        return self._rows.changes

    def renew(self, process: int) -> set[int]:
        now_us = clock.now_us()
        with self._lock:
            mine = {key: one for key, one in self._rows.requests.items() if one.process == process}
            for request in mine.values():
                request.renewed_us = now_us
        return {key for key, request in mine.items() if request.granted_us is not None}
