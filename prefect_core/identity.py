"""By what a call is known again when its flow run is executed once more.

Calls can't be known by the order in which they come: calls that run at once come in another order each time, and one would be given
the result of another. So a call is known by what it is:

    site        the parent's identity, and the task: its module and qualified name (for a lambda or a local function its code and what
                it closes over too, for a method, a partial or a callable object what it is bound to)
    arguments   a digest of each (see `encoding`); a future among them counts by the identity of its own run
    occurrence  how many earlier calls in this attempt of the parent had the same site and arguments: equal calls may stand in for
                each other

The identity of a flow run that no other called is its id, so identities are of one flow run; of a call in it, a digest of these three.
With `key=` the caller says what the call is, and that stands in place of the arguments.

A future whose run has no identity (nothing of it is stored, or something in its arguments can't be encoded) counts by the value that it
gives. So a call with such an input is known only when its inputs are there: it is *late*, and so is every call that takes its future.
Which calls are late depends on the program alone, never on timing. A call with an argument that can't be encoded, or with such an input
whose value can't, has no identity unless a key is given: it runs, and `problem` says why.

Knowing a call again is not enough to give it its earlier value: an input may have been computed anew since, under a key too. A kept value
therefore names the makings of the values that it was computed from (`makings`), and is used again only if its inputs have these very
ones. A making is the number of a stored result, or a digest of a value that is not stored, taken before the body can change the value.

An identity is made when the call is, before a body can change an argument; of a late call, all but the awaited values is. A future that is
handed on as such, in `quote`, tells nothing: its value is there when the body asks, if ever.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache, partial
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from prefect_core import encoding, inputs
from prefect_core.annotations import Annotation
from prefect_core.errors import NotEncodable
from prefect_core.futures import PrefectFuture, PrefectFutureList
from prefect_core.inputs import Pinned
from prefect_core.state_kinds import COMPLETED
from prefect_core.states import State

WAIT_FOR = "wait_for"
_SHOWN = 12
"""Digits of an argument's digest that the history keeps, to tell which one differs."""


class _IsLate(BaseException):
    """Ends the encoding of an argument that holds a future without an identity yet. An `Exception` would stand for a failed encoding."""


def root_path(uid: int) -> bytes:
    """Return the identity of a flow run that no other called."""
    return uid.to_bytes(16, "big")


@lru_cache(maxsize=1024)
def site_of(path: bytes, task_key: str, code: bytes | None) -> bytes:
    """Return what all calls of a task in one parent have in common; `code` joins for tasks that have no name of their own."""
    return hashlib.sha256(b"\0".join((path, task_key.encode("utf-8", "surrogatepass"), code or b""))).digest()[:16]


def code_of(function: Any) -> bytes | None:
    """Return what tells a function from others of its name: its code and what it closes over, what it is bound to; None for nothing.

    Raises `NotEncodable` if something of that can't be encoded.
    """
    parts = _beyond_the_name(function, frozenset())
    return hashlib.sha256(b"".join(parts)).digest()[:16] if parts else None


_named: WeakKeyDictionary[FunctionType, bool] = WeakKeyDictionary()


def has_name(function: FunctionType) -> bool:
    """Tell whether a function, or what was made of it by decorators, is what stands under its name."""
    known = _named.get(function)
    if known is None:
        try:
            encoding.digest(function)
        except NotEncodable:
            known = False
        else:
            known = True
        _named[function] = known
    return known


def _beyond_the_name(function: Any, around: frozenset[int]) -> list[bytes]:
    if isinstance(function, FunctionType):
        return [] if has_name(function) else [_code_and_closure(function, around)]
    special = partial(_nameless, around)
    if isinstance(function, partial):
        bound = encoding.digest((function.args, function.keywords), special)
        return [b"partial", bound, *_beyond_the_name(function.func, around)]
    if inspect.ismethod(function):
        return [b"method", encoding.digest(function.__self__, special), *_beyond_the_name(function.__func__, around)]
    if isinstance(function, staticmethod | classmethod):
        return _beyond_the_name(function.__func__, around)
    if inspect.isroutine(function) or inspect.isclass(function):
        return []
    return [b"object", encoding.digest(function, special), *_beyond_the_name(type(function).__call__, around)]


