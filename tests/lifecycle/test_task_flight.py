"""Submitted runs that need no lifecycle, and those that turn out to need one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from prefect_core import flow, history, runtime, task
from prefect_core.engine import remote, task_flight
from prefect_core.payload import Payload, Receipt
from prefect_core.states import Completed, State
from prefect_core.task_runners import TaskRunner
from tests.unit.recorded import Recorded, in_memory


class Later(TaskRunner):
    """Gives receipts when the body of the flow asks for it."""

    waiting: list[tuple[Payload, Callable[[Receipt], None]]] = []

    def duplicate(self) -> Later:
        type(self).waiting = []
        return self

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        self.waiting.append((payload, done))

    @classmethod
    def go_on(cls) -> None:
        waiting, cls.waiting = cls.waiting, []
        for payload, done in waiting:
            done(remote.run_attempt(payload))


@pytest.fixture
def recorded() -> Any:
    with in_memory() as recorded:
        yield recorded


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs that had a lifecycle, in the order in which these began."""
    names: list[str] = []
    begin = task_flight.task_life

    def began(call: Any, *first: Any) -> Any:
        names.append(call.run.name)
        return begin(call, *first)

    monkeypatch.setattr(task_flight, "task_life", began)
    return names


@task
def double(x: Any) -> Any:
    return 2 * x


def states_of(recorded: Recorded, name: str) -> list[list[str]]:
    return recorded.task_states(name)


def test_a_run_that_returns_a_value_has_no_lifecycle(recorded: Recorded, lives: list[str]) -> None:
    @flow(task_runner=Later())
    def main() -> int:
        future = double.submit(4)
        assert not future.done()
        Later.go_on()
        return future.result()

    assert main() == 8
    assert lives == []
    assert states_of(recorded, "double") == [["Pending", "Running", "Completed"]]


def fails_first(x: int) -> int:
    if runtime.task_run.run_count < 2:
        raise ValueError("the first time")
    return x


def returns_a_state(x: int) -> State:
    return Completed(message="enough")


@pytest.mark.parametrize(
    ("asked", "states"),
    [
        (lambda: task(fails_first, name="t", retries=1).submit(1), ["AwaitingRetry", "Retrying", "Completed"]),
        (lambda: task(fails_first, name="t").submit(1), ["Failed"]),
        (lambda: task(returns_a_state, name="t").submit(1), ["Completed"]),
    ],
    ids=["a retry", "a failure", "a state"],
)
def test_what_does_not_just_return_a_value_goes_on_with_one(
    recorded: Recorded, lives: list[str], asked: Callable[[], Any], states: list[str]
) -> None:
    lives_before: list[str] = []

    @flow(task_runner=Later())
    def main() -> None:
        future = asked()
        lives_before.extend(lives)
        for _ in range(2):
            Later.go_on()
        future.wait(timeout=20)

    main(return_state=True)
    assert (lives_before, lives) == ([], ["t-0"])
    assert states_of(recorded, "t") == [["Pending", "Running", *states]]


def hooked(*_: Any) -> None:
    """Stand for a hook."""


@pytest.mark.parametrize(
    "asked",
    [
        lambda: task(double.fn, name="t", tags={"a"}).submit(1),
        lambda: task(double.fn, name="t", on_completion=[hooked]).submit(1),
        lambda: task(double.fn, name="t", task_run_name="t-0").submit(1),
        lambda: task(double.fn, name="t").submit(double.submit(1)),
        lambda: task(double.fn, name="t", persist_result=True).submit(1),
        lambda: task(double.fn, name="t", cache_key_fn=lambda *_: "key").submit(1),
    ],
    ids=["tags", "a hook", "a name", "an input", "a stored value", "a cache key"],
)
def test_what_has_more_to_it_begins_with_one(lives: list[str], asked: Callable[[], Any]) -> None:
    @flow(task_runner="concurrent")
    def main() -> None:
        asked().result()

    main()
    assert lives == ["t-0"]


@pytest.mark.parametrize("where", ["end_of_attempt", "enter"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a mistake")], ids=["interrupted", "a mistake"])
def test_what_strikes_at_the_end_crashes_the_run(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException
) -> None:
    def struck(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(task_flight, where, struck)

    @flow(task_runner=Later())
    def main() -> State:
        future = double.submit(4)
        Later.go_on()
        return future.wait(timeout=20)

    state = main(return_state=True)
    assert states_of(recorded, "double")[0][-1] == "Crashed"
    assert recorded.unfinished() == []
    assert state.is_crashed() or state.is_failed()


def test_what_strikes_at_the_beginning_crashes_the_run(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    def struck(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(task_flight, "new_payload", struck)

    @flow(task_runner=Later())
    def main() -> None:
        double.submit(4)

    with pytest.raises(KeyboardInterrupt):
        main()
    assert states_of(recorded, "double") == [["Pending", "Crashed"]]
    assert recorded.unfinished() == []


def test_a_receipt_that_comes_again_changes_nothing(recorded: Recorded, lives: list[str]) -> None:
    @flow(task_runner=Later())
    def main() -> int:
        future = double.submit(4)
        [(_, done)] = Later.waiting
        Later.go_on()
        done(Receipt(5))
        return future.result()

    assert main() == 8
    history.current().flush()
    assert lives == []
    assert states_of(recorded, "double") == [["Pending", "Running", "Completed"]]
