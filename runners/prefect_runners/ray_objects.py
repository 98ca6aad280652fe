"""Ray's own references among the arguments of tasks, which Ray resolves where the task runs."""

from __future__ import annotations

from typing import Any


class Foreign:
    """A reference that the user made, among the natives of a payload."""

    __slots__ = ("reference",)

    def __init__(self, reference: Any) -> None:
        self.reference = reference


def unwrapped(natives: list[Any]) -> tuple[list[Any], frozenset[int]]:
    """Return natives as Ray takes them, and the places of those that are a user's."""
    if not natives:
        return natives, frozenset()
    foreign = frozenset(place for place, native in enumerate(natives) if type(native) is Foreign)
    return [native.reference if type(native) is Foreign else native for native in natives], foreign
