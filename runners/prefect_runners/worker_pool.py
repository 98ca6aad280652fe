"""The worker processes of one task runner, and the queue before them.

Each process has a *seat*, served by one thread that hands payloads over and waits for receipts. A worker gets its next payload before its
last receipt is dealt with, so it hardly ever waits; but no payload lies in a worker behind a body that runs, so each can be taken back.

A process that dies takes the one attempt with it that ran there; its seat starts another. A body that is told to stop, or does not heed
its deadline, is ended with its process.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from weakref import WeakSet

from prefect_core import clock, waiting
from prefect_core.engine import timers
from prefect_core.engine.transport import Delivery
from prefect_core.errors import RunnerError
from prefect_core.payload import Receipt
from prefect_runners.turns import Turn
from prefect_runners.worker_main import BEGUN, HAPPENED, LAST
from prefect_runners.worker_process import Boot, Gone, WorkerProcess

_FIRST_LOOK_SECONDS = 0.02
_LOOK_SECONDS = 0.2
_DEADLINE_GRACE_SECONDS = 1.0
_STOP_SECONDS = 5.0
_MOST_STARTS = 3
_log = logging.getLogger("prefect_core.engine")


class Pool:
    """At most `limit` worker processes, started when there is work for them."""

    def __init__(self, limit: int, boot: Boot) -> None:
        self._limit = limit
        self._boot = boot
        self._arrival = threading.Condition(threading.Lock())
        self._queue: deque[Job] = deque()
        self._queued = 0
        self._idle = 0
        self._seats: list[Seat] = []
        self._broken: str | None = None
        self.is_closed = False
        _pools.add(self)

    def submit(self, job: Job) -> None:
        """Queue a job. Raises `RunnerError` after `stop`, and in a process made by fork."""
        if self.is_closed:
            raise RunnerError(
                "The worker processes are stopped, or belong to the process that this one was made from by fork."
            )
        if self._broken is not None:
            job.done(job.delivery.lost(self._broken, "", began=False))
            return
        with self._arrival:
            place = len(self._queue)
            while place and self._queue[place - 1].priority < job.priority:
                place -= 1
            self._queue.insert(place, job)
            self._queued += 1
            if self._idle:
                self._arrival.notify()
            if self._queued > self._idle and len(self._seats) < self._limit:
                self._seats.append(Seat(self, self._boot))

    def withdraw(self, job: Job) -> bool:
        """Take back a job that no process has; False if one has it."""
        with self._arrival:
            if not job.is_queued:
                return False
            # It is passed over when its turn comes.
            job.is_queued = False
            self._queued -= 1
            return True

    def kill(self, job: Job) -> None:
        """End the process that runs a job, if one does, and keep one that is about to from doing so."""
        self.end_within(job, 0)

    def end_within(self, job: Job, seconds: float) -> None:
        """Do the same, but first ask the body to end, and give it some seconds for it."""
        with self._arrival:
            job.is_stopped = True
            seat = self._seat_of(job)
        if seat is None:
            return
        # The process may have been about to say so.
        job.delivery.begun(job.delivery.sent_us)
        if seconds:
            timers.after(seconds, partial(self._end_job, job))
        self._end_job(job, by_force=not seconds)

    def _end_job(self, job: Job, *, by_force: bool = True) -> None:
        with self._arrival:
            seat = self._seat_of(job)
            if seat is not None:
                seat.end_job("was stopped on request", by_force=by_force)

    def _seat_of(self, job: Job) -> Seat | None:
        return next((seat for seat in list(self._seats) if seat.job is job), None)

    def stop(self) -> None:
        """End all processes, busy ones at once, and wait until they are gone."""
        with self._arrival:
            self.is_closed = True
            self._arrival.notify_all()
            seats = list(self._seats)
            for seat in seats:
                seat.end_job("was stopped with its task runner")
        for seat in seats:
            seat.wait_until_left()

    # What a seat asks.

    def next_job(self, *, wait: bool) -> Job | None:
        """Return the job whose turn it is. Without one, wait for one if told to; None then means the end."""
        with self._arrival:
            while True:
                while self._queue:
                    job = self._queue.popleft()
                    if job.is_queued:
                        job.is_queued = False
                        self._queued -= 1
                        return job
                if not wait or self.is_closed:
                    return None
                self._idle += 1
                self._arrival.wait()
                self._idle -= 1

    def hold(self, seat: Seat, job: Job | None) -> bool:
        """Say which job a seat's process has, so that `kill` finds it, and never kills for another; False if it came before."""
        with self._arrival:
            may_begin = job is None or not job.is_stopped
            seat.job = job if may_begin else None
        return may_begin

    def give_up(self, reason: str) -> None:
        """Fail what is queued and what will be: processes can't be started."""
        self._broken = reason
        while (job := self.next_job(wait=False)) is not None:
            job.done(job.delivery.lost(reason, "", began=False))

    def _leave_to_parent(self) -> None:
        self._arrival = threading.Condition(threading.Lock())
        self.is_closed = True
        self._seats = []
        self._queue.clear()


class Job:
    """One payload that waits for a process, or has one."""

    __slots__ = ("delivery", "done", "is_queued", "is_stopped", "priority")

    def __init__(self, delivery: Delivery, done: Callable[[Receipt], None]) -> None:
        self.delivery = delivery
        self.done = done
        self.is_queued = True
        self.is_stopped = False
        self.priority = delivery.payload.priority


