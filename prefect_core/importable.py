"""Pickling flows and tasks by the name under which another process can import them.

Under the name of a decorated function stands the flow or task, so pickling the function itself by name fails, and by value it would take
copies of the globals it uses along. A flow or task that is what its name says is pickled as that name; a changed or bound one as its
original's name and what is different; only what can't be imported (in `__main__`, in a function) is pickled by value.
"""

from __future__ import annotations

import inspect
import sys
from functools import reduce
from typing import Any


def found_by_name(thing: Any) -> Any:
    """Return what another process would get by importing `thing`'s module and qualified name, or None."""
    module_name, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if (
        not isinstance(name, str)
        or not isinstance(module_name, str)
        or "<locals>" in name
        or _goes_by_value(module_name)
    ):
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


def reference_of(thing: Any) -> tuple[Any, ...] | None:
    """Return `(callable, arguments)` by which a stored pickle shall find this object again, or None to pickle it as ever."""
    return None


def module_of(kind: type) -> str:
    """Return the name of the module under which stored values name this class."""
    return kind.__module__


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
