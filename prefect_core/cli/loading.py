"""Finds the flow that an entry point names: `path.py:flow`, `module:flow`, or either without a name where there is just one flow.

A file is loaded as the module that its neighbours would import it as: its folder (for a file in a package, the folder around the package)
goes on `sys.path`. So its classes can be pickled, processes that inherit the path can load it, and what it was called with a later run
finds again. A file that can't be imported by its name, because another module has it or it is no name, gets one made from its path, and
what it defines travels to other processes by value.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from prefect_core.errors import MissingFlowError, ScriptError, UnspecifiedFlowError
from prefect_core.flows import Flow
from prefect_core.options import underlying


def load_flow(entrypoint: str) -> Flow[..., Any]:
    """Return the flow that `entrypoint` names.

    Raises `MissingFlowError` if there is no such file, module or flow, `UnspecifiedFlowError` if it has to be named, and `ScriptError` if
    the file or module raised while it was loaded.
    """
    place, name = _split(entrypoint)
    module = _load_file(place) if _is_file_name(place) else _load_module(place)
    return _flow_called(name, module, place) if name else _only_flow(module, place)


def _split(entrypoint: str) -> tuple[str, str]:
    place, colon, name = entrypoint.rpartition(":")
    return (place, name) if colon and not Path(entrypoint).is_file() else (entrypoint, "")


def _is_file_name(place: str) -> bool:
    return place.endswith(".py") or os.sep in place or Path(place).is_file()


def _load_file(place: str) -> ModuleType:
    path = Path(place).absolute()
    if not path.is_file():
        raise MissingFlowError(f"There is no file {place!r} here ({Path.cwd()}).")
    names, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    for entry in (str(path.parent), str(folder)):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    name = ".".join(names)
    try:
        if _is_importable(name, path):
            return importlib.import_module(name)
        return _load_under_own_name(path)
    except (Exception, SystemExit) as error:
        _refuse(place, error)


def _is_importable(name: str, path: Path) -> bool:
    """Tell whether `import name` gives the module of this very file."""
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:
        # A module without a specification has the name, as `__main__`.
        return False
    found = Path(spec.origin) if spec is not None and spec.origin is not None else None
    return found is not None and found.is_file() and found.samefile(path)


def _load_under_own_name(path: Path) -> ModuleType:
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    name = f"prefect_core_script_{re.sub(r'[^0-9A-Za-z]', '_', path.stem)}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    loader = SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # Registered first: dataclasses and pickle look their module up while it is loaded.
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    import cloudpickle  # only for files that other processes could not import

    cloudpickle.register_pickle_by_value(module)
    return module


def _load_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise MissingFlowError(
                f"There is no file and no module called {name!r}; a flow is named as path.py:flow or module:flow."
            ) from error
        _refuse(name, error)
    except (Exception, SystemExit) as error:
        _refuse(name, error)


def _refuse(place: str, error: BaseException) -> NoReturn:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]
    if isinstance(error, SyntaxError):
        where = f"{error.filename}, line {error.lineno}"
    else:
        where = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else place
    raise ScriptError(
        f"{place} raised {type(error).__name__} while it was loaded: {error} ({where})", user_exc=error
    ) from error


def _is_machinery(filename: str) -> bool:
    return filename == __file__ or filename.startswith("<frozen importlib") or filename == importlib.__file__


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