def _nameless(around: frozenset[int], thing: object) -> bytes | None:
    """Return what stands for a function without a name among the things that another closes over."""
    function = getattr(thing, "fn", thing) if callable(thing) else None
    if not isinstance(function, FunctionType) or has_name(function):
        return None
    return _code_and_closure(function, around)


def _code_and_closure(function: FunctionType, around: frozenset[int]) -> bytes:
    if id(function) in around:
        # It refers to itself, which its code says already.
        return b""
    parts = [encoding.code_digest(function)]
    for cell in function.__closure__ or ():
        try:
            parts.append(encoding.digest(cell.cell_contents, partial(_nameless, around | {id(function)})))
        except ValueError:
            parts.append(b"empty")
    return hashlib.sha256(b"".join(parts)).digest()[:16]


def fingerprint(value: Any) -> int:
    """Return a number for a value that is equal for equal ones, above the numbers of all stored results. Raises `NotEncodable`."""
    return _number(encoding.digest(value))


def _number(digest: bytes) -> int:
    return int.from_bytes(b"\1" + digest[:16], "big")


def _again(base: bytes, occurrence: int) -> bytes:
    return hashlib.sha256(base + occurrence.to_bytes(8, "big")).digest()[:16]


# Nothing of one's own: there may be very many calls, and the garbage collector looks at each list again and again.
_FORGOTTEN: Any = ()


class CallIdentity:
    """By what one call is known again. `value` is None before `settle`, and for a call that can't be known.

    One that `is_path_only` is of a run that is not kept: calls inside are known by it, while its future counts by value.
    """

    __slots__ = (
        "_digests",
        "_inputs",
        "_open",
        "is_late",
        "is_path_only",
        "key",
        "makings",
        "occurrence",
        "problem",
        "site",
        "value",
    )

    def __init__(self, site: bytes, key: str | None) -> None:
        self.site = site
        self.key = key
        self.value: bytes | None = None
        self.occurrence = 0
        self.problem: str | None = None
        self.is_late = False
        self.is_path_only = False
        self.makings: tuple[int, ...] | None = None
        """The makings of the inputs' values, once they are there; None before, and if one can't be told."""
        self._digests: dict[str, bytes] = {}
        self._open: dict[str, Any] = {}
        self._inputs: list[PrefectFuture[Any] | State | None] = []

    def take(self, parameters: Mapping[str, Any], wait_for: Any, count: Callable[[Hashable], int]) -> None:
        """Encode the arguments, futures pinned in them, and what is waited for; none of them where a key is given.

        `count` numbers equal calls from 0.
        """
        if self.key is not None:
            self._digests = {"key": encoding.digest(self.key)}
            # Which call it is does not depend on them, but what it gives may.
            self._inputs += [getattr(one, "upstream", None) for one, _ in inputs.find(dict(parameters))]
        else:
            for name, value in parameters.items():
                self._encode(name, value, self._stands_for_now)
        if wait_for is not None:
            self._encode(WAIT_FOR, inputs.pin(wait_for), self._stands_for_now)
        self.is_late = bool(self._open)
        if not self.is_late:
            self._finish(count)

    def settle(self, count: Callable[[Hashable], int]) -> None:
        """Complete a late identity, now that the inputs are there."""
        for name, value in self._open.items():
            self._encode(name, value, self._stands_for_then)
        self._open = {}
        self._finish(count)

    def _encode(self, name: str, value: Any, special: Callable[[object], bytes | None]) -> None:
        known = len(self._inputs)
        try:
            self._digests[name] = encoding.digest(value, special)
        except _IsLate:
            del self._inputs[known:]
            # Its place is kept, so that the order of the digests is always that of the parameters.
            self._digests[name] = b""
            self._open[name] = value
        except NotEncodable as error:
            self.problem = self.problem or f"argument {name!r} can't be told from others: {error}"

    def _finish(self, count: Callable[[Hashable], int]) -> None:
        if self.problem is not None:
            return
        parts = [name.encode("utf-8", "surrogatepass") + b"\0" + digest for name, digest in self._digests.items()]
        base = hashlib.sha256(self.site + b"".join(parts)).digest()[:16]
        self.occurrence = count(base)
        # Most calls have no equal.
        self.value = _again(base, self.occurrence) if self.occurrence else base

    def _stands_for_now(self, thing: object) -> bytes | None:
        return _stands_for(self._of_early_run, thing)

    def _stands_for_then(self, thing: object) -> bytes | None:
        return _stands_for(self._of_ended_run, thing)

    def _of_early_run(self, future: PrefectFuture[Any]) -> bytes:
        known = _known_by(future)
        if known is None or known.is_late or known.value is None:
            raise _IsLate
        self._inputs.append(future)
        return known.value

    def _of_ended_run(self, future: PrefectFuture[Any]) -> bytes:
        known = _known_by(future)
        if known is not None and known.value is not None:
            self._inputs.append(future)
            return known.value
        return _of_state(future.state, self._stands_for_then)

    def trace(self) -> None:
        """Find out the `makings`, now that the inputs are there and no body had them."""
        if not self._inputs:
            self.makings = ()
            return
        # Members of a set come in any order, and are told by what they are.
        self._inputs.sort(key=_place)
        makings = [_making(one) for one in self._inputs]
        self.makings = None if None in makings else tuple(makings)  # type: ignore[arg-type]  # with no None among them

    def first_changed_input(self, makings: tuple[int, ...]) -> str:
        """Return the name of the first input whose value was made anew since `makings`."""
        for one, now, then in zip(self._inputs, self.makings or (), makings, strict=False):
            if now != then and isinstance(one, PrefectFuture):
                return one.name
        return "an input"

    def let_go(self) -> None:
        """Forget the inputs, since a long chain of runs must not keep each other alive, and what only the row needed."""
        self._inputs, self._digests, self._open = _FORGOTTEN, _FORGOTTEN, _FORGOTTEN

    def row(self, run: int, code: bytes | None) -> tuple[Any, ...]:
        """Return what the history keeps, in the columns of its table `identity`."""
        import json  # loaded long before anything is stored

        arguments = json.dumps({name: digest.hex()[:_SHOWN] for name, digest in self._digests.items()})
        return (run, self.value, self.site, arguments, self.occurrence, self.key, code, self.problem)


