"""The near end of the Dask runner: the attempts that one flow run has on a cluster.

An attempt is one native task. Its reply, and what it tells before, come back as events of Dask; the outcome stays with the worker, and what
the engine gets of it is a `DaskReference`. So a task costs its submit and no round trip. Events are dealt with by a thread of our own,
which also looks at Dask's futures every half second: an event that was lost with its worker, and the end of a worker or of the
scheduler, show there and nowhere else.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import threading
import time
from collections.abc import Callable, Collection
from contextvars import Context
from typing import TYPE_CHECKING, Any

import distributed
from dask.base import get_annotations

from prefect_core import logs
from prefect_core.engine import in_place, transport
from prefect_core.engine.transport import Delivery, Transport
from prefect_core.errors import RunnerError, describe
from prefect_core.payload import Payload, Receipt
from prefect_runners import dask_natives, dask_worker
from prefect_runners.dask_cluster import Connection, Wanted, large_graphs_allowed
from prefect_runners.dask_guard import Guard
from prefect_runners.dask_natives import DaskReference
from prefect_runners.dask_preflight import Modules, check_versions
from prefect_runners.settling import Settling

if TYPE_CHECKING:
    from prefect_runners.dask import DaskTaskRunner

_LARGE_BYTES = 8 << 20
_ASK_SECONDS = 1.0
_ANSWER_SECONDS = 5.0
_GONE = "gone"


class Attempt:
    """One payload, and the Dask task that it has become."""

    __slots__ = ("asked", "delivery", "done", "future", "key", "number", "reference", "seen_finished")

    def __init__(self, number: int, key: str, delivery: Delivery, done: Callable[[Receipt], None]) -> None:
        self.number = number
        self.key = key
        self.delivery = delivery
        self.done = done
        self.future: Any = None
        self.reference: DaskReference | None = None
        self.seen_finished = 0.0
        self.asked: Any = None


class Session:
    """What a started runner has."""

    def __init__(self, runner: DaskTaskRunner) -> None:
        self._runner = runner
        self._connection = Connection(
            Wanted(
                runner.cluster,
                runner.address,
                runner.cluster_class,
                runner.cluster_kwargs,
                runner.adapt_kwargs,
                runner.client_kwargs,
                runner.keep_warm,
            )
        )
        self._report_path = runner.performance_report_path
        self._report: Any = None
        self._transport = Transport(home=runner)
        token = secrets.token_hex(4)
        self._mark = f"-{token}"
        self._topic = f"prefect-core-{token}"
        self._numbers = itertools.count(1)
        self._open: dict[int, Attempt] = {}
        self._submitting = threading.Lock()
        self._gone: dict[str, str] = {}
        self._broken: str | None = None
        self._is_guarded = False
        self._is_closed = False
        self._settling = Settling("prefect-core-dask-receipts", self._settle_message, self._look)
        self._modules: Modules | None = None
        self.client: Any = None

    def start(self) -> None:
        """Connect, check the workers, and listen. Raises what says why that can't be."""
        self._connection.open()
        client = self.client = self._connection.client
        dask_natives.register()
        check_versions(client)
        self._modules = Modules(client)
        client.subscribe_topic(self._topic, self._hear)
        client.subscribe_topic("all", self._hear_of_cluster)
        try:
            client.register_plugin(Guard(self._mark, self._topic, client.id), name=self._topic)
            self._is_guarded = True
        except Exception as error:
            logs.engine_line(
                None,
                logs.WARNING,
                f"The Dask scheduler at {self._connection.place} takes no plug-in of ours ({describe(error)}): tasks of a worker that ends "
                "may run once more before they can be stopped.",
            )
        if self._report_path is not None:
            self._report = distributed.performance_report(filename=self._report_path)
            with client.as_current():
                self._report.__enter__()
        self._settling.start()

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        """Hand an attempt to Dask. Raises `SerializationError` for one that can't travel."""
        if self._modules is not None and self._modules.look_at(payload.context.task):  # type: ignore[union-attr]  # of a task
            transport.forget(payload.context.task)  # type: ignore[union-attr]  # as above
        delivery = self._transport.take(payload)
        natives = [dask_natives.future_of(native, self.client) for native in delivery.natives]
        number = next(self._numbers)
        run = payload.run
        attempt = Attempt(number, f"{run.name}-{run.uid:x}-{payload.attempt}{self._mark}", delivery, done)
        payload.handle = attempt
        if self._broken is not None:
            self._settle(attempt, delivery.lost(self._broken, "", began=False))
            return
        self._open[number] = attempt
        options = _options_for(payload)
        is_large = len(delivery.parcel.call) > _LARGE_BYTES
        with self._submitting, large_graphs_allowed() if is_large else contextlib.nullcontext():
            # In a context of its own: annotations of whoever's thread this is are not the task's.
            attempt.future = Context().run(self._submit, attempt, natives, options)
        if self._broken is not None:
            self._settle(attempt, delivery.lost(self._broken, "", began=False))

    def _submit(self, attempt: Attempt, natives: list[Any], options: dict[str, Any]) -> Any:
        parcel = tuple(attempt.delivery.parcel)
        return self.client.submit(
            dask_worker.work, self._topic, attempt.number, parcel, *natives, key=attempt.key, pure=False, **options
        )

    def reference_to(self, payload: Payload) -> DaskReference | None:
        """Return where the value of an open attempt will lie."""
        attempt = payload.handle
        if not isinstance(attempt, Attempt) or attempt.future is None:
            return None
        return self._reference(attempt)

    def _reference(self, attempt: Attempt) -> DaskReference:
        if attempt.reference is None:
            attempt.reference = DaskReference(self._runner, attempt.future, attempt.delivery.payload.run.name, self)
        return attempt.reference

    # What comes back. The first two are called on Dask's event loop, all others on our own thread.

    def _hear(self, event: Any) -> None:
        self._settling.put(event[1])

    def _hear_of_cluster(self, event: Any) -> None:
        message = event[1]
        if isinstance(message, dict) and message.get("action") == "remove-worker":
            self._settling.put((_GONE, 0, message))

    def _settle_message(self, message: Any) -> None:
        kind, number, what = message
        if kind == _GONE:
            self._worker_has_gone(what)
            return
        attempt = self._open.get(number)
        if attempt is None:
            # It was given up, or Dask has run it once more where no guard could prevent that.
            return
        if attempt.future is None:
            # The reply was faster than the thread that submits.
            with self._submitting:
                pass
        if kind == dask_worker.REPLY:
            self._settle(attempt, attempt.delivery.receipt(what, self._reference(attempt)))
        elif kind == in_place.BEGUN:
            attempt.delivery.begun(what)
        else:
            attempt.delivery.happened(what)

    def _settle(self, attempt: Attempt, receipt: Receipt) -> None:
        self._open.pop(attempt.number, None)
        if attempt.delivery.payload.handle is not attempt:
            # It was taken back, or settled before.
            return
        # The two refer to each other.
        attempt.delivery.payload.handle = None
        attempt.done(receipt)

    def _worker_has_gone(self, event: dict[str, Any]) -> None:
        worker = str(event["worker"])
        keys = [*event.get("processing-tasks", ()), *event.get("lost-computed-tasks", ())]
        ours = [key for key in keys if isinstance(key, str) and key.endswith(self._mark)]
        self._gone.update(dict.fromkeys(ours, worker))
        if ours and not self._is_guarded:
            again: list[Any] = [distributed.Future(key, self.client) for key in ours if key in self.client.futures]
            self.client.cancel(again, force=True)
        self._settling.look_soon()

    def _look(self) -> None:
        """Find the attempts that nothing will be heard of any more."""
        if self._is_closed:
            return
        if self.client.status != "running":
            place = self._connection.place
            self._broken = (
                f"The connection to the Dask scheduler at {place} was lost: it has ended, or can't be reached."
            )
        for attempt in list(self._open.values()):
            status = attempt.future.status if attempt.future is not None else "pending"
            if status == "pending" or not self._settling.is_empty():
                # What was put before the status changed is dealt with first.
                continue
            if status == "finished":
                self._ask(attempt)
            else:
                self._settle(attempt, self._receipt_of_lost(attempt, status))

    def _ask(self, attempt: Attempt) -> None:
        """Fetch the reply of an attempt whose own never came: it was lost with a worker, which still had time to hand on the value."""
        now = time.monotonic()
        if not attempt.seen_finished:
            attempt.seen_finished = now
        elif attempt.asked is None and now - attempt.seen_finished > _ASK_SECONDS:
            attempt.asked = self.client.submit(
                dask_worker.reply_of, attempt.future, key=f"reply-{attempt.key}", pure=False
            )
        elif attempt.asked is not None and attempt.asked.status == "finished":
            reply = attempt.asked.result(timeout=_ANSWER_SECONDS)
            self._settle(attempt, attempt.delivery.receipt(reply, self._reference(attempt)))
        elif attempt.asked is not None and attempt.asked.status != "pending":
            self._settle(attempt, self._receipt_of_lost(attempt, "lost"))

    def _receipt_of_lost(self, attempt: Attempt, status: str) -> Receipt:
        delivery = attempt.delivery
        if self._broken is not None:
            return delivery.lost(self._broken, "", began=True)
        worker = self._gone.pop(attempt.key, None)
        if worker is None and any(dask_natives.is_lost(native) for native in delivery.natives):
            return delivery.unready()
        if worker is not None:
            return delivery.lost(f"Dask worker {worker} ended while it had this task.", worker, began=True)
        if status != "error":
            reason = "This task was cancelled on the Dask cluster, by somebody else than its flow run."
            return delivery.lost(reason, "", began=bool(delivery.started_us))
        error = attempt.future.exception(timeout=_ANSWER_SECONDS)
        return delivery.lost(f"Dask could not run this task: {describe(error)}", "", began=bool(delivery.started_us))

    # Asked for by the engine.

    def cancel(self, payloads: Collection[Payload]) -> list[bool]:
        """Keep attempts that have not begun from running; tells for each whether that is certain."""
        attempts = {p.handle.number: p for p in payloads if isinstance(p.handle, Attempt)}
        if not attempts or self._is_closed or self._broken is not None:
            return [False] * len(payloads)
        try:
            answers = self.client.run(dask_worker.take_back, self._topic, list(attempts), on_error="return")
        except Exception:
            # Nobody knows what has begun.
            return [False] * len(payloads)
        if any(not isinstance(begun, list) for begun in answers.values()):
            return [False] * len(payloads)
        has_begun = {number for begun in answers.values() for number in begun}
        taken: set[int] = set()
        futures = []
        for number in attempts.keys() - has_begun:
            attempt = self._open.pop(number, None)
            if attempt is not None:
                attempt.delivery.payload.handle = None
                futures.append(attempt.future)
                taken.add(id(attempt.delivery.payload))
        self.client.cancel(futures)
        return [id(payload) in taken for payload in payloads]

    def fetch(self, future: Any, name: str) -> Any:
        """Bring a value here. Raises `RunnerError` that says why it can't be had."""
        if self._is_closed:
            raise RunnerError(
                f"The value of {name!r} was left on the Dask cluster, and the flow run that it belongs to has ended. Ask for it before "
                "(`future.result()`), or store it (`persist_result=True`)."
            )
        return dask_natives.fetched(future, name, self._gone.get(future.key), self._broken)

    def stop(self) -> None:
        """Leave nothing of ours on the cluster, and leave it."""
        self._is_closed = True
        self._settling.close()
        attempts, self._open = list(self._open.values()), {}
        try:
            if self.client is not None and self.client.status == "running":
                self._clear(attempts)
        finally:
            if self._modules is not None:
                self._modules.close()
            self._connection.close()

    def _clear(self, attempts: list[Attempt]) -> None:
        client = self.client
        if self._report is not None:
            with client.as_current():
                self._report.__exit__(None, None, None)
        futures = [attempt.future for attempt in attempts if attempt.future is not None]
        if futures:
            numbers = [attempt.number for attempt in attempts]
            with contextlib.suppress(Exception):
                client.run(dask_worker.take_back, self._topic, numbers, on_error="ignore")
            client.cancel(futures, force=True)


def _options_for(payload: Payload) -> dict[str, Any]:
    """Return what Dask is told of an attempt: the annotations around the place that submitted the task."""
    annotations = payload.variables.run(get_annotations) if payload.variables is not None else {}
    if not annotations:
        return {}
    # Retries are the engine's.
    known = ("resources", "priority", "workers", "allow_other_workers")
    return {name: annotations[name] for name in known if annotations.get(name)}
