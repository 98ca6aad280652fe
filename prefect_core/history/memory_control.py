"""Leases and requests of the history in memory, together with its pauses and inputs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from prefect_core import clock, settings
from prefect_core.errors import LeaseLost
from prefect_core.history.leases import LeaseRow, Sight
from prefect_core.history.memory_pauses import MemoryPauses
from prefect_core.history.memory_sent import MemorySent
from prefect_core.history.process import ProcessIdentity, monotonic_us, this_process
from prefect_core.history.requests import ENDED, LOST, OVER, RequestRow

EndProcess = Callable[[int, bool, int | None], list[int]]
"""Ends the open runs of a process of that number, those that are Paused unless they are to be kept (second argument); returns them.

A flow run that is named (third argument), and those in it, end Cancelled.
"""
EndTree = Callable[[int, str], list[int]]
"""Ends the open runs of a flow run, Cancelled with a message; returns them."""


class MemoryControl:
    """A `Control` in dictionaries. All its processes are this one, by one number for each time that the history was opened."""

    def __init__(
        self,
        end_process: EndProcess,
        end_tree: EndTree,
        lock: AbstractContextManager[Any],
        suspended: MemoryPauses,
        sent: MemorySent,
    ) -> None:
        """`lock` is the store's, which may be taken again by who has it."""
        self._end_process = end_process
        self._end_tree = end_tree
        self.pauses = suspended.pauses
        self.expire_pauses = suspended.expire_pauses
        self.resume_run = suspended.resume_run
        self.send_input = sent.send_input
        self.inputs = sent.inputs
        self.has_input = sent.has_input
        self._sent = sent
        self._lock = lock
        self._leases: dict[int, LeaseRow] = {}
        self._numbers: set[int] = set()
        self._requests: dict[int, RequestRow] = {}
        self._keys = itertools.count(1)
        self._changes = 0

    def add_lease(self, number: int) -> None:
        """Give a process its lease."""
        length_us = round(settings.current().lease_seconds * 1_000_000)
        with self._lock:
            self._numbers.add(number)
            self._leases[number] = LeaseRow(number, this_process(), monotonic_us() + length_us, length_us)

    def check_lease(self, number: int) -> None:
        """Raise `LeaseLost` if the lease of a process was taken."""
        lease = self._leases.get(number)
        if lease is not None and lease.taken_by is not None:
            raise LeaseLost(
                f"This process was declared dead by {lease.taken_by}, who ended its runs; nothing that happens in it is recorded any more."
            )

    def let_go(self, number: int, *, has_open_runs: bool) -> None:
        """Give up the lease of a process."""
        with self._lock:
            lease = self._leases.get(number)
            if lease is None or lease.taken_by is not None:
                return
            if has_open_runs:
                self._leases[number] = lease._replace(let_go_us=clock.now_us())
            else:
                del self._leases[number]

    def leases(self) -> list[LeaseRow]:
        with self._lock:
            return [lease for _, lease in sorted(self._leases.items()) if lease.taken_by is None]

    def lease(self, number: int) -> LeaseRow | None:
        return self._leases.get(number)

    def owner(self, run: int) -> int:
        return run >> 32

    def renew_lease(self, number: int, length_us: int) -> bool:
        with self._lock:
            lease = self._leases.get(number)
            if lease is None:
                return True
            if lease.taken_by is None:
                self._leases[number] = lease._replace(expires_us=monotonic_us() + length_us, length_us=length_us)
            return lease.taken_by is None

    def process(self, number: int) -> ProcessIdentity | None:
        return this_process() if number in self._numbers else None

    def cancel_left(self, run: int, message: str) -> bool:
        with self._lock:
            lease = self._leases.get(self.owner(run))
            is_left = any(pause.is_left for pause in self.pauses(run)[-1:])
            if not is_left and lease is not None and lease.taken_by is None and lease.let_go_us is None:
                return False
            if run not in self._end_tree(run, message):
                return False
            for request in self.unanswered():
                if request.run == run:
                    self.answer(request.key, {OVER: ENDED})
            return True

    def take_lease(self, seen: LeaseRow, taken_by: str, cancelled: int | None = None) -> list[int] | None:
        with self._lock:
            lease = self._leases.get(seen.number)
            as_seen = (None, seen.expires_us, seen.let_go_us)
            if lease is None or (lease.taken_by, lease.expires_us, lease.let_go_us) != as_seen:
                return None
            self._leases[seen.number] = lease._replace(taken_by=taken_by)
            ended = self._end_process(seen.number, lease.let_go_us is not None, cancelled)
            whom = {*ended, seen.number << 32}
            for request in self.unanswered():
                if request.run in whom:
                    self.answer(request.key, {OVER: LOST})
            return ended

    def note_sight(self, number: int, sight: Sight) -> None:
        with self._lock:
            if number in self._leases:
                self._leases[number] = self._leases[number]._replace(seen=sight)

    def ask(self, run: int, kind: str, detail: Mapping[str, Any], asked_by: str) -> RequestRow:
        with self._lock:
            key = next(self._keys)
            row = RequestRow(key, run, kind, json.dumps(detail), asked_by, clock.now_us())
            self._requests[key] = row
            self._changes += 1
            return row

    def request(self, key: int) -> RequestRow | None:
        return self._requests.get(key)

    def requests(self, run: int) -> list[RequestRow]:
        with self._lock:
            return [row for _, row in sorted(self._requests.items()) if row.run == run]

    def unanswered(self) -> list[RequestRow]:
        with self._lock:
            return [row for _, row in sorted(self._requests.items()) if row.answered_us is None]

    def answer(self, key: int, answer: Mapping[str, Any]) -> bool:
        with self._lock:
            row = self._requests.get(key)
            if row is None or row.answered_us is not None:
                return False
            self._requests[key] = row._replace(answered_us=clock.now_us(), answer_text=json.dumps(answer))
            self._changes += 1
            return True

    def retract(self, key: int) -> None:
        with self._lock:
            self._requests.pop(key, None)

    def changes(self) -> int:
        return self._changes + self._sent.sent

    def forget(self, runs: set[int]) -> None:
        """Drop what was asked of runs that are deleted, and sent to them."""
        with self._lock:
            self._sent.forget(runs)
            self._requests = {key: row for key, row in self._requests.items() if row.run not in runs}
