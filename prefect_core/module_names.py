"""What the module of a file is called, whichever way the file came to run.

A file has one fixed name: the one that its neighbours would import it by, with the packages around it. It depends on the file and on the
environment alone, never on what this process has loaded or how it was started, so `python script.py`, `python -m`, an entry point and a
later process agree on the keys of tasks and on the classes that pickles name. A file that can't be imported by its name, since that is no
name or the standard library or an installed package has it, is called by a name made from its path.

A folder can be a package without saying so, by an `__init__.py`: then only an import, or `python -m`, tells what the file is called. A path
passes that on by a `/./` behind the folder that the file is imported from, as in `/home/ada/./shop/weather.py` for `shop.weather`.

Links are not followed: a script is called by the name that it is run by, as its folder tells its packages.
"""

from __future__ import annotations

import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

# The second is what `multiprocessing` calls the main script in the processes that it spawns.
_ROOT_MARK = f"{os.sep}.{os.sep}"
_MAIN = ("__main__", "__mp_main__")
_INSTALLED = ("site-packages", "dist-packages")


class Script(NamedTuple):
    """A file that runs under another name than its fixed one: as `__main__`, or loaded by its path."""

    name: str
    path: str


_scripts: dict[str, Script] = {}


def fixed_module_name(path: str | os.PathLike[str], root: Path | None = None) -> str:
    """Return the name of the module that an entry point loads this file as. Looks at folders; loads nothing.

    `root` is the folder that it is imported from, where its packages don't tell.
    """
    return _fixed_name(absolute(path), root)


@lru_cache(maxsize=256)
def _fixed_name(path: Path, said_root: Path | None = None) -> str:
    names, root = place_of(path, said_root)
    can_be_imported = path.suffix == ".py" and all(map(str.isidentifier, names)) and not _is_taken(names[0], root)
    return ".".join(names) if can_be_imported else name_made_from(path)


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file from the root, without following links but where a `..` leads out of one."""
    full = Path(path).absolute()
    return full.parent.resolve() / full.name if ".." in full.parts else full


def place_of(path: Path, root: Path | None = None) -> tuple[list[str], Path]:
    """Return the names of the packages around a file and its own, and the folder to import them from; that is `root` if it is said."""
    names, folder = [path.stem], path.parent
    is_said = root is not None and path.is_relative_to(root)
    while folder != root if is_said else folder.name and (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    if names[-1] == "__init__" and len(names) > 1:
        names.pop()
    return names, folder


def marked(path: str | os.PathLike[str], name: str) -> str:
    """Return the path of a file, with a mark behind the folder from which it is imported by this name if its packages don't tell."""
    place = absolute(path)
    root = _root_of(place, name)
    return str(place) if root is None else f"{str(root).rstrip(os.sep)}{_ROOT_MARK}{place.relative_to(root)}"


def read_mark(place: str | os.PathLike[str]) -> tuple[Path, Path | None]:
    """Return the path that such a text names, and the folder that is marked in it, or None."""
    root, mark, _ = os.fspath(place).rpartition(_ROOT_MARK)
    return absolute(place), absolute(root or os.sep) if mark else None


def _root_of(path: Path, name: str) -> Path | None:
    names, own = tuple(name.split(".")), path.parent if path.stem == "__init__" else path.with_suffix("")
    is_so_called = path.suffix == ".py" and own.parts[-len(names) :] == names
    return Path(*own.parts[: -len(names)]) if is_so_called and list(names) != place_of(path)[0] else None


def _is_taken(name: str, root: Path) -> bool:
    """Tell whether every process of this environment has another module of this name than the one in the folder `root`."""
    if name in _MAIN:
        return True
    library = Path(os.__file__).parent
    if name in sys.stdlib_module_names:
        return not _is_same(root, library)
    # Other folders on sys.path are those of one process, and come behind the folder of the script.
    folders = [str(library), *(entry for entry in sys.path if Path(entry).name in _INSTALLED)]
    from importlib.machinery import PathFinder  # only scripts need it

    found = PathFinder.find_spec(name, folders)
    if found is None or found.origin is None:
        return False
    folder = Path(found.origin).parent
    return not _is_same(root, folder.parent if found.submodule_search_locations else folder)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


