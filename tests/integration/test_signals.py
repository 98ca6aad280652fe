"""Ctrl-C and SIGTERM: the program is out within its grace, every run says what ended it, and nothing is left Running."""

from __future__ import annotations

import signal
import textwrap
from pathlib import Path

import pytest

from tests.integration.programs import ends, running

pytestmark = pytest.mark.slow

INTERRUPTED = "Execution was aborted by an interrupt signal."
TERMINATED = "Execution was aborted by a termination signal."
CASES = pytest.mark.parametrize(
    ("number", "message", "codes"),
    [(signal.SIGINT, INTERRUPTED, (130, -2)), (signal.SIGTERM, TERMINATED, (143,))],
    ids=["ctrl-c", "sigterm"],
)
SHORT = {"PREFECT_CORE_INTERRUPT_GRACE_SECONDS": "0.3"}
# Beside the grace: Python's own end, the last commit, and a busy machine.
SLACK_SECONDS = 1.0

THREE_THREADS = """
@flow
def main():
    linger.map([30, 30, 30])

main()
say("never")
"""


@CASES
def test_three_sleeping_threads_are_left_after_the_grace(
    home: Path, number: signal.Signals, message: str, codes: tuple[int, ...]
) -> None:
    with running(home, THREE_THREADS, **SHORT) as program:
        program.wait_for("begun", 3)
        program.hit(number)
        code, seconds = program.end()
    assert code in codes
    assert seconds < 0.3 + SLACK_SECONDS
    assert "never" not in program.lines
    flows, tasks = ends(home)
    assert flows == {("main", "Crashed", message): 1}
    assert tasks == {("linger", "Crashed", message): 3}


def test_the_grace_is_five_seconds_and_a_second_ctrl_c_ends_it(home: Path) -> None:
    with running(home, THREE_THREADS) as program:
        program.wait_for("begun", 3)
        program.hit()
        with pytest.raises(TimeoutError):
            wait_for_end(program, 1.5)
        program.hit()
        code, seconds = program.end()
    assert code in (130, -2)
    assert seconds < 1.0
    assert ends(home)[1] == {("linger", "Crashed", INTERRUPTED): 3}


def wait_for_end(program, seconds: float) -> None:
    import subprocess

    try:
        program.process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise TimeoutError from None


@pytest.mark.faults
def test_without_a_second_ctrl_c_the_program_is_out_within_six_seconds(home: Path) -> None:
    with running(home, THREE_THREADS) as program:
        program.wait_for("begun", 3)
        program.hit()
        code, seconds = program.end()
    assert code in (130, -2)
    assert 4.5 < seconds < 6.0
    assert ends(home)[1] == {("linger", "Crashed", INTERRUPTED): 3}


def test_what_ends_within_the_grace_keeps_its_end_and_what_waits_is_cancelled(home: Path) -> None:
    code = """
    gate = threading.Event()

    @task
    def finish():
        say("begun")
        gate.wait(20)
        return 1

    @flow(task_runner="concurrent:1")
    def main():
        finish.submit()
        later = linger.map([30, 30])
        later[0].add_done_callback(lambda _: gate.set())
        say("waiting")
        later.wait()

    main()
    """
    with running(home, code) as program:
        program.wait_for("begun")
        program.wait_for("waiting")
        program.hit()
        code, seconds = program.end()
    assert code in (130, -2)
    assert seconds < SLACK_SECONDS
    flows, tasks = ends(home)
    assert flows == {("main", "Crashed", INTERRUPTED): 1}
    assert tasks == {
        ("finish", "Completed", None): 1,
        ("linger", "Cancelled", "The flow run ended before this task run could start."): 2,
    }


@CASES
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_tasks_end_at_once(
    home: Path, backend: str, number: signal.Signals, message: str, codes: tuple[int, ...]
) -> None:
    code = f"""
    import anyio

    @task
    async def wait_long():
        say("begun")
        await anyio.sleep(30)

    @flow
    async def main():
        futures = [wait_long.submit() for _ in range(3)]
        await futures[0]

    anyio.run(main, backend={backend!r})
    """
    with running(home, code) as program:
        program.wait_for("begun", 3)
        program.hit(number)
        exit_code, seconds = program.end()
    assert exit_code in codes, program.errors
    flows, tasks = ends(home)
    assert flows == {("main", "Crashed", message): 1}
    assert {state for _, state, _ in tasks} == {"Crashed"}
    assert {text for *_, text in tasks} == {message}
    assert seconds < SLACK_SECONDS


