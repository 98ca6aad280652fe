"""The part of a history that knows who lives, what is asked of whom, and what waits for whom."""

from __future__ import annotations

from typing import Protocol

from prefect_core.history.leases import Leases
from prefect_core.history.pauses import Pauses
from prefect_core.history.requests import Requests


class Control(Leases, Requests, Pauses, Protocol):
    """Leases, requests and pauses. From any thread, beside a recorder's writing too."""
