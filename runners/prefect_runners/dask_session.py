"""The near end of the Dask runner: one flow run on a cluster, from its beginning to its end.

An attempt is one native task, whose outcome stays with the worker that ran it; what the engine gets of it is a `DaskReference`. Its reply
comes by itself (`dask_attempts`), so a task costs its submit and no round trip.
"""

from __future__ import annotations

import contextlib
import itertools
import pickle
import secrets
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import distributed
from dask.base import get_annotations

from prefect_core import logs
from prefect_core.context import TaskRunContext
from prefect_core.engine import pickled_tasks
from prefect_core.engine.links import in_chunk
from prefect_core.engine.transport import Delivery, Transport
from prefect_core.errors import RunnerError, describe
from prefect_core.payload import Payload, Receipt
from prefect_core.task_runners import Host
from prefect_runners import dask_natives, dask_preflight, dask_worker
from prefect_runners.dask_attempts import Attempt, Attempts
from prefect_runners.dask_batches import Batches, Native
from prefect_runners.dask_cluster import Connection, Wanted
from prefect_runners.dask_guard import Guard
from prefect_runners.dask_natives import DaskReference, InChunk
from prefect_runners.dask_taking_back import TakingBack
from prefect_runners.modules_by_value import Modules
from prefect_runners.storage_probe import Probes

if TYPE_CHECKING:
    from prefect_runners.dask import DaskTaskRunner


