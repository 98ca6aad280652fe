"""What is looked at before a run hands anything to a Dask cluster: whether the workers have the same software, and the flow's modules."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter
from importlib import metadata
from typing import Any

import cloudpickle

import prefect_core
from prefect_core.errors import RunnerError
from prefect_runners import dask_worker

_COMPARED = ("python", "prefect_core", "cloudpickle", "dask", "distributed")
_MISSING = "not installed"
_SCHEDULER = "the scheduler"


def check_versions(client: Any) -> None:
    """Compare versions on the scheduler, which takes graphs apart, and on the workers that there are, with those here.

    Raises `RunnerError` with a table of what differs.
    """
    asked = [name for name in _COMPARED if name != "python"]
    told = client.get_versions(packages=asked)
    here = {**_versions_of({"packages": {"python": ".".join(map(str, sys.version_info))}}), **_here()}
    theirs = {_SCHEDULER: told["scheduler"], **told["workers"]}
    theirs = {address: _versions_of(found) for address, found in theirs.items()}
    _look_closer(client, theirs)
    rows = [
        (name, here[name], address, found[name])
        for address, found in sorted(theirs.items())
        for name in _COMPARED
        if found[name] != here[name]
    ]
    if rows:
        raise RunnerError(_table(rows))


def _here() -> dict[str, str]:
    return {
        "prefect_core": prefect_core.__version__,
        **{name: metadata.version(name) for name in ("cloudpickle", "dask", "distributed")},
    }


def _versions_of(told: Any) -> dict[str, str]:
    packages = (told or {}).get("packages", {})
    found = {name: str(packages.get(name) or _MISSING) for name in _COMPARED}
    # Bytecode and pickles depend on no more than this.
    found["python"] = ".".join(found["python"].split(".")[:2])
    return found


def _look_closer(client: Any, theirs: dict[str, dict[str, str]]) -> None:
    """Ask those themselves that have no metadata of the package: it may lie on their path as a checkout."""
    unsure = [address for address, found in theirs.items() if found["prefect_core"] == _MISSING]
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


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    titles = ("what", "here", "where", "there")
    widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (titles, *rows)]
    cures = []
    names = {row[0] for row in rows}
    if "python" in names:
        cures.append("run the flow and the cluster with the same minor version of Python")
    packages = sorted({f"{name}=={here}" for name, here, _, _ in rows if name != "python"})
    if packages:
        cures.append(f"install there: pip install {' '.join(packages)}")
    text = "\n".join(line.rstrip() for line in lines)
    return (
        f"The software of the Dask cluster differs from that of the flow's process:\n{text}\nTo do: {'; '.join(cures)}."
    )


class Modules:
    """The modules that functions of tasks are in. What workers can't import travels by value for as long as the run lasts."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._known: set[str] = {"__main__", "builtins"}
        self._lock = threading.Lock()
        self._by_value: list[str] = []

    def look_at(self, task: Any) -> bool:
        """Ask the workers for the module of a task's function, once for each module; True if it is to travel by value from now on."""
        module = getattr(task.fn, "__module__", None)
        if not isinstance(module, str) or module in self._known:
            return False
        with self._lock:
            if module in self._known:
                return False
            is_missing = module in sys.modules and self._is_missing(module)
            if is_missing:
                _travels_by_value(module)
                self._by_value.append(module)
            self._known.add(module)
            return is_missing

    def _is_missing(self, module: str) -> bool:
        answers = self._client.run(dask_worker.failures_of_imports, [module], on_error="ignore")
        return any(module in failures for failures in answers.values())

    def close(self) -> None:
        """Let modules travel by name again."""
        while self._by_value:
            _travels_by_name(self._by_value.pop())


_users: Counter[str] = Counter()
_lock = threading.Lock()


def _travels_by_value(module: str) -> None:
    with _lock:
        if not _users[module] and module in cloudpickle.list_registry_pickle_by_value():
            # Its user has asked for it, and is not to lose it behind us.
            _users[module] += 1
        if not _users[module]:
            cloudpickle.register_pickle_by_value(sys.modules[module])
        _users[module] += 1


def _travels_by_name(module: str) -> None:
    with _lock:
        _users[module] -= 1
        if not _users[module]:
            cloudpickle.unregister_pickle_by_value(sys.modules[module])
