"""What takes the tasks that one flow run submits: counts them, hands them to runners when they are ready, and knows which are open.

It belongs to one attempt of one flow run, is started with it and stopped with it, and is the only one that talks to the run's task
runners. Tasks submitted outside of any flow go to one for the whole process (`outside`).
"""

from __future__ import annotations

import contextvars
import itertools
import threading
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from prefect_core import context, logs
from prefect_core.context import FlowRunContext
from prefect_core.crash_points import crash_points_around
from prefect_core.engine import deadlines, portal, signals
from prefect_core.engine.gathering import Gathering
from prefect_core.engine.tally import Tally
from prefect_core.engine.task_call import TaskCall
from prefect_core.engine.task_flight import TaskFlight
from prefect_core.errors import RunnerError
from prefect_core.future_streams import PrefectFutureStream
from prefect_core.futures import PrefectFuture
from prefect_core.payload import Payload
from prefect_core.runs import TaskRun
from prefect_core.state_kinds import CANCELLED, CRASHED, StateType
from prefect_core.states import State
from prefect_core.task_runners import RunnerSpec, TaskRunner, resolve_runner
from prefect_core.transactions import RunTransaction
from prefect_core.waiting import Signal

if TYPE_CHECKING:
    from prefect_core.context import RunContext
    from prefect_core.tasks import Task


# A submitter that is ahead of the threads that run bodies pauses now and then. A call is many objects until it is over; those that
# end before the garbage collector takes them for long-lived cost it next to nothing, and the others more than the pause does.
_MANY_OPEN = 200
_GIVE_WAY_EVERY = 8
_GIVE_WAY_SECONDS = 0.0005
_MOST_VAIN_PAUSES = 16

_ISOLATING = "processes:10000"
"""More than there are ever places: what bounds isolated bodies is the runner that has their places."""


class OpenCall(Protocol):
    """A call that a dispatcher keeps until it is over: of a task, or of a submitted flow."""

    def end(self, state: State) -> bool: ...
    def has_begun(self) -> bool: ...
    def hurry(self) -> None: ...
    def let_go(self, reason: str, kind: StateType = ...) -> None: ...


class InnerCall(OpenCall, Protocol):
    """A call of a flow inside, submitted or direct, which has children of its own; or a direct one of a task in a task's body."""

    parent: RunContext | None
    context: Any

    def cancel_unstarted(self, reason: str) -> None: ...


BLOCK_HAS_FAILED = "The transaction that this run was submitted in was rolled back before it could start."
RUN_HAS_ENDED = "The flow run had ended when this task run was submitted."


class _Refusing(dict[Hashable, "itertools.count[int]"]):
    """The counters of a flow run that has ended while its body runs on: the body's next call is its last."""

    def __init__(self, cancel: BaseException | None) -> None:
        super().__init__()
        self._cancel = cancel

    def get(self, name: Hashable, default: Any = None) -> Any:
        raise self._cancel or TimeoutError(f"Flow run timed out, so {name!r} can't be called in it any more.")


