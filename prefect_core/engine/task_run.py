"""The lifecycle of a task run: the only place where a task run changes its state.

    Pending ─► (inputs) ─► Running ─► final              an input failed: Pending/NotReady, and that is the end
                             ▲  └─► AwaitingRetry ─┐     a failed attempt with retries left
                             └──────── (delay) ◄───┘
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from prefect_core import clock, context, history, inputs, logs
from prefect_core.context import RunContext, TaskRunContext
from prefect_core.engine import portal, signals, transitions
from prefect_core.engine.hooks import call_hooks, call_hooks_now
from prefect_core.engine.steps import Block, Call, Life, Sleep, Wait
from prefect_core.engine.transitions import enter
from prefect_core.errors import PrefectException, UpstreamTaskError, describe
from prefect_core.futures import PrefectFuture
from prefect_core.payload import Payload, Receipt
from prefect_core.runs import Edge, TaskRun
from prefect_core.state_kinds import COMPLETED, CRASHED, FAILED, PENDING, RUNNING
from prefect_core.states import AwaitingRetry, State

if TYPE_CHECKING:
    from prefect_core.tasks import Task


class TaskCall:
    """One call of a task, from its arguments to the end of its run."""

    __slots__ = (
        "args", "context", "depends_on_loop", "is_submitted", "kwargs", "parent", "payload", "run", "runner", "task", "upstreams",
        "variables",
    )

    def __init__(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any, parent: RunContext | None
    ) -> None:
        parameters = task.binder.bind(args, kwargs)
        self.task = task
        self.args = args
        self.kwargs = kwargs
        self.parent = parent
        self.upstreams: Sequence[tuple[Any, bool]] = ()
        self.is_submitted = False
        self.variables: Any = None
        self.runner: Any = None
        self.payload: Payload | None = None
        self.depends_on_loop: object | None = None
        self.run = self._open_run(parameters, wait_for)

    def _open_run(self, parameters: dict[str, Any], wait_for: Any) -> TaskRun:
        task, parent = self.task, self.parent
        flow_context = parent.flow_context if type(parent) is TaskRunContext else parent
        dispatcher = parent.dispatcher if parent is not None else None
        index = dispatcher.next_index(task.name) if dispatcher is not None else 0
        tags = context.current_tags()
        run = TaskRun(
            State(PENDING),
            task.name,
            task.task_key,
            flow_context.flow_run if flow_context is not None else None,
            index,
            tags | task.tags if tags else task.tags,
        )
        if type(parent) is TaskRunContext:
            run.parent_task_run = parent.task_run
        if wait_for is not None or not inputs.are_plain(self.args, self.kwargs):
            run.inputs = self._find_upstreams(parameters, wait_for)
        self.context = TaskRunContext(task, run, parameters, task.logs_prints(parent), parent)
        history.current().created(run)
        return run

    def _find_upstreams(self, parameters: dict[str, Any], wait_for: Any) -> tuple[Edge, ...]:
        """Walk the arguments once: note the futures and states in them, and the edges they make in the graph."""
        edges: list[Edge] = []
        found = inputs.find((self.args, self.kwargs))
        if wait_for is not None:
            found += inputs.find(wait_for)
            edges += _edges("wait_for", inputs.find(wait_for))
        if found:
            for name, value in parameters.items():
                edges += _edges(name, inputs.find(value))
            check_ancestors(found, self.parent, self.task.name)
        # Kept although it may be empty: annotations are to be unwrapped too.
        self.upstreams = found
        return tuple(edges)

    def open_upstreams(self) -> list[PrefectFuture[Any]]:
        """Return the inputs that are still under way."""
        return [one for one, _ in self.upstreams if isinstance(one, PrefectFuture) and not one.done()]

    def resolve(self) -> None:
        """Put the values of finished inputs in their places. Raises `UpstreamTaskError` for the first that may not go on."""
        for upstream, allowed in self.upstreams:
            inputs.value_of(upstream, allowed)
        self.args, self.kwargs = inputs.replace((self.args, self.kwargs), inputs.value_of)
        self.context.parameters = self.task.binder.bind(self.args, self.kwargs)
        self.upstreams = ()

    def needs_loop(self, loop: object) -> bool:
        """Tell whether this call, or one that it waits for, has to run on `loop`."""
        seen: set[int] = set()
        open_calls: list[TaskCall] = [self]
        while open_calls:
            call = open_calls.pop()
            if call.depends_on_loop is loop:
                return True
            seen.add(id(call))
            for upstream in call.open_upstreams():
                further = upstream._call_in_progress
                if further is not None and id(further) not in seen:
                    open_calls.append(further)
        return False

    def begin(self, started_us: int) -> None:
        """Enter Running, on the thread that runs the body, just before it."""
        run = self.run
        again = run.run_count > 0
        run.run_count += 1
        state = State(RUNNING, "Retrying" if again else None)
        state.timestamp_us = started_us
        enter(run, state)
        if self.task.on_running_hooks:
            call_hooks_now(self.task.on_running_hooks, self.task, state, self.context)

    def end(self, state: State) -> bool:
        """Bring the run to `state` whatever its lifecycle is doing; False if it was over already."""
        try:
            enter(self.run, state)
        except transitions.RunIsOver:
            return False
        return True

    def has_begun(self) -> bool:
        """Tell whether a body may be running; one that waits in its runner is taken back there."""
        if self.run.state.type is RUNNING:
            return True
        return self.payload is not None and self.runner is not None and not self.runner.cancel(self.payload)

    def let_go(self, reason: str) -> None:
        """Give up on a body that runs on: interrupt it where the runner can, and end its run Crashed."""
        if self.payload is not None and self.runner is not None:
            self.runner.interrupt(self.payload)
        self.end(State(CRASHED, None, reason))


def _edges(parameter: str, found: Sequence[tuple[Any, bool]]) -> list[Edge]:
    edges: list[Edge] = []
    for upstream, _ in found:
        uid = upstream.task_run.uid if isinstance(upstream, PrefectFuture) else upstream.task_uid
        if uid:
            edges.append((parameter, "task_run", uid))
    return edges


def check_ancestors(found: Sequence[tuple[Any, bool]], parent: RunContext | None, name: str) -> None:
    """Raise `ValueError` if an input is a run that this call is made in: each would wait for the other for ever."""
    ancestors = set()
    while parent is not None:
        ancestors.add(parent.run.uid)
        parent = parent.parent
    for upstream, _ in found:
        if isinstance(upstream, PrefectFuture) and not upstream.done() and upstream.task_run.uid in ancestors:
            raise ValueError(
                f"Discovered a task depending on itself. Raising to avoid a deadlock. {name!r} was given the future of "
                f"{upstream.name!r}, which it is called in; pass the value instead."
            )


def task_life(call: TaskCall) -> Life[State]:
    """Take a task run from Pending to its end; returns its last state."""
    run, task = call.run, call.task
    try:
        if not (yield from _gather_inputs(call)):
            return run.state
        if task.task_run_name is not None:
            run.name = task.run_name_for(call.context.parameters)
            history.current().renamed(run)
    except transitions.RunIsOver:
        return run.state
    except Exception as error:
        call.end(State(FAILED, None, f"Task run encountered an exception {describe(error)}", data=error))
        return run.state
    except BaseException as error:
        return _crash(call, error)
    try:
        state = yield from _attempts(call)
    except transitions.RunIsOver:
        return run.state
    except BaseException as error:
        state = _crash(call, error)
    logs.task_finished(call.context, state)
    hooks = task.hooks_for(state.type)
    if hooks:
        yield from call_hooks(hooks, task, state, call.context)
    return state


def _crash(call: TaskCall, error: BaseException) -> State:
    """End the run of a lifecycle that was interrupted between bodies: while it waited for an input or a delay."""
    if isinstance(error, GeneratorExit):
        # The lifecycle was let go, not interrupted, and may be at any place of the program.
        raise error
    call.end(State(CRASHED, None, transitions.crash_message(signals.cause_of(error)), data=error))
    return call.run.state


def _gather_inputs(call: TaskCall) -> Life[bool]:
    """Wait for the inputs and put their values in place; False if the run can't start."""
    if type(call.upstreams) is tuple:
        return True
    still_open = call.open_upstreams()
    if still_open:
        yield Wait(still_open)
    try:
        call.resolve()
    except UpstreamTaskError as error:
        enter(call.run, State(PENDING, "NotReady", str(error)))
        logs.task_finished(call.context, call.run.state)
        return False
    except Exception as error:
        raise PrefectException(
            f"Failed to resolve inputs of {call.run.name!r}: {describe(error)}. If a parameter's type is not supported, wrap the value "
            "in `quote` to skip the search for futures in it, or in `opaque` to skip what is inside it."
        ) from error
    return True


