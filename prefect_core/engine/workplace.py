"""The far end of the transport: runs one attempt in a worker and returns the receipt as bytes, with all that happened inside.

While an attempt runs, the worker has the settings of the main process, a recorder and a log handler that collect, and a dispatcher
that keeps what the body submits (`nested`). Worker and main process may be one (an executor with threads of its own kind): then
settings and handlers are left alone, and what belongs to no attempt is recorded as ever.
"""

from __future__ import annotations

import contextvars
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from prefect_core import context, history, limits, pickling, references, settings, unpicklable, waiting
from prefect_core.context import FlowRunContext, RunContext, TaskRunContext
from prefect_core.engine import drive, late_bodies, remote, storing_afar
from prefect_core.engine.collect import Collector, WorkerRecorder
from prefect_core.engine.forwarding import Forwarding
from prefect_core.engine.nested import Children, run_attempt
from prefect_core.engine.outline import Known, is_plain, revive, revive_plain
from prefect_core.engine.parcels import Call, FlowOutline, Parcel, PlainReply, Reply, Surroundings, opened_call
from prefect_core.engine.travelling_errors import dump_error
from prefect_core.errors import OutOfReach, SerializationError, describe
from prefect_core.payload import PLAIN, Payload, Receipt
from prefect_core.runs import FlowRun

if TYPE_CHECKING:
    from prefect_core.settings import Settings

T = TypeVar("T")
MOST_LOADED = 64
"""How many tasks and surroundings a worker keeps at most; when there are more, it starts anew."""


def work(parcel: Parcel) -> bytes:
    """Run the attempt in `parcel` here and return its receipt for `transport.Delivery`. What executors are given to call."""
    return _workplace.run(tuple(parcel))


class Workplace:
    """A process that runs attempts, one at a time or on several threads.

    A dedicated one does nothing else; any other is left between attempts as it was found.
    """

    def __init__(self, *, is_dedicated: bool = False) -> None:
        self._is_dedicated = is_dedicated
        self._chunks = 0
        """How many are under way, between whose attempts nothing is put back."""
        self._begun_for: Settings | None = None
        """The settings that the process has for attempts, while it is not as it was found."""
        self._lock = threading.Lock()
        self._recorder = WorkerRecorder()
        self._loaded: dict[int, Any] = {}
        self._attempts: list[_Attempt] = []
        self.is_clean = True
        """False when something of an attempt runs on although its receipt is sent: a process that can should end."""
        self._forwarding = Forwarding(self._recorder)
        self._is_away = True
        self._settings: Settings | None = None

    def run(self, parcel: tuple[Any, ...], outlet: Any = None, begins: Any = None) -> bytes:
        """Run an attempt and return the reply; events may go ahead through `outlet`; timed bodies are told of by `begins`. Never raises."""
        try:
            attempt = self._open(Parcel(*parcel), outlet)
        except BaseException as error:
            return not_loaded(error)
        if attempt.has_deadline:
            # The body may keep this process from saying anything later.
            attempt.begins = begins
        self._enter(attempt)
        try:
            receipt = attempt.run()
            # What a late body started goes on, though the body may have heeded its deadline.
            self.is_clean = self.is_clean and attempt.is_clean and not receipt.timed_out
            return attempt.reply(receipt)
        finally:
            self._leave(attempt)

    def run_in_place(self, parcel: tuple[Any, ...], values: Sequence[Any], news: Any, outcome: Callable[..., T]) -> T:
        """Run an attempt whose references stand for `values`, and return what `outcome` makes of its end. Never raises."""
        try:
            outlet = news.happened if news is not None else None
            if values:
                with references.unpacking(values):
                    attempt = self._open(Parcel(*parcel), outlet)
            else:
                attempt = self._open(Parcel(*parcel), outlet)
        except BaseException as error:
            return outcome(Receipt(error=error), _NotLoaded(error))
        if news is not None:
            news.attempt, attempt.begins = attempt, news.begins
        self._enter(attempt)
        try:
            return outcome(attempt.run(), attempt)
        finally:
            self._leave(attempt)
            if news is not None:
                # They refer to each other, and would keep the garbage collector busy.
                news.attempt = None

    @contextmanager
    def staying(self) -> Iterator[None]:
        """Leave this process between the attempts in the block as they find it: many that come one after the other."""
        with self._lock:
            self._chunks += 1
        try:
            yield
        finally:
            with self._lock:
                self._chunks -= 1
                self._end_if_over()

    def news(self) -> tuple[int, Any] | None:
        """Return when the body under way began, and the collector of its events; None if none has begun."""
        attempt = next(iter(self._attempts), None)
        return (attempt.started_us, attempt.collector) if attempt is not None and attempt.started_us else None

    def _open(self, parcel: Parcel, outlet: Callable[[bytes], object] | None) -> _Attempt:
        around = self._load(parcel.surroundings, parcel.surroundings_bytes, _Around)
        task = self._load(parcel.task, parcel.task_bytes, pickle.loads)
        return _Attempt(around, task, opened_call(parcel.call), self._recorder, outlet)

    def _load(self, number: int, dumped: bytes | None, load: Callable[[bytes], Any]) -> Any:
        if number in self._loaded:
            return self._loaded[number]
        assert dumped is not None
        loaded = load(dumped)
        if len(self._loaded) >= MOST_LOADED:
            self._loaded.clear()
        self._loaded[number] = loaded
        return loaded

    def _enter(self, attempt: _Attempt) -> None:
        with self._lock:
            self._recorder.collectors[attempt.run_record] = attempt.collector
            if not self._attempts:
                self._begin(attempt)
            self._attempts.append(attempt)

    def _leave(self, attempt: _Attempt) -> None:
        with self._lock:
            self._attempts.remove(attempt)
            del self._recorder.collectors[attempt.run_record]
            self._end_if_over()

    def _end_if_over(self) -> None:
        if self._begun_for is not None and not (self._attempts or self._chunks or self._is_dedicated):
            self._end()

    def _begin(self, attempt: _Attempt) -> None:
        now = attempt.surroundings.settings
        if self._begun_for is not None:
            if self._begun_for is now:
                return
            self._end()
        self._begun_for = now
        self._recorder.behind = history.install(self._recorder)
        self._recorder.origin = attempt.surroundings.origin
        self._is_away = not attempt.is_at_home
        if self._is_away:
            # Read, if they have not been: between attempts they would be each time.
            self._settings = settings.current()
            settings.install(attempt.surroundings.settings)
            self._forwarding.begin(attempt.surroundings.level)

    def _end(self) -> None:
        self._begun_for = None
        if self._is_away:
            self._forwarding.end()
            settings.install(self._settings)
        history.install(self._recorder.behind)
        self._recorder.behind = None


