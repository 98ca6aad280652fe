"""Pausing a flow run: by its own body, or because somebody asked its process to.

A pause is a boundary. The gate closes, here and in the flow runs inside; what runners have and have not begun is taken back; then Paused
is recorded, and durable before anybody hears of it. Bodies that run go on to their end. Who comes to the gate waits there, and goes on when
the run is resumed; if the run is suspended, they are ended, the body is unwound by `Pause` at its next call, and the run stays Paused.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from prefect_core import clock, history, input_forms, logs
from prefect_core.crash_points import crash_points_around
from prefect_core.engine import gates, timers, transitions
from prefect_core.engine.gates import Gate
from prefect_core.engine.taking_back import take_back
from prefect_core.errors import FlowPauseTimeout, NotPausedError, Pause
from prefect_core.history.pauses import PauseRow
from prefect_core.moments import Work
from prefect_core.state_kinds import RUNNING
from prefect_core.states import Paused, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect_core.context import FlowRunContext
    from prefect_core.engine.flow_call import FlowCall
    from prefect_core.moments import Moments

_BEGINNING_SECONDS = 5.0
"""How long it may take at most what is about to begin a body."""
_ROUND_SECONDS = 0.0002
NOT_RESUMED = "Flow run was paused and never resumed."
IN_A_WORKER = "It runs in a worker process, which hears no resume. Pause the flow around it."
NOT_RUNNING = "Cannot pause flows that are not currently running."


class Refused(Exception):
    """A run can't be paused, for this reason."""


class HeldAlready(Refused):
    """Another pause of the run has yet to be resumed."""


class Wish(NamedTuple):
    """How a run is to be paused."""

    timeout_seconds: float | None = 3600
    key: str | None = None
    form: input_forms.Form | None = None
    is_suspended: bool = False
    is_of_body: bool = False
    """Whether the body itself wants it, and waits."""
    name: str | None = None
    """That of the state."""

    @property
    def verb(self) -> str:
        return "suspend" if self.name == "Suspended" else "pause"

    @property
    def participle(self) -> str:
        return "suspended" if self.name == "Suspended" else "paused"


class OpenPause:
    """A pause that has yet to be resumed."""

    __slots__ = ("form", "gate", "has_expired", "row", "state", "timer")

    def __init__(self, form: input_forms.Form | None) -> None:
        self.gate = Gate()
        self.form = form
        self.has_expired = False
        self.state: State | None = None
        self.row: PauseRow | None = None
        self.timer: timers.Timer | None = None


