"""The near end of the transport: payloads to bytes, and what comes back to receipts (`workplace` is the far end).

What travels is small: the task without hooks and retries, which stay here (`pickled_tasks`), the arguments, and outlines of the runs
around. A task whose function goes by value is pickled once: changes *inside* an object that it refers to don't reach workers, where they
would belong into the arguments.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
from collections.abc import Callable
from io import BytesIO
from typing import Any

from prefect_core import clock, context, pickling, references, settings, unpicklable
from prefect_core.context import FlowRunContext, TaskRunContext
from prefect_core.engine import deadlines, remote
from prefect_core.engine.links import Link
from prefect_core.engine.outline import lineage, outline, plain_outline
from prefect_core.engine.parcels import PLAIN_CALL_FIELDS, PLAIN_REPLY_FIELDS, Parcel, PlainReply, Surroundings, opened
from prefect_core.engine.pickled_tasks import new_number, pickled_task
from prefect_core.engine.replay import Replay
from prefect_core.engine.storing_afar import StoredAfar, order_of, refuse
from prefect_core.engine.travelling_errors import load_error
from prefect_core.errors import InputNotMade, OutOfReach, RunnerError, SerializationError, WorkerLost
from prefect_core.limits import blocks_among
from prefect_core.payload import PLAIN, Payload, Receipt
from prefect_core.references import Reference

_ADVICE = "Make it inside the task, or pass what it can be made from."


class Transport:
    """Turns the payloads of one runner, which belong to one flow run, into deliveries."""

    def __init__(self, home: object = None) -> None:
        """`home` is the runner, where that can hand on references to values that it holds (`Delivery.natives`)."""
        self._home = home
        self.unreached: set[str] = set()
        """Storages by their URLs that are known not to be reached where payloads go: values that lie there travel themselves."""
        self._nothing = references.Packed(self.unreached, takes_links=False)
        """What is packed with arguments that refer to nothing."""
        self._around: FlowRunContext | None = None
        self._surroundings: tuple[int, bytes] | None = None

    def take(self, payload: Payload, *, in_chunk: bool = False) -> Delivery:
        """Pickle a payload. Raises `SerializationError` that names the task and what of it can't travel, or `InputNotMade`."""
        around = payload.context
        assert isinstance(around, TaskRunContext)
        if payload.is_unwanted:
            raise RunnerError(f"{around.task_run.name!r} has ended before its body began.")
        if self._surroundings is None or around.flow_context is not self._around:
            self._around = around.flow_context
            self._surroundings = new_number(), _dump_surroundings(self._around)
        task = pickled_task(around.task)
        order = order_of(payload, self.unreached) if self._home is not None else None
        if not payload.after and payload.has_plain_arguments():
            packed = self._nothing
            fields = _call_of(payload, around, order)
            call = fields if in_chunk and len(fields) == PLAIN_CALL_FIELDS else pickle.dumps(fields)
        else:
            with references.packing(self._home, self.unreached, takes_links=in_chunk) as packed:
                call = _dump_call(payload, _call_of(payload, around, order), self._home)
            for reference in payload.after:
                packed.add(reference.native, reference)
        return Delivery(payload, Parcel(*self._surroundings, task.number, task.dumped, call), packed)


def _dump_surroundings(around: FlowRunContext | None) -> bytes:
    flow = None
    if around is not None:
        flow = (around.flow_run.flow_name, around.flow_run.flow_version, around.log_prints)
    level = logging.getLogger("prefect_core").getEffectiveLevel()
    now = settings.current()
    runs = lineage(around.flow_run) if around is not None else []
    return pickle.dumps(tuple(Surroundings(remote.process_name(), now, level, runs, flow)))


