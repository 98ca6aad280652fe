"""Choosing a task runner: by instance, class or name, for a flow, a subflow or a task, and by setting."""

from __future__ import annotations

import threading

import pytest

from prefect_core import flow, task
from prefect_core.context import get_run_context
from prefect_core.engine import flow_run
from prefect_core.errors import ConfigurationError, RunnerError, UnknownRunnerError
from prefect_core.settings import temporary_settings
from prefect_core.task_runners import ConcurrentTaskRunner, SequentialTaskRunner, ThreadPoolTaskRunner, resolve_runner

pytestmark = pytest.mark.usefixtures("recorded")

CHOICES = [
    (SequentialTaskRunner(), SequentialTaskRunner()),
    (SequentialTaskRunner, SequentialTaskRunner()),
    ("sequential", SequentialTaskRunner()),
    (ConcurrentTaskRunner(max_workers=3), ConcurrentTaskRunner(max_workers=3)),
    (ConcurrentTaskRunner, ConcurrentTaskRunner()),
    ("concurrent", ConcurrentTaskRunner()),
    ("concurrent:3", ConcurrentTaskRunner(max_workers=3)),
    (None, ConcurrentTaskRunner()),
]


def runner_here():
    return get_run_context().dispatcher.runner


@pytest.mark.parametrize(("choice", "expected"), CHOICES, ids=[str(choice) for choice, _ in CHOICES])
def test_a_flow_names_its_runner_in_each_way(choice, expected) -> None:
    assert flow(runner_here, task_runner=choice)() == expected
    assert flow(runner_here).with_options(task_runner=choice)() == expected


@pytest.mark.parametrize(("choice", "expected"), CHOICES[:-1], ids=[str(choice) for choice, _ in CHOICES[:-1]])
def test_a_subflow_has_its_own_choice(choice, expected) -> None:
    inner = flow(runner_here, task_runner=choice)
    assert flow(lambda: (runner_here().name, inner()), task_runner="concurrent:1")() == (
        "ConcurrentTaskRunner",
        expected,
    )


def test_an_instance_is_a_description_that_each_run_duplicates() -> None:
    given = ConcurrentTaskRunner(max_workers=2)
    runs = [flow(runner_here, task_runner=given)() for _ in range(2)]
    assert len({id(runner) for runner in [given, *runs]}) == 3


def test_a_runner_is_shown_with_its_options_and_equal_by_them() -> None:
    assert repr(ConcurrentTaskRunner(max_workers=2)) == "ConcurrentTaskRunner(max_workers=2)"
    assert repr(ConcurrentTaskRunner()) == "ConcurrentTaskRunner()"
    assert ConcurrentTaskRunner(2) == ConcurrentTaskRunner(2) != ConcurrentTaskRunner(3)
    assert SequentialTaskRunner() != ConcurrentTaskRunner()


def test_the_thread_pool_runner_is_the_concurrent_one() -> None:
    assert ThreadPoolTaskRunner is ConcurrentTaskRunner


def thread():
    return threading.current_thread()


@pytest.mark.parametrize(
    "choice", ["sequential", SequentialTaskRunner, SequentialTaskRunner()], ids=["name", "class", "instance"]
)
def test_a_task_may_choose_for_itself(choice) -> None:
    here = task(thread, task_runner=choice)
    elsewhere = task(thread)

    @flow
    def around():
        return [here.submit().result() is thread(), elsewhere.submit().result() is thread()] + [
            elsewhere.with_options(task_runner=choice).submit().result() is thread(),
            here.with_options(task_runner=None).submit().result() is thread(),
        ]

    assert around() == [True, False, True, False]


def test_the_runner_a_task_chose_is_started_once_and_stopped_with_the_flow() -> None:
    log = []

    class Watched(ConcurrentTaskRunner):
        def duplicate(self):
            return type(self)(self.max_workers)

        def start(self, host):
            log.append("start")
            super().start(host)

        def stop(self):
            log.append("stop")
            super().stop()

    chosen = task(thread, task_runner=Watched(1))
    flow(lambda: {future.result() for future in (chosen.submit(), chosen.submit())} and 1 / 0)(return_state=True)
    assert log == ["start", "stop"]


