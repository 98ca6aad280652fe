"""A thread of our own that deals with what an engine tells: in order, off the engine's own threads, and with a look around now and then."""

from __future__ import annotations

import logging
import threading
import time
from _queue import Empty, SimpleQueue
from collections.abc import Callable
from typing import Any

from prefect_core import waiting
from prefect_runners.turns import Turn

LOOK_SECONDS = 0.5
_log = logging.getLogger("prefect_core.engine")


class Settling:
    """Calls `settle(message)` for what is `put`, one after the other, and `look()` every half second.

    What `settle` calls goes on to submit, and may run code of the user that waits: then a further thread takes over.
    """

    def __init__(self, name: str, settle: Callable[[Any], object], look: Callable[[], object]) -> None:
        self._name = name
        self._settle = settle
        self._look = look
        self._messages: SimpleQueue[Any] = SimpleQueue()
        self._is_closed = False
        self._next_look = time.monotonic() + LOOK_SECONDS
        self.put = self._messages.put
        self.is_empty = self._messages.empty

    def start(self) -> None:
        """Have a thread go on with what there is."""
        threading.Thread(target=self._serve, name=self._name, daemon=True).start()

    def close(self) -> None:
        """Let the thread end when it has dealt with what it is about; what is still queued is let go."""
        self._is_closed = True
        self.put(None)

    def look_soon(self) -> None:
        """Let it look around when it has dealt with what has been put by now; called by `settle`."""
        self._next_look = 0.0

    def _serve(self) -> None:
        turn = Turn(self.start)
        with waiting.holding(turn):
            while not self._is_closed and not turn.is_over:
                self._do_next()

    def _do_next(self) -> None:
        left = self._next_look - time.monotonic()
        try:
            if left <= 0 and self._messages.empty():
                self._next_look = time.monotonic() + LOOK_SECONDS
                self._look()
                return
            message = self._messages.get(True, max(left, 0.0))
        except Empty:
            return
        except Exception:
            _log.exception("A task runner could not look after its attempts")
            return
        try:
            if message is not None:
                self._settle(message)
        except Exception:
            # Others wait behind it.
            _log.exception("What a task runner was told could not be dealt with")
