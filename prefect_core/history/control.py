"""The part of a history that knows who lives and what is asked of whom."""

from __future__ import annotations

from typing import Protocol

from prefect_core.history.leases import Leases
from prefect_core.history.requests import Requests


class Control(Leases, Requests, Protocol):
    """Leases and requests. From any thread, beside a recorder's writing too."""