def test_a_task_that_chose_an_unknown_runner_fails_with_the_names_that_are_known() -> None:
    state = flow(lambda: task(thread, task_runner="nothing").submit())(return_state=True)
    with pytest.raises(
        UnknownRunnerError, match="There is no task runner called 'nothing'. Known: .*concurrent.*sequential"
    ):
        state.result()


def test_the_setting_replaces_the_choice_of_the_root_flow_only() -> None:
    inner = flow(runner_here, task_runner="concurrent:2")
    with temporary_settings(task_runner="sequential"):
        assert flow(lambda: (runner_here().name, inner()), task_runner="concurrent:9")() == (
            "SequentialTaskRunner",
            ConcurrentTaskRunner(2),
        )


def test_the_command_line_may_replace_the_choice_of_any_flow(monkeypatch) -> None:
    inner = flow(runner_here, name="inner")
    monkeypatch.setitem(flow_run.runner_overrides, "", "concurrent:4")
    monkeypatch.setitem(flow_run.runner_overrides, "inner", "sequential")
    with temporary_settings(task_runner="concurrent:5"):
        assert flow(lambda: (runner_here(), inner()), name="outer")() == (
            ConcurrentTaskRunner(4),
            SequentialTaskRunner(),
        )


@pytest.mark.parametrize("name", ["nothing", "", "Sequential", "nothing:3"])
def test_an_unknown_name_is_refused_with_those_that_are_known(recorded, name: str) -> None:
    with pytest.raises(UnknownRunnerError, match="Known: .*concurrent.*sequential") as caught:
        resolve_runner(name)
    assert isinstance(caught.value, ValueError)
    if name:
        with pytest.raises(UnknownRunnerError):
            flow(lambda: 1, task_runner=name)()
        assert recorded.unfinished() == []


@pytest.mark.parametrize(
    "name", ["concurrent:x", "concurrent:", "concurrent:0", "concurrent:-1", "concurrent:1.5", "sequential:1"]
)
def test_a_bad_argument_in_a_name_is_refused_with_it_at_decoration(name: str) -> None:
    for decorate in (flow, task):
        with pytest.raises(ValueError, match=repr(name.partition(":")[2])):
            decorate(thread, task_runner=name)
    with pytest.raises(ConfigurationError, match=repr(name.partition(":")[2])):
        resolve_runner(name)


@pytest.mark.parametrize("number", [0, -1, 1.5, "3", True], ids=repr)
def test_a_bad_number_of_workers_is_refused_with_option_and_value(number) -> None:
    with pytest.raises(ValueError, match=rf"'max_workers'.*{number!r}"):
        ConcurrentTaskRunner(max_workers=number)


@pytest.mark.parametrize("spec", [5, int, object()], ids=lambda spec: type(spec).__name__)
def test_what_is_no_runner_is_refused_at_decoration(spec) -> None:
    for decorate in (flow, task):
        with pytest.raises(TypeError, match="Expected a task runner, its class or its name for 'task_runner'; got"):
            decorate(thread, task_runner=spec)


def test_a_runner_that_was_not_started_takes_nothing() -> None:
    with pytest.raises(RunnerError, match="must be started before submitting work"):
        ConcurrentTaskRunner().submit(None, print)


def test_max_workers_bounds_how_many_bodies_run_at_once() -> None:
    lock, running, most = threading.Lock(), [], []

    @task
    def body():
        with lock:
            running.append(1)
            most.append(len(running))
        barrier.wait(30)
        with lock:
            running.pop()

    barrier = threading.Barrier(2)

    @flow(task_runner="concurrent:2")
    def around():
        for _ in range(8):
            body.submit()

    around()
    assert max(most) == 2
