"""Prints of runs as log records, and everybody else's prints as ever."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import io
import logging
import sys
import threading
import traceback

import pytest

from prefect_core import flow, get_run_logger, task
from prefect_core.context import carried
from prefect_core.logging import disable_run_logger
from prefect_core.settings import temporary_settings


@pytest.fixture
def printed(recorded, caplog):
    """Return what was logged by runs, by the name of the run."""

    def lines() -> list[tuple[str, str]]:
        own = [
            record for record in caplog.records if hasattr(record, "run_link") and not hasattr(record, "send_to_api")
        ]
        return [(getattr(record, "task_run_name", None) or record.flow_run_name, record.message) for record in own]

    return lines


def test_prints_of_a_flow_are_logged_and_kept(printed, capsys, recorded, caplog):
    @flow(log_prints=True, flow_run_name="x")
    def talking():
        print("hello", "you", sep=", ")

    talking()
    assert printed() == [("x", "hello, you")]
    assert {record.funcName for record in caplog.records if record.message == "hello, you"} == {"talking"}
    assert capsys.readouterr().out == ""
    recorded.recorder.flush()
    (log,) = recorded.store.logs(recorded.flow_runs()[0].key)
    assert (log.level, log.logger, log.message) == (logging.INFO, "prefect_core.flow_runs", "hello, you")


def test_without_it_prints_are_printed(printed, capsys):
    @flow
    def talking():
        print("hello")

    talking()
    assert printed() == []
    assert capsys.readouterr().out == "hello\n"


def test_tasks_and_subflows_inherit_it_unless_they_say_otherwise(printed, capsys):
    @task
    def heir():
        print("task")

    @task(log_prints=False)
    def own_way():
        print("plain")

    @flow
    def inner():
        print("subflow")

    @flow(log_prints=True)
    def around():
        heir()
        own_way()
        own_way.submit().wait()
        inner()
        print("flow")

    around()
    assert [line for _, line in printed()] == ["task", "subflow", "flow"]
    assert capsys.readouterr().out == "plain\nplain\n"


def test_a_task_alone_may_log_its_prints(printed, capsys):
    @task(log_prints=True)
    def talking():
        print("task")

    @flow
    def around():
        talking()
        talking.submit().wait()
        print("flow")

    around()
    assert printed() == [("talking-0", "task"), ("talking-1", "task")]
    assert capsys.readouterr().out == "flow\n"


def test_the_setting_decides_where_nobody_says(printed):
    @flow(flow_run_name="x")
    def talking():
        print("hello")

    with temporary_settings(log_prints=True):
        talking()
    assert printed() == [("x", "hello")]


def test_print_itself_and_the_streams_are_as_before():
    before = builtins.print, sys.stdout, sys.stderr
    seen = []

    @flow(log_prints=True)
    def talking():
        seen.append(builtins.print)

    talking()
    assert seen == [before[0]]
    assert (builtins.print, sys.stdout, sys.stderr) == before


def test_the_streams_are_put_back_after_a_failure():
    before = sys.stdout, sys.stderr

    @flow(log_prints=True)
    def failing():
        raise ValueError

    failing(return_state=True)
    assert (sys.stdout, sys.stderr) == before


def test_lines_are_logged_whole(printed):
    @flow(log_prints=True)
    def talking():
        print("a", end="")
        print("b", end="")
        print("c\nd")
        print()
        print("no end", end="")

    talking()
    assert [line for _, line in printed()] == ["abc\nd", "", "no end"]


def test_standard_error_counts_and_other_files_do_not(printed):
    elsewhere = io.StringIO()

    @flow(log_prints=True)
    def talking():
        print("error", file=sys.stderr)
        print("file", file=elsewhere)
        with contextlib.redirect_stdout(elsewhere):
            print("redirected")

    talking()
    assert [line for _, line in printed()] == ["error"]
    assert elsewhere.getvalue() == "file\nredirected\n"


def test_a_stream_that_was_kept_from_before_is_left_alone(printed, capsys):
    kept = sys.stdout

    @flow(log_prints=True)
    def talking():
        print("straight", file=kept)

    talking()
    assert printed() == []
    assert capsys.readouterr().out == "straight\n"


def test_a_stand_in_is_the_stream_in_all_else(printed):
    seen = []

    @flow(log_prints=True)
    def looking():
        seen.extend([sys.stdout.encoding, sys.stdout.writable(), sys.stdout.isatty()])
        sys.stdout.writelines(["one\n", "two\n"])
        sys.stdout.flush()

    looking()
    assert seen == [sys.stdout.encoding, True, False]
    assert [line for _, line in printed()] == ["one", "two"]


def test_a_progress_bar_goes_on_being_drawn(printed, capsys):
    @flow(log_prints=True)
    def drawing():
        sys.stderr.write("\r 50%")
        sys.stderr.write("\r100%")

    drawing()
    assert printed() == []
    assert "\r 50%\r100%" in capsys.readouterr().err


def test_printed_tracebacks_are_logged(printed):
    @flow(log_prints=True)
    def talking():
        try:
            raise ValueError("boom")
        except ValueError:
            traceback.print_exc()

    talking()
    assert printed()[-1][1] == "ValueError: boom"


def test_two_flows_at_once_keep_their_prints_apart(printed, capsys):
    together = threading.Barrier(2)

    @task
    def talking(word, log_prints):
        for _ in range(50):
            together.wait()
            print(word, end="")
            together.wait()
            print("!")

    @flow
    def both():
        loud = talking.with_options(log_prints=True, task_run_name="loud").submit("loud", True)
        quiet = talking.with_options(log_prints=False).submit("quiet", False)
        loud.wait()
        quiet.wait()

    both()
    assert printed() == [("loud", "loud!")] * 50
    assert capsys.readouterr().out == "quiet!\n" * 50


def test_other_threads_of_the_program_are_left_alone(printed, capsys):
    @flow(log_prints=True)
    def talking():
        thread = threading.Thread(target=print, args=("outside",))
        thread.start()
        thread.join()

    talking()
    assert printed() == []
    assert capsys.readouterr().out == "outside\n"


def test_a_thread_that_carries_the_context_is_part_of_the_run(printed):
    @flow(log_prints=True, flow_run_name="x")
    def talking():
        thread = threading.Thread(target=carried(print), args=("inside",))
        thread.start()
        thread.join()

    talking()
    assert printed() == [("x", "inside")]


def test_a_thread_that_outlives_its_run_prints_to_the_console(printed, capsys):
    go_on, over = threading.Event(), threading.Event()

    def late():
        go_on.wait()
        print("late")
        over.set()

    @flow(log_prints=True)
    def talking():
        threading.Thread(target=carried(late)).start()

    talking()
    go_on.set()
    over.wait()
    assert printed() == []
    assert capsys.readouterr().out == "late\n"


def test_async_runs_side_by_side_keep_their_prints_apart(printed, capsys):
    @flow
    async def talking(name, log_prints):
        for _ in range(5):
            print(name, end="")
            await asyncio.sleep(0)
            print(".")

    loud = talking.with_options(log_prints=True, flow_run_name="loud")

    async def both():
        await asyncio.gather(loud("loud", True), talking.with_options(log_prints=False)("quiet", False))

    asyncio.run(both())
    assert printed() == [("loud", "loud.")] * 5
    assert "".join(sorted(capsys.readouterr().out)) == "".join(sorted("quiet.\n" * 5))


def test_async_tasks_on_the_loop_in_a_thread_are_logged(printed):
    @task(log_prints=True)
    async def talking(word):
        print(word)

    @flow
    def around():
        talking.map(["a", "b"]).wait()

    around()
    assert sorted(printed()) == [("talking-0", "a"), ("talking-1", "b")]


def test_a_generator_logs_its_prints_and_its_consumer_prints(printed, capsys):
    @flow(log_prints=True)
    def counting():
        for i in range(2):
            print("yields", i)
            yield i

    for i in counting():
        print("takes", i)
    assert [line for _, line in printed()] == ["yields 0", "yields 1"]
    assert capsys.readouterr().out == "takes 0\ntakes 1\n"


def test_an_async_generator_logs_its_prints(printed, capsys):
    @task(log_prints=True)
    async def counting():
        print("yields")
        yield 1

    async def consume():
        async for _ in counting():
            print("takes")

    asyncio.run(consume())
    assert [line for _, line in printed()] == ["yields"]
    assert capsys.readouterr().out == "takes\n"


def test_hooks_log_their_prints_as_their_run_does(printed):
    @flow(log_prints=True, flow_run_name="x", on_completion=[lambda *_: print("hook")])
    def talking():
        print("body")

    talking()
    assert printed() == [("x", "body"), ("x", "hook")]


def test_a_handler_that_prints_ends(printed, capsys):
    class Printing(logging.Handler):
        def emit(self, record):
            print("handled", record.getMessage())

    own = Printing()
    logger = logging.getLogger("prefect_core.flow_runs")
    logger.addHandler(own)
    try:

        @flow(log_prints=True)
        def talking():
            print("hello")

        talking()
    finally:
        logger.removeHandler(own)
    assert [line for _, line in printed()] == ["hello"]
    assert "handled hello\n" in capsys.readouterr().out


def test_log_lines_of_a_handler_made_in_the_body_are_no_prints(printed, capsys):
    @flow(log_prints=True)
    def talking():
        logger = logging.getLogger("mine")
        own = logging.StreamHandler()
        logger.addHandler(own)
        try:
            logger.error("once")
            get_run_logger().info("run")
        finally:
            logger.removeHandler(own)

    talking()
    assert [line for _, line in printed()] == ["run"]
    assert "once\n" in capsys.readouterr().err


def test_with_the_logger_disabled_prints_are_printed(printed, capsys):
    @flow(log_prints=True)
    def talking():
        with disable_run_logger():
            print("hello")

    talking()
    assert printed() == []
    assert capsys.readouterr().out == "hello\n"


def test_a_stream_that_somebody_replaced_meanwhile_stays(printed, monkeypatch):
    other = io.StringIO()

    @flow(log_prints=True)
    def replacing():
        sys.stdout = other

    monkeypatch.setattr(sys, "stdout", sys.stdout)
    replacing()
    assert sys.stdout is other
