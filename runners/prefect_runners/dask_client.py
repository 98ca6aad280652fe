"""Clients of Dask for the code of tasks and flows, connected to the cluster that their run is on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from prefect_core.context import FlowRunContext
from prefect_core.errors import MissingContextError
from prefect_runners.dask import DaskTaskRunner


@contextmanager
def get_dask_client(timeout: float | None = None, **client_kwargs: Any) -> Iterator[Any]:
    """Give a `distributed.Client`, which is the current one for Dask's collections in the block.

    In a task on a Dask worker, which gives its place to what it submits meanwhile; or in a flow whose runner is a `DaskTaskRunner`.
    With `timeout` in seconds, or other options of `distributed.Client`, a client is made for the block. Raises `MissingContextError`.
    """
    import distributed  # Dask is optional

    given = {**client_kwargs, **({"timeout": timeout} if timeout is not None else {})}
    worker = _worker_here(distributed)
    if worker is not None and not given:
        with distributed.worker_client() as client:
            yield client
        return
    if not given:
        client = _runner_here().client
        with client.as_current():
            yield client
        return
    with distributed.Client(_address(worker), **{"set_as_default": False, **given}) as client, client.as_current():
        yield client


@asynccontextmanager
async def get_async_dask_client(timeout: float | None = None, **client_kwargs: Any) -> AsyncIterator[Any]:
    """Do the same with an asynchronous client, for `async def` code under asyncio."""
    import distributed  # Dask is optional

    given = {**client_kwargs, **({"timeout": timeout} if timeout is not None else {})}
    given = {"set_as_default": False, **given, "asynchronous": True}
    async with distributed.Client(_address(_worker_here(distributed)), **given) as client:
        with client.as_current():
            yield client


def _worker_here(distributed: Any) -> Any:
    try:
        return distributed.get_worker()
    except ValueError:
        return None


def _address(worker: Any) -> str:
    scheduler = worker.scheduler if worker is not None else _runner_here().client.scheduler
    return str(scheduler.address)


def _runner_here() -> DaskTaskRunner:
    around = FlowRunContext.get()
    runner = around.task_runner if around is not None else None
    if isinstance(runner, DaskTaskRunner):
        return runner
    raise MissingContextError(
        "There is no Dask cluster around: ask for a client in a task that runs on Dask, or in a flow whose task_runner is a DaskTaskRunner."
    )
