"""The lines that the engine shows, and how they get to the console."""

from __future__ import annotations

import io
import logging
import re
import sys

import pytest

from prefect_core import flow, get_run_logger, logs, task
from prefect_core.logs.console import ConsoleHandler, LineFormatter
from prefect_core.settings import temporary_settings

pytestmark = pytest.mark.usefixtures("recorded")

FORM = re.compile(r"\d\d:\d\d:\d\d\.\d{3} \| [A-Z ]{7} \| ")
OURS = logging.getLogger("prefect_core")


@pytest.fixture
def console(capsys):
    """Return the lines on standard error without their times, names of flow runs replaced by their flows'."""

    def lines() -> list[str]:
        return [
            line[line.index("|") + 2 :] if FORM.match(line) else line for line in capsys.readouterr().err.splitlines()
        ]

    return lines


def named(flow_object, name: str):
    return flow_object.with_options(flow_run_name=name)


@task
def add(x):
    return x + 1


@task
def fail():
    raise ValueError("I fail successfully")


@flow(name="Hello Flow", flow_run_name="daft-cougar")
def hello():
    add(1)
    inner()


@flow(name="Subflow", flow_run_name="ninja-duck")
def inner():
    return 1


def test_lines_have_the_form_of_the_documents(capsys):
    hello()
    lines = capsys.readouterr().err.splitlines()
    assert all(FORM.match(line) for line in lines)
    assert re.fullmatch(
        r"\S+ \| INFO    \| prefect_core\.engine - Created flow run '[a-z]+-[a-z]+' for flow 'Hello Flow'", lines[0]
    )


def test_a_flow_tells_of_its_tasks_and_subflows_in_order(console):
    hello()
    lines = console()
    assert lines[2:5] == [
        "INFO    | Flow run 'daft-cougar' - Using task runner 'ConcurrentTaskRunner'",
        "INFO    | Flow run 'daft-cougar' - Created task run 'add-0' for task 'add'",
        "INFO    | Task run 'add-0' - Finished in state Completed()",
    ]
    assert re.fullmatch(r"INFO    \| Flow run 'daft-cougar' - Created subflow run '\S+' for flow 'Subflow'", lines[5])
    assert lines[-2:] == [
        "INFO    | Flow run 'ninja-duck' - Finished in state Completed()",
        "INFO    | Flow run 'daft-cougar' - Finished in state Completed('All states completed.')",
    ]


def test_a_name_from_a_template_is_announced(console):
    inner()
    assert re.fullmatch(r"INFO    \| Flow run 'ninja-duck' - Renamed flow run '\S+' to 'ninja-duck'", console()[1])


def test_a_failed_task_shows_its_traceback_from_its_own_code_on(console):
    @flow(flow_run_name="x")
    def failing():
        fail.submit().wait()

    failing(return_state=True)
    lines = console()
    raised = lines.index("ERROR   | Task run 'fail-0' - Encountered exception during execution:")
    assert lines[raised + 1] == "Traceback (most recent call last):"
    assert re.fullmatch(r'  File ".*test_logs_console.py", line \d+, in fail', lines[raised + 2])
    assert "ValueError: I fail successfully" in lines
    assert "prefect_core/engine" not in "\n".join(lines)
    assert lines[-2] == (
        "ERROR   | Task run 'fail-0' - Finished in state Failed('Task run encountered an exception ValueError: I fail successfully')"
    )
    assert lines[-1] == "ERROR   | Flow run 'x' - Finished in state Failed('1/1 states failed.')"


def test_a_failed_flow_shows_its_traceback(console):
    @flow(flow_run_name="x")
    def failing():
        raise ValueError("This flow immediately fails")

    failing(return_state=True)
    lines = console()
    assert "ERROR   | Flow run 'x' - Encountered exception during execution:" in lines
    assert lines[-1] == (
        "ERROR   | Flow run 'x' - Finished in state Failed('Flow run encountered an exception: ValueError: This flow immediately fails')"
    )


def test_a_passed_deadline_needs_no_traceback(console):
    @flow(timeout_seconds=0.01)
    def slow():
        while True:
            pass

    slow(return_state=True)
    lines = console()
    assert not any("Traceback" in line or "Encountered" in line for line in lines)
    assert lines[-1].endswith("Finished in state TimedOut('Flow run exceeded timeout of 0.01 second(s)', type=FAILED)")


