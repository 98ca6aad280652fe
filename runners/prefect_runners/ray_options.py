"""What Ray is told of a single task: `with remote_options(num_cpus=4): task.submit()`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from prefect_core.payload import Payload

_OURS = {"num_returns", "max_retries", "retry_exceptions", "name"}
_now: ContextVar[dict[str, Any] | None] = ContextVar("prefect_core.ray_options", default=None)


@contextmanager
def remote_options(**options: Any) -> Iterator[None]:
    """Have tasks that are submitted in the block run on Ray with these options of `ray.remote`: num_cpus, num_gpus, resources, memory, ...

    A block inside another adds to it, and wins where both say something. Other runners pay no heed. Raises `ValueError` for what the
    engine decides itself: num_returns, retries, the name.
    """
    refused = sorted(_OURS.intersection(options))
    if refused:
        raise ValueError(
            f"{', '.join(refused)} can't be set by remote_options: retries and names are those of the task."
        )
    token = _now.set({**(_now.get() or {}), **options})
    try:
        yield
    finally:
        _now.reset(token)


def of(payload: Payload) -> dict[str, Any]:
    """Return the options of the place that submitted a payload."""
    if payload.variables is None:
        return {}
    return payload.variables.get(_now) or {}
