"""Asking what may never answer."""

from __future__ import annotations

import threading
from collections.abc import Callable


def is_over_in(seconds: float, function: Callable[[], object]) -> bool:
    """Run a function on a thread beside; tells whether it ended within some seconds. What it raises nobody hears; late, it goes on."""

    def run() -> None:
        try:
            function()
        except Exception:
            # As if it had said nothing.
            return

    thread = threading.Thread(target=run, name="prefect-core-ask", daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()