def _call_of(payload: Payload, around: TaskRunContext, order: tuple[Any, ...] | None) -> tuple[Any, ...]:
    """Return the fields of a `parcels.Call`, or a `parcels.PlainCall`."""
    variables = payload.variables
    tags, blocks = context.tags_among(variables), blocks_among(variables)
    if (
        not tags
        and not blocks
        and order is None
        and payload.timeout_seconds is None
        and around.flow_context is not None
    ):
        plain = plain_outline(around.task_run)
        if plain is not None:
            return (plain, around.depth, around.log_prints, payload.args, payload.kwargs)
    # The lineage begins below the flow run.
    runs = [outline(around.task_run)]
    parent = around.parent
    while isinstance(parent, TaskRunContext):
        runs.insert(0, outline(parent.task_run))
        parent = parent.parent
    return (
        runs,
        around.depth,
        around.log_prints,
        tags,
        payload.timeout_seconds,
        payload.args,
        payload.kwargs,
        order,
        blocks,
    )


def _dump_call(payload: Payload, call: tuple[Any, ...], home: object) -> bytes:
    if all(type(value) in PLAIN or _is_held_by(home, value) for value in (*payload.args, *payload.kwargs.values())):
        return pickle.dumps(call)
    try:
        dumped: bytes = pickling.dumps(call)
    except (OutOfReach, InputNotMade):
        raise
    except Exception as failure:
        raise _unpicklable_arguments(payload, failure) from failure
    return dumped


def _is_held_by(home: object, value: Any) -> bool:
    return type(value) is Link or (isinstance(value, Reference) and value.is_had_by(home))


def _unpicklable_arguments(payload: Payload, failure: Exception) -> SerializationError:
    name = payload.context.run.task_name  # type: ignore[union-attr]  # payloads of runners are of tasks
    for parameter, value in payload.context.parameters.items():
        inner = unpicklable.failure_of(value, pickling.dumps)
        if isinstance(inner, SerializationError):
            # It says itself what to do.
            return SerializationError(
                f"Argument {parameter!r} of task {name!r} can't be sent to another process: {inner}"
            )
        if inner is not None:
            what = unpicklable.described(parameter, value, inner, pickling.dumps)
            return SerializationError(
                f"Argument {parameter!r} of task {name!r} can't be sent to another process: {what}. {_ADVICE}"
            )
    return SerializationError(
        f"The arguments of task {name!r} can't be sent to another process: {type(failure).__name__}: {failure}."
    )


def _no_reference() -> None:
    """Make no reference, where values are not kept."""


