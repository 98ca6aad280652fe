"""The thread that deals with the ends of attempts.

Ray has two ways to say that something is there. A callback costs nothing while nothing ends, but it needs the interpreter on the thread
that Ray works with, which then stands still for as long as other threads of this process compute. `ray.wait` over all that is open waits
outside of the interpreter and brings many at once, but does not notice what is submitted meanwhile. So the clerk *sleeps* with callbacks,
and when one comes it *polls* for as long as there is something to be had.
"""

from __future__ import annotations

import logging
import pickle
import threading
import time
from _queue import Empty, SimpleQueue
from typing import Any

from prefect_core import waiting
from prefect_core.errors import describe
from prefect_core.payload import Receipt
from prefect_runners.ray_attempts import Attempt, Attempts
from prefect_runners.ray_chunks import Chunk
from prefect_runners.ray_endings import Ending, Gone, ended_by
from prefect_runners.ray_values import ENDED, ChunkWithValues, Kept
from prefect_runners.ray_watch import SOONEST_SECONDS, Watch
from prefect_runners.turns import Turn

_log = logging.getLogger("prefect_core.engine")
_STOP_SECONDS = 5.0
_SLEEP_SECONDS = 1.0
_SHORTEST_POLL_SECONDS = 0.001
_LONGEST_POLL_SECONDS = 0.008
_POLL_SECONDS_FOR_EACH = 2.5e-4
"""Many times of what it costs to look at one reference. A single one is told of at once."""
_LEAST_POLLED, _MOST_POLLED = 16, 256
_POLLED_FOR_ONE_ENDED = 4
_VAIN_POLLS = 6
_REPLIES = (bytes, Kept, ChunkWithValues)