@CASES
def test_a_flow_in_a_flow_crashes_with_it(
    home: Path, number: signal.Signals, message: str, codes: tuple[int, ...]
) -> None:
    code = """
    @flow
    def inner():
        linger.map([30, 30])

    @flow
    def outer():
        inner()

    outer()
    """
    with running(home, code, **SHORT) as program:
        program.wait_for("begun", 2)
        program.hit(number)
        exit_code, seconds = program.end()
    assert exit_code in codes
    assert seconds < 0.6 + SLACK_SECONDS
    flows, tasks = ends(home)
    assert flows == {("inner", "Crashed", message): 1, ("outer", "Crashed", message): 1}
    assert tasks == {("inner", "Crashed", message): 1, ("linger", "Crashed", message): 2}


@CASES
def test_a_submitted_flow_crashes_with_the_flow_around_it(
    home: Path, number: signal.Signals, message: str, codes: tuple[int, ...]
) -> None:
    code = """
    @flow
    def inner():
        linger.map([30, 30])

    @flow
    def outer():
        inner.submit().wait()

    outer()
    """
    with running(home, code, **SHORT) as program:
        program.wait_for("begun", 2)
        program.hit(number)
        exit_code, seconds = program.end()
    assert exit_code in codes
    assert seconds < 0.6 + SLACK_SECONDS
    flows, tasks = ends(home)
    assert {(name, state) for name, state, _ in flows} == {("inner", "Crashed"), ("outer", "Crashed")}
    assert tasks == {("inner", "Crashed", message): 1, ("linger", "Crashed", message): 2}


@CASES
def test_a_task_called_directly_crashes_and_ends_the_flow(
    home: Path, number: signal.Signals, message: str, codes: tuple[int, ...]
) -> None:
    code = """
    @flow
    def main():
        linger()

    main()
    """
    with running(home, code) as program:
        program.wait_for("begun")
        program.hit(number)
        exit_code, seconds = program.end()
    assert exit_code in codes
    assert seconds < SLACK_SECONDS
    assert ends(home) == ({("main", "Crashed", message): 1}, {("linger", "Crashed", message): 1})


@CASES
def test_a_task_on_the_sequential_runner_ends_the_flow_too(
    home: Path, number: signal.Signals, message: str, codes: tuple[int, ...]
) -> None:
    code = """
    @flow(task_runner="sequential")
    def main():
        linger.submit()
        say("went on")
        linger.submit()

    main()
    """
    with running(home, code) as program:
        program.wait_for("begun")
        program.hit(number)
        exit_code, seconds = program.end()
    assert exit_code in codes
    assert seconds < SLACK_SECONDS
    assert "went on" not in program.lines
    assert ends(home) == ({("main", "Crashed", message): 1}, {("linger", "Crashed", message): 1})


@CASES
@pytest.mark.parametrize("call", ["flaky()", "flaky.submit().wait()"], ids=["direct", "submitted"])
def test_a_retry_delay_is_cut_short(
    home: Path, call: str, number: signal.Signals, message: str, codes: tuple[int, ...]
) -> None:
    code = f"""
    @task(retries=1, retry_delay_seconds=30, on_running=[])
    def flaky():
        threading.Timer(0.2, say, ["waiting"]).start()
        raise ValueError("once")

    @flow
    def main():
        {call}

    main()
    """
    with running(home, code, **SHORT) as program:
        program.wait_for("waiting")
        program.hit(number)
        exit_code, seconds = program.end()
    assert exit_code in codes
    assert seconds < 0.3 + SLACK_SECONDS
    flows, tasks = ends(home)
    assert flows == {("main", "Crashed", message): 1}
    assert {(name, state) for name, state, _ in tasks} <= {("flaky", "Crashed"), ("flaky", "Cancelled")}
    assert sum(tasks.values()) == 1


@CASES
def test_the_retry_delay_of_a_flow_is_cut_short(
    home: Path, number: signal.Signals, message: str, codes: tuple[int, ...]
) -> None:
    code = """
    @flow(retries=1, retry_delay_seconds=30)
    def main():
        threading.Timer(0.2, say, ["waiting"]).start()
        raise ValueError("once")

    main()
    """
    with running(home, code) as program:
        program.wait_for("waiting")
        program.hit(number)
        exit_code, seconds = program.end()
    assert exit_code in codes
    assert seconds < SLACK_SECONDS
    assert ends(home)[0] == {("main", "Crashed", message): 1}


def test_a_signal_before_any_flow_is_python_s_own(home: Path) -> None:
    with running(home, "say('up'); time.sleep(30)") as program:
        program.wait_for("up")
        program.hit(signal.SIGTERM)
        code, _ = program.end()
    assert code == -signal.SIGTERM
    assert not (home / "history.db").exists()


