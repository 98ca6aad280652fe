"""A runner that holds values, as an engine of a cluster does, with threads for workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from prefect_core.engine import in_place
from prefect_core.engine.links import awaited_in, in_chunk
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


class _Item:
    """One attempt of a chunk; its seat is taken when it begins, and holds its value if that is large."""

    def __init__(self, delivery: Delivery, done: Callable[[Receipt], None]) -> None:
        self.delivery = delivery
        self.done = done
        self.seat: Future[Any] = Future()

    def begins(self) -> bool:
        """Take the seat; False if the attempt was taken back."""
        return not self.seat.cancelled() and (self.seat.running() or self.seat.set_running_or_notify_cancel())


class HoldingTaskRunner(TaskRunner):
    """Runs attempts on two threads, each when what it refers to has been made; `tells` sends news ahead."""

    shares_memory = False
    holds_values = True
    takes_chunks = True
    links_chunks = True

    def __init__(self) -> None:
        self.fetched = 0
        self.lost: set[Future[Any]] = set()
        self._natives: WeakSet[Future[Any]] = WeakSet()
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
        self._natives.add(native)
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
        items: list[_Item] = []
        for payload, done in chunk:
            try:
                items.append(_Item(self._transport.take(payload, in_chunk=True), done))
                payload.handle = items[-1].seat
            except Exception as error:
                done(Receipt.of_unbegun(error))
        if items:
            self._pool.submit(self._work_chunk, items)

    def _work_chunk(self, items: list[_Item]) -> None:
        answered: set[int] = set()

        def tell(place: int, kind: str, content: Any) -> None:
            item = items[place]
            if kind == in_place.ENDED:
                answered.add(place)
                item.done(item.delivery.receipt(content, lambda: self._reference(item.seat)))
            else:
                (item.delivery.begun if kind == in_place.BEGUN else item.delivery.happened)(content)

        def keep(place: int, value: Any) -> None:
            items[place].seat.set_result(in_place.Outcome(True, b"", value))

        is_cut = True
        while is_cut:
            left = [(place, item) for place, item in enumerate(items) if place not in answered]
            packed = in_chunk(item.delivery for item in items)
            parcels = ((place, packed[place]) for place, item in left if item.begins())
            replies = in_place.work_chunk(parcels, tell, keep, awaited=awaited_in(packed))
            is_cut = any(place == in_place.CUT for place, _ in replies)
            for place, reply in replies:
                if place != in_place.CUT:
                    tell(place, in_place.ENDED, reply)

    def reference_to(self, payload: Payload) -> Reference | None:
        # Of what has a place in a chunk it is not known whether its value will be held.
        return self._reference(payload.handle) if payload.handle in self._natives else None

    def cancel(self, payload: Payload) -> bool:
        return payload.handle is not None and payload.handle.cancel()

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
