"""How the attributes of `runtime.flow_run` and `runtime.task_run` are found: in the environment, else in the run.

The text of a variable becomes what the attribute holds; lists and dictionaries can't be given that way.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

PREFIX = "PREFECT_CORE__RUNTIME"


class Attribute(NamedTuple):
    """One attribute: how it is found, and how a variable's text is read; None if it can't be given as text."""

    find: Callable[[], Any]
    read: Callable[[str], Any] | None


def whole_number(text: str) -> int:
    return int(text)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def value_of(room: str, attributes: dict[str, Attribute], name: str) -> Any:
    """Return an attribute of `prefect_core.runtime.<room>`.

    A variable may also name an attribute that doesn't exist otherwise; its value is the text. Raises `AttributeError` for a name that is
    known nowhere and `ValueError` for a text that the attribute can't hold.
    """
    variable = f"{PREFIX}__{room}__{name}".upper()
    text = os.environ.get(variable)
    attribute = attributes.get(name)
    if text is None:
        if attribute is None:
            raise AttributeError(f"module 'prefect_core.runtime.{room}' has no attribute {name!r}")
        return attribute.find()
    if attribute is None:
        return text
    if attribute.read is None:
        raise ValueError(
            f"{variable} is set, but {name} of prefect_core.runtime.{room} can't be given by an environment variable."
        )
    try:
        return attribute.read(text)
    except ValueError as error:
        raise ValueError(f"{variable} is {text!r}: {error}.") from error
