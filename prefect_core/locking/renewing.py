"""Says of what this process holds for a time, again and again, that it is still held."""

from __future__ import annotations

import threading
from collections.abc import Callable

from prefect_core.history.locks import LEASE_US

_EVERY_SECONDS = LEASE_US / 4 / 1_000_000


class Renewer:
    """A daemon thread, there while there is something to be renewed."""

    def __init__(self, renew: Callable[[], int], name: str = "prefect-core-locks") -> None:
        """`renew` renews all and returns how many there are; the thread ends when there are none, or it raises."""
        self._renew = renew
        self._name = name
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._bell = threading.Event()
        self._every_seconds = _EVERY_SECONDS

    def begin(self, every_seconds: float = _EVERY_SECONDS) -> None:
        """Take note that there is something, which has to be renewed so often."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._every_seconds = every_seconds
                self._thread = threading.Thread(target=self._go_on, name=self._name, daemon=True)
                self._thread.start()
            elif every_seconds < self._every_seconds:
                self._every_seconds = every_seconds
                self._bell.set()

    def _go_on(self) -> None:
        while True:
            self._bell.clear()
            if self._bell.wait(self._every_seconds):
                # There is less time now than it set out to wait.
                continue
            with self._lock:
                try:
                    held = self._renew()
                except Exception:
                    # What can't be renewed runs out; whoever can see that this process lives waits for it all the same.
                    held = 0
                if not held:
                    self._thread = None
                    return
