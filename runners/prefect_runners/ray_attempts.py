"""The near end of `RayTaskRunner`: the attempts that Ray has, and what can be done to them.

Two threads look after them: the *clerk* deals with their ends, as soon as Ray has them (`ray_clerk`), and the *watch* with what is told of
those that take longer (`ray_watch`).
"""

from __future__ import annotations

import itertools
import logging
import pickle
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any, TypeVar

from prefect_core import clock
from prefect_core.engine.in_place import BEGUN
from prefect_core.engine.transport import Delivery
from prefect_core.payload import Payload, Receipt
from prefect_runners.ray_begun import Book
from prefect_runners.ray_cancelling import Cancelling
from prefect_runners.ray_cluster import connection
from prefect_runners.ray_reference import RayReference

_log = logging.getLogger("prefect_core.engine")
_CANCEL_SECONDS = 0.25
_DEADLINE_GRACE_SECONDS = 1.0
_ENOUGH = 8
_MOST_UNBEGUN = 3
_NEVER = -1 << 60


class Attempt:
    """One attempt that Ray has, from its submission to its receipt."""

    __slots__ = (
        "delivery",
        "done",
        "has_callback",
        "is_asked_back",
        "is_forced",
        "is_open",
        "made",
        "messages",
        "number",
        "reference",
        "reply",
        "since",
        "told",
    )

    def __init__(self, number: int, delivery: Delivery, done: Callable[[Receipt], None]) -> None:
        self.number = number
        self.delivery = delivery
        self.done = done
        self.reply: Any = None
        self.made: Any = None
        """Ray's references to the two objects that come of it."""
        self.reference: RayReference | None = None
        """The one to its value, if somebody has been given it."""
        self.has_callback = False
        self.is_open = True
        self.is_asked_back = False
        """Whether Ray was told to cancel it if it has not begun."""
        self.is_forced = False
        """Whether the process that runs it has been told to end."""
        self.since = time.monotonic()
        self.messages: deque[bytes] = deque()
        """What it told, not yet dealt with."""
        self.told = 0
        """How many messages have been dealt with."""

    def began_on(self, book: Book, *, may_ask: bool = True) -> str | None:
        """Return the worker on which it began, as `Book.workers_of`."""
        key = str(self.number)
        return book.workers_of([key], may_ask=may_ask)[key]

    def deliveries(self) -> Sequence[Delivery]:
        """Return what it runs that has no receipt yet."""
        return (self.delivery,)

    def let_go(self) -> None:
        """Let go of what a closed one refers to: somebody may still refer to it."""
        self.reply = self.made = self.reference = None
        self.done = _nobody

    def replay(self) -> None:
        """Deal with what it told."""
        while self.messages:
            kind, content = pickle.loads(self.messages.popleft())
            self.told += 1
            if kind == BEGUN:
                self.delivery.begun(content)
            else:
                self.delivery.happened(content)


def _nobody(_receipt: Receipt) -> None:
    """Stand for who waited for a receipt."""


def is_late(delivery: Delivery) -> bool:
    """Tell whether a body did not heed its deadline."""
    timeout, started_us = delivery.payload.timeout_seconds, delivery.started_us
    return (
        bool(timeout and started_us) and clock.now_us() - started_us > ((timeout or 0) + _DEADLINE_GRACE_SECONDS) * 1e6
    )


class Sizes:
    """Which tasks have returned small values only, by their numbers."""

    def __init__(self) -> None:
        self._small: dict[int, int] = {}

    def learn(self, task: int, *, is_large: bool) -> None:
        """Take note of the value of an attempt; a task that once returned a large one is not tried again."""
        self._small[task] = _NEVER if is_large else self._small.get(task, 0) + 1

    def is_small(self, task: int) -> bool:
        """Tell whether the next value of a task will most likely be small."""
        return self._small.get(task, 0) >= _ENOUGH


_sizes = Sizes()
"""Of all runs of this process: the next run of a flow calls the same tasks."""

AnAttempt = TypeVar("AnAttempt", bound=Attempt)


