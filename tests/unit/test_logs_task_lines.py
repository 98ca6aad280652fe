"""The console does not drown: lines about task runs are counted, and a sum stands for those that were held back."""

from __future__ import annotations

import logging

import pytest

from prefect_core import flow, logs, task
from prefect_core.context import TaskRunContext
from prefect_core.settings import temporary_settings


@pytest.fixture(autouse=True)
def three_lines(recorded):
    with temporary_settings(logging_task_lines=3):
        yield


@task
def work(x):
    if x < 0:
        raise ValueError(x)
    return x


@flow(flow_run_name="x")
def many(n):
    for i in range(n):
        work(i)


def infos(caplog) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.INFO]


def test_as_many_task_runs_as_the_setting_says_are_shown_without_a_word_more(caplog):
    many(3)
    shown = infos(caplog)
    assert [line for line in shown if line.startswith("Created task run")] == [
        f"Created task run 'work-{i}' for task 'work'" for i in range(3)
    ]
    assert not any("DEBUG" in line or "ended" in line for line in shown)


def test_beyond_them_one_line_says_so_and_one_sums_up(caplog):
    many(1000)
    shown = infos(caplog)
    assert len([line for line in shown if line.startswith("Created task run")]) == 3
    assert shown.count("Finished in state Completed()") == 3
    assert shown.count("Further lines about task runs are DEBUG, after 3 of a kind (setting logging_task_lines).") == 1
    assert shown[-2:] == [
        "1,000 task runs ended: 1,000 Completed; not all were shown",
        "Finished in state Completed('All states completed.')",
    ]


def test_lines_that_are_held_back_can_be_had_at_debug(caplog):
    with temporary_settings(logging_level="DEBUG"), caplog.at_level(logging.DEBUG):
        many(10)
    later = [record for record in caplog.records if record.message == "Created task run 'work-9' for task 'work'"]
    assert [record.levelno for record in later] == [logging.DEBUG]
    assert not any("not all were shown" in message for message in caplog.messages)


def test_failures_have_lines_of_their_own(caplog, recorded):
    @flow
    def failing():
        for i in range(10):
            work(i)
        for i in range(5):
            work(-i - 1, return_state=True)

    failing(return_state=True)
    shown = [
        record.message
        for record in caplog.records
        if record.name == "prefect_core.task_runs" and record.levelno == logging.ERROR
    ]
    assert shown.count("Encountered exception during execution:") == 3
    assert len(shown) == 6
    assert "15 task runs ended: 10 Completed, 5 Failed; not all were shown" in infos(caplog)


def test_every_failure_is_kept_whatever_is_shown(recorded):
    @flow
    def failing():
        for i in range(5):
            work(-i - 1, return_state=True)

    failing(return_state=True)
    kept = [recorded.store.logs(row.key) for row in recorded.task_runs("work")]
    assert [len(records) for records in kept] == [1] * 5
    assert kept[4][0].message.endswith("ValueError: -5")


def test_retries_and_hooks_of_tasks_are_counted_too(caplog):
    @task(retries=1, on_completion=[lambda task, run, state: None])
    def hooked():
        return 1

    @flow
    def hooking():
        for _ in range(10):
            hooked()

    hooking()
    assert len([line for line in infos(caplog) if "hook '" in line or "Hook '" in line]) == 3


def test_subflows_count_with_the_flow_that_they_are_in(caplog):
    @flow
    def small():
        work(1)

    @flow(flow_run_name="root")
    def large():
        for _ in range(50):
            small()

    large()
    shown = infos(caplog)
    assert len([line for line in shown if line.startswith("Created")]) == 1 + 3
    assert len([line for line in shown if line.startswith("Finished")]) == 1 + 3
    assert "50 task runs ended: 50 Completed; not all were shown" in shown
    assert len([line for line in shown if "ended" in line]) == 1


def test_a_large_subflow_has_a_sum_of_its_own(caplog):
    @flow(flow_run_name="root")
    def around():
        many(10)

    around()
    assert [line for line in infos(caplog) if "ended" in line] == [
        "10 task runs ended: 10 Completed; not all were shown",
        "1 task run ended: 1 Completed; not all were shown",
    ]


def test_a_limit_of_none_shows_no_task_run_at_all(caplog):
    with temporary_settings(logging_task_lines=0):
        many(2)
    assert not any("DEBUG" in line or line.startswith("Created task run") for line in infos(caplog))
    assert "2 task runs ended: 2 Completed; not all were shown" in infos(caplog)


def test_every_flow_run_counts_anew(caplog):
    many(10)
    caplog.clear()
    many(3)
    assert len([line for line in infos(caplog) if line.startswith("Created task run")]) == 3


def test_submitted_tasks_are_counted_from_all_threads(caplog):
    @flow
    def submitting():
        work.map(range(200)).wait()

    submitting()
    assert infos(caplog).count("Finished in state Completed()") == 3


def test_beyond_the_limit_a_finished_task_takes_one_comparison(caplog):
    seen = []

    @task
    def look():
        seen.append(TaskRunContext.get())

    @flow
    def looking():
        for _ in range(5):
            look()
        context = seen[-1]
        caplog.clear()
        lines = context.dispatcher.lines
        assert lines.created < 0
        assert lines.completed < 0
        logs.task_finished(context, context.task_run.state)
        assert caplog.records == []

    looking()
