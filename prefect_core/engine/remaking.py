"""Making a value again that was lost with the worker that held it: a further attempt of the run that made it.

What a cluster's worker holds is lost with it, long after the run completed, and somebody may still need it: a dependent that has not begun,
or whoever asks a future for its result. The run stays as it ended; its history gets a further attempt, and the reference that all have
refers to the new value from then on.

For that, a reference has an origin: the call, with its arguments. Of inputs that lie on the cluster too, it has their origin and no
more, so that a long pipeline pins no value that nobody else wants. What is gone by then is made again first.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import ref

from prefect_core import inputs, logs
from prefect_core.context import TaskRunContext
from prefect_core.engine import slots, transitions
from prefect_core.engine.launch import Flight
from prefect_core.engine.steps import Block, Life, Wait, attempt
from prefect_core.errors import ValueLost, describe
from prefect_core.payload import Payload, Receipt
from prefect_core.references import Elsewhere, Reference
from prefect_core.runs import TaskRun
from prefect_core.state_kinds import COMPLETED, CRASHED, PENDING, RUNNING
from prefect_core.states import State
from prefect_core.waiting import Signal, block_until_done

if TYPE_CHECKING:
    from prefect_core.engine.task_call import TaskCall
    from prefect_core.engine.upstreams import HeldInputs

_MOST_TRIES, _MOST_ATTEMPTS = 10, 3
"""How often one value is made again, and by how many attempts each time: a body that ends its workers would do so for ever."""


class _Making(Signal):
    """The end of one try to make a value again: what a dispatcher keeps in place of a future."""

    __slots__ = ("failure",)

    task_run = None

    def __init__(self) -> None:
        super().__init__()
        self.failure: BaseException | None = None

    def finish(self) -> None:
        """Fire; for the dispatcher."""
        self.fire()


class _Input:
    """Stands in the arguments for an input that lies on the cluster."""

    __slots__ = ("origin", "reference")

    def __init__(self, reference: Reference) -> None:
        self.reference = ref(reference)
        self.origin = reference.origin

    def revived(self) -> Reference:
        """Return the reference, or one without a value to the same origin. Raises `ValueLost` if there is none."""
        known = self.reference()
        if known is None:
            if not isinstance(self.origin, Remaking):
                raise ValueLost("An input of it is gone, and nobody knows how that was made.")
            known = self.origin.without_value()
            self.reference = ref(known)
        return known


class Remaking:
    """The origin of a value: the call that made it (`references.Origin`)."""

    def __init__(self, call: TaskCall) -> None:
        self._call: TaskCall | None = call
        self.task = call.task
        self.variables = call.variables
        self._around, self._log_prints = call.parent, call.context.log_prints
        self._run: Callable[[], TaskRun | None] = ref(call.run)
        self._stands_in = call.run
        self._arguments: tuple[tuple[Any, ...], dict[str, Any]] = (), {}
        self._home = call.home
        self._kind: Any = None
        self._lock = threading.Lock()
        self._making: tuple[_Making, Reference] | None = None
        self._tries = 0
        self.kept: Elsewhere | None = None

    def belongs_to(self, reference: Reference) -> None:
        """Take note of a reference to the value."""
        reference.origin = self
        self._kind = type(reference)

    def settle(self) -> None:
        """Keep what it takes, and nothing that holds a value: the call is over, or somebody needs it before."""
        call, self._call = self._call, None
        if call is None:
            return
        upstreams, held = call.upstreams, call.held
        self._arguments = (
            (call.args, call.kwargs)
            if upstreams is None
            else upstreams.with_each(lambda one, allowed: _as_input(one, allowed, held))
        )
        # As long as somebody has the run, its further attempt is told of that; the recorder knows both by their key.
        self._stands_in = copy.copy(call.run)
        self._stands_in.state = call.run.state.copy(data=None, timestamp=call.run.state.timestamp)
        self._home = call.runner

    @property
    def run(self) -> TaskRun:
        """The run that made the value."""
        return self._run() or self._stands_in

    def context(self) -> TaskRunContext:
        """Return a context for a further attempt."""
        return TaskRunContext(self.task, self.run, {}, self._log_prints, self._around)

    def without_value(self) -> Reference:
        """Return a reference to the value, which has to be made again."""
        reference: Reference = object.__new__(self._kind)
        Reference.__init__(reference, self._home, None)
        reference.is_lost, reference.origin, reference.kept = True, self, self.kept
        return reference

    def make_again(self, reference: Reference) -> None:
        making = self.begin(reference)
        block_until_done([making])
        if making.failure is not None:
            raise making.failure

    def begin(self, reference: Reference) -> _Making:
        """Begin to make the value again, unless somebody does; returns what fires when that has ended."""
        with self._lock:
            self.settle()
            if self._making is not None and not self._making[0].done():
                making, first = self._making
                if first is not reference:
                    making.add_done_callback(lambda _: reference.become(first) if not first.is_lost else None)
                return making
            making = _Making()
            self._making = making, reference
        if not reference.is_lost:
            making.fire()
            return making
        self._tries += 1
        attempt = _Again(self, reference, making)
        dispatcher = attempt.context.dispatcher
        if self._tries > _MOST_TRIES:
            making.failure = self.lost("It was made again several times before.")
            making.fire()
        elif dispatcher.admit(attempt, making):
            Flight(attempt.life(), attempt, dispatcher).resume()  # type: ignore[arg-type]  # it is all that a flight needs
        return making

    def lost(self, more: str) -> ValueLost:
        """Make the exception for a value that can't be had any more."""
        return ValueLost(f"The value of {self.run.name!r} was lost with the worker that held it. {more}")

    def inputs(self, *, by_place: bool) -> Life[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Return the arguments, with references that are not lost, or whose values are stored: named `by_place` if they can be had so."""
        found: list[Reference] = []

        def revived(one: _Input, _: bool) -> Reference:
            found.append(one.revived())
            return found[-1]

        known = self._arguments
        args = tuple([inputs.unpin(value, revived) for value in known[0]])
        kwargs = {name: inputs.unpin(value, revived) for name, value in known[1].items()}
        yield from healed(found)
        if not by_place:
            yield from fetched([one for one in found if not one.is_had_by(self._home)])
        return args, kwargs


class _Again:
    """One try to make a value again: a call that is under way, for the dispatcher and the flight."""

    bundle, has_natives = None, True

    def __init__(self, origin: Remaking, reference: Reference, making: _Making) -> None:
        self._origin = origin
        self._reference = reference
        self._making = making
        self._told_us = 0
        self._has_begun = False
        self.task, self.context = origin.task, origin.context()
        self.run = self.context.task_run
        self.runner: Any = None
        self.payload: Payload | None = None
        self.slots: slots.TagSlots | None = None
        self.is_hurried = False

    def tell_handed_over(self) -> None:
        """Tell nobody: who waits for the value waits until it is made."""

    def life(self) -> Life[State]:
        """Make the value, or note why that failed."""
        try:
            yield from self._make()
        except transitions.RunIsOver:
            pass
        except Exception as error:
            self._making.failure = self._origin.lost(f"It could not be made again: {describe(error)}")
        finally:
            if self.slots is not None:
                slots.giving_back(self)
            self.payload = None
        return self.run.state

    def _make(self) -> Life[None]:
        run = self.run
        logs.note(self.context, logs.WARNING, "The value was lost with the worker that held it, and is made again.")
        for _ in range(_MOST_ATTEMPTS):
            self._note(State(PENDING, message="Its value was lost with the worker that held it, and is made again."))
            receipt = yield from self._attempt()
            if receipt.error is None:
                # As it ended before.
                self._note(State(COMPLETED, run.state.name, run.state.message), receipt.ended_us)
                self._reference.become(receipt.value)
                return
            self._note(transitions.failure("Task run", "", receipt, self.task.timeout_seconds), receipt.ended_us)
            self._making.failure = self._origin.lost(f"Making it again failed: {describe(receipt.error)}")
            if not receipt.lost:
                return

    def _attempt(self) -> Life[Receipt]:
        run = self.run
        receipt = yield from self._call(by_place=True)
        for _ in range(_MOST_ATTEMPTS):
            if not receipt.unready:
                break
            run.attempt -= 1
            receipt = yield from self._call(by_place=False)
        run.worker = receipt.worker
        if receipt.began:
            self._begin(receipt.started_us)
        return receipt

    def _call(self, *, by_place: bool) -> Life[Receipt]:
        args, kwargs = yield from self._origin.inputs(by_place=by_place)
        self.run.attempt += 1
        payload = self.payload = Payload.of_task(args, kwargs, self.context, self._origin.variables)
        payload.started, payload.is_again = self._begin, True
        self._has_begun = False
        if self.run.tags:
            yield from slots.taking_again(self, self._origin.variables)
        receipt = yield from attempt(payload)
        if self.slots is not None:
            slots.giving_back(self)
        return receipt

    def _begin(self, started_us: int) -> None:
        if not self._has_begun:
            self._has_begun = True
            self.run.run_count += 1
            self._note(State(RUNNING, "Retrying"), started_us)

    def _note(self, state: State, at_us: int = 0) -> None:
        if self._making.done():
            raise transitions.RunIsOver
        self._told_us = transitions.note_again(self.run, state, at_us, self._told_us)

    # What the dispatcher asks.

    def has_begun(self) -> bool:
        """Tell whether the body may be running."""
        payload = self.payload
        return payload is not None and self.runner is not None and not self.runner.cancel(payload)

    def end(self, state: State) -> bool:
        """Give up."""
        self._making.failure = self._origin.lost(state.message or f"{state}.")
        if self.slots is not None and not self._has_begun:
            self.slots.give_back()
        try:
            if self._told_us:
                self._note(state)
        except transitions.RunIsOver:
            return False
        return True

    def hurry(self) -> None:
        """Do nothing: where values are held elsewhere, no loop of this process runs bodies."""

    def let_go(self, reason: str) -> None:
        """Give up on a body that runs on."""
        payload = self.payload
        if payload is not None and self.runner is not None:
            self.runner.interrupt(payload)
        self.end(State(CRASHED, None, reason))


def fetched(references: list[Reference]) -> Life[None]:
    """See that the values of all are here."""
    if references:
        yield Block(lambda: [reference.load() for reference in references])


def healed(references: list[Reference]) -> Life[None]:
    """See that the values of all are there, as far as is known, or stored. Raises `ValueLost`."""
    references = [one for one in references if one.kept is None]
    makings = [one.origin.begin(one) for one in references if one.is_lost and isinstance(one.origin, Remaking)]
    if makings:
        yield Wait(makings)
    for making in makings:
        if making.failure is not None:
            raise making.failure
    for one in references:
        if one.is_lost:
            # Nobody knows how it was made: fetching it says what is known of it.
            yield Block(one.load)


def _as_input(upstream: Any, allowed: bool, held: HeldInputs | None) -> Any:
    state = upstream if isinstance(upstream, State) else upstream.state
    promised = held.promised if held is not None else {}
    reference: Any = state.data if state.is_final() or isinstance(upstream, State) else promised.get(upstream)
    if isinstance(reference, Reference):
        return inputs.Pinned(_Input(reference), allowed)  # type: ignore[arg-type]  # a mark for what is looked up later
    stored = held.reference_in(state, by_place=True) if held is not None else None
    return inputs.value_of(upstream, allowed) if stored is None else stored
