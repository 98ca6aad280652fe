"""Concurrency limits: how many may do something at once, or how often, among all processes that record into one history.

    desk    asking for slots and giving them back       known    which tags have a limit
    around  who is inside of whom                       blocks   slots around a block of code
    names   making, changing and removing limits

Who gets which slots is decided in the history (`history.slots`). Tasks take those of their tags as a step of their lifecycle
(`engine.slots`).
"""

from __future__ import annotations

from prefect_core.limits.around import blocks_among, enter, runs_around
from prefect_core.limits.desk import Desk, Ticket, desk
from prefect_core.limits.known import limited

__all__ = ["Desk", "Ticket", "blocks_among", "desk", "enter", "limited", "runs_around"]
