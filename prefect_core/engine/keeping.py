"""The value of one call: an earlier one is looked for before the body runs, and a new one kept when it has ended.

A call that is known again (see `identity`) takes the run over that it was in an earlier attempt of its flow run, with its name and
number. If that completed, its value was kept, and its inputs are the ones it was computed from, the call is over: nothing runs. If not, the
run gets a further attempt. A late call, which is known only when its inputs are there, has a run of its own by then, and takes the value.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any

from prefect_core import clock, context, history, ids, logs, runtime
from prefect_core.context import FlowRunContext, RunContext, TaskRunContext
from prefect_core.engine import transitions
from prefect_core.engine.ledger import Earlier, Ledger
from prefect_core.engine.steps import Block, Life, Wait
from prefect_core.errors import NotEncodable, SerializationError, StorageError, describe
from prefect_core.history.stored import AGAIN, TAKEN
from prefect_core.identity import CallIdentity, code_of, root_path, site_of
from prefect_core.results.kept import KeptValue, Remembered
from prefect_core.results.rules import Plan, Scope, outermost
from prefect_core.runs import FlowRun, Run, TaskRun
from prefect_core.serializers import describe_unserializable
from prefect_core.settings import current as settings
from prefect_core.state_kinds import COMPLETED, FAILED, PENDING
from prefect_core.states import NO_DATA, State, is_collection_of_states
from prefect_core.storage import check_key
from prefect_core.stored import Kept

_NEVER = (0,)
"""Provenance of a value that can't be used again: no result has number 0."""

if TYPE_CHECKING:
    from prefect_core.engine.flow_call import FlowCall
    from prefect_core.engine.task_call import TaskCall

_naming = threading.RLock()


