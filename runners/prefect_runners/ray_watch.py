"""Looking after attempts that take longer: what they told, their deadlines, and whether Ray's head still answers."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from prefect_core import clock
from prefect_core.errors import describe
from prefect_runners.ray_store import HeadStore

if TYPE_CHECKING:
    from prefect_runners.ray_attempts import Attempts

DEAD = "Ray's head does not answer any more, so nothing can be known of this task."
SOONEST_SECONDS = 0.4
"""Younger attempts have told nothing."""
_LOOK_SECONDS = 0.2
_DEADLINE_GRACE_SECONDS = 1.0
_DEAD_SECONDS = 15.0


class Watch:
    """The thread that looks."""

    def __init__(self, attempts: Attempts, session: bytes) -> None:
        self._attempts = attempts
        self._store = HeadStore(session)
        self._collecting = threading.Lock()
        self._asked = 0.0
        """When the head was asked what it has not answered yet."""
        self._silent = 0.0
        """Since when it answers with errors."""
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

    def close(self) -> None:
        """End the thread, and leave nothing in the store."""
        self._end.set()
        self._bell.set()
        if self._thread is not None and not self.is_stuck():
            self._thread.join(_DEAD_SECONDS)
        if self._attempts.dead is None:
            self._store.clear()

    def is_stuck(self) -> bool:
        """Tell whether the head has left a question unanswered for too long."""
        asked = self._asked
        return bool(asked) and time.monotonic() - asked > _DEAD_SECONDS

    def collect(self) -> None:
        """Take what attempts have told to where the clerk finds it. Raises nothing."""
        with self._collecting:
            if self._attempts.dead is not None:
                return
            self._asked = time.monotonic()
            try:
                news = self._store.take_news()
            except Exception as error:
                self._silent = self._silent or time.monotonic()
                if time.monotonic() - self._silent > _DEAD_SECONDS:
                    self._attempts.give_up(f"{DEAD} The last answer was: {describe(error)}")
                return
            finally:
                self._asked = 0.0
            self._silent = 0.0
        for number, message in news:
            attempt = self._attempts.open.get(number)
            if attempt is not None:
                attempt.messages.append(message)
                self._attempts.look_at(attempt)

    def _look(self) -> None:
        while not self._end.wait(_LOOK_SECONDS):
            if not self._attempts.open:
                self._is_idle = True
                # Only now: one that came meanwhile was not told of it.
                if not self._attempts.open:
                    self._bell.wait()
                self._is_idle = False
                self._bell.clear()
            elif time.monotonic() - self._attempts.oldest_since() > SOONEST_SECONDS:
                self.collect()
                self._end_late()

    def _end_late(self) -> None:
        now_us = clock.now_us()
        for attempt in list(self._attempts.timed.values()):
            timeout = attempt.delivery.payload.timeout_seconds or 0
            if now_us - attempt.delivery.started_us > (timeout + _DEADLINE_GRACE_SECONDS) * 1e6:
                self._attempts.end_late(attempt)
