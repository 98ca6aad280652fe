"""What Dask is told of a single attempt, and whether its cluster can ever have the resources that are asked for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from dask.base import get_annotations

from prefect_core.errors import RunnerError
from prefect_core.payload import Payload
from prefect_runners.shortages import fits, problem, told

_log = logging.getLogger("prefect_core.task_runner.dask")
_KNOWN = ("resources", "priority", "workers", "allow_other_workers")
"""The annotations that are heeded. Retries are the engine's."""


def options_for(payload: Payload) -> dict[str, Any]:
    """Return what Dask is told of an attempt: what its task asks for, and the annotations around the place that submitted it."""
    annotations = payload.variables.run(get_annotations) if payload.variables is not None else {}
    options = {name: annotations[name] for name in _KNOWN if annotations.get(name)}
    if payload.resources:
        options["resources"] = {**options.get("resources", {}), **payload.resources}
    if payload.priority:
        options["priority"] = payload.priority
    return options


class Supply:
    """The resources that the workers of a cluster were started with, as they were when something was asked for that nobody had."""

    def __init__(self, client: Any, *, is_fixed: bool) -> None:
        """A cluster `is_fixed` if nobody adds workers to it."""
        self._client = client
        self._is_fixed = is_fixed
        self._workers: list[Mapping[str, float]] = []
        self._warned: set[str] = set()

    def options_for(self, payload: Payload) -> dict[str, Any]:
        """Do as the function of this name, with resources called as the workers call them: "gpu" is "GPU" where they have that.

        Raises `RunnerError` for what a fixed cluster can never have; on others that is a warning.
        """
        options = options_for(payload)
        wanted = options.get("resources")
        if not wanted:
            return options
        named = self._named(wanted)
        if not fits(named, self._workers):
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
            self._workers = [worker.get("resources") or {} for worker in workers]
            named = self._named(wanted)
            if self._workers and not fits(named, self._workers):
                self._refuse(payload.run.name, named)
        return options | {"resources": named}

    def _named(self, wanted: Mapping[str, float]) -> dict[str, float]:
        exact = {name: name for worker in self._workers for name in worker}
        theirs = {name.lower(): name for name in exact} | exact
        return {theirs.get(name, theirs.get(name.lower(), name)): amount for name, amount in wanted.items()}

    def _refuse(self, name: str, wanted: Mapping[str, float]) -> None:
        said, what = problem(name, wanted, self._workers, "no worker of this Dask cluster"), told(wanted)
        if self._is_fixed:
            raise RunnerError(
                f"{said} It would wait for ever. Ask for less, or start workers that have it "
                "(cluster_kwargs={'resources': {...}}, `dask worker --resources`)."
            )
        if what not in self._warned:
            self._warned.add(what)
            _log.warning("%s It waits until one comes that has it.", said)
