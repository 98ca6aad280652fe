"""Having Ray cancel tasks without ending this process.

Ray deals with the end of a task on a thread of its own. A `ray.cancel` on another thread that meets it in the midst of that takes the task
for one that never ran, and Ray then ends the process: "Tried to complete task that was not pending" (the race of ray-project/ray#54798,
which quick tasks run into within seconds). On that thread itself, where Ray calls back who waits for an object, the two can't meet.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from prefect_core.errors import RunnerError

_PATIENCE_SECONDS = 10.0
_SMALL_BYTES = 16 << 10
"""Of a reply that Ray keeps in this process's own memory."""


class Cancelling:
    """Cancels what one runner has with Ray."""

    def __init__(self, ray: ModuleType) -> None:
        self._ray = ray
        self._is_client = ray.util.client.ray.is_connected()
        self._nothing: Any = None if self._is_client else ray.put(b"")
        """Is there, so that Ray calls back at once."""
        self._lies_here = self._is_client
        """Whether it lies in this process. For what lies in its node's store, Ray asks that, and ends this process if the node has died."""

    def came(self, reply: Any, value: object) -> None:
        """Take note of an object that is there."""
        if not self._lies_here and type(value) is bytes and len(value) <= _SMALL_BYTES and self._nothing is not None:
            self._nothing, self._lies_here = reply, True

    def close(self) -> None:
        """Cancel nothing any more. Called while Ray is up: an object that is let go of while it shuts down may end the process, too."""
        self._nothing = None

    def cancel(self, replies: Iterable[Any], *, force: bool = False) -> None:
        """Call `ray.cancel` for each; returns when that is done. Raises what Ray raises, and `RunnerError` if it can't be had to do so."""
        if self._is_client:
            # That end of it is in another process.
            for reply in replies:
                self._ray.cancel(reply, force=force)
            return
        nothing = self._nothing
        if nothing is None:
            raise RunnerError("The task runner is stopped.")
        done = threading.Event()
        failures: list[Exception] = []

        def cancel_each(_value: Any) -> None:
            try:
                for reply in replies:
                    self._ray.cancel(reply, force=force)
            except Exception as failure:
                failures.append(failure)
            finally:
                done.set()

        nothing._on_completed(cancel_each)
        if not done.wait(_PATIENCE_SECONDS):
            raise RunnerError(f"Ray did not get to cancel anything within {_PATIENCE_SECONDS:g} s.")
        if failures:
            raise failures[0]
