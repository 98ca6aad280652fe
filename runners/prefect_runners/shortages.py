"""What is asked for that no place of a cluster has: its nodes, or its workers, each with amounts of resources by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Amounts = Mapping[str, float]


def fits(wanted: Amounts, places: Iterable[Amounts], slack: float = 0.0) -> bool:
    """Tell whether some place has all that is wanted, or lacks no more than `slack` of it."""
    return any(all(place.get(name, 0) >= amount - slack for name, amount in wanted.items()) for place in places)


def told(wanted: Amounts) -> str:
    """Return what is wanted, for people."""
    return ", ".join(f"{amount:g} of {name!r}" for name, amount in wanted.items())


def problem(run: str, wanted: Amounts, places: Sequence[Amounts], nobody: str) -> str:
    """Say that a run asks for what `nobody` has, such as "no node of this Ray", and how much they have of it at most."""
    most = told({name: max(place.get(name, 0) for place in places) for name in wanted})
    return f"{run!r} asks for {told(wanted)}, and {nobody} has that: at most they have {most}."
