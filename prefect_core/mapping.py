"""What `map` makes of its arguments: the arguments of one call for each element."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sized
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
    arguments = _Arguments(binder, args, kwargs)
    arguments.mapped = {name: list(elements) for name, elements in arguments.mapped.items()}
    arguments.check_lengths()
    return list(arguments.calls())


def expand_one_by_one(binder: Binder, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Do the same, taking elements as they are asked for: that one iterable is shorter may come to light behind its last element."""
    arguments = _Arguments(binder, args, kwargs)
    arguments.check_lengths()
    return arguments.calls()


class _Arguments:
    """The arguments of one `map`."""

    def __init__(self, binder: Binder, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        given = binder.bind_without_defaults(args, kwargs)
        self._variadic = next((p.name for p in binder.signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)
        self._extra: Mapping[str, Any] = given.pop(self._variadic, {}) if self._variadic is not None else {}
        self._static: dict[str, Any] = {}
        self.mapped: dict[str, Iterable[Any]] = {}
        """What is mapped over, by parameter."""
        for name, value in {**given, **self._extra}.items():
            elements = _elements(value)
            if elements is None:
                self._static[name] = value.value if isinstance(value, unmapped) else value
            else:
                self.mapped[name] = elements
        if not self.mapped:
            raise MappingMissingIterable(
                "No iterable parameters were received. Parameters for map must include at least one iterable. "
                f"Parameters: {shown({**given, **self._extra})}"
            )

    def check_lengths(self) -> None:
        """Raise `MappingLengthMismatch` for lengths that are known and differ."""
        lengths = {name: len(elements) for name, elements in self.mapped.items() if isinstance(elements, Sized)}
        if len(set(lengths.values())) > 1:
            raise _mismatch(f"Got lengths: {lengths}")

    def calls(self) -> Iterator[dict[str, Any]]:
        """Yield the parameters of each call."""
        if len(self.mapped) == 1:
            [(name, only)] = self.mapped.items()
            for element in only:
                yield self._call({name: element})
            return
        iterators = {name: iter(elements) for name, elements in self.mapped.items()}
        count = 0
        while True:
            elements = {name: next(iterator, _END) for name, iterator in iterators.items()}
            ended = [name for name, element in elements.items() if element is _END]
            if ended:
                if len(ended) < len(elements):
                    raise _mismatch(
                        f"{ended[0]!r} has {count} elements, and {(elements.keys() - set(ended)).pop()!r} more"
                    )
                return
            yield self._call(elements)
            count += 1

    def _call(self, elements: dict[str, Any]) -> dict[str, Any]:
        call = self._static | elements
        if self._variadic is None:
            return call
        # Variadic keywords go back into their dict.
        plain = {name: value for name, value in call.items() if name not in self._extra}
        return plain | {self._variadic: {name: call[name] for name in self._extra}}


_END = object()


def _mismatch(how: str) -> MappingLengthMismatch:
    return MappingLengthMismatch(
        f"Received iterable parameters with different lengths. Parameters for map must all be the same length. {how}"
    )


def _elements(value: Any) -> Iterable[Any] | None:
    """Return what to map over, each element wrapped as the whole was, or None for what every call gets whole."""
    if isinstance(value, unmapped):
        return None
    wrap = value.rewrap if isinstance(value, Annotation) else None
    inner = value.value if isinstance(value, Annotation) else value
    if isinstance(inner, PrefectFuture | State):
        inner = _value_now(inner, isinstance(value, allow_failure))
    if isinstance(inner, str | bytes | bytearray | io.IOBase) or not isinstance(inner, Iterable):
        return None
    return (
        inner
        if wrap is None
        else [wrap(element) for element in inner]
        if isinstance(inner, Sized)
        else map(wrap, inner)
    )


def _value_now(upstream: PrefectFuture[Any] | State, allowed: bool) -> Any:
    if isinstance(upstream, PrefectFuture) and not upstream.done():
        if loops.running_loop() is not None:
            raise BlockingWaitError(
                f"map was given {upstream!r}, which is not done, and waiting for it here would block the event loop. "
                "Await it first: `await future`, then map over its value."
            )
        upstream.wait()
    return value_of(upstream, allowed)
