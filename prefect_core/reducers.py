"""What reduces objects of the engines of runners when something is pickled: entered by who knows of it, and found by `pickling`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Reduce = Callable[[Any], tuple[Any, ...]]
of_engines: list[Callable[[type], Reduce | None]] = []
"""Called with a class, for what reduces its objects, or None: engines may be imported at any time."""


def reduce_of(kind: type) -> Reduce | None:
    """Return what reduces the objects of a class; None for one that is of no engine, or where its objects are pickled as ever."""
    return next((reduce for look_up in of_engines if (reduce := look_up(kind)) is not None), None)
