"""One call of a task, from its arguments to the end of its run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prefect_core import context, history, logs
from prefect_core.context import RunContext, TaskRunContext
from prefect_core.engine import cancels, transitions
from prefect_core.engine.caching import Caching, caching_of
from prefect_core.engine.gates import Held
from prefect_core.engine.hooks import call_hooks_now
from prefect_core.engine.keeping import Keeping
from prefect_core.engine.kept_calls import default_scope, keeping_of_task
from prefect_core.engine.remaking import Remaking
from prefect_core.engine.transitions import enter
from prefect_core.engine.upstreams import HeldInputs, Promised, bundle_of, held_inputs, of_call
from prefect_core.futures import PrefectFuture
from prefect_core.limits import limited
from prefect_core.payload import Payload, Receipt
from prefect_core.results.rules import outermost
from prefect_core.runs import FlowRun, TaskRun
from prefect_core.state_kinds import CANCELLING, CRASHED, PENDING, RUNNING, SCHEDULED, StateType
from prefect_core.states import State
from prefect_core.transactions import RunTransaction, enclosing
from prefect_core.waiting import Signal

if TYPE_CHECKING:
    from prefect_core.engine.bundles import Bundle
    from prefect_core.engine.dispatcher import Dispatcher
    from prefect_core.engine.slots import TagSlots
    from prefect_core.references import Reference
    from prefect_core.task_runners import TaskRunner
    from prefect_core.tasks import Task


class TaskCall:
    """One call of a task, from its arguments to the end of its run."""

    __slots__ = (
        "args",
        "bundle",
        "caching",
        "context",
        "crashes",
        "earlier_count",
        "expectant",
        "give_back",
        "has_returned",
        "held",
        "is_handed_over",
        "is_hurried",
        "is_submitted",
        "keeping",
        "kwargs",
        "linked_in",
        "origin",
        "parent",
        "payload",
        "run",
        "runner",
        "slots",
        "taker",
        "task",
        "upstreams",
        "variables",
    )

    def __init__(
        self,
        task: Task[Any, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait_for: Any,
        parent: RunContext | None,
        key: str | None = None,
    ) -> None:
        """Make the run. `key` is by what the call is known again, in place of its arguments."""
        if parent is not None and parent.run.state.type is CANCELLING:
            cancels.end_body_of(parent)
        parameters = task.binder.bind(args, kwargs)
        self.task = task
        self.args = args
        self.kwargs = kwargs
        if task.binder.has_fields:
            self.args, self.kwargs = task.binder.arguments(parameters)
        self.parent = parent
        self.taker: Dispatcher | None = None
        """What it is submitted to; or, called directly, what takes note of it while it is under way."""
        self.is_submitted = False
        self.is_hurried = False
        self.variables: Any = None
        self.runner: Any = None
        self.payload: Payload | None = None
        self.give_back: Callable[[Receipt], object] | None = None
        """What is called, in place of its runner, when a payload was taken back from that."""
        self.bundle: Bundle | None = None
        self.slots: TagSlots | None = None
        """What the attempt under way holds, or waits for, since its tags have a limit."""
        self.held: HeldInputs | None = None
        self.origin: Remaking | None = None
        """How its value is made again, should the runner that holds it lose it."""
        self.upstreams = of_call(args, kwargs, parameters, wait_for, parent, task.name)
        self.keeping: Keeping | None = None
        self.caching: Caching | None = None
        if task.result_rules is not None or (parent.scope if parent is not None else default_scope()) is not None:
            self.keeping = keeping_of_task(self, parameters, wait_for, key)
        self._open(parameters)

    def _open(self, parameters: dict[str, Any]) -> None:
        """Make the run, what counts its attempts, and what tells where they are."""
        self.linked_in: Bundle | None = None
        """Where its inputs are gathered, which it was given as links, until it has joined them."""
        self.is_handed_over = False
        """Whether its runner, or what gathers calls for that, has had an attempt."""
        self.expectant: list[Signal] = []
        """What waits for that."""
        self.run = self._open_run(parameters)
        self.earlier_count = self.run.run_count
        self.crashes = 0
        """How many attempts were lost with their place and made again for that (`retries_on_crash`)."""
        self.has_returned = False
        """Whether the body of the last attempt ended by returning."""
        self.caching = caching_of(self)

    def _open_run(self, parameters: dict[str, Any]) -> TaskRun:
        task, parent, keeping = self.task, self.parent, self.keeping
        flow_context = parent.flow_context if isinstance(parent, TaskRunContext) else parent
        flow_run = flow_context.flow_run if flow_context is not None else None
        run = keeping.adopt(flow_run) if keeping is not None else None
        if run is None:
            run = self._new_run(flow_run)
        if isinstance(parent, TaskRunContext):
            run.parent_task_run = parent.task_run
        if self.upstreams is not None:
            run.inputs = self.upstreams.edges
        self.context = TaskRunContext(task, run, parameters, task.logs_prints(parent), parent)
        block = enclosing(parent)
        if block is not None or task.has_transaction_hooks:
            self.context.transaction = RunTransaction(block, self.context)
        if keeping is not None:
            self._open_kept(keeping, run)
        else:
            history.current().created(run)
            logs.task_created(self.context)
        return run

    def _open_kept(self, keeping: Keeping, run: TaskRun) -> None:
        scope, task = self.context.scope, self.task
        if task.result_rules is not None:
            self.context.scope = (scope or outermost()).inside(task.result_rules)
        if keeping.earlier is None:
            history.current().created(run)
            logs.task_created(self.context)
        keeping.open(run, self.context)

    def _new_run(self, flow_run: FlowRun | None) -> TaskRun:
        task, parent = self.task, self.parent
        dispatcher = parent.dispatcher if parent is not None else None
        index = dispatcher.next_index(task.name) if dispatcher is not None else 0
        tags = context.current_tags()
        all_tags = tags | task.tags if tags else task.tags
        return TaskRun(State(PENDING), task.name, task.task_key, flow_run, index, all_tags)

    @property
    def tries(self) -> int:
        """How many attempts began since the call was made that count against `retries`; a run that is known again had others before."""
        return self.run.run_count - self.earlier_count - self.crashes

    def still_open(self) -> list[PrefectFuture[Any]]:
        """Return the inputs that are still under way."""
        upstreams = self.upstreams  # another thread may resolve them meanwhile
        return upstreams.still_open() if upstreams is not None else []

    def loop_needed(self) -> object | None:
        """Return the event loop that this call can't go on without, as its runner says once it has it."""
        runner, payload = self.runner, self.payload
        needed: object | None = runner.loop_needed(payload) if runner is not None and payload is not None else None
        return needed

    def promise(self, home: Any) -> Reference | None:
        """Return where the value of the attempt under way will lie; None if `home`, a runner, has no such attempt."""
        payload = self.payload
        if payload is None or self.runner is not home:
            return None
        reference: Reference | None = home.reference_to(payload)
        if reference is not None:
            self.take_credit_for(reference)
        return reference

    def gathered_in(self) -> Bundle | None:
        """Return what gathers the attempt under way at this moment, if what depends on it may join it there."""
        payload, bundle = self.payload, self.bundle
        return bundle if payload is not None and bundle is not None and bundle.may_be_joined(payload) else None

    def handed_over_or(self, end: PrefectFuture[Any]) -> Signal:
        """Return what fires when an attempt is handed over, or at `end`; the latter, if one was already."""
        if self.is_handed_over:
            return end
        signal = Signal()
        end.add_done_callback(lambda _: signal.fire())
        # In this order, and the other way round in `tell_handed_over`.
        self.expectant.append(signal)
        if self.is_handed_over:
            signal.fire()
        return signal

    def tell_handed_over(self) -> None:
        """Take note that an attempt is handed over."""
        self.is_handed_over = True
        expectant, self.expectant = self.expectant, []
        for signal in expectant:
            signal.fire()

    def take_credit_for(self, reference: Reference) -> None:
        """Be the origin of a value that a runner holds."""
        if self.origin is None:
            self.origin = Remaking(self)
        self.origin.belongs_to(reference)

    def resolve(self, promised: Promised, *, by_place: bool) -> None:
        """Put the values of finished inputs, and references to promised ones, in their places, or where they are stored (`by_place`).

        Raises `UpstreamTaskError` for the first that may not go on.
        """
        upstreams = self.upstreams
        assert upstreams is not None
        held = self.held
        self.args, self.kwargs = upstreams.resolve(held, promised, by_place=by_place)
        self.context.parameters = self.task.binder.bind(self.args, self.kwargs)
        if held is None:
            self.upstreams = None
        else:
            held.promised, held.after = promised, upstreams.to_await(promised)
            self.linked_in = bundle_of(promised)

    @property
    def home(self) -> TaskRunner | None:
        """The runner, if it holds values, and nobody but the body has to see those that the call is given."""
        return self.held.home if self.held is not None else None

    def will_live_with(self, runner: TaskRunner | None) -> None:
        """Take note of the runner, before anything is asked of the inputs; None for the task's own, if that has not been started."""
        sees_inputs = self.caching is not None or self.task.task_run_name is not None
        if not sees_inputs and (self.keeping is None or not self.keeping.needs_inputs_here):
            self.held = held_inputs(runner, self.task.task_runner)

    @property
    def has_natives(self) -> bool:
        """Whether the runner has to hand on values of its own with the payload."""
        return self.held is not None and self.held.has_natives

    @property
    def waits_for_all(self) -> bool:
        """Whether the call goes to no runner before its inputs have ended.

        It is looked for among earlier ones then, or joins a chunk, or needs slots that it should not hold while it waits.
        """
        return (
            self.keeping is not None
            or self.bundle is not None
            or (bool(self.run.tags) and bool(limited(self.run.tags)))
        )

    def settle_home(self) -> None:
        """Have the inputs here after all, if a value that is kept can only be told from others by theirs. All have ended."""
        keeping, upstreams = self.keeping, self.upstreams
        if keeping is not None and upstreams is not None and not keeping.knows_makings(upstreams.states()):
            self.held = None

    @property
    def begins_elsewhere(self) -> bool:
        """Whether the body begins in another process, of which this one hears."""
        return self.task.isolation is not None or (self.runner is not None and not self.runner.shares_memory)

    def begin(self, started_us: int) -> None:
        """Enter Running, on the thread that runs the body, just before it. Raises `Held` if the flow run around is paused."""
        around = self.context.flow_context
        if around is None or self.begins_elsewhere:
            self._enter_running(started_us)
        else:
            around.beginning.append(None)
            try:
                gate = around.gate
                if gate is not None and (not gate.done() or gate.refusal is not None):
                    raise Held
                self._enter_running(started_us)
            finally:
                around.beginning.pop()
        if self.task.on_running_hooks:
            call_hooks_now(self.task.on_running_hooks, self.task, self.run.state, self.context)

    def _enter_running(self, started_us: int) -> None:
        run = self.run
        again = run.run_count > 0
        run.run_count += 1
        state = State(RUNNING, "Retrying" if again else None)
        state.timestamp_us = started_us
        try:
            enter(run, state)
        except transitions.RunIsOver:
            run.run_count -= 1
            raise

    def end(self, state: State) -> bool:
        """Bring the run to `state` whatever its lifecycle is doing; False if it was over already."""
        has_body = self.run.state.type is RUNNING
        try:
            if self.keeping is None or not self.keeping.leave(state):
                enter(self.run, state)
        except transitions.RunIsOver:
            return False
        if self.caching is not None:
            self.caching.let_go()
        if self.slots is not None and not has_body:
            self.slots.give_back()
        logs.task_finished(self.context, state)
        return True

    def has_begun(self) -> bool:
        """Tell whether a body may be running; one that waits in its runner is taken back there."""
        kind = self.run.state.type
        if kind is RUNNING or kind is SCHEDULED or kind is CANCELLING:
            # Scheduled: between two attempts.
            return kind is not SCHEDULED
        payload = self.handed_over()
        return payload is not None and not self.runner.cancel(payload)

    def handed_over(self) -> Payload | None:
        """Return the payload that the runner has and may not have begun; None if there is none, or it could be withdrawn before."""
        kind = self.run.state.type
        payload = self.payload  # let go by the lifecycle when it ends, like below
        if kind is RUNNING or kind is SCHEDULED or payload is None or self.runner is None:
            return None
        if self.bundle is not None and self.bundle.withdraw(payload):
            self.payload = None
            return None
        return payload

    def cancel_unstarted(self, reason: str) -> None:
        """Do nothing: what its body submits is in the dispatcher that asks."""

    def hurry(self) -> None:
        """Stop a body that an event loop of this process runs, or is about to run."""
        self.is_hurried = True
        payload = self.payload
        if payload is not None and payload.is_async and self.runner is not None and self.runner.shares_memory:
            self.runner.interrupt(payload)

    def end_body(self, within_seconds: float) -> bool:
        """Have the attempt under way end, its body given some seconds to clean up; False if it may go on all the same.

        Where there is no process to be killed, a body is asked at most, and only where its runner can do so.
        """
        payload, runner = self.payload, self.runner
        if payload is None:
            return True
        if payload.isolated is not None and (runner is None or runner.shares_memory):
            payload.isolated.end(within_seconds)
            return True
        return runner is not None and runner.end_within(payload, within_seconds)

    def let_go(self, reason: str, kind: StateType = CRASHED) -> None:
        """Give up on a body that runs on: interrupt it where the runner can, and end its run, Crashed or in another `kind` of state."""
        self.end_body(0)
        self.end(State(kind, None, reason))
