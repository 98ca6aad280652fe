"""Slots around a block of code: `with concurrency(...)`, `async with concurrency(...)`; and slots that come back with time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from prefect_core import clock, context, ids, loops, moments
from prefect_core.errors import AcquireConcurrencySlotTimeoutError, ConcurrencySlotAcquisitionError, HistoryError
from prefect_core.history.limits import Asked
from prefect_core.history.process import this_process
from prefect_core.limits import around
from prefect_core.limits.desk import Desk, Ticket, desk, log
from prefect_core.moments import Moments

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType

RETRY_SECONDS = 1.0
"""How long one of `max_retries` lasts."""
_RATE_LEASE_SECONDS = 60.0


class _Patience(NamedTuple):
    """How long slots are waited for."""

    timeout_seconds: float | None
    max_retries: int | None

    def until(self) -> float | None:
        """Return the monotonic moment at which it ends, None for never."""
        least = [self.timeout_seconds] if self.timeout_seconds is not None else []
        least += [self.max_retries * RETRY_SECONDS] if self.max_retries is not None else []
        return clock.current().monotonic() + min(least) if least else None

    def error(self, names: tuple[str, ...]) -> ConcurrencySlotAcquisitionError:
        """Return the error for slots that were not to be had so long."""
        shown = ", ".join(map(repr, names))
        if self.timeout_seconds is not None and (
            self.max_retries is None or self.timeout_seconds <= self.max_retries * RETRY_SECONDS
        ):
            return AcquireConcurrencySlotTimeoutError(
                f"Attempt to acquire concurrency slots of {shown} timed out after {self.timeout_seconds} second(s)"
            )
        return ConcurrencySlotAcquisitionError(
            f"Unable to acquire concurrency slots of {shown}: they were taken, after {self.max_retries} retries too"
        )


class Slots:
    """Slots of some limits, taken and given back once."""

    def __init__(self, asked: Asked, patience: _Patience) -> None:
        self._asked = asked
        self._patience = patience
        self._desk: Desk | None = None
        self.ticket: Ticket | None = None

    def taking(self) -> Moments[None]:
        """Take the slots. Raises `ConcurrencySlotAcquisitionError`."""
        if not self._asked.names:
            return
        loop = loops.running_loop()
        try:
            self._desk = desk()
        except HistoryError as error:
            raise _out_of_reach(self._asked, error) from error
        ticket = self.ticket = Ticket(self._asked, self._patience.until(), lambda: loop)
        try:
            self._desk.ask(ticket)
            yield ticket
            self._check(ticket)
        except BaseException:
            self._desk.end(ticket)
            raise

    def _check(self, ticket: Ticket) -> None:
        answer = ticket.answer
        if ticket.error is not None:
            raise _out_of_reach(self._asked, ticket.error) from ticket.error
        if answer is not None and answer.missing:
            shown = ", ".join(map(repr, answer.missing))
            if self._asked.needs_all:
                raise ConcurrencySlotAcquisitionError(
                    f"There is no concurrency limit {shown}. Make it by `prefect-core limit create NAME SLOTS`."
                )
            log.warning("There is no concurrency limit %s, so it limits nothing here.", shown)
        if answer is not None and answer.refusal is not None:
            name, slots, lacks_decay = answer.refusal
            raise ConcurrencySlotAcquisitionError(
                f"The concurrency limit {name!r} has no slot_decay_per_second, without which it is no rate limit."
                if lacks_decay
                else f"The concurrency limit {name!r} has {slots} slots, so {self._asked.occupy} of them can never be had."
            )
        if not ticket.is_granted:
            raise self._patience.error(self._asked.names)

    def give_back(self) -> None:
        """Give the slots back, if they are held; waits for nothing."""
        if self.ticket is not None and self._desk is not None:
            self._desk.end(self.ticket)

    def lost_error(self) -> ConcurrencySlotAcquisitionError | None:
        """Return the error for slots that were lost while they were held, or None."""
        if self.ticket is None or not self.ticket.lost.done():
            return None
        shown = ", ".join(map(repr, self._asked.names))
        return ConcurrencySlotAcquisitionError(
            f"The lease on concurrency slots of {shown} ran out while they were in use, so others may have got them: this process could "
            f"not renew it within {self._asked.lease_us / 1_000_000:g} second(s)."
        )


def _out_of_reach(asked: Asked, error: HistoryError) -> ConcurrencySlotAcquisitionError:
    shown = ", ".join(map(repr, asked.names))
    return ConcurrencySlotAcquisitionError(
        f"The concurrency limit {shown} can't be asked from here. {error} For a task on another machine, limit one of its tags: those "
        "slots are taken by its flow's process."
    )


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    listed = [names] if isinstance(names, str) else list(names)
    for name in listed:
        if not isinstance(name, str):
            raise TypeError(f"Expected the names of concurrency limits; got {name!r}.")
    return tuple(dict.fromkeys(listed))


def _check_numbers(occupy: int, timeout_seconds: float | None, max_retries: int | None, lease_duration: float) -> None:
    if occupy < 1:
        raise ValueError(f"'occupy' must be a positive number, got {occupy!r}")
    if timeout_seconds is not None and timeout_seconds < 0:
        raise ValueError(f"'timeout_seconds' must be a non-negative number, got {timeout_seconds!r}")
    if max_retries is not None and max_retries < 0:
        raise ValueError(f"'max_retries' must be a non-negative number, got {max_retries!r}")
    if lease_duration < 1:
        raise ValueError(f"'lease_duration' must be at least 1 second, got {lease_duration!r}")


def _asked(names: tuple[str, ...], occupy: int, priority: int, **options: Any) -> Asked:
    here = context.current()
    run = here.run if here is not None else None
    process = this_process()
    label = run.name if run is not None else f"{process.host}:{process.pid}"
    owner = ids.new_id(clock.now_us())
    inside = around.blocks_among(None) | frozenset(around.runs_around(run))
    return Asked(names, occupy, owner, label, run.uid if run is not None else 0, inside, priority, **options)


class concurrency:
    """Hold slots of concurrency limits while the block runs: `with concurrency("database"): ...`, or `async with` on an event loop.

    All `names` are taken together or not at all, `occupy` slots of each. Who waits is served by `priority`, the higher first, and then in
    order of arrival, among all processes. After `timeout_seconds` without slots, `AcquireConcurrencySlotTimeoutError` is raised;
    `max_retries` gives up too, with `ConcurrencySlotAcquisitionError`: since waiting needs no asking again, one retry stands for one
    second, and 0 is asking once. A limit that does not exist is an error if `strict`, else a warning, and limits nothing.

    Slots of a process that is gone are free at once if that can be seen from this machine, else `lease_duration` seconds after it said
    last that it lives, which it does in the background. Should slots be lost that way while they are held, a `strict` block is told:
    it raises `ConcurrencySlotAcquisitionError` when it is left, and on an event loop is cancelled at once; others get a warning.

    Code inside that asks for the same limit gets the slots that the block holds. `with` blocks this thread; on an event loop use
    `async with`.
    """

    def __init__(
        self,
        names: str | Sequence[str],
        occupy: int = 1,
        timeout_seconds: float | None = None,
        max_retries: int | None = None,
        lease_duration: float = 300,
        strict: bool = False,
        priority: int = 0,
    ) -> None:
        _check_numbers(occupy, timeout_seconds, max_retries, lease_duration)
        self._names = _names(names)
        self._occupy = occupy
        self._patience = _Patience(timeout_seconds, max_retries)
        self._lease_us = int(lease_duration * 1_000_000)
        self._is_strict = strict
        self._priority = priority
        self._slots: Slots | None = None
        self._token: Token[frozenset[int]] | None = None
        self._scope: Any = None

    def _new_slots(self) -> Slots:
        if self._slots is not None:
            raise RuntimeError("Context already entered. Context enter calls cannot be nested.")
        asked = _asked(self._names, self._occupy, self._priority, lease_us=self._lease_us, needs_all=self._is_strict)
        self._slots = Slots(asked, self._patience)
        self._owner = asked.owner
        return self._slots

    def _entered(self, slots: Slots) -> None:
        self._token = around.enter(around.blocks_among(None) | {self._owner})
        if slots.ticket is not None:
            slots.ticket.lost.add_done_callback(lambda _: self._warn(slots))

    def _warn(self, slots: Slots) -> None:
        if not self._is_strict:
            log.warning("%s", slots.lost_error())

    def _left(self) -> ConcurrencySlotAcquisitionError | None:
        """Give the slots back; returns the error for slots that were lost, if that is to be raised."""
        slots, self._slots = self._slots, None
        if self._token is not None:
            around.leave(self._token)
            self._token = None
        if slots is None:
            return None
        slots.give_back()
        return slots.lost_error() if self._is_strict else None

    def __enter__(self) -> Self:
        slots = self._new_slots()
        try:
            moments.run(slots.taking())
            self._entered(slots)
        except BaseException:
            self._left()
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        lost = self._left()
        if lost is not None and error is None:
            raise lost

    async def __aenter__(self) -> Self:
        import anyio  # only async code comes here

        slots = self._new_slots()
        try:
            await moments.arun(slots.taking())
            self._entered(slots)
        except BaseException:
            self._left()
            raise
        if self._is_strict and slots.ticket is not None:
            scope = self._scope = anyio.CancelScope()
            scope.__enter__()
            door = loops.door_here()
            slots.ticket.lost.add_done_callback(lambda _: door.call_soon(scope.cancel))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        scope, self._scope = self._scope, None
        lost = self._left()
        # The scope takes back the cancellation that it has sent, and no other.
        is_taken = bool(scope.__exit__(kind, error, trace)) if scope is not None else False
        if lost is not None and (error is None or is_taken):
            raise lost
        return is_taken


def _rate(names: str | Sequence[str], occupy: int, timeout_seconds: float | None, strict: bool) -> Slots:
    _check_numbers(occupy, timeout_seconds, None, 1)
    asked = _asked(
        _names(names), occupy, 0, lease_us=int(_RATE_LEASE_SECONDS * 1_000_000), is_rate=True, needs_all=strict
    )
    return Slots(asked, _Patience(timeout_seconds, None))


def rate_limit(
    names: str | Sequence[str], occupy: int = 1, timeout_seconds: float | None = None, strict: bool = False
) -> None:
    """Block until `occupy` slots of each of the limits are free, and take them; they come back with time, by the limit's decay.

    A limit of 10 slots with a `slot_decay_per_second` of 2 lets 10 through at once, and then 2 a second, among all processes. Raises what
    `concurrency` raises, and `ConcurrencySlotAcquisitionError` for a limit without a decay. On an event loop use `arate_limit`.
    """
    slots = _rate(names, occupy, timeout_seconds, strict)
    moments.run(slots.taking())
    slots.give_back()


async def arate_limit(
    names: str | Sequence[str], occupy: int = 1, timeout_seconds: float | None = None, strict: bool = False
) -> None:
    """Do what `rate_limit` does, without blocking the event loop."""
    slots = _rate(names, occupy, timeout_seconds, strict)
    await moments.arun(slots.taking())
    slots.give_back()
