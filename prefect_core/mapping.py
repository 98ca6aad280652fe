"""What `map` makes of its arguments: the arguments of one call for each element."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any

from prefect_core import loops
from prefect_core.annotations import Annotation, allow_failure, unmapped
from prefect_core.errors import BlockingWaitError, MappingLengthMismatch, MappingMissingIterable, shown
from prefect_core.futures import PrefectFuture
from prefect_core.inputs import value_of
from prefect_core.parameters import Binder
from prefect_core.states import State


def expand(binder: Binder, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters of each call, in order.

    Futures and states given as such are waited for, so that what they hold can be mapped over. Raises `MappingMissingIterable` and
    `MappingLengthMismatch`; `BlockingWaitError` on an event loop's thread for a future that is not done.
    """
    given = binder.bind_without_defaults(args, kwargs)
    variadic = next((p.name for p in binder.signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)
    extra = given.pop(variadic, {}) if variadic is not None else {}
    mapped: dict[str, list[Any]] = {}
    static: dict[str, Any] = {}
    for name, value in {**given, **extra}.items():
        elements = _elements(value)
        if elements is None:
            static[name] = value.value if isinstance(value, unmapped) else value
        else:
            mapped[name] = elements
    if not mapped:
        raise MappingMissingIterable(
            "No iterable parameters were received. Parameters for map must include at least one iterable. "
            f"Parameters: {shown(dict(given) | extra)}"
        )
    lengths = {name: len(values) for name, values in mapped.items()}
    if len(set(lengths.values())) > 1:
        raise MappingLengthMismatch(
            "Received iterable parameters with different lengths. Parameters for map must all be the same length. "
            f"Got lengths: {lengths}"
        )
    calls = []
    for index in range(next(iter(lengths.values()))):
        call = static | {name: values[index] for name, values in mapped.items()}
        calls.append(_folded(call, variadic, extra))
    return calls


def _folded(call: dict[str, Any], variadic: str | None, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Put the variadic keywords of one call back into their dict."""
    if variadic is None:
        return call
    plain = {name: value for name, value in call.items() if name not in extra}
    return plain | {variadic: {name: call[name] for name in extra}}


def _elements(value: Any) -> list[Any] | None:
    """Return what to map over, each element wrapped as the whole was, or None for what every call gets whole."""
    if isinstance(value, unmapped):
        return None
    wrap = value.rewrap if isinstance(value, Annotation) else None
    inner = value.value if isinstance(value, Annotation) else value
    if isinstance(inner, PrefectFuture | State):
        inner = _value_now(inner, isinstance(value, allow_failure))
    if isinstance(inner, str | bytes | bytearray | io.IOBase) or not isinstance(inner, Iterable):
        return None
    elements = list(inner)
    return elements if wrap is None else [wrap(element) for element in elements]


def _value_now(upstream: PrefectFuture[Any] | State, allowed: bool) -> Any:
    if isinstance(upstream, PrefectFuture) and not upstream.done():
        if loops.running_loop() is not None:
            raise BlockingWaitError(
                f"map was given {upstream!r}, which is not done, and waiting for it here would block the event loop. "
                "Await it first: `await future`, then map over its value."
            )
        upstream.wait()
    return value_of(upstream, allowed)