class _Around:
    """What holds for many attempts, loaded."""

    def __init__(self, dumped: bytes) -> None:
        self.surroundings = Surroundings(*pickle.loads(dumped))
        self.is_at_home = self.surroundings.origin == remote.process_name()
        self.known: Known = {}
        """The runs around all of them."""
        revive(self.surroundings.lineage, self.known)
        self.flow: FlowOutline | None = None
        if self.surroundings.flow is not None:
            name, version, self.log_prints = self.surroundings.flow
            self.flow = FlowOutline(name or "", version)
            self.flow_run: Any = next(run for run in reversed(list(self.known.values())) if isinstance(run, FlowRun))


class _FlowAfar(FlowRunContext):
    """The flow around a body that runs here, whose dispatcher is made when it is asked for."""

    __slots__ = ("_children", "_given")

    def __init__(self, around: _Around, children: Children) -> None:
        self._children = children
        self._given: Any = None
        super().__init__(around.flow, around.flow_run, around.flow_run.parameters, around.log_prints, None)

    @property
    def dispatcher(self) -> Any:
        return self._children.dispatcher if self._given is None else self._given

    @dispatcher.setter
    def dispatcher(self, given: Any) -> None:
        # In a forked child another takes its place.
        self._given = given


def not_loaded(error: BaseException) -> bytes:
    """Return the reply of an attempt that could not be loaded, and so did not begin."""
    reply = Reply(0, 0, False, remote.process_name(), None, [], unloadable=describe(error))
    if isinstance(error, OutOfReach):
        reply = reply._replace(unloadable=None, is_unready=True, unreached=(error.url, error.reason))
    return pickle.dumps(tuple(reply))