class Keeping:
    """What is done with the value of one call of a task or flow."""

    __slots__ = (
        "_code",
        "_count",
        "_ledger",
        "_plan",
        "_refreshes",
        "_remembers",
        "context",
        "earlier",
        "identity",
        "run",
        "was_taken",
    )

    def __init__(self, plan: Plan, parent: RunContext | None, code: bytes | None, refreshes: bool) -> None:
        self._plan = plan
        # A task that is tried again calls what it called before; in a flow that does, all calls are remembered.
        is_tried_again = isinstance(parent, TaskRunContext) and parent.task.retries > 0
        self._remembers = plan.remembers or (plan.stores and is_tried_again)
        self._ledger: Ledger | None = ledger_of(parent)
        self._count = counter_of(parent)
        self._code = code
        self._refreshes = refreshes
        self.identity: CallIdentity | None = None
        self.earlier: Earlier | None = None
        self.was_taken = False
        self.run: TaskRun
        self.context: RunContext

    # When the call is made.

    def identify(self, place: Place, key: str | None, parameters: dict[str, Any], wait_for: Any) -> None:
        """Find out by what the call is known; `parameters` have their futures pinned. Outside of flows it is known by nothing."""
        path = path_of(place[0])
        if path is not None:
            self.identity = _identity_of(path, place, key, parameters, wait_for)

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
        return run

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
            identity.settle(self._count)
            self._record_identity()
            if identity.value is not None and self._ledger is not None:
                self.earlier = self._ledger.find(identity.value, self.run.flow_run)
        if self.earlier is None or self.earlier.kept is None:
            return None
        reason = self._why_not(self.earlier.kept, identity)
        if reason is None:
            taken = yield from self._take(self.earlier)
            if isinstance(taken, State):
                self._ended(taken)
                return taken
            reason = taken
        self.run_again(reason)
        return None

    def _why_not(self, kept: Kept, identity: CallIdentity) -> str | None:
        if self._refreshes:
            return "it is to be refreshed"
        now = identity.provenance()
        if now is None:
            return "an input did not complete"
        if now != kept.inputs:
            return f"{identity.first_changed_input(kept.inputs)} was made anew"
        return None

    def _take(self, earlier: Earlier) -> Life[State | str]:
        """Return the state that has the earlier value, or why that can't be had."""
        before, kept = earlier.run.state, earlier.kept
        assert kept is not None
        value = before.data
        if isinstance(kept, KeptValue) and (value is NO_DATA or isinstance(value, KeptValue)):
            try:
                value = kept.load() if kept.is_inside else (yield Block(kept.load))
            except Exception as error:
                logs.note(
                    self.context,
                    logs.WARNING,
                    f"The stored result of {earlier.run.name!r} can't be used, so it runs again: {describe(error)}",
                )
                return f"its stored result can't be used: {describe(error)}"
            if not self._plan.in_memory:
                value = kept
        reason = f"completed as {earlier.run.name!r} in an earlier attempt, with the same inputs"
        if earlier.code != self._code:
            reason += "; its body has changed since"
            logs.note(
                self.context,
                logs.WARNING,
                f"The body of {self.run.task_name!r} has changed since its result was stored, and that is taken over; "
                "with refresh_cache=True it runs again.",
            )
        self.was_taken = True
        self._judge(TAKEN, reason)
        return self._state_taken(earlier.run, kept, value)

    def _state_taken(self, before: TaskRun, kept: Kept, value: Any) -> State:
        if before is not self.run:
            state = State(COMPLETED, message=f"Taken over from {before.name!r}.", data=value)
            state.kept = kept
            return transitions.enter(self.run, state)
        state = State(COMPLETED, before.state.name, before.state.message, data=value)
        state.kept = kept
        return transitions.take_over(self.run, state)

    def run_again(self, reason: str) -> None:
        """Let the run of an earlier attempt have another one."""
        earlier = self.earlier
        if earlier is not None and earlier.run is self.run:
            transitions.reopen(self.run, State(PENDING, message=f"Runs again: {reason}."))
        self._judge(AGAIN, reason)

    def give_up(self) -> None:
        """Take note that an input did not complete, so that what the call was in an earlier attempt no longer stands."""
        if self.earlier is not None and self.earlier.kept is not None:
            self.run_again("an input did not complete")

    def _judge(self, verdict: str, reason: str) -> None:
        history.current().noted([("verdict", (self.run.key, clock.now_us(), verdict, reason))])

    # When its body has ended.

    def keep(self, state: State) -> Life[State]:
        """Return the completed state with its value kept, or the state that says why that failed."""
        value = state.data
        if isinstance(value, State) or is_collection_of_states(value):
            # What other runs gave is theirs to keep.
            return state
        makings = self.identity.provenance() if self.identity is not None else None
        inputs = _NEVER if makings is None else makings
        if not self._plan.stores:
            state.kept = Remembered(inputs)
            return state
        try:
            state.kept = kept = yield from self._store(value, inputs, self._object_key)
        except (StorageError, SerializationError, KeyError, TypeError, ValueError) as error:
            return State(FAILED, None, f"The result could not be stored: {describe(error)}", data=error)
        if not self._plan.in_memory:
            state.data = kept
        return state

    def _store(self, value: Any, inputs: tuple[int, ...], object_key: Callable[[], str]) -> Life[KeptValue]:
        plan = self._plan
        serializer = plan.serializer
        try:
            pieces = serializer.dump(value)
        except Exception as failure:
            raise SerializationError(
                f"The result of {self.context.run.name!r} can't be stored: {describe_unserializable(serializer, value, failure)}"
            ) from failure
        kept = KeptValue(history.current().new_key(), serializer.spec(), inputs)
        if sum(memoryview(piece).nbytes for piece in pieces) <= plan.most_inside:
            kept.put_inside(pieces)
        else:
            storage, key = plan.storage, check_key(object_key())
            written = yield Block(partial(storage.write, key, pieces))
            kept.put_outside(storage.url, key, written)
        return kept

    def store_aside(self, value: Any) -> Life[KeptValue | None]:
        """Store something that is not the call's value; None if nothing is stored, or it can't be."""
        if not self._plan.stores:
            return None
        try:
            # Not under the key that the user chose for results.
            return (yield from self._store(value, (), lambda: f"{self._own_key()}.parameters"))
        except (StorageError, SerializationError) as error:
            logs.note(self.context, logs.WARNING, f"The parameters could not be stored: {describe(error)}")
            return None

    def _own_key(self) -> str:
        run = self.context.run
        flow_run = run if isinstance(run, FlowRun) else run.flow_run
        root = flow_run.root if flow_run is not None else run
        return f"{ids.as_text(root.uid)}/{ids.as_text(run.uid)}.{run.attempt}"

    def _object_key(self) -> str:
        if self._plan.key_template is None:
            return self._own_key()
        token = context.enter(self.context)
        try:
            return self._plan.key_template.format(
                flow_run=runtime.flow_run, task_run=runtime.task_run, parameters=self.context.parameters
            )
        finally:
            context.leave(token)

    def settled(self, state: State) -> Life[None]:
        """Wait until the value of a completed run is durable, before anybody hears of it."""
        if state.kept is not None and self._plan.stores:
            done = history.current().durable()
            yield Wait([done], shield=True)
            if done.error is not None:
                logs.note(self.context, logs.WARNING, f"A result could not be recorded: {done.error}")
        self._ended(state)

    def _ended(self, state: State) -> None:
        identity = self.identity
        if identity is None:
            return
        if self._remembers and identity.value is not None and self._ledger is not None:
            self._ledger.remember(identity.value, Earlier(self.run, state.kept, self._code))
        identity.let_go()


