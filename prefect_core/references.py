"""Values that stay with the engine of a task runner (a cluster's memory, an object store) and travel as its own futures or references.

The near end pickles arguments inside `packing`: each reference leaves a place in the pickle and its native object in a list, which the
runner hands to its engine beside the pickle. The far end loads it inside `unpacking`, with the values that the engine brought.

A value that is stored too can go to any process that reaches the storage: what travels then is where it is (`Elsewhere`), and the far end
loads it. One that can't says so by `OutOfReach`, and from then on the values themselves travel to it.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from prefect_core import reducers
from prefect_core.errors import OutOfReach, SerializationError, ValueLost
from prefect_core.stored import Stored


class Elsewhere(Protocol):
    """What a stored value was kept as."""

    @property
    def url(self) -> str | None:
        """The storage that other processes may find it in; None if they can't."""
        ...

    def load(self) -> Any:
        """Return the value. Raises what says why it can't be had."""
        ...

    def by_place(self) -> tuple[Any, ...]:
        """Return what stands in a pickle for the value, as `__reduce__` does: where it is. Loading it may raise `OutOfReach`."""
        ...


class Origin(Protocol):
    """How a value was made."""

    kept: Elsewhere | None
    """What it was stored as, if it was."""

    def make_again(self, reference: Reference) -> None:
        """Have a lost value made again, which `reference` refers to from then on; blocks. Raises what says why it can't be had."""
        ...


class Reference(Stored):
    """Where the value of an attempt lies, or will lie once the attempt has ended well.

    `native` is the engine's own future or reference. Attempts whose runner is `home` are handed that; all others the value, or where it
    is stored. A runner marks a reference as `is_lost` when it learns that the value can't be had any more.
    """

    __slots__ = ("__weakref__", "_fetched", "home", "is_lost", "kept", "native", "origin")

    def __init__(self, home: object, native: Any) -> None:
        self.home = home
        self.native = native
        self.is_lost = False
        self.origin: Origin | None = None
        """For the engine; None for a value that can't be made again."""
        self.kept: Elsewhere | None = None
        """What the value was stored as, if it was: it is found there when the runner has it no more, and never made again for that."""
        self._fetched: tuple[Any, ...] = ()

    @abstractmethod
    def fetch(self) -> Any:
        """Bring the value here, blocking. Raises `ValueLost` if it is gone, or what else says why it can't be had."""

    def load(self) -> Any:
        """Return the value, fetched the first time that somebody asks for it; one that was lost and is not stored is made again."""
        while not self._fetched:
            try:
                self._fetched = (self.fetch(),)
            except ValueLost:
                self.is_lost = True
                if not self._load_stored():
                    if self.origin is None:
                        raise
                    self.origin.make_again(self)
            except Exception:
                if self.kept is None:
                    raise
                # Its runner has been stopped, or can't be asked.
                self._fetched = (self.kept.load(),)
        return self._fetched[0]

    def _load_stored(self) -> bool:
        """Load what was stored of a lost value; False if that is nothing, or can't be had either and the value can be made again."""
        if self.kept is None:
            return False
        try:
            self._fetched = (self.kept.load(),)
        except Exception:
            if self.origin is None:
                raise
            self.kept = self.origin.kept = None
        return bool(self._fetched)

    def store_as(self, kept: Elsewhere) -> None:
        """Take note of what the value was stored as."""
        self.kept = kept
        if self.origin is not None:
            self.origin.kept = kept

    def is_had_by(self, home: object) -> bool:
        """Tell whether attempts whose runner is `home` can be handed the native object."""
        return self.home is not None and self.home is home and not (self.is_lost and self.kept is not None)

    @property
    def url(self) -> str | None:
        """The storage that other processes may find the value in; None if they can't."""
        return self.kept.url if self.kept is not None else None

    def become(self, made: Any) -> None:
        """Refer to a value that was made again: to what another reference refers to, or to the value itself, which is here then."""
        if isinstance(made, Reference):
            for kind in type(self).__mro__:
                for name in set(kind.__dict__.get("__slots__", ())) - {"__weakref__", "origin"}:
                    if hasattr(made, name):
                        setattr(self, name, getattr(made, name))
        else:
            self.home, self._fetched, self.is_lost = None, (made,), False

    def __reduce__(self) -> tuple[Any, ...]:
        if self.is_had_by(_here.home):
            return place_of(self.native, self)
        known = _by_place(self.kept, self._fetched)
        return at_hand(self.load()) if known is None else known


class StoredInput(Stored):
    """Stands in arguments for a large value that is stored, and that the flow's process need not hold for the task that gets it."""

    __slots__ = ("_kept", "_value")

    def __init__(self, kept: Elsewhere, value: tuple[Any, ...] = ()) -> None:
        """`value` holds the value, where this process has it at hand."""
        self._kept = kept
        self._value = value

    def load(self) -> Any:
        """Return the value."""
        return self._value[0] if self._value else self._kept.load()

    def __reduce__(self) -> tuple[Any, ...]:
        known = _by_place(self._kept, self._value)
        return at_hand(self.load()) if known is None else known


