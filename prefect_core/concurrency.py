"""Concurrency and rate limits: how many may do something at once, and how often, among all processes that share a history.

    with concurrency("database", occupy=1, timeout_seconds=30): ...      `async with` on an event loop
    rate_limit("api")                                                   `await arate_limit("api")`

Limits are made by `prefect-core limit create NAME SLOTS`. See `docs/limits.md`.
"""

from __future__ import annotations

from prefect_core.errors import AcquireConcurrencySlotTimeoutError, ConcurrencySlotAcquisitionError
from prefect_core.limits.blocks import arate_limit, concurrency, rate_limit

__all__ = [
    "AcquireConcurrencySlotTimeoutError",
    "ConcurrencySlotAcquisitionError",
    "arate_limit",
    "concurrency",
    "rate_limit",
]
