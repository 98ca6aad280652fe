"""Finding processes that ended without a word, and ending the runs that they left open. The rules are those of `history.leases`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect_core.history.leases import Sight, is_over, was_seen_unchanged
from prefect_core.history.process import boot_id, monotonic_us, this_user

if TYPE_CHECKING:
    from prefect_core.history.control import Control
    from prefect_core.history.leases import LeaseRow


def reap(control: Control) -> list[int]:
    """End the runs of every process that is known to have ended, and those that were suspended and not resumed in time.

    Returns those that were ended by this call.

    Of several that look at once, one ends the runs of each process. Raises `HistoryError`.
    """
    ended: list[int] = []
    for lease in control.leases():
        if _has_ended(control, lease):
            ended += control.take_lease(lease, this_user()) or []
    return ended + control.expire_pauses()


def _has_ended(control: Control, lease: LeaseRow) -> bool:
    now_us = monotonic_us()
    known = is_over(lease, now_us)
    if known is not None:
        return known
    here = boot_id()
    unchanged = was_seen_unchanged(lease, here, now_us)
    if unchanged is None:
        control.note_sight(lease.number, Sight(here, now_us, lease.expires_us))
    return unchanged is True
