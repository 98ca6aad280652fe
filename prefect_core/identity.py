"""By what a call is known again when its flow run is executed once more.

Calls can't be known by the order in which they come: calls that run at once come in another order each time, and one would be given
the result of another. So a call is known by what it is:

    site        the parent's identity, and the task: its module and qualified name (for a lambda or a local function its code and what
                it closes over too)
    arguments   a digest of each (see `encoding`); a future among them counts by the identity of its own run
    occurrence  how many earlier calls in this attempt of the parent had the same site and arguments: equal calls may stand in for
                each other

The identity of a flow run that no other called is its id, so identities are of one flow run; of a call in it, a digest of these three.
With `key=` the caller says what the call is, and that stands in place of the arguments.

A future whose run has no identity (nothing of it is stored, or something in its arguments can't be encoded) counts by the value that it
gives. So a call with such an input is known only when its inputs are there: it is *late*, and so is every call that takes its future.
Which calls are late depends on the program alone, never on timing. A call with an argument that can't be encoded, or with such an input
whose value can't, has no identity unless a key is given: it runs, and `problem` says why.

Knowing a call again is not enough to give it its earlier value: an input may have been computed anew since. A kept value therefore names
the makings of the values that it was computed from (`provenance`), and is used again only if its inputs have these very ones.

An identity is made when the call is, before a body can change an argument; of a late call, all but the awaited values is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any

from prefect_core import encoding, options
from prefect_core.annotations import Annotation
from prefect_core.errors import NotEncodable
from prefect_core.futures import PrefectFuture, PrefectFutureList
from prefect_core.inputs import Pinned
from prefect_core.state_kinds import COMPLETED
from prefect_core.states import State

if TYPE_CHECKING:
    from prefect_core.runs import TaskRun

WAIT_FOR = "wait_for"
_SHOWN = 12
"""Digits of an argument's digest that the history keeps, to tell which one differs."""


class _IsLate(BaseException):
    """Ends the encoding of an argument that holds a future without an identity yet. An `Exception` would stand for a failed encoding."""


def root_path(uid: int) -> bytes:
    """Return the identity of a flow run that no other called."""
    return uid.to_bytes(16, "big")


def site_of(path: bytes, task_key: str, code: bytes | None) -> bytes:
    """Return what all calls of a task in one parent have in common; `code` joins for tasks that have no name of their own."""
    return hashlib.sha256(b"\0".join((path, task_key.encode("utf-8", "surrogatepass"), code or b""))).digest()[:16]


def code_of(function: Any) -> bytes | None:
    """Return what tells a function that has no name of its own from others, its code and what it closes over; None for one with a name.

    Raises `NotEncodable` if it closes over something that can't be encoded.
    """
    plain = options.underlying(function)
    return None if _has_name(plain) else _code_and_closure(plain, frozenset())


def _has_name(function: Any) -> bool:
    return "<" not in getattr(function, "__qualname__", "<")


def _code_and_closure(function: Any, around: frozenset[int]) -> bytes:
    if id(function) in around:
        # It refers to itself, which its code says already.
        return b""

    def special(thing: object) -> bytes | None:
        plain = options.underlying(getattr(thing, "fn", thing)) if callable(thing) else None
        is_nameless = isinstance(plain, FunctionType) and not _has_name(plain)
        return _code_and_closure(plain, around | {id(function)}) if is_nameless else None

    parts = [encoding.code_digest(function)]
    for cell in getattr(function, "__closure__", None) or ():
        try:
            parts.append(encoding.digest(cell.cell_contents, special))
        except ValueError:
            parts.append(b"empty")
    return hashlib.sha256(b"".join(parts)).digest()[:16]


