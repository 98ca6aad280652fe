"""A program that records task runs into PREFECT_CORE_HOME and says on its standard output what was acknowledged.

    python -m tests.integration.history.recording [--runs N] [--every N] [--rate N] [--checkpoint PAGES] [--retry SECONDS] [--hold]

It writes one line per fact: `flow ID`, `acked ID` for each task run whose end was flushed, `flow-acked`, `lost REASON` for each flush that
failed, `done`. With --hold it waits for a line on its standard input between the two halves of its work.
"""

from __future__ import annotations

import argparse
import sys
import time

from prefect_core import history, settings
from prefect_core.errors import HistoryError
from prefect_core.history.sqlite import connection
from prefect_core.runs import TaskRun
from prefect_core.state_kinds import COMPLETED, RUNNING, SCHEDULED
from tests.contract.history_runs import begin_flow_run, begin_task_run, enter, go_through


def course(recorder: history.Recorder, run: TaskRun, index: int) -> TaskRun:
    """Run one task: every fifth needs a second attempt."""
    enter(recorder, run, RUNNING)
    if index % 5 == 0:
        enter(recorder, run, SCHEDULED, "AwaitingRetry")
        enter(recorder, run, RUNNING, "Retrying")
    enter(recorder, run, COMPLETED)
    return run


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def flush(recorder: history.Recorder, runs: list[TaskRun]) -> bool:
    """Flush and say what that acknowledged."""
    try:
        recorder.flush()
    except HistoryError as error:
        say("lost", str(error).replace("\n", " "))
        return False
    for run in runs:
        say("acked", run.id)
    return True


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--runs", type=int, default=40)
    options.add_argument("--every", type=int, default=10)
    options.add_argument("--rate", type=float, default=0.0, help="task runs a second; 0 for as fast as possible")
    options.add_argument("--checkpoint", type=int, default=connection.CHECKPOINT_PAGES)
    options.add_argument("--retry", type=float, default=1.0)
    options.add_argument("--hold", action="store_true")
    given = options.parse_args()
    connection.CHECKPOINT_PAGES = given.checkpoint
    with settings.temporary_settings(history_retry_seconds=given.retry):
        record(given)


def record(given: argparse.Namespace) -> None:
    recorder = history.current()
    flow_run = begin_flow_run(recorder)
    enter(recorder, flow_run, RUNNING)
    if flush(recorder, []):
        say("flow", flow_run.id)
    began, waiting = time.monotonic(), list[TaskRun]()
    upcoming: TaskRun | None = None
    for index in range(given.runs):
        if given.rate:
            time.sleep(max(0.0, began + index / given.rate - time.monotonic()))
        run = upcoming or begin_task_run(recorder, flow_run, "load", index)
        waiting.append(course(recorder, run, index))
        upcoming = None
        if (index + 1) % given.every == 0:
            if index + 1 < given.runs:
                # So that some runs begin in one batch and end in another.
                upcoming = begin_task_run(recorder, flow_run, "load", index + 1)
            flush(recorder, waiting)
            waiting.clear()
        if given.hold and index + 1 == given.runs // 2:
            say("half")
            sys.stdin.readline()
    go_through(recorder, flow_run, [COMPLETED])
    if flush(recorder, waiting):
        say("flow-acked", flow_run.id)
    say("done")


if __name__ == "__main__":
    main()
