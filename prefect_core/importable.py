"""Which function is meant, and the name under which another process can import it; flows, tasks and classes are pickled by it.

Under the name of a decorated function stands the flow or task, so pickling the function itself by name fails, and by value it would take
copies of the globals it uses along. A flow or task that is what its name says is pickled as that name; a changed or bound one as its
original's name and what is different; only what can't be imported (in `__main__`, in a function) is pickled by value.

A value that is stored is read by other processes than the one that made it, and a copy of a class is another class. There, what stands at
the module level of a file that runs as `__main__`, or under a makeshift name, goes as a reference: the file's fixed name, its path, the
qualified name. `reference_of` makes it, `load_reference` follows it. `find_class` is for the way back: a process that had the file loaded
under its fixed name pickles plain names, which in a process that runs the file itself stand for what is in `__main__`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Callable
from functools import lru_cache, partial, reduce
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from prefect_core import module_names, script_files
from prefect_core.errors import SerializationError

Reference = tuple[Callable[[str, str, str], Any], tuple[str, str, str]]
"""What pickle takes for an object: a function to call, and its arguments."""


def found_by_name(thing: Any) -> Any:
    """Return what another process would get by importing `thing`'s module and qualified name, or None."""
    module_name = getattr(thing, "__module__", None)
    if isinstance(module_name, str) and _goes_by_value(module_name):
        return None
    return standing_at(module_name, getattr(thing, "__qualname__", None))


def standing_at(module_name: Any, name: Any) -> Any:
    """Return what has this qualified name in a module that is loaded, or None."""
    if not isinstance(name, str) or not isinstance(module_name, str) or "<locals>" in name:
        return None
    try:
        return reduce(getattr, name.split("."), sys.modules.get(module_name))
    except AttributeError:
        return None


def _goes_by_value(module_name: str) -> bool:
    cloudpickle = sys.modules.get("cloudpickle")
    return module_name == "__main__" or (
        cloudpickle is not None and module_name in cloudpickle.list_registry_pickle_by_value()
    )


def underlying(function: Any) -> Any:
    """Return the plain function behind a partial, method, class or static method, or callable object."""
    while True:
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, staticmethod | classmethod) or inspect.ismethod(function):
            function = function.__func__
        elif not inspect.isroutine(function) and not inspect.isclass(function) and callable(function):
            function = type(function).__call__
        else:
            return function


def reduce_decorated(subject: Any, given: Any, kept: dict[str, Any] | None = None) -> str | tuple[Any, ...]:
    """Do the work of `__reduce__` for a flow or task that was made of `subject.fn` and the options `given`.

    `kept` are attributes that can't be found out where a copy arrives.
    """
    if found_by_name(subject) is subject:
        return str(subject.__qualname__)
    fn: Any = subject.fn
    bound_to: tuple[Any, ...] = ()
    if inspect.ismethod(fn):
        bound_to = (fn.__self__,)
        fn = fn.__func__
    original = found_by_name(fn)
    is_decorated = original is not fn and getattr(original, "fn", None) is fn
    return _rebuild, (type(subject), original if is_decorated else fn, is_decorated, bound_to, given), kept


def _rebuild(kind: Any, source: Any, is_decorated: bool, bound_to: tuple[Any, ...], given: Any) -> Any:
    fn = source.fn if is_decorated else source
    return kind(fn.__get__(*bound_to) if bound_to else fn, **given)


def reference_of(thing: Any) -> Reference | None:
    """Return how a stored pickle refers to a class, function, flow or task; None for what pickle can name itself, or must copy.

    For a pickler's `reducer_override`. Makes references to what stands at module level in a `__main__` that has a file, or in a file that
    was loaded under a makeshift name; and in any module to the function of a flow or task, whose name stands for that flow or task. What
    only `if __name__ == "__main__":` defines is not there for others.
    """
    if not isinstance(thing, type | FunctionType) and not hasattr(type(thing), "with_options"):
        return None
    module_name, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(name, str) or "<" in name:
        return None
    module = sys.modules.get(module_name)
    try:
        found = _part_of(module, name) if module is not None else None
    except AttributeError:
        return None
    script = module_names.script_of(module_name)
    if script is not None and name.partition(".")[0] not in _names_defined_in(script.path):
        return None
    if found is thing:
        return (load_reference, (script.name, script.path, name)) if script is not None else None
    if hasattr(type(found), "with_options") and getattr(found, "fn", None) is thing:
        home = script or module_names.Script(module_name, getattr(module, "__file__", None) or "")
        return load_undecorated, (home.name, home.path, name)
    return None


