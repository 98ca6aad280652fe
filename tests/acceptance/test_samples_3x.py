"""What the document of the 3.x line says of flows, one story to a statement; it prints no code, so the code here is ours.

Left out is what needs deployments, a server or stored results.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import anyio
import pytest
import trio
from pydantic import BaseModel

from prefect_core import Flow, flow, history, runtime, task
from prefect_core.context import get_run_context
from prefect_core.errors import ParameterTypeError
from prefect_core.states import Cancelled, Completed, Failed
from tests.acceptance.sample_scripts import run_script


class Kept:
    """The history of the test, read after a flush."""

    def __enter__(self):
        history.current().flush()
        self.store = history.open_store()
        return self.store

    def __exit__(self, *_):
        self.store.close()


def states_of(row) -> list[str]:
    with Kept() as store:
        return [state.name for state in store.states(row.key)]


def flow_runs(name: str | None = None):
    with Kept() as store:
        return [row for row in store.flow_runs()[::-1] if name in (None, row.flow_name)]


def task_runs(name: str | None = None):
    with Kept() as store:
        return [row for row in store.task_runs()[::-1] if name in (None, row.task_name)]


@task
def always_fails_task():
    raise ValueError("I fail successfully")


@task
def always_succeeds_task():
    return "foo"


@flow
def always_succeeds_flow():
    return "bar"


# Flows and their runs.


def test_a_decorated_function_is_an_instance_of_a_flow_and_still_behaves_like_a_function() -> None:
    @flow
    def explain_flows(work: str, *, times: int = 1) -> str:
        """Accept inputs, perform work, return a result."""
        return work * times

    assert isinstance(explain_flows, Flow)
    assert explain_flows("ab", times=2) == "abab"
    assert explain_flows.__doc__ == "Accept inputs, perform work, return a result."


def test_a_flow_needs_no_tasks_and_no_other_flows() -> None:
    assert flow(lambda: 42)() == 42
    assert len(flow_runs()) == 1


def test_each_invocation_is_a_run_with_a_lifecycle_of_its_own() -> None:
    flaky = iter([ValueError(), None])

    @flow(retries=1)
    def body():
        error = next(flaky)
        if error:
            raise error

    always_succeeds_flow()
    body()
    assert states_of(flow_runs("always-succeeds-flow")[0]) == ["Pending", "Running", "Completed"]
    assert states_of(flow_runs("body")[0]) == ["Pending", "Running", "AwaitingRetry", "Running", "Completed"]


def test_a_flow_is_invoked_among_vanilla_python_code(tmp_path: Path) -> None:
    outcome = run_script(
        tmp_path,
        """
from prefect_core import flow

@flow
def double(x: int):
    return 2 * x

total = 0
for n in range(3):
    total += double(n)