class Pausing:
    """The pauses of one flow run, from any thread."""

    def __init__(self, call: FlowCall) -> None:
        self._call = call
        self._lock = threading.RLock()
        self._tries = 0
        self._count = 0
        self._fired: dict[str, PauseRow] | None = None
        self._open: OpenPause | None = None
        self._suspended: PauseRow | None = None
        self._is_left = False

    @property
    def context(self) -> FlowRunContext:
        """That of the flow run."""
        return self._call.context

    @property
    def is_suspended(self) -> bool:
        """Whether the run stays Paused, whatever its body still does."""
        return self._suspended is not None

    @property
    def gate(self) -> Gate | None:
        """The gate of the pause that has yet to be resumed."""
        opened = self._open
        return opened.gate if opened is not None else None

    def _take_attempt(self) -> None:
        """See whether this is another attempt, in which all pauses fire once more."""
        if self._tries == self._call.tries:
            return
        before, self._tries, self._count = self._tries, self._call.tries, 0
        if before and self._fired:
            history.current().noted([row._replace(is_forgotten=1).noted() for row in self._fired.values()])
        if before:
            self._fired = {}

    def next_key(self) -> str:
        """Return the key of a pause that was given none: the how-manieth of its attempt it is."""
        with self._lock:
            self._take_attempt()
            self._count += 1
            return str(self._count)

    def fired(self, key: str) -> PauseRow | None:
        """Return the pause with this key if it was resumed before."""
        with self._lock:
            self._take_attempt()
            if self._fired is None:
                rows = history.current().stored().control().pauses(self._call.run.key) if self._was_run_before else []
                self._fired = {row.key: row for row in rows if row.has_fired}
            return self._fired.get(key)

    @property
    def _was_run_before(self) -> bool:
        return self._call.earlier_attempts > 0

    def check_suspendable(self, verb: str) -> None:
        """Raise `RuntimeError` if the run could not be run again by another process."""
        call = self._call
        reason = None
        if call.parent is not None:
            reason = f"Cannot {verb} subflows."
        elif call.run.entrypoint is None:
            reason = f"Cannot {verb} flows without a deployment."
        elif call.unheld and call.keeping is None:
            reason = (
                f"JSON can't hold its parameter {', '.join(call.unheld)}, and it is not stored (persist_result=True)."
            )
        if reason is not None:
            raise Refused(reason)

    @crash_points_around("pause.begin")
    def begin(self, wish: Wish, key: str, message: str | None = None) -> OpenPause:
        """Pause the run; it is durable when this returns. Raises `Refused`."""
        call, around = self._call, self._call.context
        opened = OpenPause(wish.form)
        opened.gate.is_awaited_by_body = wish.is_of_body
        with self._lock:
            if self._open is not None:
                raise HeldAlready(NOT_RUNNING)
            if call.run.state.type is not RUNNING:
                raise Refused(NOT_RUNNING)
            self._open = opened
            gates.close(around, opened.gate)
        try:
            still = self._stop_handing_over(around, opened.gate)
            if still:
                told = f"{still} task run{'s' if still > 1 else ''} had been handed over and may still start."
                message = f"{message} {told}" if message else told
            with self._lock:
                self._enter_paused(opened, wish, key, message)
        except BaseException as error:
            self._open = None
            opened.gate.fire()
            raise Refused(NOT_RUNNING) if isinstance(error, transitions.RunIsOver) else error from None
        history.current().flush()
        return opened

    @crash_points_around("pause.enter")
    def _enter_paused(self, opened: OpenPause, wish: Wish, key: str, message: str | None) -> None:
        call = self._call
        state = Paused(
            wish.timeout_seconds, reschedule=wish.is_suspended, pause_key=key, name=wish.name, message=message
        )
        details = state.state_details
        if wish.form is not None:
            details.run_input_keyset = input_forms.keyset_of(wish.is_suspended, key)
        opened.state = call.enter(state)
        until_us = clock.from_datetime(details.pause_timeout) if details.pause_timeout is not None else None
        form = wish.form.text() if wish.form is not None else None
        row = opened.row = PauseRow(call.run.key, state.timestamp_us, key, int(wish.is_suspended), until_us, form)
        history.current().noted([row.noted()])
        if wish.is_suspended:
            self._suspended = row
        elif wish.timeout_seconds is not None:
            opened.timer = timers.after(wish.timeout_seconds, partial(self._expire, opened))

    def _stop_handing_over(self, around: FlowRunContext, gate: Gate) -> int:
        """Close the gate, and take back what has not begun; returns how many that did not work for."""
        # What is called meanwhile looks at the gate of the run around it by itself.
        contexts = [around, *_inside(around)]
        for one in contexts:
            gates.close(one, gate)
        until = time.monotonic() + _BEGINNING_SECONDS
        while any(one.beginning for one in contexts) and time.monotonic() < until:
            time.sleep(_ROUND_SECONDS)
        return sum(take_back(one.dispatcher) for one in contexts if one.dispatcher is not None)

    def let_end(self, opened: OpenPause) -> None:
        """End, or unwind, all that comes to the gate of a run that is suspended."""
        refusal = opened.gate.refusal = Pause("The flow run is suspended.", state=opened.state)
        opened.gate.fire()
        for inner in _inside(self.context):
            if inner.pausing is not None:
                inner.pausing.abandon(refusal)

    def resume(self, given: str | None, resumed_by: str, tell: Callable[[], object]) -> None:
        """Let the run go on, with an answer (JSON), once that is durable and `tell` was called: the run may end at once.

        Raises `InvalidInput`, and then the run stays paused; or `NotPausedError`.
        """
        with self._lock:
            opened = self._open
            row = opened.row if opened is not None else None
            if opened is None or row is None or row.is_suspended:
                raise NotPausedError("Cannot resume a run that isn't paused!")
            answer = input_forms.check(row.form, given, opened.form)
            try:
                self._go_on(opened, None)
            except transitions.RunIsOver:
                raise NotPausedError("Cannot resume a run that isn't paused!") from None
            row = opened.row = row._replace(resumed_us=clock.now_us(), resumed_by=resumed_by, input=answer)
            if self._fired is not None:
                self._fired[row.key] = row
            history.current().noted([row.noted()])
        try:
            history.current().flush()
            tell()
        finally:
            opened.gate.fire()

    @crash_points_around("pause.go_on")
    def _go_on(self, opened: OpenPause, message: str | None) -> None:
        if opened.timer is not None:
            opened.timer.cancel()
        self._open = None
        self._call.enter(State(RUNNING, message=message))

    def _expire(self, opened: OpenPause) -> None:
        with self._lock:
            if self._open is not opened:
                return
            opened.has_expired = True
            try:
                self._go_on(opened, "Nobody resumed the flow run in time.")
            except transitions.RunIsOver:
                return
            if not opened.gate.is_awaited_by_body:
                opened.gate.refusal = FlowPauseTimeout(NOT_RESUMED)
            opened.gate.fire()

    def give_up(self, opened: OpenPause, message: str = "The wait for a resume was interrupted.") -> None:
        """Let the run go on without a resume; one that is suspended only until `let_end`."""
        with self._lock:
            if self._open is opened and not opened.gate.done():
                if self._suspended is not None:
                    history.current().noted([self._suspended._replace(is_forgotten=1).noted()])
                    self._suspended = None
                try:
                    self._go_on(opened, message)
                except transitions.RunIsOver:
                    return
                finally:
                    opened.gate.fire()

    def abandon(self, refusal: BaseException | None = None) -> None:
        """Let nobody wait any more, since the run is about to end; who waits is ended by `refusal`."""
        with self._lock:
            opened, self._open = self._open, None
            if opened is not None and not opened.gate.done():
                if opened.timer is not None:
                    opened.timer.cancel()
                opened.gate.refusal = refusal or Pause("The flow run has ended.", state=opened.state)
                opened.gate.fire()

    def enter_unless_left(self, state: State) -> None:
        """Move the run to a state. Raises `RunIsOver` also for one that was left: it is no longer this process's."""
        with self._lock:
            if self._is_left:
                raise transitions.RunIsOver
            self._call.enter(state)

    @crash_points_around("pause.left")
    def left(self, state: State) -> None:
        """Note that all that began in a suspended run has ended, so that others may run it again; durable when this returns.

        Raises `RunIsOver` if the run is no longer in that state.
        """
        with self._lock:
            if self._call.run.state is not state:
                raise transitions.RunIsOver
            self._is_left = True
        row = self._suspended
        if row is None:
            # The function returned the state.
            until, key = state.state_details.pause_timeout, state.state_details.pause_key
            until_us = clock.from_datetime(until) if until is not None else None
            row = PauseRow(self._call.run.key, state.timestamp_us, key or "returned", 1, until_us)
        history.current().noted([row._replace(left_us=clock.now_us()).noted()])
        history.current().flush()