class Seat:
    """One worker process after the other, and the thread that serves them.

    Dealing with a receipt may run code of the user (callbacks, hooks). If that waits for a future, another thread goes on serving.
    """

    def __init__(self, pool: Pool, boot: Boot) -> None:
        self.job: Job | None = None
        self._pool = pool
        self._boot = boot
        self._process: WorkerProcess | None = None
        self._failed_starts = 0
        self._end_reason: str | None = None
        self._has_left = threading.Event()
        self.serve_on()

    def serve_on(self) -> None:
        """Have a thread serve from now on."""
        threading.Thread(target=self._serve, name="prefect-core-processes", daemon=True).start()

    def end_job(self, reason: str, *, by_force: bool = True) -> None:
        """Kill the process of the job under way, or ask it to end; the pool's lock is held."""
        if self.job is not None and self._process is not None:
            self._end_reason = reason
            (self._process.kill if by_force else self._process.terminate)()

    def wait_until_left(self) -> None:
        """Wait until the last process is gone."""
        self._has_left.wait(2 * _STOP_SECONDS)

    def _serve(self) -> None:
        turn = Turn(self.serve_on)
        with waiting.holding(turn):
            while not turn.is_over:
                if self.job is None:
                    self._take(wait=True)
                    if self.job is None and self._pool.is_closed:
                        break
                job = self.job
                if job is not None:
                    settle = self._outcome_of(job)
                    self._take(wait=False)
                    settle()
        if not turn.is_over:
            self._leave()

    def _leave(self) -> None:
        if self._process is not None:
            self._process.close(_STOP_SECONDS)
        self._has_left.set()

    def _take(self, *, wait: bool) -> None:
        """Hand the next job to the process, which is started if there is none."""
        if not wait and self._process is None:
            # What happened comes first: to start takes its time.
            return
        job = self._pool.next_job(wait=wait)
        if job is not None and job.delivery.is_unwanted:
            self._settle(job, job.delivery.lost("The run had ended before.", "", began=False))
            return
        while job is not None:
            try:
                process = self._process or self._start()
                job.delivery.sent_us = clock.now_us()
                if not self._pool.hold(self, job):
                    self._settle(job, job.delivery.lost("The attempt was stopped before it began.", "", began=False))
                    return
                process.send(job.delivery.parcel)
            except Gone:
                # It died between two bodies. This one has not begun, and goes to the next process.
                self._pool.hold(self, None)
                self._drop_process()
            except Exception as error:
                self._pool.hold(self, None)
                self._settle(job, job.delivery.lost(str(error), "", began=False))
                return
            else:
                return

    def _start(self) -> WorkerProcess:
        """Start a process and wait until it is ready. Raises `RunnerError` if that can't be."""
        while True:
            process = WorkerProcess(self._boot)
            self._process = process
            try:
                process.greet()
            except RunnerError as error:
                self._drop_process()
                self._pool.give_up(str(error))
                raise
            except Gone:
                reason = f"Worker process {process.pid} {self._drop_process()} before it was ready."
                self._failed_starts += 1
                if self._failed_starts >= _MOST_STARTS:
                    self._pool.give_up(reason)
                    raise RunnerError(reason) from None
            else:
                self._failed_starts = 0
                self._end_reason = None
                return process

    def _drop_process(self) -> str:
        process, self._process = self._process, None
        return process.how_it_ended() if process is not None else "ended"

    def _outcome_of(self, job: Job) -> Callable[[], None]:
        """Wait for the end of the job under way; returns what deals with it."""
        process = self._process
        assert process is not None
        try:
            reply = self._reply(job, process)
        except Gone:
            return self._lost(job, process)
        self._pool.hold(self, None)
        if reply is None or reply[:1] == LAST or job.is_stopped:
            # A body runs on there, and nothing else ends it for certain; or it may yet be asked to end one, and is to ask no other.
            process.kill()
            self._drop_process()
        if reply is None:
            return lambda: self._settle(job, job.delivery.late(process.name))
        return lambda: self._settle(job, job.delivery.receipt(reply[1:]))

    def _reply(self, job: Job, process: WorkerProcess) -> bytes | None:
        """Return the reply of the process, or None if its body is past its deadline. Raises `Gone`."""
        seconds, deadline = _FIRST_LOOK_SECONDS, None
        while True:
            message = process.receive(seconds)
            if message is None:
                if deadline is not None and time.monotonic() > deadline:
                    return None
                process.ask()
                seconds = _LOOK_SECONDS
            elif message[:1] == BEGUN:
                job.delivery.begun(int(message[1:]))
                timeout = job.delivery.payload.timeout_seconds
                deadline = None if timeout is None else time.monotonic() + timeout + _DEADLINE_GRACE_SECONDS
            elif message[:1] == HAPPENED:
                job.delivery.happened(message[1:])
            else:
                return message

    def _lost(self, job: Job, process: WorkerProcess) -> Callable[[], None]:
        self._pool.hold(self, None)
        ended = self._drop_process()
        ended, self._end_reason = self._end_reason or ended, None
        reason = f"Worker process {process.pid} {ended} while it ran this task."
        return lambda: self._settle(job, job.delivery.lost(reason, process.name, began=True))

    def _settle(self, job: Job, receipt: Receipt) -> None:
        try:
            job.done(receipt)
        except BaseException:
            # Others wait for this seat.
            _log.exception("The receipt of %r could not be dealt with", job.delivery.payload)


_pools: WeakSet[Pool] = WeakSet()


def _leave_all_to_parent() -> None:
    """Make every pool useless: this process was made by fork, and the workers are the other's."""
    for pool in list(_pools):
        pool._leave_to_parent()
    _pools.clear()


os.register_at_fork(after_in_child=_leave_all_to_parent)