print(total)
""",
    )
    assert (outcome.code, outcome.lines[-1]) == (0, "6")
    assert [row.state_type for row in flow_runs("double")] == ["COMPLETED"] * 3


# Parameters.


def test_parameters_are_seen_through_the_runtime_inside_the_run() -> None:
    @flow
    def body(x: int, y: str = "default"):
        return runtime.flow_run.parameters, runtime.flow_run.flow_name

    assert body("1") == ({"x": 1, "y": "default"}, "body")


class Address(BaseModel):
    city: str
    number: int


def test_inputs_are_converted_by_their_type_hints_with_any_pydantic_model() -> None:
    @flow
    def body(number: int, addresses: list[Address]):
        return number, [address.number for address in addresses]

    assert body("5", [{"city": "Paris", "number": "7"}, Address(city="Rome", number=8)]) == (5, [7, 8])


def test_parameters_are_validated_before_a_flow_is_run() -> None:
    @flow
    def body(number: int):
        raise AssertionError("the body must not run")

    with pytest.raises(ParameterTypeError, match="number: Input should be a valid integer"):
        body("five")
    assert states_of(flow_runs("body")[0]) == ["Pending", "Failed"]


def test_parameters_can_not_exceed_512_kb() -> None:
    with pytest.raises(ValueError, match="Flow run parameters must be less than 524,288 bytes"):
        flow(lambda data: None)("x" * 600_000)


# Nested flows.


def test_a_nested_flow_gets_data_for_futures_and_is_a_full_run_linked_to_its_parent() -> None:
    @task
    def number():
        return 20

    @flow
    def child(x: int):
        run = runtime.flow_run
        return x + 1, run.parent_flow_run_id

    @flow
    def parent():
        return *child(number.submit()), runtime.flow_run.id

    value, parent_id, own_id = parent()
    assert (value, str(parent_id)) == (21, str(own_id))
    outer, inner = flow_runs()
    tracking = task_runs("child")[0]
    assert (inner.parent_flow_run, inner.parent_task_run, tracking.child_flow_run) == (
        outer.key,
        tracking.key,
        inner.key,
    )


def test_the_state_details_of_both_name_each_other() -> None:
    @flow
    def child():
        run = get_run_context().flow_run
        return (
            run.parent_task_run.state.state_details.child_flow_run_id == run.id
            and run.state.state_details.parent_task_run_id
        )

    @flow
    def parent():
        return child()

    assert parent() == task_runs("child")[0].id


def test_a_nested_flow_has_a_runner_of_its_own_and_blocks_its_parent() -> None:
    order = []

    @flow(task_runner="sequential")
    def child():
        task(lambda: order.append("task of the child")).submit()

    @flow
    def parent():
        child()
        order.append("parent")

    parent()
    assert order == ["task of the child", "parent"]
    assert [row.runner for row in flow_runs()] == ["ConcurrentTaskRunner", "SequentialTaskRunner"]


@flow
async def meets(event, others, name):
    event.set()
    for other in others:
        await other.wait()
    return name


def test_async_nested_flows_run_concurrently_with_asyncio_gather() -> None:
    @flow
    async def parent():
        events = [anyio.Event() for _ in range(3)]
        return await asyncio.gather(*[meets(event, events, n) for n, event in enumerate(events)])

    assert asyncio.run(parent()) == [0, 1, 2]


@pytest.mark.parametrize("run", [asyncio.run, None], ids=["asyncio", "trio"])
def test_async_nested_flows_run_concurrently_in_anyio_task_groups(run) -> None:
    @flow
    async def parent():
        events = [anyio.Event() for _ in range(3)]
        async with anyio.create_task_group() as group:
            for n, event in enumerate(events):
                group.start_soon(meets, event, events, n)

    assert (run(parent()) if run else trio.run(parent)) is None
    assert [row.state_type for row in flow_runs("meets")] == ["COMPLETED"] * 3


# Almost any function.


class Counter:
    def __init__(self, start):
        self.start = start

    @flow
    def method(self, x: int):
        return self.start + x

    @flow
    @classmethod
    def of_class(cls, x: int):
        return cls.__name__, x

    @flow
    @staticmethod
    def static(x: int):
        return x


def test_almost_any_function_can_be_a_flow() -> None:
    @flow
    def synchronous(x: int):
        return x

    @flow
    async def asynchronous(x: int):
        return x

    @flow
    def generator():
        yield from (1, 2)

    @flow
    async def async_generator():
        yield 1
        yield 2

    async def collected():
        return [value async for value in async_generator()]

    assert synchronous(1) == 1
    assert asyncio.run(asynchronous(1)) == 1
    assert list(generator()) == [1, 2]
    assert asyncio.run(collected()) == [1, 2]
    assert Counter(10).method("5") == 15
    assert Counter.of_class("5") == ("Counter", 5)
    assert Counter.static("5") == 5
    assert {row.state_type for row in flow_runs()} == {"COMPLETED"}


def test_a_generator_is_consumed_when_it_is_returned() -> None:
    consumed = []

    def gen():
        for value in (1, 2, 3):
            consumed.append(value)
            yield value

    @flow
    def body():
        return gen()

    assert body() == [1, 2, 3]
    assert consumed == [1, 2, 3]


def test_a_generator_that_is_yielded_is_handed_on_unconsumed() -> None:
    consumed = []

    def gen():
        consumed.append("begun")
        yield 1

    @flow
    def body():
        yield gen()

    inner = next(body())
    assert consumed == []
    assert list(inner) == [1]


def test_values_that_a_generator_flow_yields_need_not_be_storable() -> None:
    @flow
    def body():
        yield lambda: 5

    assert [value() for value in body()] == [5]


# Final states.


def test_an_exception_raised_in_the_flow_fails_it() -> None:
    with pytest.raises(ZeroDivisionError):
        flow(lambda: 1 / 0)()
    assert flow_runs()[0].state_type == "FAILED"


def test_a_flow_that_is_cancelled_stays_so() -> None:
    assert flow(lambda: Cancelled())(return_state=True).is_cancelled()


def test_a_task_that_fails_need_not_fail_the_flow_unless_its_state_is_returned() -> None:
    @flow
    def swallows():
        always_fails_task(return_state=True)
        return "fine"

    @flow
    def returns():
        return always_fails_task(return_state=True)

    assert swallows(return_state=True).is_completed()
    assert returns(return_state=True).is_failed()


def test_a_flow_that_returns_the_future_of_a_task_that_succeeds_completes() -> None:
    @flow
    def always_succeeds():
        always_fails_task.submit()
        return always_succeeds_task.submit()

    state = always_succeeds(return_state=True)
    assert str(state) == "Completed('All states completed.')"


def test_futures_and_states_that_are_returned_are_resolved_and_counted() -> None:
    @flow
    def always_fails():
        x = always_fails_task.submit()
        y = always_succeeds_task.submit()
        z = always_succeeds_flow(return_state=True)
        return x, y, z

    assert str(always_fails(return_state=True)) == "Failed('1/3 states failed.')"


@pytest.mark.parametrize("collect", [list, tuple, lambda states: set(states)], ids=["list", "tuple", "set"])
def test_several_states_are_contained_in_a_set_list_or_tuple(collect) -> None:
    state = flow(lambda: collect([always_fails_task(return_state=True), always_succeeds_task(return_state=True)]))(
        return_state=True
    )
    assert str(state) == "Failed('1/2 states failed.')"


def test_other_containers_of_states_are_not_looked_into() -> None:
    assert flow(lambda: {"x": always_fails_task(return_state=True)})(return_state=True).is_completed()


@pytest.mark.parametrize("make", [Completed, Failed], ids=["Completed", "Failed"])
def test_a_state_made_by_hand_determines_the_end(make) -> None:
    @flow
    def body():
        always_fails_task.submit()
        return make(message="I decide")

    assert str(body(return_state=True)) == f"{make().name}('I decide')"


def test_any_other_object_completes_the_run() -> None:
    @flow
    def body():
        always_fails_task.submit()
        return {"any": "object"}

    assert body() == {"any": "object"}


def test_a_state_may_have_a_custom_name_such_as_skipped() -> None:
    @flow
    def body(work_to_do: bool):
        if not work_to_do:
            return Completed(message="No work to do 💤", name="Skipped")
        return Completed(message="Work was done 💪")

    skipped = body(False, return_state=True)
    assert (skipped.name, str(skipped)) == ("Skipped", "Skipped('No work to do 💤', type=COMPLETED)")
    assert body(True, return_state=True).name == "Completed"
    assert [row.state_name for row in flow_runs("body")] == ["Skipped", "Completed"]


def test_none_is_an_ordinary_value_where_the_flow_or_the_setting_says_so(tmp_path: Path, monkeypatch) -> None:
    code = """
from prefect_core import flow, task

@task
def always_fails_task():
    raise ValueError("I fail successfully")

@flow
def body():
    always_fails_task.submit()

print(body(return_state=True))
"""
    assert run_script(tmp_path, code).lines[-1] == "Failed('1/1 states failed.')"
    assert (
        run_script(tmp_path, code.replace("@flow", '@flow(final_state_from="return_value")')).lines[-1] == "Completed()"
    )
    monkeypatch.setenv("PREFECT_CORE_FINAL_STATE_FROM", "return_value")
    assert run_script(tmp_path, code).lines[-1] == "Completed()"
