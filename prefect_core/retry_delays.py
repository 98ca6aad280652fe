"""Delays between the attempts of a task: numbers, lists, doubling ones, and a spread around them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from prefect_core import options
from prefect_core.settings import current as settings

RetryDelay = float | Sequence[float] | Callable[[int], Sequence[float]]
_MOST_DELAYS = 50


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """Make retry delays of `backoff_factor` seconds that double with every retry, at most 50 of them."""
    options.seconds("backoff_factor", backoff_factor)
    return lambda retries: [backoff_factor * 2**attempt for attempt in range(min(retries, _MOST_DELAYS))]


def jittered(delay: float, factor: float) -> float:
    """Draw a delay around `delay` seconds: exponential, between `delay*log2(2**k/(2**k-1))` and `delay*k` with k = 1 + factor."""
    import random  # few tasks want jitter

    most = 1.0 + factor
    least = -math.log1p(-(2.0**-most)) / math.log(2)
    return min(max(random.expovariate(1.0 / delay), delay * least), delay * most)


def checked_jitter(given: Any) -> float | None:
    """Return the option `retry_jitter_factor`. Raises `TypeError` or `ValueError`."""
    if given is None:
        return None
    if not isinstance(given, int | float) or isinstance(given, bool):
        raise TypeError(f"`retry_jitter_factor` must be a number; got {given!r}.")
    if not 0 <= given < float("inf"):
        raise ValueError(f"`retry_jitter_factor` must be >= 0, and finite; got {given!r}.")
    return float(given)


def checked_delays(given: RetryDelay | None, retries: int) -> float | list[float]:
    """Return the option `retry_delay_seconds` of a task with so many retries. Raises `TypeError` or `ValueError`."""
    if given is None:
        return float(settings().task_default_retry_delay_seconds)
    delays = given(retries) if callable(given) else given
    if isinstance(delays, int | float):
        return options.seconds("retry_delay_seconds", delays)
    if isinstance(delays, str) or not isinstance(delays, Sequence):
        raise TypeError(
            f"Invalid `retry_delay_seconds` provided; must be an int, float, list or callable. Received type {type(delays)}"
        )
    if len(delays) > _MOST_DELAYS:
        raise ValueError("Can not configure more than 50 retry delays per task.")
    return [options.seconds("retry_delay_seconds", delay) for delay in delays]
