"""Chunks: many small attempts that run one after the other as one Ray task."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from prefect_core.engine.in_place import BEGUN, CUT, ENDED
from prefect_core.engine.parcels import PlainReply
from prefect_core.engine.transport import Delivery
from prefect_core.payload import Receipt
from prefect_runners.ray_attempts import Attempt, Attempts
from prefect_runners.ray_begun import Book

HandOver = Callable[[Sequence["Member"]], None]


class Member:
    """One attempt of a chunk."""

    __slots__ = ("at", "delivery", "done")

    def __init__(self, delivery: Delivery, done: Callable[[Receipt], None]) -> None:
        self.delivery = delivery
        self.done = done
        self.at: tuple[Chunk, int] | None = None
        """Its chunk, and its place there. Read both at once: another thread may hand it over again."""

    def began_on(self, book: Book, *, may_ask: bool = True) -> str | None:
        """Return the worker on which it began, as `Attempt.began_on`."""
        assert self.at is not None
        chunk, place = self.at
        return chunk.workers(book, may_ask)[place]

    @property
    def is_asked_back(self) -> bool:
        """Whether Ray was told to cancel its chunk if that has not begun."""
        return self.at is not None and self.at[0].is_asked_back

    @property
    def is_forced(self) -> bool:
        """Whether the process that runs it has been told to end."""
        return self.at is not None and self.at[0].is_forced


class Chunk(Attempt):
    """What Ray has of them: its messages and its reply are about members, by their places.

    Whoever takes a member out of it, to end it or to hand it over elsewhere, is the only one.
    """

    __slots__ = ("_attempts", "_hand_over_rest", "_left", "_members", "_workers", "has_begun", "is_withheld")

    def __init__(
        self, attempts: Attempts, members: Sequence[Member], hand_over_rest: Callable[[Chunk], object]
    ) -> None:
        super().__init__(attempts.next_number(), members[0].delivery, _nobody)
        self._attempts = attempts
        self._hand_over_rest = hand_over_rest
        self._members: Sequence[Member] = members
        self._left = dict(enumerate(members))
        self.has_begun = False
        """Whether it is known that it can't be taken back."""
        self.is_withheld = False
        """Whether it was taken back, and its members wait to be taken back too, or to be handed over again."""
        self._workers: list[str | None] = []
        for place, member in enumerate(members):
            member.at = self, place

    def let_go(self) -> None:
        super().let_go()
        # They refer to it.
        self._members = ()

    def workers(self, book: Book, may_ask: bool) -> list[str | None]:
        """Return what `began_on` tells of its members, by their places."""
        if not self._workers:
            keys = [f"{self.number}:{place}" for place in range(len(self._members))]
            self._workers = [*map(book.workers_of(keys, may_ask=may_ask).get, keys)]
        return self._workers

    def deliveries(self) -> Sequence[Delivery]:
        return [member.delivery for member in list(self._left.values())]

    def take(self, place: int) -> Member | None:
        """Take out the member at a place; None if somebody else did."""
        return self._left.pop(place, None)

    def take_rest(self) -> list[Member]:
        """Take out all that are left."""
        return [member for place in list(self._left) if (member := self.take(place)) is not None]

    def replay(self) -> None:
        while self.messages:
            place, kind, content = pickle.loads(self.messages.popleft())
            self.told += 1
            if kind == ENDED:
                self._settle(place, content)
            elif place in self._left:
                delivery = self._members[place].delivery
                (delivery.begun if kind == BEGUN else delivery.happened)(content)

    def end(self, replies: bytes, values: Mapping[int, Any]) -> None:
        """Deal with what was not told before the end: replies, and large values by their places. The rest of a chunk may be left."""
        for place, reply in pickle.loads(replies):
            if place == CUT:
                self._hand_over_rest(self)
                return
            if place in values:
                self._settle(place, reply, partial(self._refer, values[place]))
            else:
                self._settle(place, reply)

    def _settle(self, place: int, reply: bytes | PlainReply, *reference: Callable[[], Any]) -> None:
        member = self.take(place)
        if member is not None:
            member.done(member.delivery.receipt(reply, *reference))

    def _refer(self, value: Any) -> Any:
        return self._attempts.refer(*value)

    def end_by(self, receipt_of: Callable[[Any], Receipt]) -> None:
        """Make receipts of members that are left when something else than a reply comes."""
        for member in self.take_rest():
            member.done(receipt_of(member))


def _nobody(_receipt: Receipt) -> None:
    """Stand for who waits for a whole chunk: its members have theirs."""