class Clerk:
    """Deals with what comes of attempts, on one thread at a time.

    `done` may run code of the user (callbacks, hooks). If that waits for a future, another thread goes on.
    """

    def __init__(self, attempts: Attempts, watch: Watch) -> None:
        self._attempts = attempts
        self._watch = watch
        self._news: SimpleQueue[tuple[Attempt, Any] | None] = SimpleQueue()
        """Attempts with what is to be made of them: an object of Ray, an exception, or None for what they told."""
        self._is_polling = False
        self._threads: list[threading.Thread] = []
        self._vain_polls = 0
        self._polled = _MOST_POLLED
        """How many are asked for at once."""
        watch.tell = self.tell
        self.serve_on()

    def expect(self, attempt: Attempt) -> None:
        """Deal with the end of an attempt that Ray has from now on."""
        # In this order, and the other way round in `_fall_asleep`.
        if not self._is_polling:
            self._call_back(attempt)

    def tell(self, attempt: Attempt, what: Any = None) -> None:
        """Deal with what is known of an attempt; from any thread."""
        self._news.put((attempt, what))

    def stop(self) -> None:
        """End the thread, once all that is known is dealt with."""
        self._news.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(_STOP_SECONDS)

    def serve_on(self) -> None:
        """Have a thread go on from now."""
        thread = threading.Thread(target=self._serve, name="prefect-core-ray", daemon=True)
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()

    def _serve(self) -> None:
        turn = Turn(self.serve_on)
        with waiting.holding(turn):
            while not turn.is_over:
                try:
                    news = self._news.get_nowait() if self._is_polling else self._news.get(timeout=_SLEEP_SECONDS)
                except Empty:
                    if self._is_polling:
                        self._poll(turn)
                    else:
                        self._watch.check()
                    continue
                if news is None:
                    return
                self._deal_with(*news)
                del news

    # Asleep, it is called back.

    def _call_back(self, attempt: Attempt) -> None:
        attempt.has_callback = True
        news, reply = self._news, attempt.reply

        def came(value: Any, _held: Any = reply) -> None:
            # Held until then: to call back, Ray makes a reference to the reply. If it had forgotten that, since it was asked for and let go
            # of meanwhile, it would take it for somebody else's, and end this process when it hears of a value inside.
            news.put((attempt, value))

        reply._on_completed(came)

    def _fall_asleep(self) -> None:
        self._is_polling, self._vain_polls = False, 0
        for attempt in self._attempts.handed_over():
            reply = attempt.reply
            if reply is not None and not attempt.has_callback:
                self._call_back(attempt)

    # Awake, it asks.

    def _poll(self, turn: Turn) -> None:
        """Deal with all that has ended."""
        # What came first mostly ends first. Where it does not, all that is open is asked for in turn.
        replies = self._attempts.replies(None if self._vain_polls % 2 else self._polled)
        ended = self._wait(list(replies)) if replies else []
        if not replies or (not ended and self._vain_polls >= _VAIN_POLLS):
            self._fall_asleep()
            return
        self._vain_polls = 0 if ended else self._vain_polls + 1
        # Each that is asked for costs Ray something, and in a chain few end at a time.
        fewer = max(_LEAST_POLLED, min(_MOST_POLLED, _POLLED_FOR_ONE_ENDED * len(ended)))
        self._polled = fewer if ended else _MOST_POLLED
        for reply, value in zip(ended, self._values(ended), strict=True):
            self._deal_with(replies[reply], value)
            if turn.is_over:
                # Another thread finds the rest as this one did.
                return

    def _wait(self, replies: list[Any]) -> list[Any]:
        seconds = min(max(_SHORTEST_POLL_SECONDS, _POLL_SECONDS_FOR_EACH * len(replies)), _LONGEST_POLL_SECONDS)
        try:
            ended: list[Any] = self._attempts.ray.wait(
                replies, num_returns=len(replies), timeout=seconds, fetch_local=False
            )[0]
        except Exception as error:
            self._give_up(f"Ray can't be asked any more: {describe(error)}")
            return []
        return ended

    def _values(self, replies: list[Any]) -> list[Any]:
        if not replies:
            return []
        try:
            values: list[Any] = self._attempts.ray.get(replies)
        except Exception:
            # One of them stands for an error.
            return [self._value(reply) for reply in replies]
        return values

    def _value(self, reply: Any) -> Any:
        try:
            return self._attempts.ray.get(reply)
        except Exception as error:
            return error

    # What is known of an attempt.

    def _deal_with(self, attempt: Attempt, what: Any) -> None:
        if what is None:
            attempt.replay()
            return
        self._is_polling = self._is_polling or not isinstance(what, Exception)
        if isinstance(what, Exception) and not isinstance(what, Ending) and self._attempts.is_taken_back(attempt):
            return
        if not attempt.is_open:
            # Somebody else ended it before.
            return
        try:
            self._end(attempt, what)
        except BaseException:
            # Others wait for this thread.
            _log.exception("The receipt of %r could not be dealt with", attempt.delivery.payload)
        finally:
            self._attempts.cancelling.came(attempt.reply, what)
            attempt.let_go()

    def _end(self, attempt: Attempt, what: Any) -> None:
        # What it told comes first, and finds it by its number only while it is open.
        reply, making = self._reply_in(attempt, what) if type(what) in _REPLIES else (None, None)
        if reply is None:
            self._take_news(attempt)
        if not self._attempts.close(attempt):
            return
        if isinstance(attempt, Chunk):
            if reply is None:
                attempt.end_by(lambda member: self._ending(member, what))
            else:
                attempt.end(reply, what.values if type(what) is ChunkWithValues else {})
        else:
            attempt.done(self._ending(attempt, what) if reply is None else self._receipt(attempt, reply, making))

    def _reply_in(self, attempt: Attempt, what: Any) -> tuple[bytes, Any]:
        envelope = what if type(what) is bytes else what.reply
        return (envelope[1:], None) if envelope[:1] == ENDED else self._after_news(attempt, envelope)

    def _receipt(self, attempt: Attempt, reply: bytes, making: Any) -> Receipt:
        # Most values come with their reply, and nobody needs a reference to them.
        reference = self._attempts.reference_to(attempt) if making is not None else None
        if reference is not None:
            reference.making = making
        self._attempts.sizes.learn(attempt.delivery.parcel.task, is_large=making is not None)
        return attempt.delivery.receipt(reply, lambda: reference)

    def _take_news(self, attempt: Attempt) -> None:
        """Deal with what an attempt told: all that is left of it."""
        if time.monotonic() - attempt.since > SOONEST_SECONDS:
            attempt.messages.extend(self._watch.collect(attempt))
        attempt.replay()

    def _ending(self, attempt: Any, what: Any) -> Receipt:
        return what.receipt(attempt) if isinstance(what, Ending) else ended_by(what, attempt, self._attempts)

    def _after_news(self, attempt: Attempt, envelope: bytes) -> tuple[bytes, Any]:
        """Deal with all that an attempt told before its end, and return the reply, with the making of a large value."""
        ahead, late, reply, making = pickle.loads(envelope[1:])
        if attempt.told + len(attempt.messages) < ahead:
            attempt.messages.extend(self._watch.collect(attempt))
        attempt.messages.extend(late)
        attempt.replay()
        return reply, making

    def _give_up(self, reason: str) -> None:
        for attempt in self._attempts.give_up(reason):
            self.tell(attempt, Gone(reason, self._attempts.begun))