def _attempts(call: TaskCall) -> Life[State]:
    """Run the body until it succeeds or has no retries left; enters and returns the final state."""
    run, task = call.run, call.task
    while True:
        run.attempt += 1
        payload = Payload(task.fn, call.args, call.kwargs, call.context, task.is_async)
        payload.timeout_seconds = task.timeout_seconds
        payload.variables = call.variables
        payload.started = call.begin
        call.payload = payload
        receipt: Receipt = yield Call(payload)
        run.worker = receipt.worker
        if run.state.type is not RUNNING and receipt.began:
            call.begin(receipt.started_us)
        state = _state_after(task, receipt)
        if receipt.ended_us:
            state.timestamp_us = receipt.ended_us
        if state.type is FAILED and task.retries and receipt.began:
            delay = yield from _retry_delay(call, state)
            if delay is not None:
                yield from _pause_before_retry(call, state, delay, payload)
                continue
        return enter(run, state)


def _state_after(task: Task[Any, Any], receipt: Receipt) -> State:
    if receipt.error is None:
        value = receipt.value
        if type(value) in _PLAIN_RESULTS:
            return State(COMPLETED, data=value)
        return transitions.state_at_end(value)
    return transitions.failure("Task run", "", receipt, task.timeout_seconds)


_PLAIN_RESULTS: frozenset[type] = frozenset({type(None), bool, int, float, str, bytes, dict})