class Packed:
    """What stands beside a pickle: the native objects by their places in it, and the references that these are of, if they are of any.

    `unreached` are the URLs of storages that the far end is known not to reach. A chunk `takes_links`.
    """

    def __init__(self, unreached: set[str], *, takes_links: bool) -> None:
        self.natives: list[Any] = []
        self.references: list[Reference | None] = []
        self.unreached = unreached
        self.takes_links = takes_links

    def add(self, native: Any, reference: Reference | None) -> int:
        """Return the place of a native object."""
        self.natives.append(native)
        self.references.append(reference)
        return len(self.natives) - 1


class _Here(threading.local):
    home: object = None
    packed: Packed | None = None
    values: Sequence[Any] = ()


_here = _Here()


class packing:
    """Give what the natives of `home` go into that are pickled on this thread in the block, for a far end that lacks some storages."""

    __slots__ = ("_before", "_home", "_packed")

    def __init__(self, home: object, unreached: set[str], *, takes_links: bool = False) -> None:
        self._home = home
        self._packed = Packed(unreached, takes_links=takes_links)

    def __enter__(self) -> Packed:
        self._before = _here.home, _here.packed
        _here.home, _here.packed = self._home, self._packed
        return self._packed

    def __exit__(self, *_: object) -> None:
        _here.home, _here.packed = self._before


def place_of(native: Any, reference: Reference | None = None) -> tuple[Any, ...]:
    """Return what stands in a pickle for a native object, as `__reduce__` does: for runners, whose engines have objects of their own.

    Raises `SerializationError` where no runner packs that can hand on what its engine has.
    """
    if _here.home is None:
        raise _stays(native)
    assert _here.packed is not None
    return _value_at, (_here.packed.add(native, reference),)


def _by_place(kept: Elsewhere | None, value: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Return what stands in a pickle for a stored value, `value` if it is at hand; None where nothing is packed, or nobody finds it.

    Raises `OutOfReach` if the far end does not reach the storage, and the value has to be brought here first.
    """
    packed, url = _here.packed, kept.url if kept is not None else None
    if kept is None or packed is None or url is None:
        return None
    if url not in packed.unreached:
        return kept.by_place()
    if not value:
        raise OutOfReach(url, "That was found before.")
    return at_hand(*value)


def takes_links() -> bool:
    """Tell whether a chunk is packed on this thread, in which one attempt may find what another has made."""
    return _here.packed is not None and _here.packed.takes_links


def at_hand(value: Any) -> tuple[Any, ...]:
    """Return what stands in a pickle for something of which the value itself is to arrive, as `__reduce__` does."""
    return _itself, (value,)


def _stays(native: Any) -> SerializationError:
    return SerializationError(
        f"A {type(native).__module__}.{type(native).__qualname__} lies on a cluster and can't leave it like this. Pass it to tasks on "
        "that cluster's own runner, or pass its value."
    )


_DASK_FRAMES = ("DataFrame", "Index", "Scalar", "Series")
_OF_ENGINES = {
    ("distributed.client", "Future"): "dask",
    ("dask.array.core", "Array"): "dask",
    ("dask.bag.core", "Bag"): "dask",
    ("dask.bag.core", "Item"): "dask",
    **{("dask.delayed", name): "dask" for name in ("Delayed", "DelayedAttr", "DelayedLeaf")},
    **{("dask.dataframe.dask_expr._collection", name): "dask" for name in _DASK_FRAMES},
    **{("dask_expr._collection", name): "dask" for name in _DASK_FRAMES},
    **{("dask.dataframe.core", name): "dask" for name in _DASK_FRAMES},
    ("ray", "ObjectRef"): "ray",
}
"""What the engines of runners have of their own, by module and name: these are loaded by whoever needs them, at any time."""
_takers: dict[str, tuple[type, Callable[[Any], Any]]] = {}


def let_travel(engine: str, homes: type, as_native: Callable[[Any], Any]) -> None:
    """Have pickles leave a place for each object of an engine where a runner of the class `homes` sends them, and refuse it elsewhere.

    `as_native` makes of it what the runner finds among the natives of a payload.
    """
    _takers[engine] = homes, as_native


def _reduce_of(kind: type) -> reducers.Reduce | None:
    engine = _OF_ENGINES.get((kind.__module__, kind.__qualname__))
    if engine is None or (_here.packed is None and engine not in _takers):
        return None
    return partial(_hand_on, engine)


def _hand_on(engine: str, theirs: Any) -> tuple[Any, ...]:
    taker = _takers.get(engine)
    if taker is None or not isinstance(_here.home, taker[0]):
        raise _stays(theirs)
    return place_of(taker[1](theirs))


reducers.of_engines.append(_reduce_of)


class unpacking:
    """Let what is unpickled on this thread in the block find the values of its places."""

    __slots__ = ("_before", "_values")

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def __enter__(self) -> None:
        self._before, _here.values = _here.values, self._values

    def __exit__(self, *_: object) -> None:
        _here.values = self._before


def _value_at(place: int) -> Any:
    return _here.values[place]


def _itself(value: Any) -> Any:
    return value
