"""The test kit itself: what it puts in place it takes away again, and its clock keeps its promises."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

from prefect_core import clock, flow, history, settings, task
from prefect_core.engine.steps import Sleep, Wait
from prefect_core.payload import Payload
from prefect_core.testing import FakeClock, ListRecorder, harness
from prefect_core.testing.drive import Fault, attempt, drive
from prefect_core.waiting import Signal


@task
def one() -> int:
    return 1


@flow
def count() -> int:
    return one() + one.submit().result()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_the_harness_keeps_a_history_and_puts_everything_back(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_CORE_LOG_PRINTS", "true")
    settings.forget()
    before = (history.current(), settings.current(), dict(os.environ), clock.current())
    with harness(kind, max_threads=3) as world:
        assert settings.current().max_threads == 3
        assert settings.current().log_prints is False
        assert os.environ["PREFECT_CORE_HOME"] == str(world.home)
        assert count() == 2
        assert world.state_names("one-1") == ["Pending", "Running", "Completed"]
        assert world.state_names("one-2") == []
        home = world.home
        assert (home / "history.db").exists() == (kind == "sqlite")
    assert (history.current(), settings.current(), dict(os.environ), clock.current()) == before
    assert not home.exists()


def test_harnesses_nest_and_one_that_fails_is_taken_away_too() -> None:
    with harness() as outer:
        count()
        with pytest.raises(KeyError), harness() as inner:
            count()
            assert len(inner.store.flow_runs()) == 1
            raise KeyError
        assert len(outer.store.flow_runs()) == 1


def test_the_kit_needs_no_pytest() -> None:
    code = "import sys, prefect_core.testing, prefect_core.testing.drive; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0


def test_a_clock_that_stands_still_lets_sleepers_wait_until_it_is_moved() -> None:
    with FakeClock() as fake:
        began_us, woken = clock.now_us(), threading.Event()

        def sleep() -> None:
            clock.current().sleep(3600)
            woken.set()

        sleeper = threading.Thread(target=sleep)
        sleeper.start()
        fake.wait_for_sleepers(1)
        assert fake.sleepers == [3600]
        fake.advance(3599)
        fake.wait_for_due(1)
        assert not woken.is_set()
        fake.advance(1)
        assert woken.wait(10)
        sleeper.join()
        assert fake.elapsed_seconds == pytest.approx(3600)
        assert clock.now_us() - began_us == 3_600_000_000


def test_a_clock_that_goes_away_wakes_who_sleeps_on_it() -> None:
    with FakeClock() as fake:
        sleeper = threading.Thread(target=fake.sleep, args=(3600,))
        sleeper.start()
        fake.wait_for_sleepers(1)
    sleeper.join(10)
    assert not sleeper.is_alive()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_hour_s_delay_takes_no_time_on_a_clock_that_jumps(backend: str) -> None:
    @task(retries=2, retry_delay_seconds=3600)
    def flaky(seen: list[int]) -> int:
        seen.append(1)
        if len(seen) < 3:
            raise ValueError
        return len(seen)

    @task(retries=2, retry_delay_seconds=3600)
    async def async_flaky(seen: list[int]) -> int:
        seen.append(1)
        if len(seen) < 3:
            raise ValueError
        return len(seen)

    @flow
    async def main() -> tuple[int, ...]:
        return flaky([]), await flaky.submit([]), await async_flaky([]), await async_flaky.submit([])

    fake = FakeClock(jumps=True)
    with harness(clock=fake):
        assert anyio.run(main, backend=backend) == (3, 3, 3, 3)
    assert fake.elapsed_seconds == pytest.approx(8 * 3600)


def test_nobody_who_wakes_in_time_is_an_error() -> None:
    with FakeClock() as fake:
        with pytest.raises(TimeoutError, match="0 sleep on the fake clock"):
            fake.wait_for_sleepers(1, timeout_seconds=0.01)
        with pytest.raises(TimeoutError, match="within 5 s"):
            fake.wait_for_due(5, timeout_seconds=0.01)


def test_the_third_driver_answers_each_step_and_throws_where_it_is_told() -> None:
    def life():
        heard = []
        yield Sleep(5)
        try:
            yield Wait([Signal()])
        except KeyError:
            heard.append("fault instead of the wait")
        try:
            yield Wait([])
        except KeyError:
            heard.append("fault behind the wait")
        return heard

    waits: list[Wait] = []

    def wait(step: Wait) -> bool:
        waits.append(step)
        return True

    driven = drive(life(), [Fault(1, KeyError()), Fault(2, KeyError(), after=True)], wait=wait)
    assert driven.value == ["fault instead of the wait", "fault behind the wait"]
    assert driven.kinds() == ["Sleep", "Wait", "Wait"]
    assert driven.slept() == [5]
    assert len(waits) == 1


def test_the_third_driver_refuses_what_it_cannot_answer() -> None:
    def endless():
        while True:
            yield Sleep(0)

    class Later:
        def __await__(self):
            yield

    async def waits() -> None:
        await Later()

    assert "has not ended" in str(drive(endless()).error)
    assert "nobody is there to end them" in str(drive(iter_wait()).error)
    with harness():
        payload = Payload(waits, (), {}, _context(), True)
        assert "waits for an event loop" in str(attempt(payload).error)


def iter_wait():
    yield Wait([Signal()])


def _context():
    from prefect_core.engine.task_call import TaskCall

    return TaskCall(one, (), {}, None, None).context


def test_a_list_recorder_keeps_what_it_is_told(tmp_path: Path) -> None:
    recorder = ListRecorder()
    with harness():
        before = history.install(recorder)
        try:
            assert count() == 2
        finally:
            history.install(before)
    flow_run, first, second = recorder.runs()
    assert [state.name for state in recorder.states_of(flow_run)] == ["Pending", "Running", "Completed"]
    assert (first.name, second.name) == ("one-0", "one-1")
    assert recorder.flushes == 2