def test_the_handlers_of_the_program_are_put_back_behind_the_flow(home: Path) -> None:
    code = """
    import signal

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    @flow
    def main():
        assert signal.getsignal(signal.SIGTERM) not in before
        return 1

    main()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    say("the same")
    """
    with running(home, code) as program:
        program.wait_for("the same")
        assert program.end()[0] == 0


def test_on_crashed_hooks_run_before_the_program_is_out(home: Path) -> None:
    code = """
    def tell(flow, run, state):
        say(f"{flow.name} {state.name}")

    @flow(on_crashed=[tell])
    def main():
        linger.submit().wait()

    main()
    """
    with running(home, code, **SHORT) as program:
        program.wait_for("begun")
        program.hit()
        program.end()
    assert "main Crashed" in program.lines


ASYNC_CASES = {
    "async tasks of a def flow": """
        @flow
        def main():
            wait_long.map([1, 2])

        main()
    """,
    "an async flow submitted by an async flow": """
        @flow
        async def inner():
            await wait_long(1)

        @flow
        async def main():
            futures = [inner.submit(), inner.submit()]
            await futures[0]

        anyio.run(main)
    """,
    "a def body in an async flow": """
        @flow
        async def main():
            wait_long.submit(1)
            await anyio.sleep(0.1)
            linger()

        anyio.run(main)
    """,
    "async flows side by side": """
        import asyncio

        @flow
        async def main():
            await wait_long(1)

        async def both():
            await asyncio.gather(main(), main())

        asyncio.run(both())
    """,
}


@CASES
@pytest.mark.parametrize("kind", ASYNC_CASES)
def test_whatever_a_loop_runs_ends_at_once(
    home: Path, kind: str, number: signal.Signals, message: str, codes: tuple[int, ...]
) -> None:
    code = """
import anyio

@task
async def wait_long(_):
    say("begun")
    await anyio.sleep(30)
""" + textwrap.dedent(ASYNC_CASES[kind])
    with running(home, code) as program:
        program.wait_for("begun", 2)
        program.hit(number)
        exit_code, seconds = program.end()
    assert exit_code in codes, program.errors
    flows, tasks = ends(home)
    assert {(state, text) for _, state, text in [*flows, *tasks]} == {("Crashed", message)}
    assert seconds < SLACK_SECONDS


@CASES
def test_asking_for_the_state_does_not_keep_the_program_alive(
    home: Path, number: signal.Signals, message: str, codes: tuple[int, ...]
) -> None:
    code = """
    @flow
    def main():
        linger(return_state=True)
        say("went on")

    print(main(return_state=True))
    say("never")
    """
    with running(home, code) as program:
        program.wait_for("begun")
        program.hit(number)
        exit_code, seconds = program.end()
    assert exit_code in codes
    assert seconds < SLACK_SECONDS
    assert "never" not in program.lines
    assert ends(home) == ({("main", "Crashed", message): 1}, {("linger", "Crashed", message): 1})


@CASES
def test_bodies_in_worker_processes_end_with_the_program(
    home: Path, number: signal.Signals, message: str, codes: tuple[int, ...]
) -> None:
    code = """
    @flow(task_runner="processes:2")
    def main():
        linger.map([30, 30, 30])

    if __name__ == "__main__":
        main()
    """
    with running(home, code, **SHORT) as program:
        program.wait_for("begun", 2)
        program.hit(number)
        exit_code, seconds = program.end()
    assert exit_code in codes, program.errors
    assert seconds < 0.3 + 2 * SLACK_SECONDS
    flows, tasks = ends(home)
    assert flows == {("main", "Crashed", message): 1}
    assert {state for _, state, _ in tasks} <= {"Crashed", "Cancelled"}
    assert sum(tasks.values()) == 3


def test_the_exit_code_says_ctrl_c_whatever_is_imported_while_the_program_ends(home: Path) -> None:
    code = """
    import atexit
    # As the import of a named tuple does.
    atexit.register(lambda: exec("1"))

    @flow
    def main():
        linger()

    main()
    """
    with running(home, code) as program:
        program.wait_for("begun")
        program.hit()
        exit_code, _ = program.end()
    assert exit_code in (130, -2), program.errors


def test_an_interrupt_that_the_program_caught_leaves_its_own_exit_code(home: Path) -> None:
    code = """
    @flow
    def main():
        linger()

    try:
        main()
    except KeyboardInterrupt:
        say("caught")
    raise ValueError
    """
    with running(home, code) as program:
        program.wait_for("begun")
        program.hit()
        exit_code, _ = program.end()
    assert "caught" in program.lines
    assert exit_code == 1, program.errors
