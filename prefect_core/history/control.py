"""The part of a history that knows who lives, what is asked of whom, what waits for whom, and what was sent to whom."""

from __future__ import annotations

from typing import Protocol

from prefect_core.history.leases import Leases
from prefect_core.history.pauses import Pauses
from prefect_core.history.requests import Requests
from prefect_core.history.sent import SentInputs


class Control(Leases, Requests, Pauses, SentInputs, Protocol):
    """Leases, requests, pauses and inputs. From any thread, beside a recorder's writing too."""