def _known_by(future: PrefectFuture[Any]) -> CallIdentity | None:
    known = future.task_run.identity if future.task_run is not None else None
    return None if known is None or known.is_path_only else known


def _place(upstream: PrefectFuture[Any] | State | None) -> bytes:
    known = _known_by(upstream) if isinstance(upstream, PrefectFuture) else None
    return (known.value if known is not None else None) or b""


def _making(upstream: PrefectFuture[Any] | State | None) -> int | None:
    """Return what tells the making of an input's value from others; None where there is no value, or it can't be encoded."""
    state = upstream.state if isinstance(upstream, PrefectFuture) else upstream
    if state is None or state.kept is not None:
        return state.kept.result if state is not None and state.kept is not None else None
    try:
        return _number(_of_state(state, partial(_stands_for, _refused)))
    except NotEncodable:
        return None


def _refused(future: PrefectFuture[Any]) -> bytes:
    raise NotEncodable(f"the future of {future.name!r} is handed on as such")


def _stands_for(of_future: Callable[[PrefectFuture[Any]], bytes], thing: object) -> bytes | None:
    inside = partial(_stands_for, of_future)
    if isinstance(thing, Pinned):
        upstream = thing.upstream
        return _of_state(upstream, inside) if isinstance(upstream, State) else of_future(upstream)
    if isinstance(thing, PrefectFuture):
        return _refused(thing)
    if isinstance(thing, State):
        return _of_state(thing, inside)
    if isinstance(thing, Annotation):
        return b"annotation" + encoding.digest(thing.value, inside)
    if isinstance(thing, PrefectFutureList):
        return b"list" + encoding.digest(list(thing), inside)
    return None


def _of_state(state: State, inside: Callable[[object], bytes | None]) -> bytes:
    if state.type is not COMPLETED:
        raise NotEncodable(f"a run that ended {state} gives no value")
    return b"value" + encoding.digest(state.result(), inside)
