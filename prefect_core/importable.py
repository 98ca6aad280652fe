"""Which function is meant, and the name under which another process can import it; flows and tasks are pickled by it.

Under the name of a decorated function stands the flow or task, so pickling the function itself by name fails, and by value it would take
copies of the globals it uses along. A flow or task that is what its name says is pickled as that name; a changed or bound one as its
original's name and what is different; only what can't be imported (in `__main__`, in a function) is pickled by value.
"""

from __future__ import annotations

import inspect
import sys
from functools import partial, reduce
from typing import Any


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


def reduce_decorated(subject: Any, given: Any) -> str | tuple[Any, ...]:
    """Do the work of `__reduce__` for a flow or task that was made of `subject.fn` and the options `given`."""
    if found_by_name(subject) is subject:
        return str(subject.__qualname__)
    fn: Any = subject.fn
    bound_to: tuple[Any, ...] = ()
    if inspect.ismethod(fn):
        bound_to = (fn.__self__,)
        fn = fn.__func__
    original = found_by_name(fn)
    is_decorated = original is not fn and getattr(original, "fn", None) is fn
    return _rebuild, (type(subject), original if is_decorated else fn, is_decorated, bound_to, given)


def _rebuild(kind: Any, source: Any, is_decorated: bool, bound_to: tuple[Any, ...], given: Any) -> Any:
    fn = source.fn if is_decorated else source
    return kind(fn.__get__(*bound_to) if bound_to else fn, **given)
