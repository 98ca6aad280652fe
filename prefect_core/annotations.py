"""Wrappers by which a caller says how an argument is to be treated."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Annotation(Generic[T]):
    """Holds one value; equal to another of its own type with an equal value."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value

    def unwrap(self) -> T:
        """Return the value."""
        return self.value

    def rewrap(self, value: Any) -> Any:
        """Wrap another value in the same way."""
        return type(self)(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Annotation) and type(self) is type(other) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash((type(self), self.value))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class unmapped(Annotation[T]):
    """Pass the value whole to every run that `map` makes."""

    __slots__ = ()

    def __getitem__(self, _index: object) -> T:
        return self.value


class allow_failure(Annotation[T]):
    """Let the run start even if these inputs failed; it then receives their exceptions."""

    __slots__ = ()


class quote(Annotation[T]):
    """Hand the value over untouched: no future in it is looked for."""

    __slots__ = ()

    def unquote(self) -> T:
        """Return the value."""
        return self.value


class opaque(Annotation[T]):
    """Resolve the value itself, if it is a future, but look for none inside it."""

    __slots__ = ()
