"""Chunks: many small attempts that run one after the other as one Ray task."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from prefect_core.engine.in_place import BEGUN, CUT, ENDED
from prefect_core.engine.transport import Delivery
from prefect_core.payload import Receipt
from prefect_runners.ray_attempts import Attempt, Attempts
from prefect_runners.ray_begun import Book

HandOver = Callable[[Sequence["Member"]], None]


class Member:
    """One attempt of a chunk."""

    __slots__ = ("chunk", "delivery", "done", "is_open", "place")

    def __init__(self, delivery: Delivery, done: Callable[[Receipt], None]) -> None:
        self.place = 0
        self.delivery = delivery
        self.done = done
        self.is_open = True
        self.chunk: Chunk | None = None
        self.place = 0

    def began_on(self, book: Book, *, may_ask: bool = True) -> str | None:
        """Return the worker on which it began, as `Attempt.began_on`."""
        assert self.chunk is not None
        return self.chunk.workers(book, may_ask)[self.place]

    @property
    def is_forced(self) -> bool:
        """Whether the process that runs it has been told to end."""
        return self.chunk is not None and self.chunk.is_forced

    def settle(self, receipt: Receipt) -> None:
        """Hand out the receipt, unless there was one."""
        if self.is_open:
            self.is_open = False
            self.done(receipt)


class Chunk(Attempt):
    """What Ray has of them: its messages and its reply are about members, by their places."""

    __slots__ = ("_attempts", "_hand_over", "_workers", "has_begun", "is_withheld", "members")

    def __init__(self, attempts: Attempts, members: Sequence[Member], hand_over: HandOver) -> None:
        super().__init__(attempts.next_number(), members[0].delivery, _nobody)
        self._attempts = attempts
        self._hand_over = hand_over
        self.members = members
        self.has_begun = False
        """Whether it is known that it can't be taken back."""
        self.is_withheld = False
        """Whether it was taken back, and its members wait to be taken back too, or to be handed over again."""
        self._workers: list[str | None] = []
        for place, member in enumerate(members):
            member.chunk, member.place = self, place

    def let_go(self) -> None:
        super().let_go()
        # They refer to it.
        self.members = ()

    def workers(self, book: Book, may_ask: bool) -> list[str | None]:
        """Return what `began_on` tells of its members, by their places."""
        if not self._workers:
            keys = [f"{self.number}:{place}" for place in range(len(self.members))]
            self._workers = [*map(book.workers_of(keys, may_ask=may_ask).get, keys)]
        return self._workers

    def deliveries(self) -> Sequence[Delivery]:
        return [member.delivery for member in self.members if member.is_open]

    def replay(self) -> None:
        while self.messages:
            place, kind, content = pickle.loads(self.messages.popleft())
            self.told += 1
            member = self.members[place]
            if kind == ENDED:
                member.settle(member.delivery.receipt(content))
            elif kind == BEGUN:
                member.delivery.begun(content)
            else:
                member.delivery.happened(content)

    def end(self, replies: bytes, values: Mapping[int, Any]) -> None:
        """Deal with what was not told before the end: replies, and large values by their places. The rest of a chunk may be left."""
        for place, reply in pickle.loads(replies):
            if place == CUT:
                self._hand_over([member for member in self.members if member.is_open])
                return
            member = self.members[place]
            member.settle(member.delivery.receipt(reply, partial(self._refer, values.get(place))))

    def _refer(self, value: Any) -> Any:
        return self._attempts.refer(*value)

    def end_by(self, receipt_of: Callable[[Any], Receipt]) -> None:
        """Make receipts of members that are left when something else than a reply comes."""
        for member in self.members:
            if member.is_open:
                member.settle(receipt_of(member))


def _nobody(_receipt: Receipt) -> None:
    """Stand for who waits for a whole chunk: its members have theirs."""
