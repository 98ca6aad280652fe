"""What the workers of a Ray are asked before a run hands them anything: their versions, and whether they have the flow's modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

from prefect_core.context import TaskRunContext
from prefect_core.engine import pickled_tasks
from prefect_core.errors import RunnerError, describe
from prefect_core.payload import Payload
from prefect_runners import modules_by_value, ray_worker, versions
from prefect_runners.modules_by_value import Modules
from prefect_runners.ray_cluster import Lease, connection
from prefect_runners.ray_limits import Limits
from prefect_runners.storage_probe import Probes

_COMPARED = ("prefect_core", "cloudpickle", "ray")
_ANSWER_SECONDS = 60.0
_passed: set[object] = set()
"""Rays that this process has found in order."""
_importable: set[tuple[object, str]] = set()
"""Modules that workers were found to have, with the Ray that these are of."""


def check_versions(ray: ModuleType) -> None:
    """Compare versions here with those of a worker on each node, once for each Ray. Raises `RunnerError` with a table of what differs."""
    this = connection(ray)
    if this in _passed:
        return
    ours = versions.here(_COMPARED)
    table = versions.difference("this Ray", ours, _versions_there(ray), versions.without_corrections)
    if table is not None:
        raise RunnerError(table)
    _passed.add(this)


def _versions_there(ray: ModuleType) -> dict[str, dict[str, str]]:
    packages, none = _COMPARED, versions.MISSING

    def look() -> tuple[str, dict[str, str]]:
        # Pickled by value, since the worker may lack this module: it uses nothing but the standard library, and the package if it is there.
        import importlib.metadata
        import os
        import sys

        found = {"python": ".".join(map(str, sys.version_info[:2]))}
        for package in packages:
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                found[package] = none
        try:
            # It may lie on the path as a checkout.
            found["prefect_core"] = importlib.import_module("prefect_core").__version__
        except ImportError:
            found["prefect_core"] = none
        return f"worker {os.uname().nodename}:{os.getpid()}", found

    ask = ray.remote(num_cpus=0, max_retries=0)(look)
    try:
        asked = [ask.options(name="prefect_core preflight", **options).remote() for options in _one_on_each_node(ray)]
        return dict(ray.get(asked, timeout=_ANSWER_SECONDS))
    except Exception as error:
        raise RunnerError(f"No worker of Ray could be asked for its versions: {describe(error).strip()}") from error


def _one_on_each_node(ray: ModuleType) -> list[dict[str, Any]]:
    """Return options that place a task on each node that runs some, if that is known."""
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    # A node may go meanwhile.
    return [{"scheduling_strategy": strategy(node, soft=True)} for node in nodes] or [{}]


class Worker:
    """Somebody on a Ray who can be asked, in the session of a runner."""

    def __init__(self, lease: Lease, session: bytes, path: list[str]) -> None:
        self._lease = lease
        self._path = path
        self._session = session
        self._call = lease.ray.remote(num_cpus=0, max_retries=0)(ray_worker.call)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function on a worker, beside the tasks that have CPUs. Raises what it raises."""
        ray = self._lease.ray
        asked = self._call.options(name="prefect_core preflight").remote(self._session, function, *args)
        try:
            return ray.get(asked, timeout=_ANSWER_SECONDS)
        except ray.exceptions.RayTaskError as error:
            cause: Any = error.cause
            raise error if cause is None else cause from None

    def lacks(self, module: str) -> bool:
        """Tell whether workers can't import a module."""
        top = module.partition(".")[0]
        if self._lease.is_local and PathFinder.find_spec(top, self._path) is not None:
            # They have this very Python, and look where this process looked.
            return False
        this = connection(self._lease.ray), module
        if this not in _importable and not self.run(modules_by_value.failures_of_imports, [module]):
            _importable.add(this)
        return this not in _importable


class Preflight:
    """What is looked at before a payload is handed over, as far as it is new."""

    def __init__(self, lease: Lease, session: bytes, path: list[str]) -> None:
        worker = Worker(lease, session, path)
        self._limits = Limits(lease)
        self._modules = Modules(worker.lacks)
        self._probes = Probes(worker.run)

    def look_at(self, payload: Payload, options: Mapping[str, Any]) -> None:
        """Raise `RunnerError` for what Ray can never run, or where the workers don't reach the storage that was named for the value."""
        around = payload.context
        assert isinstance(around, TaskRunContext)
        if options:
            self._limits.check(payload.run.name, options)
        if self._modules.look_at(around.task):
            pickled_tasks.forget(around.task)
        self._probes.look_at(payload)

    def close(self) -> None:
        """Leave this process as it was."""
        self._modules.close()
