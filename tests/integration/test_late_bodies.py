"""Programs with a body on a thread that never ends: they end all the same, with their exit code and a true history."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.programs import running, store_of

STUCK = """
@task(timeout_seconds=0.1)
def stuck():
    say("begun")
    while True:
        time.sleep(0.01)

@flow(task_runner="concurrent:1", flow_run_name="around")
def run():
    names = [stuck.submit().wait().name for _ in range(2)]
    # There is one place, and the bodies that go on have none.
    return names, linger.submit(0).result()

assert run() == (["TimedOut", "TimedOut"], 0)
"""
OUTSIDE = """
@task(timeout_seconds=0.1)
def stuck():
    say("begun")
    while True:
        time.sleep(0.01)

assert stuck.submit().wait().name == "TimedOut"
"""


@pytest.mark.parametrize(
    ("end", "expected"),
    [("", 0), ("sys.exit(3)", 3), ("raise KeyError", 1)],
    ids=["end of script", "exit", "exception"],
)
@pytest.mark.parametrize("code", [STUCK, OUTSIDE], ids=["in a flow", "outside"])
def test_a_program_ends_although_a_body_on_a_thread_does_not(home: Path, code: str, end: str, expected: int) -> None:
    with running(home, code + end) as program:
        assert program.end(60)[0] == expected
    with store_of(home) as store:
        tasks = {(row.task_name, row.state_name) for row in store.task_runs()}
        assert ("stuck", "TimedOut") in tasks
        assert tasks <= {("stuck", "TimedOut"), ("linger", "Completed")}
        for row in store.task_runs():
            told = [line.message for line in store.logs(row.key) if "goes on in a thread" in line.message]
            assert len(told) == (row.task_name == "stuck")
        for flow_run in store.flow_runs():
            assert flow_run.state_name == "Completed"
            told = [line.message for line in store.logs(flow_run.key)]
            assert [
                line for line in told if "the bodies of 2 task run(s) in it, which timed out, go on in threads" in line
            ]
            assert all(name in told[-1] for name in ("'stuck-0'", "'stuck-1'"))
