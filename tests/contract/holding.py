"""A runner that holds values, as an engine of a cluster does, with threads for workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from weakref import WeakValueDictionary

from prefect_core.engine import in_place
from prefect_core.engine.transport import Delivery, Transport
from prefect_core.errors import ValueLost
from prefect_core.payload import Payload, Receipt
from prefect_core.references import Reference
from prefect_core.task_runners import Host, TaskRunner


class Held(Reference):
    """An outcome that a thread will make."""

    __slots__ = ("runner",)

    def fetch(self) -> Any:
        runner: Any = self.home
        if self.native is None or self.native in runner.lost:
            raise ValueLost("The value is gone.")
        runner.fetched += 1
        return self.native.result().value


class HoldingTaskRunner(TaskRunner):
    """Runs attempts on two threads, each when what it refers to has been made; `tells` sends news ahead."""

    shares_memory = False
    holds_values = True
    takes_chunks = True

    def __init__(self) -> None:
        self.fetched = 0
        self.lost: set[Future[Any]] = set()
        self._held: WeakValueDictionary[Future[Any], Held] = WeakValueDictionary()
        self.early = 0
        self.chunks: list[int] = []

    def duplicate(self) -> HoldingTaskRunner:
        return type(self)()

    def start(self, host: Host) -> None:
        self._transport = Transport(self)
        self._pool = ThreadPoolExecutor(2)
        self._lock = threading.Lock()

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        delivery = self._transport.take(payload)
        if delivery.note_lost(self.lost.__contains__):
            done(delivery.unready())
            return
        native: Future[in_place.Outcome] = Future()
        payload.handle = native
        self.early += sum(not one.done() for one in delivery.natives)
        self._when_done(list(delivery.natives), lambda: self._begin(delivery, native, done))

    def _when_done(self, natives: list[Future[Any]], then: Callable[[], object]) -> None:
        if natives:
            natives.pop().add_done_callback(lambda _: self._when_done(natives, then))
        else:
            then()

    def _begin(self, delivery: Delivery, native: Future[Any], done: Callable[[Receipt], None]) -> None:
        if native.set_running_or_notify_cancel():
            self._pool.submit(self._work, delivery, native, done)

    def _work(self, delivery: Delivery, native: Future[Any], done: Callable[[Receipt], None]) -> None:
        def tell(kind: str, content: Any) -> None:
            (delivery.begun if kind == in_place.BEGUN else delivery.happened)(content)

        outcome = in_place.work(delivery.parcel, [one.result() for one in delivery.natives], tell)
        native.set_result(outcome)
        done(delivery.receipt(outcome.reply, lambda: self._reference(native)))

    def _reference(self, native: Future[Any]) -> Held:
        with self._lock:
            held = self._held.get(native)
            if held is None:
                held = self._held[native] = Held(self, native)
            return held

    def lose(self, value: Any) -> None:
        """Let a value be gone, as that of a worker that ended."""
        self.lost.add(value.native)

    def submit_chunk(self, chunk: Sequence[tuple[Payload, Callable[[Receipt], None]]]) -> None:
        self.chunks.append(len(chunk))
        items: list[tuple[Delivery, Callable[[Receipt], None]]] = []
        for payload, done in chunk:
            try:
                items.append((self._transport.take(payload), done))
            except Exception as error:
                done(Receipt.of_unbegun(error))
        self._pool.submit(self._work_chunk, items)

    def _work_chunk(self, items: list[tuple[Delivery, Callable[[Receipt], None]]]) -> None:
        def tell(place: int, kind: str, content: Any) -> None:
            delivery, done = items[place]
            if kind == in_place.ENDED:
                done(delivery.receipt(content))
            else:
                (delivery.begun if kind == in_place.BEGUN else delivery.happened)(content)

        for place, reply in in_place.work_chunk([delivery.parcel for delivery, _ in items], tell):
            tell(place, in_place.ENDED, reply)

    def reference_to(self, payload: Payload) -> Reference | None:
        return self._reference(payload.handle) if payload.handle is not None else None

    def cancel(self, payload: Payload) -> bool:
        return payload.handle is not None and payload.handle.cancel()

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