class Delivery:
    """One payload on its way: what is sent, and what comes back. For one thread at a time, but for `begun`."""

    _beginning = threading.Lock()

    def __init__(self, payload: Payload, parcel: Parcel, packed: references.Packed) -> None:
        self.payload = payload
        self.parcel = parcel
        self.natives = packed.natives
        """What the references among the arguments stand for, in the order of their places in the parcel."""
        self._references = packed.references
        self._unreached = packed.unreached
        self.sent_us = 0
        self.started_us = 0
        self._replay: Replay | None = None

    @property
    def is_unwanted(self) -> bool:
        """Whether the run was ended while its payload was on its way: the body should not begin any more."""
        return self.payload.is_unwanted

    def begun(self, started_us: int) -> None:
        """Take note that the body runs, since this moment in wall microseconds; the first time counts."""
        with self._beginning:
            is_first, self.started_us = not self.started_us, self.started_us or started_us
        if not is_first:
            return
        if self.payload.started is not None:
            try:
                self.payload.started(started_us)
            except BaseException:
                # The run was ended meanwhile, and whoever did that has the last word.
                return

    def happened(self, dumped: bytes) -> None:
        """Record what the worker sent ahead."""
        self._replay_events(pickle.loads(dumped))

    def _replay_events(self, events: list[Any]) -> None:
        if not events:
            return
        if self._replay is None:
            around = self.payload.context
            assert isinstance(around, TaskRunContext)
            self._replay = Replay(around)
        self._replay.events(events)

    def receipt(self, told: bytes | PlainReply, reference: Callable[[], Reference | None] = _no_reference) -> Receipt:
        """Turn a reply into the receipt, and record what happened inside; `reference` makes one to a value that is kept. Never raises."""
        fields = told if isinstance(told, tuple) else pickle.loads(told)
        if len(fields) == PLAIN_REPLY_FIELDS:
            receipt = Receipt()
            receipt.worker, receipt.started_us, receipt.ended_us, receipt.value = fields
            return receipt
        assert isinstance(told, bytes)
        reply, plain = opened(fields)
        if reply.is_unready:
            if reply.unreached is not None:
                refuse(self._unreached, self.payload.context, *reply.unreached)
            return self.unready(reply.worker)
        if reply.unloadable is not None:
            return self._unstarted(SerializationError(self._why_unloadable(reply.unloadable)), reply.worker)
        if reply.events:
            self.begun(reply.started_us)
            self._replay_events(reply.events)
        receipt = Receipt(timed_out=reply.timed_out)
        receipt.worker, receipt.started_us, receipt.ended_us = reply.worker, reply.started_us, reply.ended_us
        if reply.timed_out:
            receipt.error = deadlines.too_late(self.payload)
        elif reply.error is not None:
            receipt.error = _raised(load_error(reply.error))
        elif plain:
            receipt.value = plain[0]
        elif reply.is_kept:
            receipt.value = reference()
            receipt.stored = StoredAfar(reply.stored, self._unreached) if reply.stored is not None else None
        else:
            self._load_value(receipt, told)
        return receipt

    def _load_value(self, receipt: Receipt, dumped: bytes) -> None:
        stream = BytesIO(dumped)
        pickle.load(stream)
        try:
            receipt.value = pickle.load(stream)
        except Exception as failure:
            receipt.error = SerializationError(
                f"The result of task {self._task_name!r} came back from its worker process but can't be loaded here: "
                f"{type(failure).__name__}: {failure}. Return plain data, or a class whose pickles load."
            )
            receipt.error.__cause__ = failure

    def _why_unloadable(self, reason: str) -> str:
        for parameter, value in self.payload.context.parameters.items():
            try:
                pickle.loads(pickling.dumps(value))
            except Exception:
                return (
                    f"Argument {parameter!r} of task {self._task_name!r} was sent to a worker process but can't be loaded there: it is a "
                    f"{type(value).__module__}.{type(value).__qualname__} ({reason}). {_ADVICE}"
                )
        return (
            f"Task {self._task_name!r} was sent to a worker process but can't be loaded there: {reason}. "
            "Whatever it imports must be importable in workers too."
        )

    @property
    def _task_name(self) -> str:
        run = self.payload.run
        return str(getattr(run, "task_name", run.name))

    def _unstarted(self, error: Exception, worker: str) -> Receipt:
        receipt = Receipt.of_unbegun(error)
        receipt.worker = worker
        return receipt

    def note_lost(self, is_lost: Callable[[Any], bool]) -> bool:
        """Mark the references of `natives` that are lost, so that their values are made again; tells whether there are some."""
        lost = [
            one
            for native, one in zip(self.natives, self._references, strict=True)
            if one is not None and is_lost(native)
        ]
        for reference in lost:
            reference.is_lost = True
        return bool(lost)

    def unready(self, worker: str = "") -> Receipt:
        """Make the receipt of an attempt that could not begin, since a value that it refers to was never made or is lost."""
        receipt = self._unstarted(RunnerError("An input of this attempt was not made."), worker)
        receipt.unready = True
        return receipt

    def lost(self, reason: str, worker: str, *, began: bool) -> Receipt:
        """Make the receipt of an attempt whose place ended before it answered, or that could not be had at all."""
        receipt = self._unstarted(WorkerLost(reason), worker)
        receipt.lost, receipt.began = True, began
        receipt.ended_us = clock.now_us()
        receipt.started_us = self.started_us or self.sent_us or receipt.ended_us
        if self._replay is not None:
            self._replay.close(reason)
        return receipt

    def late(self, worker: str) -> Receipt:
        """Make the receipt of an attempt whose body did not heed its deadline, and whose place was ended therefore."""
        receipt = deadlines.late_receipt(self.payload, self.started_us)
        receipt.worker = worker
        if self._replay is not None:
            self._replay.close("The task run that this one was made in was ended at its deadline.")
        return receipt


def _raised(error: BaseException) -> BaseException:
    """Return the exception with a traceback of here, by which it is known to have been raised."""
    try:
        raise error
    except BaseException as raised:
        return raised


def _renew_lock() -> None:
    Delivery._beginning = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)