class CallIdentity:
    """By what one call is known again. `value` is None before `settle`, and for a call that can't be known."""

    __slots__ = ("_digests", "_inputs", "_open", "is_late", "key", "occurrence", "problem", "site", "value")

    def __init__(self, site: bytes, key: str | None) -> None:
        self.site = site
        self.key = key
        self.value: bytes | None = None
        self.occurrence = 0
        self.problem: str | None = None
        self.is_late = False
        self._digests: dict[str, bytes] = {}
        self._open: dict[str, Any] = {}
        self._inputs: list[TaskRun] = []

    def take(self, parameters: Mapping[str, Any], wait_for: Any, count: Callable[[Hashable], int]) -> None:
        """Encode the arguments, futures pinned in them; `count` numbers equal calls from 0. Encodes nothing where a key is given."""
        if self.key is not None:
            self._digests = {"key": encoding.digest(self.key)}
        else:
            for name, value in parameters.items():
                self._encode(name, value, self._stands_for_now)
        if wait_for is not None:
            self._encode(WAIT_FOR, wait_for, self._stands_for_now)
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
        try:
            self._digests[name] = encoding.digest(value, special)
        except _IsLate:
            # Its place is kept, so that the order of the digests is always that of the parameters.
            self._digests[name] = b""
            self._open[name] = value
        except NotEncodable as error:
            self.problem = self.problem or f"argument {name!r} can't be told from others: {error}"

    def _finish(self, count: Callable[[Hashable], int]) -> None:
        if self.problem is not None:
            return
        base = hashlib.sha256(self.site)
        for name, digest in self._digests.items():
            base.update(name.encode("utf-8", "surrogatepass") + b"\0" + digest)
        self.occurrence = count(base.digest())
        base.update(self.occurrence.to_bytes(8, "big"))
        self.value = base.digest()[:16]

    def _stands_for_now(self, thing: object) -> bytes | None:
        return _stands_for(thing, self._of_early_run, self._stands_for_now)

    def _stands_for_then(self, thing: object) -> bytes | None:
        return _stands_for(thing, self._of_ended_run, self._stands_for_then)

    def _of_early_run(self, future: PrefectFuture[Any], _allowed: bool) -> bytes:
        known = future.task_run.identity if future.task_run is not None else None
        if known is None or known.is_late or known.value is None:
            raise _IsLate
        self._inputs.append(future.task_run)
        return known.value

    def _of_ended_run(self, future: PrefectFuture[Any], allowed: bool) -> bytes:
        known = future.task_run.identity if future.task_run is not None else None
        if known is not None and known.value is not None:
            self._inputs.append(future.task_run)
            return known.value
        return _of_state(future.state, self._stands_for_then)

    def provenance(self) -> tuple[int, ...] | None:
        """Return the makings of the values of all inputs that have an identity; None if one has none, since it did not complete."""
        makings = []
        for run in self._inputs:
            kept = run.state.kept
            if kept is None:
                return None
            makings.append(kept.result)
        return tuple(makings)

    def first_changed_input(self, makings: tuple[int, ...]) -> str:
        """Return the name of the first input whose value was made anew since `makings`."""
        for run, making in zip(self._inputs, makings, strict=False):
            if run.state.kept is None or run.state.kept.result != making:
                return run.name
        return "an input"

    def let_go(self) -> None:
        """Forget the inputs: a long chain of runs must not keep each other alive."""
        self._inputs = []

    def row(self, run: int, code: bytes | None) -> tuple[Any, ...]:
        """Return what the history keeps, in the columns of its table `identity`."""
        import json  # loaded long before anything is stored

        arguments = json.dumps({name: digest.hex()[:_SHOWN] for name, digest in self._digests.items()})
        return (run, self.value, self.site, arguments, self.occurrence, self.key, code, self.problem)


def _stands_for(
    thing: object, of_future: Callable[[PrefectFuture[Any], bool], bytes], inside: Callable[[object], bytes | None]
) -> bytes | None:
    if isinstance(thing, Pinned):
        upstream = thing.upstream
        return _of_state(upstream, inside) if isinstance(upstream, State) else of_future(upstream, thing.allowed)
    if isinstance(thing, PrefectFuture):
        return of_future(thing, False)
    if isinstance(thing, State):
        return _of_state(thing, inside)
    if isinstance(thing, Annotation):
        return b"annotation" + encoding.digest(thing.value, inside)
    if isinstance(thing, PrefectFutureList):
        return b"list" + encoding.digest(list(thing), inside)
    return None


def _of_state(state: State, inside: Callable[[object], bytes | None]) -> bytes:
    if state.type is not COMPLETED:
        raise NotEncodable(f"a run that ended {state} gives no value", "")
    return b"value" + encoding.digest(state.result(), inside)
