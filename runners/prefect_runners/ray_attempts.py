"""The near end of `RayTaskRunner`: the attempts that Ray has, and how what comes of them reaches the engine.

Ray calls back on a thread of its own when the reply of an attempt is here; that is only noted there. One thread of ours, the *clerk*,
deals with replies, in the order in which they came. A second, the *watch*, looks every 0.2 s after attempts that are open for longer: what
they have told meanwhile, whether they are past their deadline, and whether Ray's head still answers.
"""

from __future__ import annotations

import itertools
import logging
import pickle
import threading
import time
from _queue import Empty, SimpleQueue
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

from prefect_core import waiting
from prefect_core.engine.transport import Delivery
from prefect_core.payload import Receipt
from prefect_runners.ray_endings import ended_by
from prefect_runners.ray_reference import RayReference
from prefect_runners.ray_watch import DEAD, SOONEST_SECONDS, Watch
from prefect_runners.ray_worker import ENDED

_log = logging.getLogger("prefect_core.engine")
_CANCEL_SECONDS = 0.25
_STOP_SECONDS = 5.0
_CLERK_SECONDS = 1.0


class Attempt:
    """One attempt that Ray has, from its submission to its receipt."""

    __slots__ = ("delivery", "done", "is_forced", "is_open", "made", "messages", "number", "reply", "since", "told")

    def __init__(self, number: int, delivery: Delivery, done: Callable[[Receipt], None]) -> None:
        self.number = number
        self.delivery = delivery
        self.done = done
        self.reply: Any = None
        self.made: Any = None
        """Ray's references to the two objects that come of it."""
        self.is_open = True
        self.is_forced = False
        """Whether the process that runs it has been told to end."""
        self.since = time.monotonic()
        self.messages: deque[bytes] = deque()
        self.told = 0
        """How many messages have been dealt with."""