class Attempts:
    """The open attempts of one runner, by their numbers, the oldest first."""

    def __init__(self, ray: ModuleType, home: object, begun: Book, on_death: Callable[[str], object]) -> None:
        self.ray = ray
        self.begun = begun
        self._unbegun: Counter[tuple[Any, int]] = Counter()
        """How often attempts, by their runs and numbers, were lost before they began."""
        self._on_death = on_death
        self._home = home
        self._connection = connection(ray)
        self._referring = threading.Lock()
        self.lost: set[Any] = set()
        """Ray's references to values that are known to be lost."""
        self.sizes = _sizes
        self.open: dict[int, Attempt] = {}
        self.dead: str | None = None
        """Why nothing can come of any attempt any more."""
        self._numbers = itertools.count(1)
        self._taking_back = threading.Lock()
        self.cancelling = Cancelling(ray)
        self._forced: list[Any] = []
        """Replies of those whose processes were told to end, which they may not have done yet."""

    def reference_to(self, attempt: Attempt) -> RayReference | None:
        """Return the reference to the value of an attempt, always the same; None for one that is closed."""
        with self._referring:
            made = attempt.made
            if attempt.reference is None and made is not None:
                attempt.reference = RayReference(self._home, self.ray, self._connection, made)
            return attempt.reference

    def refer(self, native: Any, making: Any) -> RayReference:
        """Return a reference to a value that an attempt in a chunk has left."""
        reference = RayReference(self._home, self.ray, self._connection, native)
        reference.making = making
        return reference

    def new(self, delivery: Delivery, done: Callable[[Receipt], None]) -> Attempt:
        """Make one, which is open from now on."""
        return self.add(Attempt(next(self._numbers), delivery, done))

    def may_try_again(self, payload: Payload) -> bool:
        """Take note that an attempt was lost before it began; False if that was so too often: it may be what ends its workers."""
        key = payload.run.uid, payload.attempt
        self._unbegun[key] += 1
        return self._unbegun[key] <= _MOST_UNBEGUN

    def next_number(self) -> int:
        """Return the number of one that somebody else makes."""
        return next(self._numbers)

    def add(self, attempt: AnAttempt) -> AnAttempt:
        """Let one be open from now on."""
        self.open[attempt.number] = attempt
        return attempt

    def close(self, attempt: Attempt) -> bool:
        """Close an attempt; False if it was closed before."""
        attempt.is_open = False
        return self.open.pop(attempt.number, None) is not None

    def handed_over(self) -> list[Attempt]:
        """Return those that Ray has."""
        return [attempt for attempt in list(self.open.values()) if attempt.reply is not None]

    def replies(self, most: int | None) -> dict[Any, Attempt]:
        """Return those that Ray has by Ray's references to their replies, only the oldest if there are more than `most`."""
        attempts = list(self.open.values())[:most]
        return {attempt.reply: attempt for attempt in attempts if attempt.reply is not None}

    def give_up(self, reason: str) -> list[Attempt]:
        """Expect nothing any more; returns what is open."""
        if self.dead is None:
            self.dead = reason
            self._on_death(reason)
        return list(self.open.values())

    def oldest_since(self) -> float:
        """Return when the oldest was submitted, on the monotonic scale."""
        try:
            return next(iter(self.open.values())).since
        except (StopIteration, RuntimeError):
            # None is left, or one came or went just now.
            return time.monotonic()

    def cancel(self, attempts: Iterable[Attempt]) -> list[Attempt]:
        """Take back attempts that have not begun; returns those, which are closed then. Bodies that run go on, as workers ignore this."""
        with self._taking_back:
            asked = {one.reply: one for one in attempts if one.is_open and not one.delivery.started_us}
            asked.pop(None, None)
            if not asked or self.dead is not None:
                return []
            try:
                for attempt in asked.values():
                    attempt.is_asked_back = True
                replies = list(asked)
                self.cancelling.cancel(replies)
                ended = self.ray.wait(replies, num_returns=len(replies), timeout=_CANCEL_SECONDS, fetch_local=False)[0]
            except Exception:
                # Ray can't be asked, of which the clerk hears too.
                return []
            return [asked[reply] for reply in ended if self._was_cancelled(reply) and self.close(asked[reply])]

    def _was_cancelled(self, reply: Any) -> bool:
        try:
            self.ray.get(reply)
        except self.ray.exceptions.TaskCancelledError:
            return True
        except Exception:
            # It ended in another way, of which the clerk hears too.
            return False
        return False

    def interrupt(self, chunk: Attempt) -> None:
        """Have the worker that runs a chunk look for what is asked of it."""
        with self._taking_back:
            if chunk.is_open and chunk.reply is not None and self.dead is None:
                chunk.is_asked_back = True
                self.cancelling.cancel([chunk.reply])

    def is_taken_back(self, attempt: Attempt) -> bool:
        """Tell whether an attempt was cancelled, once whoever is about to cancel one has done so."""
        with self._taking_back:
            return not attempt.is_open

    def force(self, attempt: Attempt) -> None:
        """End the process that runs an attempt."""
        reply = attempt.reply
        if attempt.is_open and reply is not None and not attempt.is_forced and self.dead is None:
            attempt.is_forced = True
            self._forced.append(reply)
            try:
                self.cancelling.cancel([reply], force=True)
            except Exception as error:
                _log.warning("Ray could not be told to stop %r: %s", attempt.delivery.payload, error)

    def force_all(self, seconds: float) -> None:
        """End the processes of all that is open, and wait until Ray says that these, and those told before, are gone."""
        for attempt in self.handed_over():
            self.force(attempt)
        if self._forced and self.dead is None and self.ray.is_initialized():
            self.ray.wait(self._forced, num_returns=len(self._forced), timeout=seconds, fetch_local=False)
        self._forced.clear()
        self.open.clear()
        self.cancelling.close()