class _NotLoaded:
    """Stands for an attempt that could not be loaded, for who asks for its reply."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def bare_reply(self, receipt: Receipt, error: BaseException) -> bytes:
        return not_loaded(self._error)


class _Attempt:
    """One attempt, from its loaded parcel to its reply."""

    def __init__(self, around: _Around, task: Any, call: Call, recorder: WorkerRecorder, outlet: Any) -> None:
        self.surroundings = around.surroundings
        self.is_at_home = around.is_at_home
        self._place = remote.process_name()
        self.collector = Collector(self._place, outlet)
        self.started_us = 0
        self.begins: Callable[[], object] | None = None
        """Is told just before the body begins."""
        self.is_clean = True
        self._task = task
        self._call = call
        self.has_deadline = call.timeout_seconds is not None
        self._children = Children(recorder)
        self._context = self._context_in(around)
        self.run_record = self._context.task_run

    def _context_in(self, all_around: _Around) -> TaskRunContext:
        call, task = self._call, self._task
        around: RunContext | None = None
        if all_around.flow is not None:
            around = _FlowAfar(all_around, self._children)
        run: Any
        if is_plain(call.lineage[-1]):
            run = revive_plain(call.lineage[-1], task.name, task.task_key, all_around.flow_run)
        else:
            known = dict(all_around.known)
            revive(call.lineage, known)
            for outline in call.lineage[:-1]:
                parent: Any = known[outline[1]]
                around = self._inside(TaskRunContext(None, parent, {}, False, around))
            run = known[call.lineage[-1][1]]
        parameters = task.binder.bind(call.args, call.kwargs)
        innermost = self._inside(TaskRunContext(task, run, parameters, call.log_prints, around))
        innermost.depth = call.depth
        return innermost

    def _inside(self, context: TaskRunContext) -> TaskRunContext:
        if context.flow_context is None:
            context.outside = self._children.dispatcher
        return context

    def run(self) -> Receipt:
        """Run the body, and what it submitted. Never raises."""
        try:
            return self._run()
        except BaseException as error:
            return Receipt(error=error)

    def _run(self) -> Receipt:
        call, task = self._call, self._task
        payload = Payload(task.fn, call.args, call.kwargs, self._context, task.is_async)
        payload.timeout_seconds = call.timeout_seconds
        payload.variables = _variables_here()
        if call.tags:
            payload.variables.run(context.set_tags, call.tags)
        if call.blocks:
            payload.variables.run(limits.enter, call.blocks)
        payload.started = self._begin
        self._children.place = waiting.current_slot()
        with waiting.holding(self._children):
            receipt = self._run_body(payload)
            self.is_clean = self._children.wind_up(receipt)
        if payload.over is not None and not payload.over.done():
            self.is_clean = False
            late_bodies.look_at(payload)
        return receipt

    def _run_body(self, payload: Payload) -> Receipt:
        if payload.is_async:
            return run_attempt(payload, self._children.dispatcher.stand_ins, self._children.place)
        if payload.timeout_seconds and threading.current_thread() is not threading.main_thread():
            payload.function = partial(_call_holding, self._children, payload.function)
            return drive.run_with_deadline(payload)
        return remote.run_attempt(payload)

    def _begin(self, started_us: int) -> None:
        run = self.run_record
        run.run_count += 1
        # Nobody has seen the state that it was revived with.
        run.state.timestamp_us = started_us
        if run.run_count > 1:
            run.state.name = "Retrying"
        run.started_us = run.started_us or started_us
        self.started_us = started_us
        if self.begins is not None:
            self.begins()

    def reply(self, receipt: Receipt) -> bytes:
        """Return the receipt as bytes; a value that can't be pickled makes it one of failure."""
        value, error = b"", receipt.error
        if error is None:
            if type(receipt.value) in PLAIN:
                plain = self.reply_with(receipt)
                return plain if isinstance(plain, bytes) else pickle.dumps(plain)
            try:
                value = pickling.dumps(receipt.value)
            except Exception as failure:
                error = self.unpicklable(receipt.value, failure)
        return self.bare_reply(receipt, error) + value

    def reply_with(self, receipt: Receipt) -> PlainReply | bytes:
        """Return a receipt whose value is plain: short, as it is, if nothing else is to be told, and else as bytes."""
        events = self.collector.take_last()
        if not events and not receipt.timed_out:
            return (self._place, receipt.started_us, receipt.ended_us, receipt.value)
        return pickle.dumps((*self._reply(receipt, events), receipt.value))

    def bare_reply(
        self, receipt: Receipt, error: BaseException | None, is_kept: bool = False, stored: Any = None
    ) -> bytes:
        """Return the receipt as bytes without its value, which may have failed for `error` since."""
        dumped = dump_error(error, self._place) if error is not None else None
        reply = self._reply(receipt, self.collector.take_last())
        return pickle.dumps(tuple(reply._replace(error=dumped, is_kept=is_kept, stored=stored)))

    def _reply(self, receipt: Receipt, events: list[Any]) -> Reply:
        return Reply(receipt.started_us, receipt.ended_us, receipt.timed_out, self._place, None, events)

    def store_large(self, value: Any) -> Any:
        """Store a value that is too large to be sent, if that was asked for; returns what is told of it."""
        order = self._call.order
        return None if order is None else storing_afar.carry_out(storing_afar.Order(*order), value)

    def unpicklable(self, value: Any, failure: Exception) -> SerializationError:
        what = unpicklable.described("its result", value, failure, pickling.dumps)
        return SerializationError(
            f"The result of task {self._task.name!r} can't be sent back from its worker process: {what}. Return plain data, or store what "
            "it is and return where."
        )


def _variables_here() -> contextvars.Context:
    """Return a context with what the engine of a runner has said on this thread, by which its own functions know where they are."""
    variables = contextvars.Context()
    for variable, value in contextvars.copy_context().items():
        # Ours are those of the place where this thread, or its event loop, was started.
        if not variable.name.startswith("prefect_core."):
            variables.run(variable.set, value)
    return variables


def _call_holding(slot: waiting.Slot, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with waiting.holding(slot):
        return function(*args, **kwargs)


_workplace = Workplace()
