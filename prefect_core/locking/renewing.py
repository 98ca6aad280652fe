"""Says of the locks of this process, again and again, that they are still held."""

from __future__ import annotations

import threading
from collections.abc import Callable

from prefect_core.history.locks import LEASE_US

_EVERY_SECONDS = LEASE_US / 4 / 1_000_000


class Renewer:
    """A daemon thread, there while there are locks to be renewed."""

    def __init__(self, renew: Callable[[], int]) -> None:
        """`renew` renews all and returns how many there are; the thread ends when there are none, or it raises."""
        self._renew = renew
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pause = threading.Event()

    def begin(self) -> None:
        """Take note that there is a lock."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._go_on, name="prefect-core-locks", daemon=True)
                self._thread.start()

    def _go_on(self) -> None:
        while True:
            self._pause.wait(_EVERY_SECONDS)
            with self._lock:
                try:
                    held = self._renew()
                except Exception:
                    # What can't be renewed runs out; whoever can see that this process lives waits for it all the same.
                    held = 0
                if not held:
                    self._thread = None
                    return
