"""What is looked at before a run hands anything to a Dask cluster: whether the workers have the same software, and the flow's modules."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from typing import Any

from prefect_core.errors import RunnerError
from prefect_runners import dask_worker, modules_by_value, versions
from prefect_runners.storage_probe import NoWorkers

_COMPARED = ("prefect_core", "cloudpickle", "dask", "distributed")
_SCHEDULER = "the scheduler"
_WORKER_SECONDS = 30


def check_versions(client: Any) -> None:
    """Compare versions on the scheduler, which takes graphs apart, and on the workers that there are, with those here.

    Raises `RunnerError` with a table of what differs.
    """
    told = client.get_versions(packages=list(_COMPARED))
    theirs = {_SCHEDULER: told["scheduler"], **told["workers"]}
    theirs = {address: _versions_of(found) for address, found in theirs.items()}
    _look_closer(client, theirs)
    table = versions.difference("the Dask cluster", versions.here(_COMPARED), theirs)
    if table is not None:
        raise RunnerError(table)


def _versions_of(told: Any) -> dict[str, str]:
    packages = (told or {}).get("packages", {})
    found = {name: str(packages.get(name) or versions.MISSING) for name in ("python", *_COMPARED)}
    found["python"] = versions.python_of(found["python"])
    return found


def _look_closer(client: Any, theirs: dict[str, dict[str, str]]) -> None:
    """Ask those themselves that have no metadata of the package: it may lie on their path as a checkout."""
    unsure = [address for address, found in theirs.items() if found["prefect_core"] == versions.MISSING]
    answers: dict[str, Any] = {}
    if _SCHEDULER in unsure:
        unsure.remove(_SCHEDULER)
        with contextlib.suppress(Exception):
            answers[_SCHEDULER] = client.run_on_scheduler(dask_worker.version)
    if unsure:
        answers |= client.run(dask_worker.version, workers=unsure, on_error="return")
    for address, answer in answers.items():
        if isinstance(answer, str):
            theirs[address]["prefect_core"] = answer


def lacks(client: Any, module: str) -> bool:
    """Tell whether some worker can't import a module."""
    if not client.scheduler_info()["workers"]:
        # Those that will come are like the one that is waited for.
        try:
            return module in run_there(client, modules_by_value.failures_of_imports, [module])
        except NoWorkers:
            return False
    answers = client.run(modules_by_value.failures_of_imports, [module], on_error="ignore")
    return any(module in failures for failures in answers.values())


def run_there(client: Any, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function on a worker, always the same as long as it lives, beside the tasks that run there.

    Where there is no worker yet, one is waited for, so that an adaptive cluster starts it. Raises `NoWorkers` if none comes.
    """
    workers = sorted(client.scheduler_info()["workers"])
    if workers:
        return client.run(dask_worker.aside, function, *args, workers=workers[:1])[workers[0]]
    asked = client.submit(function, *args, key=f"prefect-core-preflight-{secrets.token_hex(4)}", pure=False, retries=0)
    try:
        return asked.result(timeout=_WORKER_SECONDS)
    except TimeoutError as error:
        raise NoWorkers from error
    finally:
        asked.cancel()
