"""Named places where a fault campaign may kill this process, to show that what was promised before still holds afterwards.

`PREFECT_CORE_CRASH_AT=name:n` sends SIGKILL to the process when it passes the point `name` for the n-th time (1 if left out). Without
the variable, which is read once when this module is loaded, a point costs one function call, and a function between two points nothing.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

VARIABLE = "PREFECT_CORE_CRASH_AT"


def _read() -> tuple[str, int]:
    name, _, count = os.environ.get(VARIABLE, "").partition(":")
    return name, int(count or "1")


_name, _count = _read()
_passes = itertools.count(1)


def crash_point(name: str) -> None:
    """Kill this process if the campaign asked for it here; else do nothing."""
    if _name and name == _name and next(_passes) == _count:
        os.kill(os.getpid(), signal.SIGKILL)


def crash_points_around(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function that has the point `name.before` in front of it and `name.after` behind it."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if _name not in (f"{name}.before", f"{name}.after"):
            return function

        @wraps(function)
        def passed(*args: P.args, **kwargs: P.kwargs) -> R:
            crash_point(f"{name}.before")
            returned = function(*args, **kwargs)
            crash_point(f"{name}.after")
            return returned

        return passed

    return decorate
