"""Checks of the options that flows and tasks share. Each raises an error that names the option and the value."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, cast

from prefect_core.importable import underlying as underlying
from prefect_core.states import State

if TYPE_CHECKING:
    from prefect_core.serializers import SerializerSpec
    from prefect_core.storage import StorageSpec

T = TypeVar("T")

Hook = Callable[[Any, Any, State], Any]
"""Called with the flow or task, its run and the state it entered; may be async."""

TransactionHook = Callable[[Any], Any]
"""Called with the transaction; may be async."""

FinalStateFrom = Literal["children", "return_value"]
OnCrash = Literal["resume"]


class _NotSet:
    """Stands for an option that was not given, where None says something."""

    def __repr__(self) -> str:
        return "NOT_SET"

    def __reduce__(self) -> str:
        return "NOT_SET"


NOT_SET: Any = _NotSet()


class SharedOptions(TypedDict, total=False):
    """Options of flows and tasks alike."""

    name: str | None
    description: str | None
    version: str | None
    retries: int | None
    timeout_seconds: float | None
    log_prints: bool | None
    on_completion: Iterable[Hook] | None
    on_failure: Iterable[Hook] | None
    on_running: Iterable[Hook] | None
    persist_result: bool | None
    result_storage: StorageSpec | None
    result_serializer: SerializerSpec | None
    result_storage_key: str | None
    cache_result_in_memory: bool


def flag_or_none(option: str, value: Any) -> bool | None:
    """Return True, False or None. Raises `TypeError`."""
    if value is None or isinstance(value, bool):
        return value
    raise TypeError(f"{option!r} must be True, False or None; got {value!r}.")


def flag(option: str, value: Any) -> bool:
    """Return True or False. Raises `TypeError`."""
    if isinstance(value, bool):
        return value
    raise TypeError(f"{option!r} must be True or False; got {value!r}.")


def text(option: str, value: Any) -> str | None:
    """Return a string or None. Raises `TypeError`."""
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"{option!r} must be a string; got {value!r}.")


def whole_number(option: str, value: Any, least: int = 0) -> int:
    """Return a count from `least`. Raises `TypeError` or `ValueError`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{option!r} must be a whole number; got {value!r}.")
    if value < least:
        raise ValueError(f"{option!r} must {f'be at least {least}' if least else 'not be negative'}; got {value!r}.")
    return value


def seconds(option: str, value: Any) -> float:
    """Return seconds, 0 or more. Raises `TypeError` or `ValueError`."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{option!r} must be a number of seconds; got {value!r}.")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{option!r} must not be negative, infinite or not a number; got {value!r}.")
    return float(value)


def timeout(option: str, value: Any) -> float | None:
    """Return seconds above 0, or None for no timeout. Raises `TypeError` or `ValueError`."""
    if value is None:
        return None
    number = seconds(option, value)
    if number == 0:
        raise ValueError(f"{option!r} must be more than 0 seconds, or None for no timeout; got {value!r}.")
    return number


def hooks(option: str, value: Any, decorator: str) -> list[Any]:
    """Return the hooks of a state as a list. Raises `TypeError`."""
    if value is None:
        return []
    advice = f"Please provide a list of hooks to '{option}':\n\n@{decorator}({option}=[hook1, hook2])\ndef my_{decorator}():\n\tpass"
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"Expected iterable for '{option}'; got {type(value).__name__} instead. {advice}")
    listed = list(value)
    for hook in listed:
        if not callable(hook):
            raise TypeError(f"Expected callables in '{option}'; got {type(hook).__name__} instead. {advice}")
    return listed


def run_name(option: str, value: Any) -> str | Callable[..., str] | None:
    """Return a name template, or what makes a name. Raises `TypeError`."""
    if value is None or isinstance(value, str):
        return value
    if callable(value):
        made: Any = value
        return cast("Callable[..., str]", made)
    raise TypeError(f"Expected string or callable for '{option}'; got {type(value).__name__} instead.")


def name_from(option: str, source: str | Callable[..., str], parameters: dict[str, Any]) -> str:
    """Return the name that a template or callable gives; a callable may take an argument called `parameters`.

    Raises `KeyError` for a template that names no parameter and `TypeError` for a callable that returns no string.
    """
    if isinstance(source, str):
        return source.format(**parameters)
    takes_parameters = "parameters" in inspect.signature(source).parameters
    name = source(parameters=parameters) if takes_parameters else source()
    if not isinstance(name, str):
        raise TypeError(
            f"Callable {source} for '{option}' returned type {type(name).__name__} but a string is required."
        )
    return name


def hook_name(hook: Any) -> str:
    """Return how logs name a hook: its function's name, a partial's function's, or its class's."""
    while isinstance(hook, partial):
        hook = hook.func
    return getattr(hook, "__name__", type(hook).__name__)


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling it gives a coroutine: an `async def`, a partial of one, or an object whose `__call__` is one."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def final_state_source(value: Any) -> FinalStateFrom:
    """Return what decides the end of a flow run that returns None. Raises `ValueError`."""
    if value == "children":
        return "children"
    if value == "return_value":
        return "return_value"
    raise ValueError(f"'final_state_from' must be 'children' or 'return_value'; got {value!r}.")


def on_crash(value: Any) -> OnCrash | None:
    """Return what is done about a flow run that crashed. Raises `ValueError`."""
    if value is None:
        return None
    if value == "resume":
        return "resume"
    raise ValueError(f"'on_crash' must be 'resume' or None; got {value!r}.")


def kind_of(function: Any) -> tuple[bool, bool]:
    """Tell whether a function is async, and whether it is a generator function."""
    plain = underlying(function)
    is_async_generator = inspect.isasyncgenfunction(plain)
    return inspect.iscoroutinefunction(plain) or is_async_generator, is_async_generator or inspect.isgeneratorfunction(
        plain
    )


def described_as(function: Any, description: str | None) -> str | None:
    """Return the description given, or the cleaned docstring of the function."""
    if description:
        return description
    text = getattr(function, "__doc__", None)
    return inspect.cleandoc(text) if text else None


def name_of(function: Any) -> str:
    """Return the name of a function, of the one behind a partial, or of the class of another callable."""
    name = getattr(function, "__name__", None) or getattr(underlying(function), "__name__", None)
    return type(function).__name__ if name in (None, "__call__") else str(name)


def take_metadata(target: Any, function: Any) -> None:
    """Let a flow or task look like its function: name, docstring, module."""
    for attribute in ("__module__", "__qualname__", "__doc__", "__name__"):
        value = getattr(function, attribute, None)
        if value is not None:
            setattr(target, attribute, value)
    target.__wrapped__ = function