def _inside(around: FlowRunContext) -> list[FlowRunContext]:
    """Return the flow runs that are under way inside of one, at any depth."""
    found: list[FlowRunContext] = [around]
    for one in found:
        found += one.dispatcher.inner_flows() if one.dispatcher is not None else []
    return found[1:]


def pause_of_body(pausing: Pausing, wish: Wish) -> Moments[Any]:
    """Pause the run that this is called in the body of; returns what was given for the form when it is resumed.

    Raises `FlowPauseTimeout`, `RuntimeError` or, where the run is suspended, `Pause`.
    """
    around = pausing.context
    if not history.current().owns_runs:
        raise RuntimeError(f"Flow run cannot be {wish.participle}: {IN_A_WORKER}")
    key = wish.key or pausing.next_key()
    problem: str | None = None
    fired: PauseRow | None = yield Work(partial(pausing.fired, key))
    if fired is not None:
        try:
            return wish.form.load(fired.input) if wish.form is not None else None
        except input_forms.InvalidInput as error:
            # Whoever gave it did not have the type to check it by.
            problem = str(error)
    try:
        if wish.is_suspended:
            pausing.check_suspendable(wish.verb)
            # What was submitted before belongs before the pause.
            yield around.dispatcher.idle()
        opened = yield from _begun(pausing, wish, key, problem)
    except Refused as refusal:
        raise RuntimeError(f"Flow run cannot be {wish.participle}: {refusal}") from None
    if wish.is_suspended:
        pausing.let_end(opened)
        gates.closed_gate(around)
    try:
        yield opened.gate
    except BaseException:
        # The body may go on, if it was a time limit of its own.
        pausing.give_up(opened)
        raise
    if opened.has_expired:
        raise FlowPauseTimeout(NOT_RESUMED)
    if opened.gate.refusal is not None:
        raise opened.gate.refusal
    logs.note(around, logs.INFO, "Resuming flow run execution!")
    return wish.form.load(opened.row.input) if wish.form is not None and opened.row is not None else None


def _begun(pausing: Pausing, wish: Wish, key: str, message: str | None) -> Moments[OpenPause]:
    """Pause the run once no other pause holds it. Raises `Refused`."""
    around = pausing.context
    while True:
        while (gate := gates.closed_gate(around)) is not None:
            yield gate
        # The run is no longer the body's to pause once its attempt is over.
        around.dispatcher.check_not_late(f"{wish.verb}_flow_run")
        logs.note(around, logs.INFO, _told(wish))
        try:
            opened: OpenPause = yield Work(partial(pausing.begin, wish, key, message))
        except HeldAlready:
            continue
        return opened


def _told(wish: Wish) -> str:
    if wish.name == "Suspended":
        return "Suspending flow run, execution will be rescheduled when this flow run is resumed."
    if not wish.is_suspended:
        return "Pausing flow, execution will continue when this flow run is resumed."
    if wish.timeout_seconds is None:
        return "Currently paused and suspending execution. Resume to finish execution."
    until = clock.to_datetime(clock.now_us() + round(wish.timeout_seconds * 1_000_000))
    return f"Currently paused and suspending execution. Resume before {until.isoformat()} to finish execution."
