"""What a process does that others took for dead: it says so and ends, since its runs are no longer its own."""

from __future__ import annotations

import os
import signal
import threading

from prefect_core import logs, settings
from prefect_core.errors import LeaseLost

EXIT_CODE = 128 + signal.SIGTERM
_MORE_SECONDS = 1.0
"""What ending needs beyond the grace period that it gives to bodies."""
_leaving = threading.Lock()
"""Taken for good by the first who finds out."""


def leave(lost: LeaseLost) -> None:
    """End this process: like SIGTERM at first, and by force after the grace period of an interrupt. Returns at once."""
    if not _leaving.acquire(blocking=False):
        return
    threading.Thread(target=_leave, args=(lost,), name="prefect_core-leaving", daemon=True).start()


def _leave(lost: LeaseLost) -> None:
    logs.engine_line(None, logs.ERROR, f"{lost} It ends now.")
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(settings.current().interrupt_grace_seconds + _MORE_SECONDS)
    os._exit(EXIT_CODE)