def default_scope() -> Scope | None:
    """Return the scope of calls outside of all runs: None unless results are stored by default."""
    return outermost() if settings().results_persist_by_default else None


def keeping_of_task(call: TaskCall, parameters: dict[str, Any], wait_for: Any, key: str | None) -> Keeping | None:
    """Return what is done with the value of a call of a task, identified; None if nothing is."""
    task, parent = call.task, call.parent
    scope = (parent.scope if parent is not None else None) or outermost()
    plan = scope.plan(task.result_rules)
    if plan is None or task.is_generator or not _has_history(parent):
        return None
    keeping = Keeping(plan, parent, task.code, task.refreshes_cache)
    pinned = parameters if call.upstreams is None else call.upstreams.pinned(task.binder)
    keeping.identify((parent, task.task_key, task.fn), key or task.key, pinned, wait_for)
    return keeping


def keeping_of_flow(call: FlowCall, parameters: dict[str, Any], wait_for: Any) -> Keeping | None:
    """Return what is done with the value of a call of a flow; None if nothing is."""
    flow, parent = call.flow, call.parent
    scope = (parent.scope if parent is not None else None) or outermost()
    plan = scope.plan(flow.result_rules)
    if plan is None or flow.is_generator or not _has_history(parent):
        return None
    keeping = Keeping(plan, parent, None, False)
    pinned = parameters if call.upstreams is None else call.upstreams.pinned(flow.binder)
    keeping.identify((parent, flow.flow_key, flow.fn), None, pinned, wait_for)
    return keeping


def _has_history(parent: RunContext | None) -> bool:
    return parent is None or parent.dispatcher is None or parent.dispatcher.keeps_results


def ledger_of(around: RunContext | None) -> Ledger | None:
    """Return the ledger of the root flow run that a call is made in."""
    flow_context = around.flow_context if isinstance(around, TaskRunContext) else around
    return flow_context.ledger if flow_context is not None else None


def counter_of(around: RunContext | None) -> Callable[[Hashable], int]:
    """Return what numbers equal calls in this attempt of the run around."""
    attempt = around.run.attempt if isinstance(around, TaskRunContext) else 0

    def count(calls: Hashable) -> int:
        number: int = around.dispatcher.next_index((calls, attempt)) if around is not None else 0
        return number

    return count


def path_of(around: RunContext | None) -> bytes | None:
    """Return the identity of the run that a call is made in; None where there is no flow run around, or it can't be known again."""
    if around is None or ledger_of(around) is None:
        return None
    run: Run | None = around.run
    if isinstance(run, FlowRun):
        if run.parent_flow_run is None:
            return root_path(run.uid)
        run = run.parent_task_run
    assert isinstance(run, TaskRun)
    if run.identity is None:
        _identify(run, around)
    assert run.identity is not None
    return run.identity.value


def _identify(run: TaskRun, around: RunContext) -> None:
    """Find out by what a run is known of which nothing is kept, now that a call inside it asks."""
    with _naming:
        if run.identity is not None:
            return
        path = path_of(around.parent)
        if isinstance(around, FlowRunContext):
            place = (around.parent, around.flow.flow_key, around.flow.fn)
        else:
            place = (around.parent, around.task.task_key, around.task.fn)
        run.identity = _identity_of(path, place, None, around.parameters, None)


Place = tuple[RunContext | None, str, Any]
"""The run that a call is made in, and the key and function of what is called."""


def _identity_of(
    path: bytes | None, place: Place, key: str | None, parameters: dict[str, Any], wait_for: Any
) -> CallIdentity:
    parent, task_key, function = place
    problem, code = None, None
    try:
        code = code_of(function)
    except NotEncodable as error:
        problem = f"what the function closes over can't be told from other things: {error}"
    identity = CallIdentity(site_of(path or b"", task_key, code), key)
    identity.problem = problem if path is not None else "the run that it was made in can't be known again"
    if identity.problem is None:
        identity.take(parameters, wait_for, counter_of(parent))
    return identity
