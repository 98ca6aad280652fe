"""What a task says about its place: the resources it needs, and its priority among those that wait."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_BYTES = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b\s*", re.IGNORECASE)

Resources = Mapping[str, float]


def checked_resources(resources: Any) -> dict[str, float]:
    """Return amounts by name; "8GB" and the like are bytes (kB, MB, GB, TB are powers of 1,000, kiB and so on of 1,024).

    Raises `TypeError` or `ValueError`.
    """
    if resources is None:
        return {}
    if not isinstance(resources, Mapping):
        raise TypeError(f"'resources' must be a mapping from names to amounts; got {resources!r}.")
    return {_checked_name(name): _amount(name, value) for name, value in resources.items()}


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise TypeError(f"The names in 'resources' must be text; got {name!r}.")
    return name


def _amount(name: str, value: Any) -> float:
    if isinstance(value, str):
        match = _BYTES.fullmatch(value)
        if match is None:
            raise ValueError(
                f"The amount of {name!r} in 'resources' must be a number or a size such as '8GB'; got {value!r}."
            )
        return float(match[1]) * _UNITS[(match[2] or "").lower()]
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(
            f"The amount of {name!r} in 'resources' must be a number or a size such as '8GB'; got {value!r}."
        )
    if not 0 <= value < math.inf:
        raise ValueError(f"The amount of {name!r} in 'resources' must be 0 or more; got {value!r}.")
    return value


def checked_priority(priority: Any) -> int:
    """Return a priority: the higher goes first, 0 is that of all others. Raises `TypeError`."""
    if priority is None:
        return 0
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise TypeError(f"'priority' must be a whole number, the higher the sooner; got {priority!r}.")
    return priority
