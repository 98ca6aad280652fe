"""A value is taken over only if it is still the one that would be computed, and then it is: its body does not run a second time."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

import pytest

from prefect_core import allow_failure, flow, quote, task
from prefect_core.context import get_run_context
from tests.integration.again.attempts import Attempts, end_first, now, ran


@pytest.fixture
def tasks() -> Tasks:
    return Tasks()


class Tasks:
    """Tasks whose bodies are noted. What `source` gives is the number of the execution."""

    def __init__(self) -> None:
        @task
        def source() -> int:
            ran("source")
            return now().number

        @task
        def unknown() -> tuple[int, threading.Lock]:
            return now().number, threading.Lock()

        @task(persist_result=True)
        def stored(value: Any) -> Any:
            ran("stored")
            return value[0] if isinstance(value, tuple) else value

        @task
        def around(value: Any) -> Any:
            return stored(value)

        self.source, self.unknown, self.stored, self.around = source, unknown, stored, around


def test_a_value_of_memory_in_another_process_is_another_making(attempts: Attempts, tasks: Tasks) -> None:
    @flow(retries=1)
    def main() -> int:
        value = tasks.stored.submit(tasks.source.submit()).result()
        end_first()
        return value

    attempts.run(main)
    assert attempts.run(main).result() == 2


def test_a_value_of_memory_that_can_not_be_encoded_is_another_making_too(attempts: Attempts, tasks: Tasks) -> None:
    @flow(retries=1)
    def main() -> int:
        value = tasks.stored.submit(tasks.unknown.submit()).result()
        end_first()
        return value

    attempts.run(main)
    assert attempts.run(main).result() == 2


def test_an_equal_value_of_memory_is_the_same_making(attempts: Attempts, tasks: Tasks) -> None:
    same = task(lambda: [1])

    @flow(retries=1)
    def main() -> Any:
        value = tasks.stored.submit(same.submit()).result()
        end_first()
        return value

    attempts.run(main)
    assert attempts.run(main).result() == [1]
    assert attempts.bodies == []


@pytest.mark.parametrize("how", ["source", "unknown"])
def test_a_key_does_not_hide_that_an_input_was_made_anew(attempts: Attempts, tasks: Tasks, how: str) -> None:
    upstream = getattr(tasks, how)

    @flow
    def main() -> int:
        value = tasks.stored.submit(upstream.submit(), key="by hand").result()
        end_first()
        return value

    attempts.run(main)
    assert attempts.run(main).result() == 2


def test_a_call_with_a_key_and_inputs_of_the_same_making_is_taken_over(attempts: Attempts, tasks: Tasks) -> None:
    @flow
    def main() -> Any:
        first = tasks.stored.submit(7)
        value = tasks.stored.submit({"of": [first, tasks.around.submit(3)]}, key="by hand").result()
        end_first()
        return value

    attempts.run(main)
    assert attempts.run(main).result() == {"of": [7, 3]}
    assert attempts.bodies == []


@pytest.mark.parametrize("waits", [True, False])
def test_the_future_of_an_unstored_run_counts_by_value_whether_it_made_calls_by_then_or_not(
    attempts: Attempts, tasks: Tasks, waits: bool
) -> None:
    stored = tasks.stored

    def after_the_gate(value: Any) -> Any:
        if not now().scratch["waits"]:
            assert now().scratch["gate"].wait(20)
        return stored(value)

    attempts.scratch["gate"] = gate = threading.Event()
    gated_task, gated_flow = task(after_the_gate), flow(after_the_gate)

    @flow
    def main() -> list[int]:
        # Once they have made their calls before they are inputs, and once they can't have.
        attempts.scratch["waits"] = waits == (now().number == 1)
        upstreams: list[Any] = [gated_task.submit(1), gated_flow.submit(2)]
        if attempts.scratch["waits"]:
            [one.wait() for one in upstreams]
        gate.clear()
        behind = [stored.submit(one) for one in upstreams]
        gate.set()
        values = [one.result() for one in behind]
        end_first()
        return values

    attempts.run(main)
    assert attempts.run(main).result() == [1, 2]
    assert attempts.bodies == []


def test_the_future_of_an_unstored_run_counts_by_value_whatever_that_run_was_given(
    attempts: Attempts, tasks: Tasks
) -> None:
    nested = task(lambda value: value, persist_result=True, name="nested")

    @task
    def constant(value: int) -> int:
        nested(value)
        return 9

    @flow
    def main() -> Any:
        upstream = constant.submit(now().number)
        upstream.wait()
        value = tasks.stored.submit(upstream).result()
        end_first()
        return value

    attempts.run(main)
    assert attempts.run(main).result() == 9
    assert attempts.bodies == []


@pytest.mark.parametrize("is_flow", [True, False])
def test_a_parent_that_changes_its_argument_is_known_by_what_it_was_given(
    attempts: Attempts, tasks: Tasks, is_flow: bool
) -> None:
    stored = tasks.stored

    def changing(values: list[Any]) -> Any:
        values.append(now().number)
        return stored(5)

    parent: Any = flow(changing) if is_flow else task(changing)

    @flow
    def main() -> Any:
        value = parent([1])
        end_first()
        return value

    attempts.run(main)
    assert attempts.run(main).result() == 5
    assert attempts.bodies == []


def test_a_future_that_is_handed_on_as_such_tells_nothing(attempts: Attempts, tasks: Tasks) -> None:
    @task(persist_result=True)
    def ask(future: Any) -> int:
        value: int = future.result()
        return value

    @flow
    def main() -> list[int]:
        source = tasks.source.submit()
        values = [ask.submit(quote(source)).result(), ask.submit(quote(source), key="k").result()]
        end_first()
        return values

    attempts.run(main)
    assert attempts.run(main).result() == [2, 2]


def test_what_depends_on_an_allowed_failure_runs_again(attempts: Attempts, tasks: Tasks) -> None:
    @task(persist_result=True)
    def fail() -> None:
        raise ValueError(now().number)

    @flow(final_state_from="return_value")
    def main() -> str:
        value = tasks.stored.submit(allow_failure(fail.submit())).result()
        end_first()
        return str(value)

    attempts.run(main)
    assert attempts.run(main).result() == "2"


def test_an_input_that_ran_again_in_a_retry_that_ended_early_is_noticed_by_the_next(
    attempts: Attempts, tasks: Tasks
) -> None:
    @task(persist_result=True)
    def upstream() -> int:
        return now().number

    @flow
    def main() -> int:
        first = upstream.submit()
        first.wait()
        if now().number == 2:
            raise ValueError("before the dependent was called")
        value = tasks.stored.submit(first).result()
        end_first()
        return value

    attempts.run(main)
    change(attempts, "UPDATE result SET value = x'00' WHERE key = (SELECT min(key) FROM result)")
    attempts.run(main)
    assert attempts.run(main).result() == 2
    assert attempts.bodies == ["stored"]


def change(attempts: Attempts, statement: str) -> None:
    connection = sqlite3.connect(attempts.home / "history.db")
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_late_call_that_was_killed_before_it_took_its_value_does_not_hide_it(
    attempts: Attempts, tasks: Tasks
) -> None:
    @flow
    def main() -> int:
        value = tasks.stored.submit(tasks.around.submit(1)).result()
        if now().number < 3:
            raise ValueError("not yet")
        return value

    attempts.run(main)
    attempts.run(main)
    # As a kill between the two commits would leave it.
    last = "(SELECT max(key) FROM task_run WHERE task_name = 'stored' AND parent_task_run IS NULL)"
    change(attempts, f"UPDATE call SET result = NULL WHERE run = {last}")
    change(attempts, f"UPDATE task_run SET state_type = 'CRASHED', state_name = 'Crashed' WHERE key = {last}")
    assert attempts.run(main).result() == 1
    assert attempts.bodies == []


def test_what_an_earlier_attempt_of_a_run_kept_does_not_stand_for_a_later_one(attempts: Attempts) -> None:
    def body() -> int:
        return now().number

    def made(persists: bool) -> Any:
        return task(body, persist_result=persists, refresh_cache=True, name="made")

    @flow(retries=1)
    def main() -> int:
        value: int = made(now().number == 1)() if now().number < 3 else unrefreshed()
        if now().number < 3:
            raise ValueError("not yet")
        return value

    unrefreshed = task(body, persist_result=True, name="made")
    attempts.run(main.with_options(retries=0))
    attempts.run(main)
    assert attempts.run(main).result() == 3


def test_a_value_that_the_flow_changed_is_made_again_by_its_next_attempt(attempts: Attempts) -> None:
    stored = task(lambda: ["stored"], persist_result=True)
    remembered = task(lambda: ["remembered"])
    kept_aside: list[Any] = []

    @flow(retries=1)
    def main() -> list[Any]:
        values: list[Any] = [stored(), remembered()]
        for value in values:
            value.append("changed")
        kept_aside.append(values)
        if len(kept_aside) == 1:
            raise ValueError("once more")
        return values

    assert attempts.run(main).result() == [["stored", "changed"], ["remembered", "changed"]]


def test_nested_calls_of_a_task_that_is_tried_again_run_once_at_any_depth(attempts: Attempts, tasks: Tasks) -> None:
    around = tasks.around
    middle = task(lambda value: around(value), name="middle")
    stored = tasks.stored

    @task(retries=2)
    def outer() -> list[Any]:
        values = [middle(1), stored(2), stored(2), middle(1)]
        if get_run_context().run.run_count < 3:
            raise ValueError("once more")
        return values

    @flow
    def main() -> list[Any]:
        values: list[Any] = outer()
        end_first()
        return values

    attempts.run(main)
    assert attempts.bodies == ["stored"] * 4
    assert attempts.run(main).result() == [1, 2, 2, 1]
    assert attempts.bodies == []


def test_a_call_that_waits_for_others_is_taken_over_if_they_are(attempts: Attempts, tasks: Tasks) -> None:
    @flow
    def main() -> list[Any]:
        first, second = tasks.stored.submit(1), tasks.around.submit(2)
        values = [
            tasks.stored.submit(3, wait_for=[first, second]).result(),
            tasks.stored(4, wait_for=first),
            tasks.stored.submit(5, wait_for={first, second}).result(),
            tasks.stored.submit(6, key="k", wait_for=[allow_failure(first)]).result(),
        ]
        end_first()
        return values

    attempts.run(main)
    assert attempts.run(main).result() == [3, 4, 5, 6]
    assert attempts.bodies == []
