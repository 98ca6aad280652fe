"""The thread that looks after attempts that take longer: what they told, their deadlines, and whether Ray's head still answers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from prefect_core.errors import describe
from prefect_runners.in_time import is_over_in
from prefect_runners.ray_attempts import Attempt, Attempts, is_late
from prefect_runners.ray_endings import Gone, TooLate
from prefect_runners.ray_store import HeadStore

SOONEST_SECONDS = 0.4
"""Younger attempts have told nothing."""
_LOOK_SECONDS = 0.2
_DEAD_SECONDS = 15.0
_STOP_SECONDS = 5.0
_NODE_SECONDS = 1.0
"""Between two looks, the second of which makes it certain: soon, since Ray ends a process that asks a dead node for what lay there."""
_NO_NODE = "The Ray node of the flow's process has died, so nothing can be known of this task."


def _dead() -> str:
    return f"Ray's head has not answered for {_DEAD_SECONDS:g} s, so nothing can be known of this task."


class Watch:
    """Looks every 0.2 s while there is an attempt that is open for longer than `SOONEST_SECONDS`."""

    def __init__(self, attempts: Attempts, store: HeadStore, has_node: Callable[[], bool]) -> None:
        self.tell: Callable[[Attempt, Any], None] = _to_nobody
        """Is told of attempts: None when messages lie there, or how they ended."""
        self._attempts = attempts
        self._store = store
        self._collecting = threading.Lock()
        self._asked = 0.0
        """When the head was asked what it has not answered yet."""
        self._silent = 0.0
        """Since when it has answered with errors."""
        self._has_node = has_node
        self._misses_node = False
        self._next_look_at_node = 0.0
        self._is_idle = False
        self._bell = threading.Event()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def rouse(self) -> None:
        """Look from now on; there is an attempt."""
        if self._is_idle:
            self._bell.set()
        elif self._thread is None:
            self._thread = threading.Thread(target=self._look, name="prefect-core-ray-watch", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread, and leave nothing in the store."""
        self._end.set()
        self._bell.set()
        if self._thread is not None:
            self._thread.join(0 if self._is_stuck() else _STOP_SECONDS)
        if self._attempts.dead is None and not (self._thread is not None and self._thread.is_alive()):
            is_over_in(_STOP_SECONDS, self._store.clear)

    def check(self) -> None:
        """Give everything up if the head has left a question unanswered for too long; for another thread, since this one then hangs."""
        if self._attempts.dead is None and self._is_stuck():
            self._give_up(_dead())

    def collect(self, wanted: Attempt | None = None) -> deque[bytes]:
        """Take what attempts have told to where the clerk finds it, but for those of `wanted`, which are returned. Raises nothing."""
        for_now: deque[bytes] = deque()
        if wanted is not None and self._attempts.dead is not None:
            return for_now
        with self._collecting:
            for attempt, message in self._news(wanted):
                if attempt is wanted:
                    for_now.append(message)
                else:
                    attempt.messages.append(message)
                    self.tell(attempt, None)
        return for_now

    def _news(self, wanted: Attempt | None) -> list[tuple[Attempt, bytes]]:
        self._asked = now = time.monotonic()
        try:
            news = self._store.take_news()
            if now > self._next_look_at_node:
                self._next_look_at_node = now + _NODE_SECONDS
                self._look_at_node()
        except Exception as error:
            self._silent = self._silent or time.monotonic()
            if time.monotonic() - self._silent > _DEAD_SECONDS:
                self._give_up(f"{_dead()} The last answer was: {describe(error)}")
            return []
        finally:
            self._asked = 0.0
        self._silent = 0.0
        attempts = self._attempts.open
        known = {number: attempts.get(number) for number, _ in news}
        if wanted is not None:
            known[wanted.number] = wanted
        return [(attempt, message) for number, message in news if (attempt := known[number]) is not None]

    def _look_at_node(self) -> None:
        if self._has_node():
            self._misses_node = False
        elif self._misses_node:
            self._give_up(_NO_NODE)
        else:
            # Its workers end within a second. Until then they may begin more, of which nothing would be said if it were over now.
            self._misses_node = True

    def _is_stuck(self) -> bool:
        asked = self._asked
        return bool(asked) and time.monotonic() - asked > _DEAD_SECONDS

    def _give_up(self, reason: str) -> None:
        for attempt in self._attempts.give_up(reason):
            self.tell(attempt, Gone(reason, self._attempts.begun))

    def _look(self) -> None:
        while not self._end.wait(_LOOK_SECONDS):
            if not self._attempts.open:
                self._sleep()
            elif time.monotonic() - self._attempts.oldest_since() > SOONEST_SECONDS:
                self.collect()
                self._end_late()

    def _sleep(self) -> None:
        self._is_idle = True
        # Only now: who comes before the line above does not ring.
        if not self._attempts.open:
            self._bell.wait()
        self._is_idle = False
        self._bell.clear()

    def _end_late(self) -> None:
        for attempt in self._attempts.handed_over():
            if any(map(is_late, attempt.deliveries())):
                self._attempts.force(attempt)
                self.tell(attempt, TooLate())


def _to_nobody(_attempt: Attempt, _what: Any) -> None:
    """Stand for the clerk until there is one."""
