"""The value of one call: an earlier one is looked for before the body runs, and a new one kept when it has ended.

A call that is known again (see `identity`) takes the run over that it was in an earlier attempt of its flow run, with its name and
number. If that completed, its value was kept, and its inputs are the ones it was computed from, the call is over: nothing runs. If not, the
run gets a further attempt. A late call, which is known only when its inputs are there, has a run of its own by then, and takes the value.

Until that is decided, a run with a value shows Pending, and nothing of this is recorded: if the flow run ends meanwhile, the call ends
too, but what it was still stands in the history, for the next attempt.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from prefect_core import clock, history, logs
from prefect_core.context import RunContext, TaskRunContext
from prefect_core.crash_points import crash_point
from prefect_core.engine import transitions
from prefect_core.engine.ledger import Earlier, Ledger
from prefect_core.engine.paths import Place, counter_of, identity_of, ledger_of, may_be_made_again, path_of
from prefect_core.engine.steps import Block, Life, Wait
from prefect_core.engine.storing import order_for, storing
from prefect_core.engine.storing_afar import Order, StoredAfar
from prefect_core.errors import SerializationError, StorageError, describe
from prefect_core.history.verdicts import AGAIN, ROLLED_BACK, TAKEN
from prefect_core.identity import CallIdentity
from prefect_core.references import Reference
from prefect_core.results.kept import KeptValue, Remembered
from prefect_core.results.rules import Plan, outermost
from prefect_core.runs import FlowRun, TaskRun
from prefect_core.state_kinds import COMPLETED, FAILED, PENDING
from prefect_core.states import State, is_collection_of_states
from prefect_core.stored import Kept, Stored

_NEVER = (0,)
"""Provenance of a value that can't be used again: no result has number 0."""
ROLLED_BACK_REASON = "the transaction that it took part in was rolled back"
_UNCHANGEABLE: frozenset[type] = frozenset({type(None), bool, int, float, complex, str, bytes})
"""Of these the very object may be given again; of others, whoever had it may have changed it."""

if TYPE_CHECKING:
    from prefect_core.storage import StorageSpec
    from prefect_core.waiting import Signal


