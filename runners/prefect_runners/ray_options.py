"""What Ray is told of a single task: `with remote_options(num_cpus=4): task.submit()`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from prefect_core.payload import Payload

_OURS = {"num_returns", "max_retries", "retry_exceptions", "name"}
_OF_RAY = {"cpu": "num_cpus", "gpu": "num_gpus", "memory": "memory"}
"""What Ray has names of its own for, among the resources of a task; any other is one that its nodes were started with."""
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
    """Return what Ray is told of a payload: the resources of its task, then the options of the place that submitted it."""
    variables: Any = payload.variables
    given: dict[str, Any] = (variables.get(_now) if variables is not None else None) or {}
    if not payload.resources:
        return given
    # "GPU" is what Dask's workers and Ray's nodes call theirs.
    wanted = {_OF_RAY.get(name.lower(), name): amount for name, amount in payload.resources.items()}
    options: dict[str, Any] = {name: amount for name, amount in wanted.items() if name in _OF_RAY.values()}
    own = {name: amount for name, amount in wanted.items() if name not in options}
    if own:
        options["resources"] = own
    return options | given
