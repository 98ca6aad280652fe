"""What a process does that others took for dead: it says so and ends, since its runs are no longer its own."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress

from prefect_core import logs, settings
from prefect_core.errors import LeaseLost

EXIT_CODE = 128 + signal.SIGTERM
_MORE_SECONDS = 1.0
"""What ending needs beyond the grace period that it gives to bodies."""
_LOOK_SECONDS = 0.02
_leaving = threading.Lock()
"""Taken for good by the first who finds out."""


def leave(lost: LeaseLost) -> None:
    """End this process: like SIGTERM at first, and by force after the grace period of an interrupt. Returns at once."""
    if not _leaving.acquire(blocking=False):
        return
    # Waited for at the end of the program, which may be now: it must not end as if all were well.
    threading.Thread(target=_leave, args=(lost,), name="prefect_core-leaving", daemon=False).start()


def _leave(lost: LeaseLost) -> None:
    logs.engine_line(None, logs.ERROR, f"{lost} It ends now.")
    os.kill(os.getpid(), signal.SIGTERM)
    deadline = time.monotonic() + settings.current().interrupt_grace_seconds + _MORE_SECONDS
    # At the end of the program nothing more comes of the signal.
    while threading.main_thread().is_alive() and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(EXIT_CODE)
