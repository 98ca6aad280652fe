"""A run that is cancelled, run again in the same process at once, and cancelled again."""

from __future__ import annotations

import threading
from queue import Queue

from prefect_core import cancel_flow_run, flow, history, reexecution

LONG_SECONDS = 50.0
lines: Queue[threading.Event] = Queue()


@flow
def holding() -> None:
    go = threading.Event()
    lines.put(go)
    assert go.wait(LONG_SECONDS)


def test_each_attempt_is_cancelled(home: object) -> None:
    ended: Queue[str] = Queue()
    store = history.current().stored()

    def again() -> None:
        found = reexecution.find(run)
        with reexecution.reopened(found):
            ended.put(found.flow(return_state=True).name)

    threading.Thread(target=lambda: ended.put(holding(return_state=True).name)).start()
    for _ in range(8):
        go = lines.get(timeout=LONG_SECONDS)
        run = str(store.flow_runs()[0].id)
        assert cancel_flow_run(run, LONG_SECONDS).is_cancelling()
        # Who cancels looks ever more seldom whether the run has ended, every 50 ms in the end.
        threading.Event().wait(0.12)
        go.set()
        assert ended.get(timeout=LONG_SECONDS) == "Cancelled"
        threading.Thread(target=again).start()
    go = lines.get(timeout=LONG_SECONDS)
    go.set()
    assert ended.get(timeout=LONG_SECONDS) in {"Completed", "Cancelled"}
