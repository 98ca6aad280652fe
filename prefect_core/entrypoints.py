"""Finds the flow that an entry point names: `path.py:flow`, `module:flow`, or either without a name where there is just one flow.

How the file is loaded, and what its module is called, is `script_files`' affair; `docs/entry-points.md` tells it to users.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

from prefect_core import script_files
from prefect_core.errors import MissingFlowError, UnspecifiedFlowError
from prefect_core.flows import Flow
from prefect_core.options import underlying


def load_flow(entrypoint: str) -> Flow[..., Any]:
    """Return the flow that `entrypoint` names.

    Raises `MissingFlowError` if there is no such file, module or flow, `UnspecifiedFlowError` if it has to be named, and `ScriptError` if
    the file or module raised while it was loaded. Calls of flows at its module level do nothing but warn.
    """
    place, name = _split(entrypoint)
    module = _load_file(place) if _is_file_name(place) else script_files.load_module(place)
    return _flow_called(name, module, place) if name else _only_flow(module, place)


def _split(entrypoint: str) -> tuple[str, str]:
    place, colon, name = entrypoint.rpartition(":")
    return (place, name) if colon and not Path(entrypoint).is_file() else (entrypoint, "")


def _is_file_name(place: str) -> bool:
    return place.endswith(".py") or os.sep in place or Path(place).is_file()


def _load_file(place: str) -> ModuleType:
    if not Path(place).is_file():
        raise MissingFlowError(f"There is no file {place!r} here ({Path.cwd()}).")
    return script_files.load_file(place)


def _flow_called(name: str, module: ModuleType, place: str) -> Flow[..., Any]:
    """Return the flow that stands under this name in the module, or whose own or whose function's name it is."""
    target: Any = module
    for part in name.split("."):
        target = getattr(target, part, None)
    if isinstance(target, Flow):
        return target
    found = [
        flow
        for flow in _flows(module).values()
        if name in {flow.name, getattr(underlying(flow.fn), "__qualname__", None)}
    ]
    if len(found) == 1:
        return found[0]
    if target is None:
        raise MissingFlowError(f"{place} has no flow called {name!r}; {_listed(module)}.")
    raise MissingFlowError(f"{name!r} in {place} is no flow but {_described(target)}; {_listed(module)}.")


def _only_flow(module: ModuleType, place: str) -> Flow[..., Any]:
    flows = _flows(module)
    own = {
        name: flow
        for name, flow in flows.items()
        if getattr(underlying(flow.fn), "__module__", None) == module.__name__
    }
    flows = own or flows
    if not flows:
        raise MissingFlowError(f"{place} has no flow.")
    if len({id(flow) for flow in flows.values()}) > 1:
        raise UnspecifiedFlowError(
            f"{place} has {len(flows)} flows: {', '.join(flows)}. Name one, as in {place}:{next(iter(flows))}."
        )
    return next(iter(flows.values()))


def _flows(module: ModuleType) -> dict[str, Flow[..., Any]]:
    """Return the flows of a module, each under the first of its names."""
    unique: dict[int, str] = {}
    for name, value in vars(module).items():
        if isinstance(value, Flow):
            unique.setdefault(id(value), name)
    return {name: getattr(module, name) for name in unique.values()}


def _listed(module: ModuleType) -> str:
    names = ", ".join(_flows(module))
    return f"its flows are {names}" if names else "it has none at all"


def _described(target: object) -> str:
    kind = type(target).__name__
    return (
        f"an instance of {kind}"
        if not callable(target)
        else "a function without @flow"
        if kind == "function"
        else f"a {kind}"
    )
