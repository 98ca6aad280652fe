"""What counts by its name: classes, functions, methods, flows and tasks that another process could import.

A name stands for a thing only if the thing is what stands under it: under the name of a wrapped function stands its wrapper, and
the two must not be taken for each other. In `__main__`, and in a module that this process has not loaded, nothing needs to stand
there: the thing may have come from another process by value.
"""

from __future__ import annotations

import sys
from types import FunctionType
from typing import Any

from prefect_core.encoding.pieces import record, text
from prefect_core.encoding.refusals import Refusal
from prefect_core.encoding.walk import Walk
from prefect_core.importable import standing_at
from prefect_core.module_names import module_name_of

# What multiprocessing calls the main module in a process it has spawned.
_MAIN = {"__mp_main__": "__main__"}


def by_name(thing: Any, _walk: Walk) -> bytes:
    """Return the piece of something that is its own name."""
    return record("name", name(thing))


def by_function(function: Any, _walk: Walk) -> bytes:
    """Return the piece of a function; under its name may stand the flow or task that was made of it."""
    module_name, qualified = _words(function)
    if getattr(standing_at(module_name, qualified), "fn", None) is function:
        return record("function of", text(module_name), text(qualified))
    return record("name", name(function))


def by_method(method: Any, walk: Walk) -> bytes:
    """Return the piece of a method: its function, and what it is bound to."""
    return record("method", name(method.__func__), walk.part(method.__self__, ".__self__"))


def by_partial(value: Any, walk: Walk) -> bytes:
    """Return the piece of a `functools.partial`."""
    if value.__dict__:
        raise Refusal(value, "it has attributes of its own")
    function = walk.part(value.func, ".func")
    arguments = walk.items(value.args, ".args[{}]".format)
    return record("partial", function, arguments, walk.part(value.keywords, ".keywords"))


def name(thing: Any) -> bytes:
    """Return module and qualified name of a thing that can be imported by them. Raises `Refusal`."""
    module_name, qualified = _words(thing)
    found = standing_at(module_name, qualified)
    if found is not thing and not _stands_for(found, thing, module_name):
        raise Refusal(thing, f"what is called {module_name}.{qualified} is something else")
    # What `__main__` defines counts by the name that its file has when it is loaded as a module.
    return text(module_name_of(module_name)) + text(qualified)


def _words(thing: Any) -> tuple[str, str]:
    owner = getattr(thing, "__objclass__", thing)
    module_name, qualified = getattr(owner, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(qualified, str):
        raise Refusal(thing, "nothing is known of when two of them are equal")
    if "<" in qualified:
        raise Refusal(
            thing, f"{qualified} is a lambda or local to a function, so its name does not tell it from others"
        )
    return _MAIN.get(module_name, module_name), qualified


def _stands_for(found: Any, thing: Any, module_name: str) -> bool:
    """Tell whether what stands under a name is another face of the thing, or a copy, or may be one."""
    fn = getattr(thing, "fn", None)
    if fn is not None and getattr(found, "fn", None) is fn:
        return True  # the same flow or task with other options
    if getattr(found, "__func__", None) is thing:
        return True  # a class method
    if module_name != "__main__":
        return found is None and module_name not in sys.modules
    if found is None or (isinstance(found, type) and isinstance(thing, type)):
        return True
    found, thing = getattr(found, "fn", found), fn or thing
    return (
        isinstance(found, FunctionType)
        and isinstance(thing, FunctionType)
        and found.__code__ == thing.__code__
        and thing.__closure__ is None
    )