class Session:
    """What a started runner has."""

    def __init__(self, runner: DaskTaskRunner, host: Host) -> None:
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
        self._report: Any = None
        self._transport = Transport(home=runner)
        token = secrets.token_hex(4)
        self._mark = f"-{token}"
        self._topic = f"prefect-core-{token}"
        self._attempts = Attempts(self._topic, self._mark, self._reference, self._hand_over_again, host.engine_is_gone)
        self._taking_back = TakingBack(self._attempts, self._set_aside, self._hand_over_again)
        self._count = itertools.count()
        self._is_closed = False
        self._modules: Modules | None = None
        self._probes: Probes | None = None
        self._batches: Any = None
        self.client: Any = None

    def start(self) -> None:
        """Connect, check the workers, and listen. Raises what says why that can't be."""
        self._connection.open()
        client = self.client = self._connection.client
        dask_natives.register()
        dask_preflight.check_versions(client)
        self._modules = Modules(partial(dask_preflight.lacks, client))
        self._probes = Probes(partial(dask_preflight.run_there, client))
        self._attempts.listen(client, self._connection.place)
        self._batches = Batches(client, self._attempts.is_open, self._refused)
        self._batches.start()
        self._post_guard()
        if self._runner.performance_report_path is not None:
            self._report = distributed.performance_report(filename=self._runner.performance_report_path)
            with client.as_current():
                self._report.__enter__()

    def _post_guard(self) -> None:
        try:
            self.client.register_plugin(Guard(self._mark, self._topic, self.client.id), name=self._topic)
            self._attempts.is_guarded = True
        except Exception as error:
            place = self._connection.place
            logs.engine_line(
                None,
                logs.WARNING,
                f"The Dask scheduler at {place} takes no plug-in of ours ({describe(error)}): tasks of a worker that ends may run "
                "once more before they can be stopped.",
            )

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        """Hand an attempt to Dask. Raises `SerializationError` for one that can't travel."""
        delivery = self._take(payload)
        if delivery.note_lost(dask_natives.is_lost):
            done(delivery.unready())
            return
        natives = [dask_natives.future_of(native, self.client) for native in delivery.natives]
        attempt = Attempt(self._key_of(payload), delivery, done)
        payload.handle = attempt
        self._attempts.add(attempt)
        self._hand_over_one(attempt.native, attempt, natives)

    def submit_chunk(self, chunk: Sequence[tuple[Payload, Callable[[Receipt], None]]]) -> None:
        """Hand attempts to Dask as one task."""
        native = self._key_of_chunk(chunk[0][0])
        attempts: list[Attempt] = []
        for payload, done in chunk:
            try:
                delivery = self._take(payload, with_others=True)
            except Exception as error:
                done(Receipt.of_unbegun(error))
                continue
            attempt = Attempt(dask_worker.place_in(native, len(attempts)), delivery, done, native)
            payload.handle = attempt
            attempts.append(attempt)
            self._attempts.add(attempt)
        if attempts:
            self._hand_over_chunk(native, attempts)

    def _key_of(self, payload: Payload) -> str:
        run = payload.run
        # An attempt that could not begin is handed over again under the same number.
        return f"{run.name}-{run.uid:x}-{payload.attempt}-{next(self._count)}{self._mark}"

    def _key_of_chunk(self, first: Payload) -> str:
        return f"{getattr(first.run, 'task_name', 'chunk')}-chunk-{next(self._count)}{self._mark}"

    def has_options(self, payload: Payload) -> bool:
        """Tell whether Dask is to be told something of an attempt."""
        return bool(_options_for(payload))

    def _take(self, payload: Payload, *, with_others: bool = False) -> Delivery:
        around = payload.context
        assert isinstance(around, TaskRunContext)
        if self._modules is not None and self._modules.look_at(around.task):
            pickled_tasks.forget(around.task)
        if self._probes is not None and self._attempts.broken is None:
            self._probes.look_at(payload)
        return self._transport.take(payload, in_chunk=with_others)

    def _hand_over_one(self, native: str, attempt: Attempt, natives: list[Any]) -> None:
        self._hand_over(native, dask_worker.work, (attempt,), tuple(attempt.delivery.parcel), natives)

    def _hand_over_chunk(self, native: str, attempts: list[Attempt]) -> None:
        parcels = [*map(tuple, in_chunk(attempt.delivery for attempt in attempts))]
        self._hand_over(native, dask_worker.work_chunk, tuple(attempts), parcels, [])

    def _hand_over(
        self, key: str, function: Callable[..., Any], attempts: tuple[Attempt, ...], content: Any, natives: list[Any]
    ) -> None:
        # By the key that they were given: some may have been taken back since, and others be known by another.
        if self._attempts.broken is not None:
            for attempt in attempts:
                self._attempts.settle(attempt, attempt.delivery.lost(self._attempts.broken, "", began=False))
            return
        # One argument: Dask looks into each.
        dumped = pickle.dumps((self._topic, key, self._attempts.is_guarded, content))
        options = _options_for(attempts[0].delivery.payload)
        self._batches.put(Native(key, attempts, function, dumped, natives, options))

    def _hand_over_again(self, attempts: list[Attempt]) -> None:
        """Hand over attempts that have not begun where they were: as new Dask tasks, and nobody else is told."""
        for native, is_chunk, together in self._set_aside(attempts):
            try:
                if is_chunk:
                    self._hand_over_chunk(native, together)
                else:
                    self._hand_over_if_ready(native, together[0])
            except Exception as error:
                for attempt in together:
                    reason = f"It could not be handed to Dask again: {describe(error)}"
                    self._attempts.settle(attempt, attempt.delivery.lost(reason, "", began=False))
            if self._is_closed:
                # Whoever closed it may have looked just before these were there.
                for attempt in together:
                    self._attempts.take(attempt.key)
                with contextlib.suppress(Exception):
                    self._clear(together)

    def _set_aside(self, attempts: list[Attempt]) -> list[tuple[str, bool, list[Attempt]]]:
        """Let attempts be known as other tasks, of which Dask has nothing.

        Returns those that have not ended, with the key of their new task and whether that is a chunk.
        """
        left = [attempt for attempt in attempts if self._attempts.take(attempt.key) is not None]
        groups = [list(chunk) for _, chunk in itertools.groupby(left, lambda attempt: attempt.native)]
        chunks = [group[0].key != group[0].native for group in groups]
        return [
            (self._rename(group, is_chunk), is_chunk, group) for group, is_chunk in zip(groups, chunks, strict=True)
        ]

    def _hand_over_if_ready(self, native: str, attempt: Attempt) -> None:
        delivery = attempt.delivery
        if delivery.note_lost(dask_natives.is_lost):
            self._attempts.settle(attempt, delivery.unready())
        else:
            self._hand_over_one(native, attempt, [dask_natives.future_of(one, self.client) for one in delivery.natives])

    def _rename(self, attempts: list[Attempt], is_chunk: bool) -> str:
        first = attempts[0].delivery.payload
        native = self._key_of_chunk(first) if is_chunk else self._key_of(first)
        for place, attempt in enumerate(attempts):
            attempt.be_known_as(dask_worker.place_in(native, place) if is_chunk else native, native)
            attempt.delivery.payload.handle = attempt
            self._attempts.add(attempt)
        return native

    def _refused(self, attempt: Attempt, error: Exception) -> None:
        broken = self._attempts.broken
        delivery = attempt.delivery
        receipt = delivery.lost(broken, "", began=False) if broken is not None else Receipt.of_unbegun(error)
        self._attempts.settle(attempt, receipt)

    def reference_to(self, payload: Payload) -> DaskReference | None:
        """Return where the value of an open attempt will lie."""
        attempt = payload.handle
        if not isinstance(attempt, Attempt) or attempt.key != attempt.native:
            return None
        return self._reference(attempt)

    def _reference(self, attempt: Attempt) -> DaskReference:
        if attempt.reference is None:
            # Before Dask has the task, too: a future is no more than its key.
            future = attempt.future or distributed.Future(attempt.native, self.client)
            attempt.future = future
            is_single = attempt.key == attempt.native
            native = future if is_single else InChunk(future, attempt.key, attempt.holder)
            attempt.reference = DaskReference(self._runner, native, attempt.delivery.payload.run.name, self)
        return attempt.reference

    def cancel(self, payloads: Collection[Payload]) -> list[bool]:
        """Keep attempts that have not begun from running; tells for each whether that is certain."""
        return [False] * len(payloads) if self._is_closed else self._taking_back.cancel(self.client, payloads)

    def fetch(self, future: Any, name: str) -> Any:
        """Bring a value here. Raises `RunnerError` that says why it can't be had."""
        if self._is_closed:
            raise RunnerError(
                f"The value of {name!r} was left on the Dask cluster, and the flow run that it belongs to has ended. Ask for it before "
                "(`future.result()`), or store it (`persist_result=True`)."
            )
        if self._attempts.broken is None:
            future = dask_natives.future_of(future, self.client)
        return dask_natives.fetched(future, name, self._attempts.gone.get(future.key), self._attempts.broken)

    def stop(self) -> None:
        """Leave nothing of ours on the cluster, and leave it."""
        self._is_closed = True
        attempts = self._attempts.close()
        if self._batches is not None:
            self._batches.close()
        run_on = False
        try:
            if self.client is not None and self.client.status == "running":
                if self._report is not None:
                    with self.client.as_current():
                        self._report.__exit__(None, None, None)
                run_on = self._clear(attempts)
        finally:
            if self._modules is not None:
                self._modules.close()
            self._connection.close(some_run_on=run_on)

    def _clear(self, attempts: list[Attempt]) -> bool:
        """Let go of attempts; tells whether bodies of some run on all the same."""
        client = self.client
        run_on = False
        futures = [attempt.future for attempt in attempts if attempt.future is not None]
        if futures:
            with contextlib.suppress(Exception):
                natives = list({attempt.native for attempt in attempts})
                run_on = any(client.run(dask_worker.give_up, natives, on_error="ignore").values())
            client.cancel(futures, force=True)
        return run_on


def _options_for(payload: Payload) -> dict[str, Any]:
    """Return what Dask is told of an attempt: what its task asks for, and the annotations around the place that submitted it."""
    annotations = payload.variables.run(get_annotations) if payload.variables is not None else {}
    # Retries are the engine's.
    known = ("resources", "priority", "workers", "allow_other_workers")
    options = {name: annotations[name] for name in known if annotations.get(name)}
    if payload.resources:
        options["resources"] = {**options.get("resources", {}), **payload.resources}
    if payload.priority:
        options["priority"] = payload.priority
    return options
