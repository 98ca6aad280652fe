"""The cache of one task call: whether an earlier result stands for it, found by a key, and letting later calls find this one's.

It is asked after the identity of the call (see `keeping`), when the inputs are there and before Running. Under SERIALIZABLE the lock on
the key is held from then on until the value is durable, or the run has ended without one; whoever waits for it is a suspended lifecycle,
which keeps neither a thread nor a place in a runner.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from prefect_core import cache_policies, clock, context, history, logs
from prefect_core.crash_points import crash_points_around
from prefect_core.engine import deadlines, transitions
from prefect_core.engine.steps import Block, Life, of_moments
from prefect_core.errors import HistoryError, describe
from prefect_core.history.verdicts import CACHED, NOT_CACHED
from prefect_core.locking import KeyLock
from prefect_core.locking.turns import Claimant
from prefect_core.results.index import Entry, index_at
from prefect_core.results.kept import KeptValue
from prefect_core.state_kinds import COMPLETED
from prefect_core.states import State

if TYPE_CHECKING:
    from prefect_core.cache_policies import CachePolicy
    from prefect_core.engine.keeping import Keeping
    from prefect_core.engine.task_call import TaskCall

_NO_KEY = "Error encountered when computing cache key - result will not be persisted."
_told: WeakKeyDictionary[Any, set[int]] = WeakKeyDictionary()
"""Results whose damage was reported."""


class _Hit(NamedTuple):
    """What stands for the call."""

    kept: KeptValue
    value: Any
    reason: str


class Caching:
    """The cache of one call. Its lock is let go of by `let_go`, or by the transaction that the value is staged in."""

    def __init__(self, call: TaskCall, keeping: Keeping, policy: CachePolicy) -> None:
        self._call = call
        self._keeping = keeping
        self._policy = policy
        self._index = index_at(policy.key_storage)
        self._key: str | None = None
        self._expires_us: int | None = None
        self._lock: KeyLock | None = None
        self._why_not = ""
        self._is_staged = False

    def look_up(self) -> Life[State | None]:
        """Return the state Cached, entered, if an earlier result stands for this call; None if the body has to run."""
        call = self._call
        look: Callable[[], _Hit | None] = self._skip if call.task.refreshes_cache else self._look
        hit = yield Block(partial(self._begin, look))
        if self._policy.is_serializable and self._key is not None:
            around = frozenset(context.lineage(call.context.parent))
            claimant = Claimant(call.run.uid, around, self._group, call.loop_needed)
            self._lock = KeyLock(self._key, self._policy.locks, claimant)
            hit = yield from of_moments(self._lock.taking(look))
        if hit is None:
            self._keeping.judge(NOT_CACHED, self._why_not)
            if call.run.state.is_final():
                raise transitions.RunIsOver
            return None
        return self._take(hit)

    @property
    def _group(self) -> Any:
        node = self._call.context.transaction
        return node.root if node is not None and node.root.is_block else None

    def _begin(self, look: Callable[[], _Hit | None]) -> _Hit | None:
        self._make_key()
        return look() if self._key is not None and not self._policy.is_serializable else None

    # The key.

    def _make_key(self) -> None:
        call = self._call
        around = call.context.flow_context
        try:
            key = _compute(self._policy, call, around.parameters if around is not None else None)
            if key is None:
                self._why_not = "it has no cache key"
            elif isinstance(key, str):
                self._key = cache_policies.address(self._policy, call.task, key)
            else:
                raise TypeError(f"A cache key is a string or None; got {key!r}.")
        except Exception as error:
            self._why_not = f"its cache key can't be computed: {describe(error)}"
            logs.note(call.context, logs.ERROR, f"{_NO_KEY} {describe(error)}", error)
            self._keeping.forgo()

    # Looking.

    def _skip(self) -> None:
        self._why_not = "it is to be refreshed"

    @crash_points_around("engine.cache")
    def _look(self) -> _Hit | None:
        assert self._key is not None
        staged = self._group.found.get(self._key) if self._group is not None else None
        entry: Entry | None = None
        try:
            entry = self._index.find(self._key) if staged is None else Entry(staged, None, "")
            if entry is None:
                self._why_not = "nothing was found under its cache key"
                return None
            if entry.expires_us is not None and entry.expires_us <= clock.now_us():
                self._why_not = f"what was found under its cache key expired at {clock.to_datetime(entry.expires_us)}"
                return None
            value = entry.kept.load()
        except HistoryError:
            raise
        except Exception as error:
            self._why_not = f"what was found under its cache key can't be used: {describe(error)}"
            self._tell(entry, error)
            return None
        origin = f", computed by {entry.origin!r}" if entry.origin else ""
        return _Hit(entry.kept, value, f"a result was found under its cache key{origin}")

    def _tell(self, entry: Entry | None, error: Exception) -> None:
        """Say once that a result is damaged or gone, however many calls find it so."""
        number = entry.kept.result if entry is not None else 0
        told = _told.setdefault(history.current(), set())
        if number and number in told:
            return
        told.add(number)
        logs.note(
            self._call.context, logs.WARNING, f"The cached result can't be used, so the task runs: {describe(error)}"
        )

    def _take(self, hit: _Hit) -> State:
        call = self._call
        kept = hit.kept.shared() if hit.kept.is_held else hit.kept
        kept.inputs = self._keeping.makings()
        self._keeping.hold_back(kept)
        self._keeping.judge(CACHED, hit.reason)
        state = State(COMPLETED, "Cached", data=hit.value if self._keeping.in_memory else kept)
        state.kept = kept
        transitions.enter(call.run, state)
        self._keeping.ended(state)
        return state

    # Letting others find the new value.

    def mark(self, kept: KeptValue) -> None:
        """See that the value, which is about to be recorded, is found under the key."""
        if self._key is None:
            return
        expiration = self._call.task.cache_expiration
        self._expires_us = None if expiration is None else clock.now_us() + int(expiration.total_seconds() * 1_000_000)
        if self._policy.key_storage is None:
            kept.cached = (self._key, self._expires_us)

    def settled(self, kept: KeptValue) -> Life[None]:
        """Let others find the value, now that it is durable; if it is staged in a transaction, those in it, and others later."""
        if self._key is None:
            return
        publish = partial(self._index.publish, self._key, kept, self._expires_us, self._call.run.name)
        node = self._call.context.transaction
        if kept.is_held and node is not None:
            self._stage(node, kept, publish)
            return
        if self._policy.key_storage is not None:
            yield Block(partial(self._publish, publish))
        yield from self.letting_go()

    def _publish(self, publish: Callable[[], None]) -> None:
        try:
            publish()
        except Exception as error:
            logs.note(self._call.context, logs.WARNING, f"The cache key could not be stored: {describe(error)}")

    def _stage(self, node: Any, kept: KeptValue, publish: Callable[[], None]) -> None:
        assert self._key is not None
        node.published.append(publish)
        group = self._group
        if group is not None:
            found, key = group.found, self._key
            found[key] = kept
            node.undone.append(lambda: found.pop(key, None) if found.get(key) is kept else None)
        if self._lock is not None:
            self._is_staged = True
            node.last.append(self._lock.release)
            self._lock.stage()

    def letting_go(self) -> Life[None]:
        """Let go of the lock, unless a transaction does that when it ends."""
        if self._lock is not None and not self._is_staged:
            yield from of_moments(self._lock.releasing())

    def held_up_by(self) -> tuple[str, int] | None:
        """Return the key whose lock the call waits for and who has it, as `KeyLock.held_up_by` does; None if it does not wait for one."""
        lock = self._lock
        uid = lock.held_up_by() if lock is not None else None
        return (lock.key, uid) if lock is not None and uid is not None else None

    def let_go(self) -> None:
        """Do the same on this thread, at once."""
        if self._lock is not None and not self._is_staged:
            self._lock.release()


@deadlines.door
def _compute(policy: CachePolicy, call: TaskCall, flow_parameters: dict[str, Any] | None) -> str | None:
    token = context.enter(call.context)
    try:
        return policy.compute_key(call.context, call.context.parameters, flow_parameters)
    finally:
        context.leave(token)


def caching_of(call: TaskCall) -> Caching | None:
    """Return the cache of a call, or None if it has none."""
    policy = call.task.caching_policy if call.keeping is not None else None
    if policy is None or call.keeping is None:
        return None
    call.keeping.is_placed = policy.key_storage is not None
    return Caching(call, call.keeping, policy)
