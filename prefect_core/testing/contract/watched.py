"""A runner around a runner, that notes what the engine asks of it and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect_core.payload import Payload, Receipt
from prefect_core.task_runners import Host, TaskRunner


class WatchedRunner(TaskRunner):
    """Hands every call on. All duplicates note in the same lists."""

    def __init__(self, inner: TaskRunner, calls: list[str], answered: list[Payload]) -> None:
        self.inner = inner
        self.calls = calls
        self.answered = answered
        self.shares_memory = inner.shares_memory
        self.runs_on_submit = inner.runs_on_submit
        self.can_cancel_running = inner.can_cancel_running
        self.can_kill = inner.can_kill

    def duplicate(self) -> WatchedRunner:
        return WatchedRunner(self.inner.duplicate(), self.calls, self.answered)

    def start(self, host: Host) -> None:
        self.calls.append("start")
        self.inner.start(host)

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        self.calls.append("submit")

        def note(receipt: Receipt) -> None:
            self.answered.append(payload)
            done(receipt)

        self.inner.submit(payload, note)

    def cancel(self, payload: Payload) -> bool:
        return self.inner.cancel(payload)

    def interrupt(self, payload: Payload) -> None:
        self.inner.interrupt(payload)

    def end_within(self, payload: Payload, seconds: float) -> bool:
        return self.inner.end_within(payload, seconds)

    def abandon(self, payload: Payload) -> None:
        self.inner.abandon(payload)

    def loop_needed(self, payload: Payload) -> object | None:
        return self.inner.loop_needed(payload)

    def stop(self) -> None:
        self.calls.append("stop")
        self.inner.stop()

    def options(self) -> dict[str, Any]:
        return {"inner": self.inner}