def load_reference(module_name: str, path: str, name: str) -> Any:
    """Return what stands under a qualified name in the file at `path`, whose fixed name is `module_name`.

    That is the object of `__main__` if this process runs the file, of the module if the file is loaded, and else the file is loaded now,
    as an entry point would be. Another file that has the fixed name here counts as the same one, moved or installed anew, if it has the
    object: so does any pickle see it. Stored pickles name this function, so it has to stay. Raises `SerializationError` if the object
    isn't there, and `ScriptError` if the file raises.
    """
    module = _running_as(module_name, path)
    if module is None or (_lacks(module, name) and Path(path).is_file()):
        module = _load(module_name, path, name)
    return _stored(module, name, path)


def load_undecorated(module_name: str, path: str, name: str) -> Any:
    """Return the function of the flow or task that `load_reference` returns. Stored pickles name this function too."""
    found = load_reference(module_name, path, name)
    return found.fn if hasattr(type(found), "with_options") else found


def find_class(module_name: str, name: str, otherwise: Callable[[str, str], Any]) -> Any:
    """Return what a stored pickle names, for `find_class` of an unpickler; `otherwise` is that method of `pickle.Unpickler`.

    Raises `SerializationError` if the module has nothing of that name.
    """
    main = module_names.main_script()
    if main is not None and main.name == module_name:
        return _stored(sys.modules["__main__"], name, main.path)
    try:
        return otherwise(module_name, name)
    except ModuleNotFoundError:
        # Where only `-m` tells of packages, other processes may know the file without them.
        if main is None or module_name != module_names.fixed_module_name(main.path):
            raise
        return _stored(sys.modules["__main__"], name, main.path)
    except AttributeError as error:
        module = sys.modules.get(module_name)
        if module is None or not _lacks(module, name):
            raise
        raise _gone(name, getattr(module, "__file__", None) or module_name) from error


def _running_as(module_name: str, path: str) -> ModuleType | None:
    """Return the module that a file is in this process. No file is looked at where the name says it."""
    by_path = module_names.loaded_by_path(path)
    if by_path is not None:
        return by_path
    main = module_names.main_script()
    if main is not None and main.name == module_name:
        return sys.modules["__main__"]
    if module_name in sys.modules:
        # It may be half loaded, by another thread: import waits.
        return importlib.import_module(module_name)
    return module_names.main_at(Path(path))


def _load(module_name: str, path: str, name: str) -> ModuleType:
    if Path(path).is_file():
        return script_files.load_file(module_names.marked(path, module_name))
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise SerializationError(
            f"The stored value needs {name!r} of {path}, but that file is gone, and there is no module {module_name!r} here. "
            "Put the file back, or make the value again."
        ) from error


def _lacks(module: ModuleType, name: str) -> bool:
    try:
        _part_of(module, name)
    except AttributeError:
        return True
    return False


def _stored(module: ModuleType, name: str, path: str) -> Any:
    try:
        return _part_of(module, name)
    except AttributeError as error:
        raise _gone(name, path) from error


def _gone(name: str, path: str) -> SerializationError:
    return SerializationError(
        f"The stored value needs {name!r} of {path}, which has nothing of that name now. Bring it back, or make the value again."
    )


def _part_of(module: ModuleType, name: str) -> Any:
    return reduce(getattr, name.split("."), module)


@lru_cache(maxsize=64)
def _names_defined_in(path: str) -> frozenset[str]:
    """Return the names that a file defines at module level whether it runs as `__main__` or is loaded."""
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    seen = _Names()
    seen.visit(tree)
    return frozenset(seen.always - seen.sometimes)


class _Names(ast.NodeVisitor):
    """Gathers the names that statements at module level define, and apart from them those that depend on `__name__`."""

    def __init__(self) -> None:
        self.always: set[str] = set()
        self.sometimes: set[str] = set()

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            # Its body is no part of the module level.
            self.always.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            self.always.add(node.id)
        elif isinstance(node, ast.If) and _asks_for_name(node.test):
            self._visit_guarded(node)
        else:
            self.generic_visit(node)

    def _visit_guarded(self, node: ast.If) -> None:
        inner = _Names()
        for statement in (*node.body, *node.orelse):
            inner.visit(statement)
        self.sometimes |= inner.always | inner.sometimes


def _asks_for_name(test: ast.expr) -> bool:
    return any(isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(test))
