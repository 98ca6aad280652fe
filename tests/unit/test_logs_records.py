"""The logger of a run: what its records say, and what the history keeps of them."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import threading

import pytest

import prefect_core
from prefect_core import context, flow, history, task
from prefect_core.errors import MissingContextError
from prefect_core.logging import disable_run_logger, get_run_logger
from prefect_core.logs import travel
from prefect_core.logs.kept import MOST_BYTES, within_bounds
from prefect_core.settings import temporary_settings


def kept(recorded, row):
    recorded.recorder.flush()
    return [(log.level, log.logger, log.message) for log in recorded.store.logs(row.key)]


def test_the_logger_is_the_same_by_both_names():
    assert prefect_core.get_run_logger is get_run_logger


def test_records_of_a_task_name_the_task_run_and_its_flow_run(recorded, caplog):
    @task(name="T")
    def speaking():
        get_run_logger().info("hello %s", "you")

    @flow(name="F", flow_run_name="x")
    def around():
        speaking()

    around()
    record = next(record for record in caplog.records if record.message == "hello you")
    assert record.name == "prefect_core.task_runs"
    assert (record.task_name, record.task_run_name, record.flow_name, record.flow_run_name) == ("T", "T-0", "F", "x")
    assert record.flow_run_id == str(recorded.flow_runs()[0].id)
    assert record.task_run_id == str(recorded.task_runs()[0].id)
    assert record.funcName == "speaking"


def test_records_are_kept_with_the_run_that_made_them(recorded):
    @task
    def speaking():
        get_run_logger().warning("from the task")

    @flow
    def around():
        get_run_logger().info("from the flow")
        speaking()

    around()
    assert kept(recorded, recorded.flow_runs()[0]) == [(20, "prefect_core.flow_runs", "from the flow")]
    assert kept(recorded, recorded.task_runs()[0]) == [(30, "prefect_core.task_runs", "from the task")]


def test_a_logger_kept_for_later_still_speaks_for_its_run(recorded):
    loggers = []

    @flow(name="first")
    def first():
        loggers.append(get_run_logger())

    @flow(name="second")
    def second():
        loggers[0].info("for the first")

    first()
    second()
    assert [message for _, _, message in kept(recorded, recorded.flow_runs("first")[0])] == ["for the first"]
    assert kept(recorded, recorded.flow_runs("second")[0]) == []


def test_loggers_below_those_of_runs_are_kept_with_the_run_they_are_in(recorded):
    @flow
    def speaking():
        logging.getLogger("prefect_core.flow_runs.mine").info("one")
        get_run_logger().getChild("yours").info("two")
        logging.getLogger("elsewhere").warning("three")

    speaking()
    assert kept(recorded, recorded.flow_runs()[0]) == [
        (20, "prefect_core.flow_runs.mine", "one"),
        (20, "prefect_core.flow_runs.yours", "two"),
    ]


def test_a_record_may_stay_out_of_the_history(recorded, caplog):
    @flow
    def speaking():
        get_run_logger().info("secret", extra={"send_to_api": False})

    speaking()
    assert "secret" in caplog.messages
    assert kept(recorded, recorded.flow_runs()[0]) == []


def test_the_setting_keeps_all_records_out_of_the_history(recorded):
    @flow
    def speaking():
        get_run_logger().info("hello")
        raise ValueError

    with temporary_settings(logging_to_history=False):
        speaking(return_state=True)
    assert kept(recorded, recorded.flow_runs()[0]) == []


def test_lines_that_repeat_the_states_are_not_kept_but_tracebacks_are(recorded):
    @task
    def failing():
        raise ValueError("boom")

    @flow
    def around():
        failing.submit().wait()

    around(return_state=True)
    (record,) = kept(recorded, recorded.task_runs()[0])
    assert record[:2] == (40, "prefect_core.task_runs")
    assert record[2].startswith("Encountered exception during execution:\nTraceback (most recent call last):\n")
    assert record[2].endswith("ValueError: boom")
    assert kept(recorded, recorded.flow_runs()[0]) == []


def test_a_failing_hook_is_kept(recorded):
    def broken(_flow, _run, _state):
        raise RuntimeError("no")

    @flow(on_completion=[broken])
    def hooked():
        return 1

    hooked()
    ((level, _, message),) = kept(recorded, recorded.flow_runs()[0])
    assert level == logging.ERROR
    assert message.startswith("An error was encountered while running hook 'broken'\nTraceback")


def test_tracebacks_of_logged_exceptions_are_kept(recorded):
    @flow
    def speaking():
        try:
            raise KeyError("lost")
        except KeyError:
            get_run_logger().exception("oh")

    speaking()
    ((_, _, message),) = kept(recorded, recorded.flow_runs()[0])
    assert message.startswith("oh\nTraceback")
    assert message.endswith("KeyError: 'lost'")


def test_fields_of_a_call_and_of_the_logger_come_together(recorded, caplog):
    @flow
    def speaking():
        get_run_logger(customer=7).info("hello", extra={"order": 8})

    speaking()
    record = next(record for record in caplog.records if record.message == "hello")
    assert (record.customer, record.order, record.flow_name) == (7, 8, "speaking")


def test_a_long_record_is_cut_off_with_a_note():
    cut = within_bounds("é" * MOST_BYTES)
    assert cut == "é" * (MOST_BYTES // 2) + "... [cut off: the record had 2,000,000 bytes]"
    assert within_bounds("x" * MOST_BYTES) == "x" * MOST_BYTES


def test_what_no_file_can_hold_is_written_as_escapes():
    assert within_bounds("half a pair: \ud83d") == "half a pair: \\ud83d"


def test_outside_of_runs_there_is_no_logger():
    with pytest.raises(MissingContextError, match=r"There is no active flow or task run context\."):
        get_run_logger()


def test_a_context_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="got str: 'x'"):
        get_run_logger("x")


def test_a_context_at_hand_names_the_run(recorded, caplog):
    @flow(flow_run_name="x")
    def around():
        return asking(context.FlowRunContext.get())

    @task
    def asking(of):
        get_run_logger(of).info("for the flow")

    around()
    assert (
        next(record for record in caplog.records if record.message == "for the flow").name == "prefect_core.flow_runs"
    )
    assert [message for _, _, message in kept(recorded, recorded.flow_runs()[0])] == ["for the flow"]


def test_with_the_logger_disabled_plain_functions_log_nothing(caplog):
    @task
    def speaking():
        get_run_logger().critical("hello")
        return 1

    with disable_run_logger():
        assert speaking.fn() == 1
    assert caplog.messages == []
    with pytest.raises(MissingContextError):
        speaking.fn()


def test_with_the_logger_disabled_runs_log_nothing_of_their_own(recorded, caplog):
    @flow
    def speaking():
        logger = get_run_logger()
        with disable_run_logger():
            logger.info("one")
            get_run_logger().info("two")
        logger.info("three")

    speaking()
    assert [m for m in caplog.messages if m in {"one", "two", "three"}] == ["three"]


def test_a_record_that_is_pickled_leaves_the_run_behind(recorded, caplog):
    @flow(flow_run_name="x")
    def speaking():
        get_run_logger().info("hello")
        return threading.Lock()

    speaking()
    record = next(record for record in caplog.records if record.message == "hello")
    arrived = pickle.loads(pickle.dumps(record.__dict__))
    assert arrived["flow_run_name"] == "x"
    assert arrived["run_link"].run is None


def test_a_record_from_another_process_counts_as_made_here(recorded, caplog):
    @flow
    def speaking():
        try:
            raise ValueError("there")
        except ValueError:
            get_run_logger().exception("hello %s", "you", extra={"lock": threading.Lock()})

    speaking()
    record = next(record for record in caplog.records if record.message.startswith("hello"))
    arrived = pickle.loads(pickle.dumps(travel.picklable(record)))
    caplog.clear()
    run = recorded.flow_runs()[0]
    arrived.timestamp_us = 7
    travel.arrive(arrived, run)
    assert caplog.messages == ["hello you"]
    assert "ValueError: there" in caplog.text
    assert arrived.lock.startswith("<unlocked _thread.lock")
    first, second = kept(recorded, run)
    assert first == second
    assert recorded.store.logs(run.key)[0].timestamp_us == 7


def test_a_worker_sends_all_its_records_and_shows_none():
    program = """
import logging, sys
from prefect_core.logs import travel
logging.basicConfig()
sent = []
travel.send_with(sent.append)
logging.getLogger("prefect_core.task_runs").info("hello %s", "you")
logging.getLogger("prefect_core.task_runs.mine").warning("from below")
print([record.getMessage() for record in sent])
"""
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (child.stdout, child.stderr) == ("['hello you', 'from below']\n", "")


def test_a_history_that_fails_does_not_reach_the_body(recorded, capsys, monkeypatch):
    def broken(*_):
        raise OSError("no")

    monkeypatch.setattr(history.current(), "logged", broken)

    @flow
    def speaking():
        get_run_logger().info("hello")
        return 1

    assert speaking() == 1
    assert "--- Logging error ---" in capsys.readouterr().err