class Keeping:
    """What is done with the value of one call of a task or flow."""

    __slots__ = (
        "_code",
        "_judged_us",
        "_ledger",
        "_parent",
        "_plan",
        "_refreshes",
        "_remembers",
        "_stores",
        "_withheld",
        "context",
        "earlier",
        "identity",
        "is_placed",
        "run",
        "was_taken",
    )

    def __init__(self, plan: Plan, parent: RunContext | None, code: bytes | None, refreshes: bool) -> None:
        self._plan = plan
        self._stores = plan.stores
        self.is_placed = False
        """Whether the value has to be an object, for others to find it there."""
        self._judged_us = 0
        # In a flow that is tried again, all calls are remembered.
        self._remembers = plan.remembers or (plan.stores and may_be_made_again(parent))
        self._ledger: Ledger | None = ledger_of(parent)
        self._parent = parent
        self._code = code
        self._refreshes = refreshes
        self.identity: CallIdentity | None = None
        self.earlier: Earlier | None = None
        self._withheld: State | None = None
        self.was_taken = False
        self.run: TaskRun
        self.context: RunContext

    # When the call is made.

    def identify(self, place: Place, key: str | None, parameters: dict[str, Any], wait_for: Any) -> None:
        """Find out by what the call is known; `parameters` have their futures pinned. Outside of flows it is known by nothing."""
        path = path_of(place[0])
        if path is not None:
            self.identity = identity_of(path, place, key, parameters, wait_for)

    def adopt(self, flow_run: FlowRun | None) -> TaskRun | None:
        """Return the task run that this call was in an earlier attempt of its flow run, or None."""
        identity, ledger = self.identity, self._ledger
        if identity is None or identity.value is None or ledger is None:
            return None
        self.earlier = ledger.find(identity.value, flow_run)
        if self.earlier is None:
            return None
        run = self.earlier.run
        run.identity = identity
        if self.earlier.kept is not None:
            self._withheld = transitions.withhold(run)
        return run

    @property
    def is_undecided(self) -> bool:
        """Whether the call is one with a value, and nobody knows yet if that still stands."""
        return self._withheld is not None

    def open(self, run: TaskRun | None, around: RunContext) -> None:
        """Begin with the call's task run, new or adopted; None for a flow run that no other called."""
        self.context = around
        if run is None:
            return
        self.run = run
        run.identity = self.identity
        if self.earlier is None or self.earlier.code != self._code:
            self._record_identity()
        if self.earlier is not None and self.earlier.kept is None:
            is_complete = run.state.type is COMPLETED
            self.run_again("nothing is stored of its value" if is_complete else f"it had ended {run.state}")

    def _record_identity(self) -> None:
        identity = self.identity
        if identity is not None and self._plan.stores and (identity.value is not None or identity.problem is not None):
            history.current().noted([("identity", identity.row(self.run.key, self._code))])

    # When its inputs are there.

    def reuse(self) -> Life[State | None]:
        """Return the state of an earlier execution that stands for this one, or None if the body has to run."""
        identity = self.identity
        if identity is None:
            return None
        if identity.is_late:
            identity.settle(counter_of(self._parent))
            self._record_identity()
            if identity.value is not None and self._ledger is not None:
                self.earlier = self._ledger.find(identity.value, self.run.flow_run)
        identity.trace()
        earlier = self.earlier
        if earlier is None or earlier.kept is None:
            return None
        reason = self._why_not(earlier.kept, identity)
        if reason is None:
            value, reason = yield from self._value_of(earlier, earlier.kept)
            if reason is None:
                return self._take(earlier, value)
        self.run_again(reason)
        return None

    def _why_not(self, kept: Kept, identity: CallIdentity) -> str | None:
        if self._refreshes:
            return "it is to be refreshed"
        if identity.makings is None:
            return "the value of an input can't be told from others"
        if identity.makings != kept.inputs:
            return f"{identity.first_changed_input(kept.inputs)} was made anew"
        return None

    def _value_of(self, earlier: Earlier, kept: Kept) -> Life[tuple[Any, str | None]]:
        """Return the value as it was made, and None, or why it can't be had."""
        value = earlier.state.data
        if type(value) in _UNCHANGEABLE:
            return value, None
        if isinstance(kept, Remembered):
            return value, None if kept.is_still(value) else "its value was changed since it was made"
        assert isinstance(kept, KeptValue)
        try:
            value = kept.load() if kept.is_inside else (yield Block(kept.load))
        except Exception as error:
            logs.note(
                self.context,
                logs.WARNING,
                f"The stored result of {earlier.run.name!r} can't be used, so it runs again: {describe(error)}",
            )
            return None, f"its stored result can't be used: {describe(error)}"
        return value if self.in_memory else kept, None

    def _take(self, earlier: Earlier, value: Any) -> State:
        # Made for this run alone, or it has the value already.
        state = earlier.state
        if self._withheld is None:
            state = State(COMPLETED, state.name, f"Taken over from {earlier.run.name!r}.")
        state.data, state.kept = value, earlier.kept
        crash_point("keeping.before_takeover")
        if self._withheld is not None:
            transitions.show(self.run, state, self._withheld)
            self._withheld = None
        else:
            transitions.enter(self.run, state)
        self.was_taken = True
        reason = f"completed as {earlier.run.name!r} in an earlier attempt, with the same inputs"
        if earlier.code != self._code:
            reason += "; its body has changed since"
            logs.note(
                self.context,
                logs.WARNING,
                f"The body of {self.run.task_name!r} has changed since its result was stored, and that is taken over; "
                "with refresh_cache=True it runs again.",
            )
        self.judge(TAKEN, reason)
        self.ended(state)
        return state

    def run_again(self, reason: str) -> None:
        """Let the run of an earlier attempt have another one."""
        earlier = self.earlier
        if earlier is not None and earlier.run is self.run:
            withheld, self._withheld = self._withheld, None
            transitions.reopen(self.run, State(PENDING, message=f"Runs again: {reason}."), withheld or earlier.state)
        self.judge(AGAIN, reason)

    def leave(self, state: State) -> bool:
        """Let a call that is undecided end in `state` for this attempt of its flow run, unrecorded; False for any other call.

        Raises `RunIsOver` if it has ended by now.
        """
        withheld, identity = self._withheld, self.identity
        if withheld is None:
            return False
        transitions.show(self.run, state, withheld)
        assert identity is not None
        assert identity.value is not None
        if self._ledger is not None and self.earlier is not None:
            self._ledger.remember(identity.value, self.earlier)
        return True

    def judge(self, verdict: str, reason: str) -> None:
        """Record whether an earlier result was used, and why."""
        # Verdicts of a run never share a moment, by which they are told apart.
        self._judged_us = max(clock.now_us(), self._judged_us + 1)
        # A flow run that no other called has no task run that stands for it.
        run = (
            self.run
            if self.context.parent is not None or isinstance(self.context, TaskRunContext)
            else self.context.run
        )
        history.current().noted([("verdict", (run.key, self._judged_us, verdict, reason))])

    # When its body has ended.

    @property
    def in_memory(self) -> bool:
        """Whether the state holds the value, and not only where it is stored."""
        return self._plan.in_memory

    @property
    def named_storage(self) -> StorageSpec | None:
        """Where the value is to be stored, if it is and somebody named a place."""
        return self._plan.named_storage if self._stores else None

    def makings(self) -> tuple[int, ...]:
        """Return from which makings of its inputs the value is computed."""
        makings = self.identity.makings if self.identity is not None else None
        return _NEVER if makings is None else makings

    def forgo(self) -> None:
        """Store nothing after all, if it was only to be stored for a cache key, which can't be had."""
        scope = self.context.parent.scope if self.context.parent is not None else None
        if isinstance(self.context, TaskRunContext) and self.context.task.stores_for_cache:
            self._stores = (scope or outermost()).persists

    def hold_back(self, kept: Kept) -> None:
        """Let the transaction around the call, if there is one, decide whether the value is kept."""
        node = self.context.transaction
        if node is not None:
            if isinstance(kept, KeptValue):
                node.hold(kept)
            node.undone.append(self._undo)

    def _undo(self) -> None:
        self.judge(ROLLED_BACK, ROLLED_BACK_REASON)
        identity, ledger = self.identity, self._ledger
        if self._remembers and identity is not None and identity.value is not None and ledger is not None:
            ledger.remember(identity.value, Earlier(self.run, self.run.state, None, self._code))

    def order(self) -> Order | None:
        """Return what the place that makes the value may store of it; None for nothing. Raises what says why nothing can be stored."""
        if not self._stores or self.context.transaction is not None:
            # What a transaction holds back is written when it commits.
            return None
        return order_for(self._plan, self.context, is_placed=self.is_placed)

    @property
    def needs_inputs_here(self) -> bool:
        """Whether the values of the inputs are looked at before the body gets them."""
        return self._plan.key_template is not None

    def knows_makings(self, states: Iterable[State]) -> bool:
        """Tell whether inputs are known without their values."""
        identity = self.identity
        return identity is None or (not identity.is_late and all(state.kept is not None for state in states))

    def _have(self, state: State, kept: KeptValue) -> State:
        kept.inputs = self.makings()
        state.kept = kept
        self.hold_back(kept)
        if not self.in_memory:
            state.data = kept
        return state

    def keep(self, state: State, afar: StoredAfar | None = None) -> Life[State]:
        """Return the completed state with its value kept, or the state that says why that failed.

        `afar` is what the place that made the value has stored of it.
        """
        value = state.data
        if isinstance(value, State) or is_collection_of_states(value):
            # What other runs gave is theirs to keep.
            return state
        if isinstance(value, Reference):
            known = None if afar is None else (yield from afar.kept(self.context))
            if known is not None:
                value.store_as(known)
                crash_point("keeping.before_state")
                return self._have(state, known)
            try:
                value = state.data = yield Block(value.load)
            except Exception as error:
                return State(FAILED, None, f"The result could not be fetched: {describe(error)}", data=error)
        if not self._stores:
            state.kept = Remembered(value, self.makings())
            self.hold_back(state.kept)
            return state
        crash_point("keeping.before_object")
        try:
            later = self.context.transaction is not None
            kept = yield from storing(self._plan, self.context, value, is_placed=self.is_placed, later=later)
        except Exception as error:
            return State(FAILED, None, f"The result could not be stored: {describe(error)}", data=error)
        crash_point("keeping.before_state")
        return self._have(state, kept)

    def store_aside(self, value: Any) -> Life[KeptValue | None]:
        """Store something that is not the call's value; None if nothing is stored, or it can't be."""
        if not self._plan.stores:
            return None
        try:
            # Not under the key that the user chose for results.
            return (yield from storing(self._plan, self.context, value, suffix=".parameters"))
        except (StorageError, SerializationError) as error:
            logs.note(self.context, logs.WARNING, f"The parameters could not be stored: {describe(error)}")
            return None

    def settled(self, state: State, over: Signal | None) -> Life[None]:
        """Wait until the value of a completed run is durable, before anybody hears of it. `over` tells whether its body runs on."""
        kept = state.kept
        if isinstance(kept, KeptValue) and not kept.is_held:
            crash_point("keeping.after_state")
            done = history.current().durable()
            yield Wait([done], shield=True)
            if done.error is not None:
                logs.note(self.context, logs.WARNING, f"A result could not be recorded: {done.error}")
            crash_point("keeping.before_ack")
        if over is None or over.done():
            self.ended(state)

    def ended(self, state: State) -> None:
        """Remember the call for a later attempt in this process, if there may be one."""
        identity, kept = self.identity, state.kept
        if (
            isinstance(kept, KeptValue)
            and not (kept.is_held or isinstance(state.data, Stored))
            and (not self._remembers or type(state.data) in _UNCHANGEABLE)
        ):
            # The state has the value, and no later attempt in this process will ask for another copy.
            kept.let_go_of_bytes()
        if identity is None:
            return
        if self._remembers and identity.value is not None and self._ledger is not None:
            self._ledger.remember(identity.value, Earlier(self.run, state, state.kept, self._code))
        identity.let_go()