@lru_cache(maxsize=256)
def name_made_from(path: Path) -> str:
    """Return the module name of a file that can't be imported by its own."""
    from hashlib import sha256  # only scripts need it

    digest = sha256(os.fsencode(path)).hexdigest()[:12]
    return f"prefect_core_script_{re.sub(r'[^0-9A-Za-z]', '_', path.stem)}_{digest}"


def module_name_of(thing: Any) -> str:
    """Return the fixed name of the module of a function, class, flow or task, or of the module of this name.

    It differs from the module's own name for `__main__`, and for a file that was loaded under a makeshift name. A `__main__` without a
    file (a prompt, `-c`, a notebook) is called `__main__`.
    """
    name: Any = thing if isinstance(thing, str) else getattr(thing, "__module__", None)
    if name in _MAIN:
        return _name_of_main(name, getattr(thing, "__globals__", None))
    script = _scripts.get(name)
    return script.name if script is not None else name or ""


def _name_of_main(name: str, namespace: dict[str, Any] | None) -> str:
    # In a worker, a function that came by value has its own file still, and under a profiler `__main__` may be the profiler's.
    # A wrapper has the module of what it wraps, and the variables of its own.
    if namespace is None or namespace.get("__name__") != name:
        namespace = _variables_of(name)
    script = _script_in(namespace)
    if script is not None:
        return script.name
    # A module in an archive was run by `-m`.
    run_as = getattr(namespace.get("__spec__"), "name", None)
    return run_as if isinstance(run_as, str) and run_as not in _MAIN else _MAIN[0]


def _variables_of(name: str) -> dict[str, Any]:
    module = sys.modules.get(name)
    return vars(module) if module is not None else {}


def _script_in(namespace: dict[str, Any]) -> Script | None:
    file, package = namespace.get("__file__"), namespace.get("__package__")
    return _script_at(file, package if isinstance(package, str) else "") if isinstance(file, str) else None


@lru_cache(maxsize=256)
def _script_at(file: str, package: str) -> Script | None:
    path = absolute(file)
    # `-m` says the packages, and a function that came by value to another process still does.
    root = _root_of(path, f"{package}.{path.stem}") if package else None
    return Script(_fixed_name(path, root), str(path)) if path.is_file() else None


def script_of(module_name: str) -> Script | None:
    """Return the file of a module that runs under another name than its fixed one or can't be imported; None for any other module."""
    return _script_in(_variables_of(module_name)) if module_name in _MAIN else _scripts.get(module_name)


def main_script() -> Script | None:
    """Return the file of `__main__`, or None if it has none."""
    return _script_in(_variables_of(_MAIN[0]))


def main_at(path: Path) -> ModuleType | None:
    """Return `__main__` if it is this file."""
    main = main_script()
    return sys.modules[_MAIN[0]] if main is not None and _is_same(Path(main.path), path) else None


def main_called(name: str) -> ModuleType | None:
    """Return `__main__` if this is the fixed name of its file, or what `python -m` was told to run."""
    main = main_script()
    if main is None:
        return None
    module = sys.modules[_MAIN[0]]
    return module if name in {main.name, getattr(getattr(module, "__spec__", None), "name", None)} else None


def note_script(module_name: str, path: Path, root: Path | None) -> None:
    """Take note that a file is loaded under a name by which no other process can import it."""
    _scripts[module_name] = Script(_fixed_name(path, root), str(path))


def loaded_by_path(path: str) -> ModuleType | None:
    """Return the module of a file that is loaded under a name made from its path, or None."""
    # Most processes have none, and a path is dear to make.
    return sys.modules.get(name_made_from(Path(path))) if _scripts else None