class Dispatcher:
    """The children of one flow run, and its runners."""

    keeps_results = True
    """Whether values of runs inside can be stored and taken over: where there is a history."""

    def __init__(
        self, runner: TaskRunner, host: portal.LoopHost | None = None, parent: RunContext | None = None
    ) -> None:
        self.runner = runner
        self.tally = Tally()
        self.lines = self._lines(parent)
        self._host = host
        self._lock = threading.Lock()
        self._counters: dict[Hashable, itertools.count[int]] = {}
        self.first_index: Callable[[str], int] | None = None
        """Says from where runs of a name are counted, in a flow run that is run again."""
        self._open: dict[OpenCall, PrefectFuture[Any]] = {}
        self._inner: dict[InnerCall, None] = {}
        self._further: dict[int, tuple[RunnerSpec, TaskRunner]] = {}
        self.gathering = Gathering()
        self._many = _MANY_OPEN
        self._vain_pauses = 0
        self._idle: Signal | None = None
        self._streams: list[PrefectFutureStream[Any]] = []
        self._refusal: str | None = None
        self.cancel_by: float = 0.0
        """When all must have ended if the run is being cancelled, on the monotonic scale of `time`."""
        self.gone: str | None = None
        """Why nothing more can come of a runner."""
        self._to_stop = [runner]
        self._has_stopped = False

    def _lines(self, parent: RunContext | None) -> Any:
        return logs.TaskLines() if parent is None else logs.lines_around(parent)

    def start(self) -> None:
        """Start the runner of the flow run."""
        self.runner.start(self)

    def stop(self) -> None:
        """Stop each of its runners, once; errors are logged, since the run has ended by then."""
        if self._refusal is None:
            self._refusal = RUN_HAS_ENDED
        with self._lock:
            self._has_stopped = True
        while self._to_stop:
            runner = self._to_stop.pop()
            try:
                runner.stop()
            except Exception as error:
                logs.engine_line(None, logs.ERROR, f"Task runner {runner.name!r} could not be stopped cleanly", error)

    @property
    def is_stopping(self) -> bool:
        """Whether its runners are being stopped, or have been."""
        return self._has_stopped

    def spawn(self, function: portal.AsyncFunction[None], *args: Any) -> Callable[[], object]:
        """Run a coroutine function on the flow run's event loop (`task_runners.Host`)."""
        return (self._host or portal.host()).spawn(function, *args)

    def refuse_late_body(self, cancel: BaseException | None = None) -> None:
        """Raise `TimeoutError`, or `cancel`, at the next call in a flow's body that its deadline, or a cancellation, did not end."""
        self._counters = _Refusing(cancel)

    def check_not_late(self, name: Hashable) -> None:
        """Raise what `refuse_late_body` said, at a call that is none of a task or flow."""
        self._counters.get(name)

    def loop(self) -> object:
        """Return the event loop that `spawn` runs things on (`task_runners.Host`)."""
        return (self._host or portal.host()).loop

    def engine_is_gone(self, reason: str) -> None:
        """Take note that a runner has lost what it runs on (`task_runners.Host`)."""
        self.gone = self.gone or reason

    def next_index(self, name: Hashable) -> int:
        """Count the runs of each task name, from 0; and equal calls, by what they have in common."""
        counter = self._counters.get(name)
        if counter is None:
            first = self.first_index(name) if self.first_index is not None and isinstance(name, str) else 0
            counter = self._counters.setdefault(name, itertools.count(first))
        return next(counter)

    def runner_for(self, task: Task[Any, Any]) -> TaskRunner:
        """Return the started runner of a task: the flow run's, or one that the task chose."""
        spec = task.task_runner
        return self.runner if spec is None else self._further_runner(spec)

    def isolating(self) -> TaskRunner:
        """Return the started runner of isolated bodies, which have their places in other runners. Raises `RunnerError` after `stop`."""
        return self._further_runner(_ISOLATING)

    def _further_runner(self, spec: RunnerSpec) -> TaskRunner:
        with self._lock:
            # Kept with the specification, so that its id stays its own.
            known = self._further.get(id(spec))
            if known is None:
                if self._has_stopped:
                    raise RunnerError(RUN_HAS_ENDED)
                runner = resolve_runner(spec).duplicate()
                self._to_stop.append(runner)
                runner.start(self)
                known = self._further[id(spec)] = (spec, runner)
        return known[1]

    def submit(self, call: TaskCall) -> PrefectFuture[Any]:
        """Let a task run start when its inputs are there; returns its future at once."""
        call.is_submitted = True
        call.variables = contextvars.copy_context()
        future: PrefectFuture[Any] = PrefectFuture(call.run, call)
        self.expect_in_block(call.context.transaction, call, future)
        if call.upstreams is not None:
            self._find_home(call)
        if self.admit(call, future):
            TaskFlight(call, self).begin()
            if len(self._open) > self._many and not len(self._open) % _GIVE_WAY_EVERY:
                self._give_way()
            if call.run.state.type is CRASHED or call.run.state.type is CANCELLED:
                deadlines.pass_on(call.run.state.data)
                signals.pass_on(call.run.state.data)
        return future

    def futures_of_open_calls(self) -> list[tuple[OpenCall, PrefectFuture[Any]]]:
        """Return the submitted calls that are not over, and their futures."""
        return list(self._open.items())

    @property
    def awaits_children(self) -> bool:
        """Whether the body has ended, and the calls that are open are what is left to be waited for."""
        return self._idle is not None

    @property
    def backlog(self) -> int:
        """How many calls are open."""
        return len(self._open)

    def _give_way(self) -> None:
        before = len(self._open)
        time.sleep(_GIVE_WAY_SECONDS)
        if len(self._open) < before:
            self._vain_pauses, self._many = 0, _MANY_OPEN
            return
        self._vain_pauses += 1
        if self._vain_pauses >= _MOST_VAIN_PAUSES:
            # Bodies take longer than that: it is tried again when there are twice as many.
            self._vain_pauses, self._many = 0, 2 * before

    def _find_home(self, call: TaskCall) -> None:
        spec = call.task.task_runner
        known = (spec, self.runner) if spec is None else self._further.get(id(spec))
        call.will_live_with(known[1] if known is not None else None)

    def admit(self, call: OpenCall, future: PrefectFuture[Any]) -> bool:
        """Count a call as open; a flow run that is ending cancels it instead and returns False."""
        # In this order, and the other way round in `cancel_unstarted`: no call slips between.
        self._open[call] = future
        refusal = self._refusal
        if refusal is not None:
            call.end(State(CANCELLED, None, refusal))
            self.closed(call)
        return refusal is None

    @crash_points_around("engine.release")
    def closed(self, call: OpenCall) -> None:
        """Take note that a call is over; harmless to say twice."""
        future = self._open.pop(call, None)
        if future is None:
            return
        if future.task_run is not None:
            self.tally.add(future.task_run)
        future.finish()
        if not self._open and self._idle is not None:
            self._idle.fire()

    def note(self, run: TaskRun) -> None:
        """Count a child that was called directly and has ended."""
        self.tally.add(run)

    def enter(self, call: InnerCall) -> None:
        """Take note that a call inside is under way, which ends early when this run does."""
        # In this order, and the other way round in `cancel_unstarted`.
        self._inner[call] = None
        if self._refusal is not None:
            call.cancel_unstarted(self._refusal)

    def leave(self, call: InnerCall) -> None:
        """Take note that it is no longer."""
        self._inner.pop(call, None)

    def expect_stream(self, stream: PrefectFutureStream[Any]) -> None:
        """Have `drain_streams` submit what a stream has left."""
        self._streams = [*(one for one in self._streams if not one.is_exhausted), stream]

    def drain_streams(self) -> None:
        """Submit what the streams have left whose futures nobody asked for; blocks until all is submitted."""
        while self._streams:
            # The last one first: it may take its elements from one before it.
            self._streams.pop().drain()

    @property
    def has_streams(self) -> bool:
        """Whether some are left."""
        return any(not stream.is_exhausted for stream in self._streams)

    def idle(self) -> Signal:
        """Return what fires when no call is open."""
        signal = self._idle
        if signal is None or signal.done():
            # Else somebody waits for it already: a body that suspends its run, beside the end of that.
            signal = self._idle = Signal()
        if not self._open:
            signal.fire()
        return signal

    def cancel_unstarted(self, reason: str) -> None:
        """Cancel every call that has not begun, and whatever is still submitted, here and in the flows inside."""
        self._refusal = reason
        calls = list(self._open)
        begun = self._take_back(calls)
        for call in calls:
            # The end of one may have been that of another, behind it.
            if call in self._open and call not in begun:
                self.withdraw(call, reason)
        for inner in list(self._inner):
            inner.cancel_unstarted(reason)

    def _take_back(self, calls: list[OpenCall]) -> set[OpenCall]:
        """Have runners take back at once what they can; returns the calls that have begun there."""
        # By identity: runners with equal options are equal.
        asked: dict[int, list[tuple[TaskCall, Payload]]] = {}
        for call in [call for call in calls if isinstance(call, TaskCall)]:
            payload = call.handed_over()
            if payload is not None and type(call.runner).cancel_many is not TaskRunner.cancel_many:
                asked.setdefault(id(call.runner), []).append((call, payload))
        begun: set[OpenCall] = set()
        for having in asked.values():
            taken = having[0][0].runner.cancel_many([payload for _, payload in having])
            for (call, payload), is_taken in zip(having, taken, strict=True):
                if not is_taken:
                    begun.add(call)
                elif call.payload is payload:
                    call.payload = None
        return begun

    def open_calls(self) -> list[OpenCall]:
        """Return the submitted calls that are not over, in the order in which they were made."""
        return list(self._open)

    def inner_flows(self) -> list[FlowRunContext]:
        """Return the contexts of the flow runs inside that are under way."""
        return [one.context for one in list(self._inner) if isinstance(one.context, FlowRunContext)]

    def withdraw(self, call: OpenCall, reason: str) -> None:
        """Cancel a call if it has not begun."""
        if not call.has_begun() and call.end(State(CANCELLED, None, reason)):
            self.closed(call)

    def expect_in_block(self, node: Any, call: OpenCall, future: PrefectFuture[Any]) -> None:
        """Let the transaction that a call takes part in, if any, wait for its end."""
        block = node.parent if isinstance(node, RunTransaction) else node
        if block is not None:
            block.expect(future, context.current(), partial(self.withdraw, call, BLOCK_HAS_FAILED))

    def hurry(self) -> None:
        """Stop what event loops run: unlike a thread, it can be told to, and needs no grace."""
        for call in {*self._open, *self._inner}:
            call.hurry()

    def let_go(self, reason: str, kind: StateType = CRASHED) -> None:
        """End every call that is still open, Crashed or in another `kind` of state, and what their bodies called directly.

        What the flow's own body called directly is only ended with a run that is being cancelled, whose body may run on.
        """
        called = [
            call for call in list(self._inner) if kind is CANCELLED or isinstance(call.parent, context.TaskRunContext)
        ]
        for call in [*self._open, *called]:
            call.let_go(reason, kind)
            self.closed(call)

    def calls(self) -> list[OpenCall]:
        """Return the calls that are under way: those that were submitted, and those that a body waits for."""
        return [*self._open, *self._inner]
