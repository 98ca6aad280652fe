"""Tasks on Ray: on a local one that is started for the flow run, on the one that this process has, or on a cluster by its address."""

from __future__ import annotations

import pickle
import sys
import uuid
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from prefect_core import references
from prefect_core.context import TaskRunContext
from prefect_core.engine.links import in_chunk
from prefect_core.engine.parcels import Parcel
from prefect_core.engine.transport import Delivery, Transport
from prefect_core.errors import RunnerError, describe
from prefect_core.payload import Payload, Receipt
from prefect_core.references import Reference
from prefect_core.task_runners import Host, TaskRunner
from prefect_runners import ray_cluster, ray_objects, ray_options, ray_preflight, ray_seat
from prefect_runners.ray_attempts import Attempt, Attempts
from prefect_runners.ray_begun import Book
from prefect_runners.ray_chunks import Chunk, Member
from prefect_runners.ray_clerk import Clerk
from prefect_runners.ray_preflight import Preflight
from prefect_runners.ray_store import HeadStore, Session
from prefect_runners.ray_taking_back import TakingBack
from prefect_runners.ray_watch import Watch
from prefect_runners.ray_worker import execute, execute_chunk, execute_small

_STOP_SECONDS = 5.0


class RayTaskRunner(TaskRunner):
    """Runs tasks on Ray, each attempt as one Ray task.

    If this process has an initialised Ray, or `address` names a cluster ("auto", "host:6379", "ray://host:10001"), that is borrowed, and
    left as it was found. Otherwise a local Ray is started with `init_kwargs` (what `ray.init` takes) and shut down when the flow run ends;
    with `keep_warm` it is left to the next flow run of this process with the same settings.

    Values over 64 KiB stay in Ray's memory and move between tasks there. As everywhere in Ray, NumPy arrays among them are read-only views:
    copy one to change it. What a body submits runs in its own worker.
    """

    shares_memory = False
    can_cancel_running = True
    can_kill = True
    holds_values = True
    takes_chunks = True
    links_chunks = True

    def __init__(
        self, address: str | None = None, init_kwargs: dict[str, Any] | None = None, *, keep_warm: bool = False
    ) -> None:
        if address is not None and (not isinstance(address, str) or not address):
            raise TypeError(f"'address' must be a text such as 'auto' or 'host:6379', or None; got {address!r}.")
        if init_kwargs is not None and not isinstance(init_kwargs, dict):
            raise TypeError(f"'init_kwargs' must be a dict of arguments for ray.init, or None; got {init_kwargs!r}.")
        if keep_warm and address is not None:
            raise ValueError("Cannot specify `keep_warm` and `address`: a borrowed Ray is never shut down.")
        self.address = address
        self.init_kwargs = dict(init_kwargs or {})
        self.keep_warm = keep_warm
        self._transport = Transport(home=self)
        self._lease: ray_cluster.Lease | None = None
        self._attempts: Attempts | None = None
        self._store: Any = None
        self._begun: Book | None = None
        self._parts: set[int] = set()
        """Numbers of the parts of payloads that lie in the store."""
        self._watch: Any = None
        self._taking_back: TakingBack | None = None
        self._clerk: Clerk | None = None
        self._session = b""
        self._preflight: Preflight | None = None
        self._leave_seat: Callable[[], None] | None = None
        self._functions: dict[int, Any] = {}
        """What Ray calls for an attempt, by how many objects come of it; 0 for a chunk of attempts."""

    @classmethod
    def from_argument(cls, argument: str) -> RayTaskRunner:
        return cls(argument)

    def options(self) -> dict[str, Any]:
        return {
            "address": self.address,
            "init_kwargs": self.init_kwargs or None,
            "keep_warm": self.keep_warm or None,
        }

    def duplicate(self) -> RayTaskRunner:
        return type(self)(self.address, self.init_kwargs, keep_warm=self.keep_warm)

    def start(self, host: Host) -> None:
        """Connect to Ray or start it. Raises `ConfigurationError` where it is missing, and `RunnerError` where that can't be."""
        self._lease = lease = ray_cluster.connect(self.address, self.init_kwargs, keep_warm=self.keep_warm)
        if not lease.is_local:
            ray_preflight.check_versions(lease.ray)
        references.let_travel("ray", RayTaskRunner, ray_objects.Foreign)
        self._session = f"session-{uuid.uuid4().hex}".encode()
        self._store = store = HeadStore(self._session)
        self._begun = begun = Book(store)
        path = [str(Path(entry).absolute()) for entry in sys.path]
        store.open(Session(path, begun.folder))
        self._preflight = Preflight(lease, self._session, path)
        self._functions = _functions_on(lease.ray, ray_cluster.connection(lease.ray))
        self._attempts = attempts = Attempts(lease.ray, self, begun, host.engine_is_gone)
        self._leave_seat = ray_seat.open_for(lease.ray, lambda: list(attempts.replies(None)))
        self._watch = Watch(self._attempts, store, partial(ray_cluster.has_own_node, lease.ray))
        self._clerk = Clerk(self._attempts, self._watch)
        self._taking_back = TakingBack(self._attempts, store, self._hand_over_chunk)

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        attempts, clerk = self._attempts, self._clerk
        if attempts is None or clerk is None:
            raise RunnerError("The task runner must be started before submitting work.")
        options = ray_options.of(payload)
        self._look_ahead(payload, options)
        delivery = self._transport.take(payload)
        if attempts.dead is not None:
            done(delivery.lost(attempts.dead, "", began=False))
            return
        if attempts.lost and delivery.note_lost(attempts.lost.__contains__):
            done(delivery.unready())
            return
        attempt = payload.handle = attempts.new(delivery, done)
        try:
            attempt.reply, attempt.made = self._hand_over(attempt, delivery, options)
        except Exception as error:
            attempts.close(attempt)
            raise RunnerError(f"Ray did not take {payload.run.name!r}: {describe(error)}") from error
        clerk.expect(attempt)
        self._watch.rouse()

    def _look_ahead(self, payload: Payload, options: dict[str, Any]) -> None:
        assert self._attempts is not None
        if self._preflight is not None and self._attempts.dead is None:
            self._preflight.look_at(payload, options)

    def _hand_over(self, attempt: Attempt, delivery: Delivery, options: dict[str, Any]) -> Any:
        natives, foreign = ray_objects.unwrapped(delivery.natives)
        parcel = delivery.parcel
        self._leave_parts(parcel)
        order = pickle.dumps((self._session, attempt.number, foreign, parcel.surroundings, parcel.task, parcel.call))
        assert self._attempts is not None
        number_of_returns = 1 if self._attempts.sizes.is_small(parcel.task) else 2
        function = self._functions[number_of_returns]
        # One name for all, by which Ray's dashboard groups them; a worker that changes its name at each task pays for that.
        name = _task_name(delivery.payload)
        if options:
            left = function.options(name=name, **options).remote(order, *natives)
        else:
            # What `options` does, but for a class that it makes at each call.
            left = function._remote((order, *natives), {}, name=name, num_returns=number_of_returns, max_retries=0)
        return left if number_of_returns == 2 else (left, left)

    def _leave_parts(self, parcel: Parcel) -> None:
        """Leave the parts of a parcel in the store that are the same for many."""
        if parcel.task in self._parts and parcel.surroundings in self._parts:
            return
        for number, dumped in ((parcel.surroundings, parcel.surroundings_bytes), (parcel.task, parcel.task_bytes)):
            if number not in self._parts:
                assert dumped is not None
                self._store.put_part(number, dumped)
                self._parts.add(number)

    def submit_chunk(self, chunk: Sequence[tuple[Payload, Callable[[Receipt], None]]]) -> None:
        members = []
        seen: Any = None
        for payload, done in chunk:
            around = payload.context
            assert isinstance(around, TaskRunContext)
            try:
                if around.task is not seen or payload.storage is not None:
                    self._look_ahead(payload, ray_options.of(payload))
                    seen = around.task
                delivery = self._transport.take(payload, in_chunk=True)
                self._leave_parts(delivery.parcel)
                member = payload.handle = Member(delivery, done)
                members.append(member)
            except Exception as error:
                done(Receipt.of_unbegun(error))
        if members:
            self._hand_over_chunk(members)

    def _hand_over_chunk(self, members: Sequence[Member]) -> None:
        attempts, clerk, taking_back = self._attempts, self._clerk, self._taking_back
        if attempts is None or clerk is None or taking_back is None or attempts.dead is not None:
            reason = attempts.dead if attempts is not None and attempts.dead else "The task runner is stopped."
            for member in members:
                member.done(member.delivery.lost(reason, "", began=False))
            return
        if not members:
            return
        chunk = attempts.add(Chunk(attempts, members, taking_back.hand_over_rest))
        parcels = in_chunk(member.delivery for member in members)
        payloads = [(parcel.surroundings, parcel.task, parcel.call, parcel.links) for parcel in parcels]
        order = pickle.dumps((self._session, chunk.number, payloads))
        payload = members[0].delivery.payload
        name = f"{_task_name(payload)} in chunks"
        try:
            chunk.reply = self._functions[0].options(name=name, **ray_options.of(payload)).remote(order)
        except Exception as error:
            attempts.close(chunk)
            for member in chunk.take_rest():
                member.done(Receipt.of_unbegun(RunnerError(f"Ray did not take {name!r}: {describe(error)}")))
            return
        clerk.expect(chunk)
        self._watch.rouse()

    def may_gather(self, payload: Payload) -> bool:
        return not ray_options.of(payload)

    def reference_to(self, payload: Payload) -> Reference | None:
        attempt = payload.handle
        return (
            self._attempts.reference_to(attempt)
            if self._attempts is not None and isinstance(attempt, Attempt)
            else None
        )

    def cancel(self, payload: Payload) -> bool:
        return self.cancel_many([payload])[0]

    def cancel_many(self, payloads: Sequence[Payload]) -> list[bool]:
        """Do what `cancel` does for many, all at once."""
        if self._taking_back is None:
            return [False] * len(payloads)
        return self._taking_back.cancel([payload.handle for payload in payloads])

    def interrupt(self, payload: Payload) -> None:
        """End the worker process that runs the attempt, which runs nothing else; Ray starts another when it needs one."""
        handle = payload.handle
        attempt = handle.at[0] if isinstance(handle, Member) and handle.at is not None else handle
        if self._attempts is not None and isinstance(attempt, Attempt):
            self._attempts.force(attempt)

    def stop(self) -> None:
        clerk, self._clerk = self._clerk, None
        if self._leave_seat is not None:
            self._leave_seat()
            self._leave_seat = None
        if self._preflight is not None:
            self._preflight.close()
        try:
            if self._attempts is not None and clerk is not None:
                self._attempts.force_all(_STOP_SECONDS)
                clerk.stop()
                self._watch.stop()
        finally:
            if self._begun is not None:
                self._begun.close()
            if self._lease is not None:
                self._lease.give_back()

    def __reduce__(self) -> tuple[Any, ...]:
        # A task that names this runner may be mentioned by a function that travels.
        return partial(type(self), self.address, self.init_kwargs, keep_warm=self.keep_warm), ()


def _task_name(payload: Payload) -> str:
    around = payload.context
    assert isinstance(around, TaskRunContext)
    return around.task_run.task_name


@lru_cache(maxsize=1)
def _functions_on(ray: ModuleType, _connection: object) -> dict[int, Any]:
    """Return what Ray calls, as in `RayTaskRunner._functions`. Each worker loads it once for all runs of this process."""
    return {
        0: ray.remote(num_returns=1, max_retries=0)(execute_chunk),
        1: ray.remote(num_returns=1, max_retries=0)(execute_small),
        2: ray.remote(num_returns=2, max_retries=0)(execute),
    }
