"""Letting tasks that ask for resources begin while these are free: for runners whose whole is in this process's hands.

First come, first served, by priority: a task that waits for a resource keeps it from those behind it, so that none is starved.
"""

from __future__ import annotations

import threading
from bisect import insort
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from prefect_core.context import lineage
from prefect_core.errors import RunnerError
from prefect_core.payload import Payload, Receipt
from prefect_core.placement import Resources

Done = Callable[[Receipt], None]
_SLACK = 1e-9
"""Amounts such as 0.1 don't add up exactly."""


class _Waiting(NamedTuple):
    rank: tuple[int, int]
    payload: Payload
    start: Callable[[], object]


class Admission:
    """Who has how much of the `whole`."""

    def __init__(self, whole: Resources) -> None:
        self._whole = dict(whole)
        self._free = dict(self._whole)
        self._held: dict[int, Resources] = {}
        """What runs have, by their uid."""
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._count = 0

    def enter(self, payload: Payload, done: Done, start: Callable[[Done], object]) -> None:
        """Call `start` when there is enough for the payload, now or later, from any thread, with what is to be called in place of `done`.

        Raises `RunnerError` for a task that asks for more than there is in all, or than the tasks it is called in leave over.
        """
        self._check(payload)

        def leave(receipt: Receipt) -> None:
            self.leave(payload)
            done(receipt)

        with self._lock:
            self._count += 1
            one = _Waiting((-payload.priority, self._count), payload, partial(start, leave))
            insort(self._waiting, one, key=lambda one: one.rank)
            admitted = self._admit()
        _start(admitted)

    def leave(self, payload: Payload) -> None:
        """Take back what a payload had that entered, and has ended."""
        with self._lock:
            for name, amount in self._held.pop(payload.run.uid, {}).items():
                self._free[name] += amount
            admitted = self._admit()
        _start(admitted)

    def cancel(self, payload: Payload, take_back: Callable[[Payload], bool]) -> bool:
        """Keep a payload from running that waits here, or that `take_back` takes back from where it was started; False if it runs."""
        if self._withdraw(payload):
            return True
        is_back = take_back(payload)
        if is_back:
            self.leave(payload)
        return is_back

    def _withdraw(self, payload: Payload) -> bool:
        with self._lock:
            left = [one for one in self._waiting if one.payload is not payload]
            was_there, self._waiting = len(left) < len(self._waiting), left
            admitted = self._admit()
        _start(admitted)
        return was_there

    def _check(self, payload: Payload) -> None:
        around = [run for run in lineage(payload.context.parent) if run in self._held]
        for name, amount in payload.resources.items():
            whole = self._whole.get(name, 0)
            if amount > whole:
                raise RunnerError(
                    f"{payload.run.name!r} asks for {_amount(name, amount)}, and its task runner has {_amount(name, whole)} in all. "
                    f"Ask for less, or make the runner with resources={{{name!r}: ...}}."
                )
            held = sum(self._held[run].get(name, 0) for run in around)
            if amount > whole - held:
                raise RunnerError(
                    f"{payload.run.name!r} asks for {_amount(name, amount)} of {whole:g}, of which the tasks that it is called in hold "
                    f"{held:g}: it would wait for them, and they for it. Submit it from the flow."
                )

    def _admit(self) -> list[_Waiting]:
        """Take out those whose turn it is. The lock is held."""
        admitted: list[_Waiting] = []
        waiting: list[_Waiting] = []
        wanted: set[str] = set()
        for one in self._waiting:
            needs = one.payload.resources
            if wanted.isdisjoint(needs) and all(self._free[name] >= amount - _SLACK for name, amount in needs.items()):
                self._held[one.payload.run.uid] = needs
                for name, amount in needs.items():
                    self._free[name] -= amount
                admitted.append(one)
            else:
                wanted.update(needs)
                waiting.append(one)
        self._waiting = waiting
        return admitted


def _start(admitted: list[_Waiting]) -> None:
    for one in admitted:
        one.start()


def _amount(name: str, amount: float) -> str:
    return f"{amount:g} of {name!r}"
