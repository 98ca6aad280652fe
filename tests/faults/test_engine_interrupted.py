"""Ctrl-C and SIGTERM at any moment of a busy flow: the program is out, and every run in the history has come to an end."""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.programs import ends, running

SYNC = """
@task
def one(number):
    return number

@task(retries=1)
def flaky(seen):
    seen.append(1)
    if len(seen) == 1:
        raise ValueError

@flow
def inner(number):
    return one.submit(number).result() + one(number)

@flow(task_runner={runner!r})
def main():
    say("begun")
    while True:
        link = one.submit(1)
        for _ in range(5):
            link = one.submit(link)
        one.map(range(10)).wait()
        [one(number) for number in range(10)]
        flaky.submit([]).wait()
        inner(1)

main()
"""
ASYNC = """
import anyio

@task
async def one(number):
    await anyio.sleep(0)
    return number

@task
def blocking(number):
    return number

@flow
async def main():
    say("begun")
    while True:
        futures = one.map(range(10))
        await futures
        await one(1)
        blocking(2)
        await blocking.submit(3)

anyio.run(main, backend={runner!r})
"""
KINDS = {
    "concurrent": SYNC,
    "concurrent:1": SYNC,
    "sequential": SYNC,
    "asyncio": ASYNC,
    "trio": ASYNC,
}
QUIET = {"PREFECT_CORE_LOGGING_LEVEL": "CRITICAL", "PREFECT_CORE_INTERRUPT_GRACE_SECONDS": "2"}


def interrupt(home: Path, kind: str, number: signal.Signals, after_seconds: float) -> None:
    home.mkdir(exist_ok=True)
    with running(home, KINDS[kind].format(runner=kind), **QUIET) as program:
        program.wait_for("begun")
        threading.Event().wait(after_seconds)
        program.hit(number)
        code, seconds = program.end()
    what = f"{kind}, {number.name} after {after_seconds:.4f} s"
    assert code in ((130, -2) if number == signal.SIGINT else (143,)), f"{what}: {code} {program.errors[-2000:]}"
    assert seconds < 5, what
    flows, tasks = ends(home)
    states = Counter(state for _, state, _ in [*flows, *tasks])
    # NotReady: behind one that was cancelled before it could start.
    assert set(states) <= {"Completed", "Crashed", "Cancelled", "NotReady"}, f"{what}: {flows} {tasks}"
    assert flows["main", "Crashed", MESSAGES[number]] == 1, f"{what}: {flows}"


MESSAGES = {
    signal.SIGINT: "Execution was aborted by an interrupt signal.",
    signal.SIGTERM: "Execution was aborted by a termination signal.",
}


@pytest.mark.parametrize("kind", ["concurrent", "asyncio"])
def test_a_signal_at_some_moment_leaves_no_run_open(tmp_path: Path, kind: str) -> None:
    moments = random.Random(kind)
    for number in MESSAGES:
        interrupt(tmp_path / number.name, kind, number, moments.uniform(0, 0.2))


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_campaign_of_signals_at_any_moment(tmp_path: Path, kind: str) -> None:
    moments = random.Random(kind)
    rounds = 40
    for count in range(rounds):
        for number in MESSAGES:
            interrupt(tmp_path / f"{number.name}-{count}", kind, number, moments.uniform(0, 0.3))
    print(f"\ncampaign: {kind}: {2 * rounds} signals at random moments")