class Attempts:
    """The attempts of one runner."""

    def __init__(self, ray: ModuleType, home: object, session: bytes) -> None:
        self._ray = ray
        self._home = home
        self._numbers = itertools.count(1)
        self.open: dict[int, Attempt] = {}
        self._ended: SimpleQueue[tuple[Attempt, Any] | None] = SimpleQueue()
        self._cancelling = threading.Lock()
        self.is_closed = False
        self.dead: str | None = None
        """Why nothing can come of any attempt any more."""
        self.timed: dict[int, Attempt] = {}
        """Those with a deadline whose bodies run."""
        self.watch = Watch(self, session)
        self._clerks: list[threading.Thread] = []
        self.serve_on()

    def new(self, delivery: Delivery, done: Callable[[Receipt], None]) -> Attempt:
        """Make one, which is open from now on."""
        attempt = Attempt(next(self._numbers), delivery, done)
        self.open[attempt.number] = attempt
        return attempt

    def expect(self, attempt: Attempt, reply: Any, made: Any) -> None:
        """Wait for what Ray was told to run."""
        attempt.reply, attempt.made = reply, made
        ended = self._ended
        reply._on_completed(lambda value: ended.put((attempt, value)))
        self.watch.rouse()

    def drop(self, attempt: Attempt) -> bool:
        """Close an attempt; False if it was closed before."""
        attempt.is_open = False
        self.timed.pop(attempt.number, None)
        return self.open.pop(attempt.number, None) is not None

    def oldest_since(self) -> float:
        """Return when the oldest was submitted, on the monotonic scale."""
        try:
            return next(iter(self.open.values())).since
        except (StopIteration, RuntimeError):
            # None is left, or one came or went just now.
            return time.monotonic()

    def end_late(self, attempt: Attempt) -> None:
        """End an attempt whose body does not heed its deadline, and its process."""
        self.force(attempt)
        self._ended.put((attempt, _TooLate()))

    def look_at(self, attempt: Attempt) -> None:
        """Have the clerk deal with the messages of an attempt."""
        self._ended.put((attempt, None))

    def cancel(self, attempt: Attempt) -> bool:
        """Take back an attempt that has not begun; it is then closed. Bodies that run are shielded in their workers."""
        if not attempt.is_open or attempt.delivery.started_us or attempt.reply is None:
            return False
        with self._cancelling:
            try:
                self._ray.cancel(attempt.reply)
                ended, _ = self._ray.wait([attempt.reply], timeout=_CANCEL_SECONDS)
                if ended:
                    self._ray.get(attempt.reply)
            except self._ray.exceptions.TaskCancelledError:
                return self.drop(attempt)
            except Exception:
                # It ended in another way, of which the clerk hears too.
                return False
            return False

    def force(self, attempt: Attempt) -> None:
        """End the process that runs an attempt."""
        if attempt.is_open and attempt.reply is not None and not attempt.is_forced:
            attempt.is_forced = True
            try:
                self._ray.cancel(attempt.reply, force=True)
            except Exception as error:
                _log.warning("Ray could not be told to stop %r: %s", attempt.delivery.payload, error)

    def give_up(self, reason: str) -> None:
        """End all attempts as lost: Ray is gone."""
        self.dead = reason
        for attempt in list(self.open.values()):
            self._ended.put((attempt, _Gone(reason)))

    def close(self) -> None:
        """End what is still open, and the threads."""
        self.is_closed = True
        left = [attempt.reply for attempt in self.open.values() if attempt.reply is not None]
        if left and self.dead is None and self._ray.is_initialized():
            for attempt in list(self.open.values()):
                self.force(attempt)
            self._ray.wait(left, num_returns=len(left), timeout=_STOP_SECONDS, fetch_local=False)
        self._ended.put(None)
        self.watch.close()
        for clerk in self._clerks:
            if clerk is not threading.current_thread():
                clerk.join(_STOP_SECONDS)
        self.open.clear()

    # The clerk.

    def serve_on(self) -> None:
        """Have a thread deal with what comes from now on."""
        clerk = threading.Thread(target=self._serve, name="prefect-core-ray", daemon=True)
        self._clerks = [one for one in self._clerks if one.is_alive()] + [clerk]
        clerk.start()

    def _serve(self) -> None:
        turn = _Turn(self)
        with waiting.holding(turn):
            while not turn.is_over:
                try:
                    ended = self._ended.get(timeout=_CLERK_SECONDS)
                except Empty:
                    if self.dead is None and self.watch.is_stuck():
                        self.give_up(DEAD)
                    continue
                if ended is None:
                    return
                self._deal_with(*ended)
                del ended

    def _deal_with(self, attempt: Attempt, value: Any) -> None:
        if not attempt.is_open:
            # It was cancelled, or given up.
            return
        try:
            if value is None:
                self._replay(attempt)
                return
            receipt = self._receipt(attempt, value)
            if not self.drop(attempt):
                return
            done, attempt.done = attempt.done, _forget
            attempt.reply = attempt.made = None
            done(receipt)
        except BaseException:
            # Others wait for this thread.
            _log.exception("The receipt of %r could not be dealt with", attempt.delivery.payload)

    def _receipt(self, attempt: Attempt, value: Any) -> Receipt:
        delivery = attempt.delivery
        if type(value) is bytes:
            dumped = self._after_news(attempt, value) if value[:1] != ENDED else value[1:]
            return delivery.receipt(dumped, RayReference(self._home, self._ray, attempt.made))
        if isinstance(value, _TooLate):
            return delivery.late("")
        with self._cancelling:
            # If somebody is about to cancel it, whose the answer is.
            if not attempt.is_open:
                return Receipt()
        if time.monotonic() - attempt.since > SOONEST_SECONDS and self.dead is None:
            self.watch.collect()
        self._replay(attempt)
        return ended_by(value, attempt, self._ray)

    def _after_news(self, attempt: Attempt, envelope: bytes) -> bytes:
        """Deal with all that an attempt told before its end, and return the reply."""
        ahead, late, reply = pickle.loads(envelope[1:])
        if attempt.told + len(attempt.messages) < ahead:
            self.watch.collect()
        self._replay(attempt)
        attempt.messages.extend(late)
        self._replay(attempt)
        dumped: bytes = reply
        return dumped

    def _replay(self, attempt: Attempt) -> None:
        while attempt.messages:
            kind, content = pickle.loads(attempt.messages.popleft())
            attempt.told += 1
            if kind == "begun":
                attempt.delivery.begun(content)
                if attempt.delivery.payload.timeout_seconds:
                    self.timed[attempt.number] = attempt
            else:
                attempt.delivery.happened(content)


class _TooLate(Exception):
    """Stands for the reply of an attempt that is past its deadline."""


class _Gone(Exception):
    """Stands for the reply of an attempt when Ray is gone."""


def _forget(_receipt: Receipt) -> None:
    """Take the place of what was called."""


class _Turn:
    """A clerk's time, which ends when it waits for something else (`waiting.Slot`): another one goes on."""

    __slots__ = ("_attempts", "is_over")

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self.is_over = False

    def give_back(self, is_done: Callable[[], bool]) -> None:
        if not self.is_over:
            self.is_over = True
            self._attempts.serve_on()

    def take_again(self) -> None:
        """The other thread goes on dealing."""
