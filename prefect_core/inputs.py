"""Finding and replacing the futures and states inside arguments, in one kind of walk.

The walk goes into lists, tuples, sets, dicts (keys too), dataclasses, pydantic models and our annotations, at any depth; not into
strings, arrays, data frames, generators or any other object. What nothing was replaced in is handed on as it is, the same object.
A future inside `quote` is left alone; `opaque` is looked at but not into; the nearest `allow_failure` around a future counts.

How a type is walked is decided once per type, so the common answer "nothing in here" costs one look-up per argument.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from prefect_core.annotations import Annotation, allow_failure, opaque, quote
from prefect_core.errors import UpstreamTaskError
from prefect_core.futures import PrefectFuture
from prefect_core.state_kinds import FAILED, PENDING
from prefect_core.states import State

Leaf = Callable[[Any, bool], Any]
"""Called with a future or state and whether its failure is allowed; returns what stands in its place."""

_ATOMS: frozenset[type] = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})
_Visitor = Callable[[Any, "_Walk", bool], Any]


class _Walk:
    """One walk: what is done with each leaf, whether annotations go, and what became of the containers met.

    The last is against cycles, and against walking a shared container again and again.
    """

    __slots__ = ("leaf", "met", "unwrap")

    def __init__(self, leaf: Leaf, unwrap: bool = True) -> None:
        self.leaf = leaf
        self.unwrap = unwrap
        # With the container itself, so that no other object gets its id meanwhile.
        self.met: dict[int, tuple[Any, Any]] = {}

    def visit(self, value: Any, allowed: bool) -> Any:
        kind = type(value)
        visitor = _visitors.get(kind, _classify)
        if visitor is None:
            return value
        if visitor is _classify:
            visitor = _visitor_of(kind)
            if visitor is None:
                return value
        if visitor is _leaf:
            return self.leaf(value, allowed)
        key = ~id(value) if allowed else id(value)
        known = self.met.get(key)
        if known is not None:
            return known[1]
        self.met[key] = (value, value)
        new = visitor(value, self, allowed)
        if new is not value:
            self.met[key] = (value, new)
        return new


def _leaf(value: Any, walk: _Walk, allowed: bool) -> Any:
    return walk.leaf(value, allowed)


def _only_atoms(values: Iterable[Any]) -> bool:
    return _ATOMS.issuperset(map(type, values))


def _visit_sequence(value: Any, walk: _Walk, allowed: bool) -> Any:
    if _only_atoms(value):
        return value
    new = [walk.visit(item, allowed) for item in value]
    if all(a is b for a, b in zip(new, value, strict=True)):
        return value
    kind = type(value)
    if hasattr(kind, "_make"):
        return kind._make(new)
    # A list of futures whose elements were replaced is a plain list.
    return new if issubclass(kind, list) else kind(new)


def _visit_dict(value: Any, walk: _Walk, allowed: bool) -> Any:
    if _only_atoms(value.values()) and _only_atoms(value):
        return value
    new = [(walk.visit(key, allowed), walk.visit(item, allowed)) for key, item in value.items()]
    if all(key is k and item is v for (key, item), (k, v) in zip(new, value.items(), strict=True)):
        return value
    if type(value) is dict:
        return dict(new)
    rebuilt = copy.copy(value)
    rebuilt.clear()
    rebuilt.update(new)
    return rebuilt


def _visit_fields(value: Any, walk: _Walk, allowed: bool) -> Any:
    """Walk the fields of a dataclass instance; a changed one is a copy, without running its constructor again."""
    changed = {}
    for name in type(value).__dataclass_fields__:
        try:
            field = getattr(value, name)
        except AttributeError:
            continue
        new = walk.visit(field, allowed)
        if new is not field:
            changed[name] = new
    if not changed:
        return value
    rebuilt = copy.copy(value)
    for name, new in changed.items():
        object.__setattr__(rebuilt, name, new)
    return rebuilt


def _visit_model(value: Any, walk: _Walk, allowed: bool) -> Any:
    """Walk the fields of a pydantic model; a changed one is a copy that is not validated again."""
    changed = {}
    for name in type(value).model_fields:
        field = getattr(value, name, None)
        new = walk.visit(field, allowed)
        if new is not field:
            changed[name] = new
    return value.model_copy(update=changed) if changed else value


def _visit_annotation(value: Annotation[Any], walk: _Walk, allowed: bool) -> Any:
    inner = value.value
    if isinstance(value, opaque):
        new = walk.leaf(inner, allowed) if isinstance(inner, PrefectFuture | State) else inner
    else:
        new = walk.visit(inner, isinstance(value, allow_failure))
    return new if walk.unwrap else value if new is inner else value.rewrap(new)


def _visit_quote(value: quote[Any], walk: _Walk, allowed: bool) -> Any:
    return value.value if walk.unwrap else value


def _classify(value: Any, walk: _Walk, allowed: bool) -> Any:
    """Stands for a type that was not met before."""
    raise AssertionError("never called")


_visitors: dict[type, _Visitor | None] = dict.fromkeys(_ATOMS)
# Types made at run time come and go; past this many the table starts anew.
_MOST_TYPES = 5_000


def _visitor_of(kind: type) -> _Visitor | None:
    visitor: _Visitor | None = None
    if issubclass(kind, PrefectFuture | State | Pinned):
        visitor = _leaf
    elif issubclass(kind, quote):
        visitor = _visit_quote
    elif issubclass(kind, Annotation):
        visitor = _visit_annotation
    elif issubclass(kind, list | tuple | set | frozenset):
        visitor = _visit_sequence
    elif issubclass(kind, dict):
        visitor = _visit_dict
    elif hasattr(kind, "__dataclass_fields__"):
        visitor = _visit_fields
    elif hasattr(kind, "__pydantic_fields_set__") and hasattr(kind, "model_fields"):
        visitor = _visit_model
    if len(_visitors) > _MOST_TYPES:
        for known in [known for known in _visitors if known not in _ATOMS]:
            _visitors.pop(known, None)
    _visitors[kind] = visitor
    return visitor


def replace(value: Any, leaf: Leaf, unwrap: bool = True) -> Any:
    """Return `value` with what `leaf` gives for each future and state in it, and annotations unwrapped unless told otherwise."""
    return _Walk(leaf, unwrap).visit(value, False)


class Pinned:
    """Stands in arguments for a future or state that was found there."""

    __slots__ = ("allowed", "upstream")

    def __init__(self, upstream: PrefectFuture[Any] | State, allowed: bool) -> None:
        self.upstream = upstream
        self.allowed = allowed


def pin(value: Any) -> Any:
    """Return `value` with a mark for each future and state in it, and annotations unwrapped; `unpin` puts their values there.

    So a call takes what is in a collection now: a future that the caller adds to it later is no input of the call.
    """
    return _Walk(Pinned).visit(value, False)


def unpin(value: Any, value_of: Leaf) -> Any:
    """Return what `pin` returned, with what `value_of` gives in place of each mark."""

    def unpinned(leaf: Any, _allowed: bool) -> Any:
        return value_of(leaf.upstream, leaf.allowed) if type(leaf) is Pinned else leaf

    return _Walk(unpinned, unwrap=False).visit(value, False)


def find(value: Any) -> list[tuple[Any, bool]]:
    """Return the futures and states in `value`, each with whether its failure is allowed."""
    found: list[tuple[Any, bool]] = []

    def note(leaf: Any, allowed: bool) -> Any:
        found.append((leaf, allowed))
        return leaf

    _Walk(note).visit(value, False)
    return found


def are_plain(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell quickly whether no argument can hold a future, state or annotation. False means: walk it."""
    for value in args:
        if type(value) not in _ATOMS and _visitors.get(type(value), _classify) is not None:
            return False
    for value in kwargs.values():
        if type(value) not in _ATOMS and _visitors.get(type(value), _classify) is not None:
            return False
    return True


def value_of(upstream: PrefectFuture[Any] | State, allowed: bool) -> Any:
    """Return what a dependent receives for a finished input. Raises `UpstreamTaskError` if it may not go on."""
    state = upstream if isinstance(upstream, State) else upstream.state
    if state.is_completed():
        return state.result()
    if allowed and isinstance(upstream, PrefectFuture):
        upstream.was_asked = True
    if allowed and state.type is FAILED:
        return state.result(raise_on_failure=False)
    if allowed and state.type is PENDING and state.name == "NotReady":
        return state.data
    uid = upstream.task_run.id if isinstance(upstream, PrefectFuture) else (state.state_details.task_run_id or state.id)
    raise UpstreamTaskError(f"Upstream task run '{uid}' did not reach a 'COMPLETED' state.")