def _retry_delay(call: TaskCall, state: State) -> Life[float | None]:
    """Return the seconds to wait before the next attempt, or None if there is to be none."""
    task, run = call.task, call.run
    if run.run_count > task.retries:
        logs.engine_line(run, logs.ERROR, f"Task run failed with exception: {state.data!r} - Retries are exhausted")
        return None
    if task.retry_condition_fn is not None:
        allowed: bool = yield Block(lambda: _condition_holds(call, state), False)
        if not allowed:
            return None
    return task.retry_delay(run.run_count - 1)


def _condition_holds(call: TaskCall, state: State) -> bool:
    task, run = call.task, call.run
    condition = task.retry_condition_fn
    assert condition is not None
    token = context.enter(call.context)
    try:
        if inspect.iscoroutinefunction(condition):
            return bool(portal.run(condition, task, run, state))
        return bool(condition(task, run, state))
    except Exception:
        logs.engine_line(
            run,
            logs.ERROR,
            f"An error was encountered while running `retry_condition_fn` check {getattr(condition, '__name__', condition)!r} for "
            f"task {task.name!r}",
            exc_info=True,
        )
        return False
    finally:
        context.leave(token)


def _pause_before_retry(call: TaskCall, state: State, delay: float, payload: Payload) -> Life[None]:
    run = call.run
    when = f"will start {delay:g} second(s) from now" if delay else "will start immediately"
    logs.engine_line(
        run, logs.INFO, f"Task run failed with exception: {state.data!r} - Retry {run.run_count}/{call.task.retries} {when}"
    )
    awaiting = AwaitingRetry(
        scheduled_time=clock.to_datetime(state.timestamp_us) + timedelta(seconds=delay), message=state.message
    )
    awaiting.timestamp_us = state.timestamp_us
    enter(run, awaiting)
    if delay:
        yield Sleep(delay)
    if payload.over is not None:
        # The body of the attempt that timed out may still run; two bodies of one run never run at once.
        yield Wait([payload.over])
