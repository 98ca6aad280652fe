"""Whether the workers of a Ray that somebody else set up can run what comes from this process, asked before the first task."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from prefect_core.errors import RunnerError, describe

_PACKAGES = ("prefect_core", "cloudpickle", "ray")
_ANSWER_SECONDS = 60.0
_NONE = "not installed"
_passed: set[str] = set()
"""Rays that this process has found in order."""


def check(ray: ModuleType) -> None:
    """Compare versions here with those of a worker, once for each Ray. Raises `RunnerError` with a table of what differs."""
    name = ray.get_runtime_context().gcs_address
    if name in _passed:
        return
    here, there = _versions_here(), _versions_there(ray)
    if any(_matters(here[what]) != _matters(there.get(what, _NONE)) for what in here):
        raise RunnerError(_table(here, there))
    _passed.add(name)


def _versions_here() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:2]))}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = _NONE
    return found


def _versions_there(ray: ModuleType) -> dict[str, str]:
    packages, none = _PACKAGES, _NONE

    def versions() -> dict[str, str]:
        # Pickled by value, since the worker may lack this module: it uses nothing but the standard library.
        import importlib.metadata
        import os
        import sys

        found = {
            "python": ".".join(map(str, sys.version_info[:2])),
            "worker": f"{os.uname().nodename}:{os.getpid()}",
        }
        for package in packages:
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                found[package] = none
        return found

    try:
        asked = ray.remote(num_cpus=0, max_retries=0)(versions).options(name="prefect_core preflight").remote()
        found: dict[str, str] = ray.get(asked, timeout=_ANSWER_SECONDS)
    except Exception as error:
        raise RunnerError(f"No worker of Ray could be asked for its versions: {describe(error).strip()}") from error
    return found


def _matters(full: str) -> str:
    """Return the part of a version by which pickles differ: the last number is for corrections."""
    return full if full == _NONE else ".".join(full.split(".")[:2])


def _table(here: dict[str, str], there: dict[str, str]) -> str:
    rows = [
        ("", "here", f"worker {there.get('worker', '')}"),
        *((what, here[what], there.get(what, _NONE)) for what in here),
    ]
    lines = [f"  {what:<13} {ours:<15} {theirs}" for what, ours, theirs in rows]
    return "\n".join(
        [
            "The workers of this Ray can't run what comes from this process:",
            *lines,
            "Install what this process has in the environment of the cluster, or run the flow with what the cluster has.",
        ]
    )
