"""Loads a file or module that flows are in, always as the one module that the file has.

The module bears the fixed name of the file (`module_names`), and the file that this process runs as `__main__` is never loaded a second
time. A file whose name is no module's, or another module's here, is loaded under a name made from its path; what it defines travels to
other processes by value.

While a file is loaded, the loading thread is on a list, for flows to see that they are called by a module's own lines and by nobody else.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from threading import get_ident
from types import ModuleType
from typing import ClassVar, NoReturn

from prefect_core import module_names
from prefect_core.errors import MissingFlowError, ScriptError

_loading: dict[int, Context] = {}
"""The threads that load something, each with its context variables as they were when that began."""


def around_load() -> Context | None:
    """Return the context variables with which the file is loaded that this thread is just loading, or None if it loads none."""
    return _loading.get(get_ident()) if _loading else None


@contextmanager
def _loading_here() -> Iterator[None]:
    thread = get_ident()
    outer = _loading.get(thread)
    _loading[thread] = copy_context()
    try:
        yield
    finally:
        if outer is None:
            del _loading[thread]
        else:
            _loading[thread] = outer


def load_file(path: str | os.PathLike[str]) -> ModuleType:
    """Return the module of a file, loaded now or before; its path may have a mark (see `module_names`).

    Raises `ScriptError` if the file raised.
    """
    place, root = module_names.read_mark(path)
    return module_names.main_at(place) or _guarded(os.fspath(path), lambda: _import_file(place, root))


def load_module(name: str) -> ModuleType:
    """Return the module of this name, looked for in the working directory too. Raises `MissingFlowError` or `ScriptError`."""
    main = module_names.main_called(name)
    if main is not None:
        return main
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return _guarded(name, lambda: importlib.import_module(name))
    except ScriptError as refused:
        missing = refused.user_exc.name if isinstance(refused.user_exc, ModuleNotFoundError) else None
        if missing is not None and (name == missing or name.startswith(f"{missing}.")):
            raise MissingFlowError(
                f"There is no file and no module called {name!r}; a flow is named as path.py:flow or module:flow."
            ) from refused.user_exc
        raise


def _guarded(place: str, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        with _loading_here():
            return load()
    except (Exception, SystemExit) as error:
        _refuse(place, error)


def _import_file(path: Path, said_root: Path | None) -> ModuleType:
    names, root = module_names.place_of(path, said_root)
    # The neighbours of a linked script are where it really stands; Python has that folder on the path, too.
    linked_from = [path.resolve().parent] if path.is_symlink() else []
    # A module that was imported from elsewhere saw nothing of its own folder.
    own = [path.parent] if said_root is None else []
    for entry in (*linked_from, *own, root):
        if str(entry) not in sys.path:
            sys.path.insert(0, str(entry))
    name = module_names.fixed_module_name(path, said_root)
    if name == ".".join(names) and _is_importable(names, root, path):
        return importlib.import_module(name)
    return _import_by_path(path, said_root)


def _is_importable(names: list[str], root: Path, path: Path) -> bool:
    """Tell whether importing these names gives the module of this very file."""
    # The outermost first: to look for a module in a package is to load the package.
    if len(names) > 1 and not any(map((root / names[0]).samefile, _folders_of(names[0]))):
        return False
    spec = _found(".".join(names))
    found = Path(spec.origin) if spec is not None and spec.origin is not None else None
    return found is not None and found.is_file() and found.samefile(path)


def _folders_of(package: str) -> list[str]:
    spec = _found(package)
    folders = (spec.submodule_search_locations or []) if spec is not None else []
    return [folder for folder in folders if Path(folder).is_dir()]


def _found(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ValueError:
        # A module without a specification has the name, as `__main__`.
        return None


class _MadeNames:
    """Finds the files that are loaded under names made from their paths, in this process only."""

    files: ClassVar[dict[str, str]] = {}

    @classmethod
    def find_spec(cls, name: str, *_: object) -> ModuleSpec | None:
        """Do what import asks of an entry of `sys.meta_path`."""
        file = cls.files.get(name)
        if file is None:
            return None
        return importlib.util.spec_from_file_location(name, file, loader=SourceFileLoader(name, file))


def _import_by_path(path: Path, root: Path | None) -> ModuleType:
    name = module_names.name_made_from(path)
    _MadeNames.files[name] = str(path)
    if _MadeNames not in sys.meta_path:
        sys.meta_path.append(_MadeNames)
    module_names.note_script(name, path, root)
    module = importlib.import_module(name)
    import cloudpickle  # only for files that other processes could not import

    cloudpickle.register_pickle_by_value(module)
    return module


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
