"""One task at a time, on the thread that submits it."""

from __future__ import annotations

from collections.abc import Callable

from prefect_core.engine import remote
from prefect_core.payload import Payload, Receipt
from prefect_core.task_runners import TaskRunner


class SequentialTaskRunner(TaskRunner):
    """Runs a task before `submit` returns. An async task runs on an event loop in a thread meanwhile."""

    runs_on_submit = True

    def duplicate(self) -> SequentialTaskRunner:
        return SequentialTaskRunner()

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        receipt = remote.run_attempt(payload)
        receipt.worker = receipt.worker or remote.worker_name()
        done(receipt)