def test_retries_are_told_and_need_no_traceback(console):
    outcomes = iter([ValueError("once"), None])

    @task(retries=1)
    def flaky():
        if error := next(outcomes):
            raise error

    @flow
    def trying():
        flaky()

    trying()
    lines = console()
    told = "INFO    | Task run 'flaky-0' - Task run failed with exception: ValueError('once') - Retry 1/1 will start immediately"
    assert told in lines
    assert not any("Traceback" in line for line in lines)


def test_a_task_outside_of_flows_speaks_for_itself(console):
    with temporary_settings():
        add(1)
    assert console() == [
        "INFO    | prefect_core.engine - Created task run 'add-0' for task 'add'",
        "INFO    | Task run 'add-0' - Finished in state Completed()",
    ]


def test_the_setting_decides_the_least_level(console):
    with temporary_settings(logging_level="WARNING"):
        hello()
        assert console() == []
    with temporary_settings(logging_level="DEBUG"):
        hello()
        assert "DEBUG   | Flow run 'ninja-duck' - Using task runner 'ConcurrentTaskRunner'" in console()


def test_a_level_that_the_program_set_is_kept(console):
    logs.engine_line(None, logs.INFO, "ready")
    before = OURS.level
    OURS.setLevel(logging.ERROR)
    try:
        with temporary_settings(logging_level="DEBUG"):
            hello()
        assert OURS.level == logging.ERROR
    finally:
        OURS.setLevel(before)


def test_records_reach_handlers_on_the_root_logger(caplog):
    hello()
    assert "Finished in state Completed()" in caplog.messages
    assert {record.name for record in caplog.records} == {
        "prefect_core.engine",
        "prefect_core.flow_runs",
        "prefect_core.task_runs",
    }


def test_nothing_is_put_on_the_root_logger():
    before = list(logging.getLogger().handlers), logging.getLogger().level
    hello()
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == before


def test_lines_do_not_double_where_the_program_logs_to_the_terminal(capsys):
    own = logging.StreamHandler(sys.stderr)
    own.setFormatter(logging.Formatter("mine %(message)s"))
    logging.getLogger().addHandler(own)
    try:
        inner()
    finally:
        logging.getLogger().removeHandler(own)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("mine ") for line in lines)


def test_a_handler_of_the_program_that_writes_elsewhere_leaves_the_console_alone(capsys):
    elsewhere = io.StringIO()
    own = logging.StreamHandler(elsewhere)
    logging.getLogger().addHandler(own)
    try:
        inner()
    finally:
        logging.getLogger().removeHandler(own)
    assert "Finished in state Completed()" in elsewhere.getvalue()
    assert "Finished in state Completed()" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written_to(stream: io.StringIO, monkeypatch) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    ConsoleHandler().handle(logging.LogRecord("prefect_core.engine", logging.ERROR, "", 0, "hi", None, None))
    return stream.getvalue()


def test_a_terminal_gets_colours(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "| \x1b[31mERROR  \x1b[0m | prefect_core.engine - hi" in written_to(Terminal(), monkeypatch)


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_wants_no_colours_gets_none(monkeypatch, variable, value):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)
    assert "\x1b" not in written_to(Terminal(), monkeypatch)


def test_what_is_no_terminal_gets_no_colours(monkeypatch):
    assert "\x1b" not in written_to(io.StringIO(), monkeypatch)


def test_a_process_without_standard_error_logs_on(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert inner() == 1


def test_a_logger_below_the_runs_loggers_is_shown_with_the_run_it_is_in():
    record = logging.LogRecord("prefect_core.flow_runs.mine", logging.INFO, "", 0, "hi", None, None)
    shown = []

    @flow(flow_run_name="x")
    def looking():
        shown.append(LineFormatter(coloured=False).format(record))

    looking()
    assert shown[0].endswith("| Flow run 'x' - hi")
    assert LineFormatter(coloured=False).format(record).endswith("| prefect_core.flow_runs.mine - hi")


def test_a_hook_is_told_about_and_its_failure_shown(console):
    def broken(_flow, _run, _state):
        get_run_logger().info("from the hook")
        raise RuntimeError("no")

    @flow(flow_run_name="x", on_completion=[broken])
    def hooked():
        return 1

    assert hooked() == 1
    lines = console()
    assert "INFO    | Flow run 'x' - Running hook 'broken' in response to entering state 'Completed'" in lines
    assert "INFO    | Flow run 'x' - from the hook" in lines
    assert "ERROR   | Flow run 'x' - An error was encountered while running hook 'broken'" in lines
    assert "RuntimeError: no" in lines
