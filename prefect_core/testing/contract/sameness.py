"""One program, any runner: what the history holds afterwards is the same, but for moments, identifiers and workers."""

from __future__ import annotations

import re
from typing import Any

from prefect_core import allow_failure, flow, get_run_logger, task
from prefect_core.history.store import HistoryStore, RunFilter
from prefect_core.task_runners import RunnerSpec
from prefect_core.testing.contract.journal import MakeRunner
from prefect_core.testing.surroundings import harness

_IDENTIFIER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@task(tags=["load"])
def load(number: int) -> int:
    """Log a line and give a number."""
    get_run_logger().info("loading %d", number)
    return number


@task(retries=1)
def refuse(reason: str) -> None:
    """Fail."""
    raise ValueError(reason)


@task
def inner(number: int) -> int:
    """Be submitted by a task."""
    return number + 1


@task(task_run_name="around {number}")
def outer(number: int) -> int:
    """Submit a task."""
    return inner.submit(number).result()


@task
def gather(*values: Any) -> int:
    """Take inputs."""
    return len(values)


def everything(runner: RunnerSpec) -> Any:
    """Return a flow that does a little of everything on `runner`."""

    @flow(name="sub", task_runner=runner)
    def sub(number: int) -> int:
        return load.submit(number).result()

    @flow(name="everything", task_runner=runner)
    def run() -> None:
        loaded = load.map(range(3))
        refused = refuse.submit("no")
        gather.submit(loaded, wait_for=[loaded[0]])
        gather.submit(refused)
        gather.submit(allow_failure(refused))
        outer.submit(loaded[1])
        sub(2)
        gather(1, 2)

    return run


def told(store: HistoryStore) -> list[Any]:
    """Return all that a history holds of its task and flow runs, without what differs from one run of a program to the next."""
    names: dict[Any, str] = {None: ""}
    for row in store.task_runs():
        names[row.key] = names[row.uid] = row.name
    for flow_run in store.flow_runs():
        # Their own names are drawn.
        names[flow_run.key] = names[flow_run.uid] = f"flow {flow_run.flow_name}"
    story: list[Any] = []
    for run in store.task_runs(RunFilter()):
        inputs = sorted((edge.parameter, names[edge.uid]) for edge in run.inputs)
        place = (names[run.flow_run], names[run.parent_task_run], names[run.child_flow_run])
        story.append(
            (run.name, run.task_key, run.index, run.tags, inputs, place, run.run_count, *_course(store, run.key))
        )
    for flow_run in store.flow_runs():
        parents = (names[flow_run.parent_flow_run], names[flow_run.parent_task_run])
        story.append(
            (names[flow_run.key], flow_run.parameters, parents, flow_run.run_count, *_course(store, flow_run.key))
        )
    return sorted(story, key=repr)


def _course(store: HistoryStore, key: int) -> tuple[Any, ...]:
    states = [(state.seq, state.attempt, state.type, state.name, _plain(state.message)) for state in store.states(key)]
    attempts = [(attempt.attempt, attempt.state_name) for attempt in store.attempts(key)]
    logs = [(log.level, log.logger, _plain(log.message)) for log in store.logs(key)]
    return states, attempts, logs


def _plain(message: str | None) -> str | None:
    return None if message is None else _IDENTIFIER.sub("<id>", message.partition("\nTraceback")[0])


class Sameness:
    """The history that a runner leaves."""

    def test_the_history_is_the_one_that_the_sequential_runner_leaves(self, make_runner: MakeRunner) -> None:
        stories = []
        for runner in ("sequential", make_runner()):
            with harness() as world:
                state = everything(runner)(return_state=True)
                assert str(state) == "Failed('1/11 states failed.')"
                stories.append(told(world.store))
        assert stories[0] == stories[1]
