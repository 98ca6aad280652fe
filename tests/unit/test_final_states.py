"""From what a function returns, and what its children did, to the state that its run ends in."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from pydantic import BaseModel, ConfigDict

from prefect_core import PrefectFuture, State, flow, quote, task
from prefect_core.errors import PausedRun, UnfinishedRun
from prefect_core.final_states import aggregate, state_of_value
from prefect_core.states import Cancelled, Completed, Crashed, Failed, Paused, Pending, Running, StateDetails

pytestmark = pytest.mark.usefixtures("recorded")


@task
def good(value=1):
    return value


@task
def bad(text="I fail"):
    raise ValueError(text)


@task
def cancelled():
    return Cancelled()


def run_state(state: State) -> State:
    """Make the state one of a run."""
    state.task_uid = 1
    return state


def shown(state: State) -> str:
    return f"{state.type.value} {state.message}"


# Aggregation.

AGGREGATES = [
    ([Completed(), Completed()], "COMPLETED All states completed."),
    ([Completed(name="Skipped")], "COMPLETED All states completed."),
    ([Completed(), Failed()], "FAILED 1/2 states failed."),
    ([Failed(), Crashed(), Completed()], "FAILED 2/3 states failed."),
    ([Crashed()], "FAILED 1/1 states failed."),
    ([Failed(), Cancelled(), Paused()], "CANCELLED 1/3 states cancelled."),
    ([Failed(), Paused(), Completed(), Paused()], "PAUSED 2/4 states paused."),
    ([Pending(), Running(), Completed()], "FAILED 2/3 states are not final."),
    ([Pending(name="NotReady"), Failed()], "FAILED 1/2 states failed."),
]


@pytest.mark.parametrize(("states", "expected"), AGGREGATES, ids=[text for _, text in AGGREGATES])
def test_many_states_become_one(states: list[State], expected: str) -> None:
    state = aggregate(states, data=states)
    assert shown(state) == expected
    assert state.data is states


@pytest.mark.parametrize("collect", [list, tuple, set, frozenset], ids=lambda kind: kind.__name__)
def test_a_list_tuple_or_set_of_states_is_aggregated(collect) -> None:
    states = collect([Completed(), Failed()])
    state = state_of_value(states)
    assert shown(state) == "FAILED 1/2 states failed."
    assert state.data is states


@dataclass
class Holder:
    state: State


class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    state: object


PLAIN = [
    None,
    0,
    "FAILED",
    [],
    (),
    set(),
    {"x": Failed()},
    (None, Failed()),
    [Failed(), 1],
    [[Failed()]],
    Holder(Failed()),
    Model(state=Failed()),
    quote(Failed()),
]


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: f"{type(value).__name__}-{str(value)[:16]}")
def test_any_other_value_completes_the_run_even_with_failed_states_inside(value: object) -> None:
    state = state_of_value(value)
    assert (state.type.value, state.name, state.message) == ("COMPLETED", "Completed", None)
    assert state.data is value


def test_a_state_made_by_hand_is_used_as_it_is_and_one_of_a_run_is_aggregated() -> None:
    by_hand = Failed(message="my words", name="Odd")
    assert state_of_value(by_hand) is by_hand
    of_run = run_state(Failed(message="of a run"))
    assert shown(state_of_value(of_run)) == "FAILED 1/1 states failed."
    assert state_of_value(of_run).data is of_run
    in_details = Completed(state_details=StateDetails(flow_run_id=Completed().id))
    assert shown(state_of_value(in_details)) == "COMPLETED All states completed."


# Flows.


def end_of(function, **options) -> State:
    return flow(function, **options)(return_state=True)


def test_a_flow_that_raises_fails_at_once() -> None:
    def raises():
        raise ValueError("This flow immediately fails")

    state = end_of(raises)
    assert shown(state) == "FAILED Flow run encountered an exception: ValueError: This flow immediately fails"
    with pytest.raises(ValueError, match="immediately"):
        state.result()


def test_a_flow_that_returns_nothing_and_ran_nothing_completes_without_a_message() -> None:
    assert str(end_of(lambda: None)) == "Completed()"


def test_a_flow_that_returns_nothing_completes_if_all_its_children_did() -> None:
    def body():
        good()
        good.submit()

    state = end_of(body)
    assert str(state) == "Completed('All states completed.')"
    assert state.result() is None


def test_a_child_that_failed_is_not_lost_by_a_flow_that_returns_nothing() -> None:
    def body():
        bad.submit().result(raise_on_failure=False)
        good()

    assert str(end_of(body)) == "Failed('1/2 states failed.')"
    with pytest.raises(ValueError, match="I fail"):
        flow(body)()


def test_a_failing_direct_call_that_the_flow_caught_counts() -> None:
    def body():
        good()
        try:
            bad()
        except ValueError:
            pass

    assert str(end_of(body)) == "Failed('1/2 states failed.')"


def test_a_direct_call_inside_another_task_does_not_count() -> None:
    @task
    def outer():
        bad(return_state=True)

    def body():
        outer()

    assert str(end_of(body)) == "Completed('All states completed.')"


def test_a_cancelled_child_of_a_flow_that_returns_nothing_cancels_it() -> None:
    def body():
        bad.submit()
        cancelled.submit()

    assert str(end_of(body)) == "Cancelled('1/2 states cancelled.')"


def test_a_failed_subflow_of_a_flow_that_returns_nothing_fails_it() -> None:
    @flow
    def child():
        raise KeyError("below")

    def body():
        child(return_state=True)
        good()

    assert str(end_of(body)) == "Failed('1/2 states failed.')"
    with pytest.raises(KeyError):
        flow(body)()


def test_a_subflow_contributes_one_state_that_aggregates_its_own_children() -> None:
    @flow
    def child():
        for _ in range(3):
            bad.submit()

    def body():
        child(return_state=True)

    assert str(end_of(body)) == "Failed('1/1 states failed.')"


def test_the_earliest_failure_is_what_a_flow_that_returns_nothing_raises() -> None:
    @flow
    def body():
        first, second = bad.submit("first"), bad.submit("second")
        del first, second

    for _ in range(5):
        with pytest.raises(ValueError, match="first"):
            body()


def test_children_that_could_not_start_are_counted_as_failed_ones_upstream() -> None:
    def body():
        good.submit(bad.submit())

    assert str(end_of(body)) == "Failed('1/2 states failed.')"


def test_a_flow_whose_only_child_could_not_start_raises_that() -> None:
    def body():
        good.submit(Failed(message="from elsewhere"))

    state = end_of(body)
    assert str(state) == "Failed('1/1 states are not final.')"
    with pytest.raises(UnfinishedRun, match="Upstream task run"):
        state.result()


def test_the_return_value_alone_decides_where_the_flow_says_so() -> None:
    def body():
        bad.submit()

    state = end_of(body, final_state_from="return_value")
    assert str(state) == "Completed()"
    assert state.result() is None


def test_a_value_completes_the_flow_whatever_its_children_did() -> None:
    def body():
        bad.submit()
        return "foo"

    state = end_of(body)
    assert (str(state), state.result()) == ("Completed()", "foo")


def test_a_returned_future_decides() -> None:
    def succeeds():
        bad.submit()
        return good.submit()

    def fails():
        good.submit()
        return bad.submit()

    assert str(end_of(succeeds)) == "Completed('All states completed.')"
    assert flow(succeeds)() == 1
    assert str(end_of(fails)) == "Failed('1/1 states failed.')"
    with pytest.raises(ValueError, match="I fail"):
        flow(fails)()


def test_futures_and_states_mixed_are_counted_together() -> None:
    @flow
    def child():
        return "bar"

    def body():
        return bad.submit(), good(return_state=True), child(return_state=True)

    state = end_of(body)
    assert str(state) == "Failed('1/3 states failed.')"
    states = state.result(raise_on_failure=False)
    assert [one.type.value for one in states] == ["FAILED", "COMPLETED", "COMPLETED"]
    assert [one.result(raise_on_failure=False) for one in states[1:]] == [1, "bar"]
    with pytest.raises(ValueError, match="I fail"):
        state.result()


def test_a_flow_that_returns_completed_futures_gives_their_states() -> None:
    states = flow(lambda: [good.submit(1), good.submit(2)])()
    assert [one.result() for one in states] == [1, 2]


@pytest.mark.parametrize("wrap", [lambda f: {"x": f}, lambda f: (None, f), Holder], ids=["dict", "mixed", "dataclass"])
def test_a_failed_future_inside_another_collection_is_not_checked(wrap) -> None:
    state = end_of(lambda: wrap(bad.submit()))
    assert str(state) == "Completed()"
    assert not isinstance(state.result(), State)


def test_futures_inside_what_is_returned_become_states() -> None:
    returned = flow(lambda: {"x": good.submit(1), "y": [good.submit(2), "z"]})()
    assert returned["x"].result() == 1
    assert returned["y"][0].result() == 2
    assert returned["y"][1] == "z"


@pytest.mark.parametrize("inside", ["future", "state", "list"])
def test_what_is_quoted_is_returned_untouched(inside: str) -> None:
    def body():
        values = {
            "future": lambda: bad.submit(),
            "state": lambda: bad(return_state=True),
            "list": lambda: [bad.submit()],
        }
        return quote(values[inside]())

    state = end_of(body)
    assert str(state) == "Completed()"
    value = state.result()
    assert isinstance(value, quote)
    assert isinstance(value.unquote(), {"future": PrefectFuture, "state": State, "list": list}[inside])


@pytest.mark.parametrize("make", [Completed, Failed, Cancelled, Crashed], ids=lambda make: make.__name__)
def test_a_final_state_made_by_hand_decides_with_its_name_and_message(make) -> None:
    def body():
        bad.submit()
        return make(message="my words", name="Mine")

    state = end_of(body)
    assert (state.name, state.message, state.type) == ("Mine", "my words", make().type)


def test_a_state_made_by_hand_gives_its_data() -> None:
    assert flow(lambda: Completed(data=5))() == 5
    with pytest.raises(ZeroDivisionError):
        flow(lambda: Failed(data=ZeroDivisionError()))()


def test_a_state_made_once_serves_many_runs() -> None:
    skipped = Completed(name="Skipped", message="nothing to do")
    once = flow(lambda: skipped)
    assert {(once(return_state=True).name, once(return_state=True).message) for _ in range(2)} == {
        ("Skipped", "nothing to do")
    }
    twice = task(lambda: skipped)
    assert [twice(return_state=True).name for _ in range(2)] == ["Skipped", "Skipped"]
    assert not skipped.belongs_to_run


def test_a_returned_pause_pauses_the_flow(recorded) -> None:
    paused = flow(lambda: Paused(timeout_seconds=60), name="waits")
    assert paused(return_state=True).is_paused()
    with pytest.raises(PausedRun):
        paused()
    assert recorded.flow_runs("waits")[0].state_name == "Paused"


@pytest.mark.parametrize("decorate", [flow, task], ids=["flow", "task"])
@pytest.mark.parametrize("make", [Pending, Running], ids=lambda make: make.__name__)
def test_a_returned_state_that_ends_nothing_fails_the_run(recorded, decorate, make) -> None:
    state = decorate(lambda: make(message="odd"), name="odd")(return_state=True)
    assert state.is_failed()
    assert f"{make().name}('odd')" in state.message
    with pytest.raises(ValueError, match="can't end"):
        state.result()
    assert recorded.unfinished() == []


# Tasks.


def test_a_task_may_end_by_a_state_made_by_hand() -> None:
    assert task(lambda: Failed(message="no"))(return_state=True).message == "no"
    assert task(lambda: Cancelled())(return_state=True).is_cancelled()
    assert task(lambda: Completed(name="Skipped"))(return_state=True).name == "Skipped"


def test_a_returned_failed_state_is_retried() -> None:
    tries = []

    @task(retries=2)
    def returns_failed():
        tries.append(1)
        return Failed(message="again") if len(tries) < 3 else 7

    assert returns_failed() == 7
    assert len(tries) == 3


def test_a_task_that_returns_the_state_of_another_is_aggregated() -> None:
    @task
    def outer():
        return bad(return_state=True)

    state = outer(return_state=True)
    assert str(state) == "Failed('1/1 states failed.')"
    with pytest.raises(ValueError, match="I fail"):
        state.result()


def test_a_future_that_a_task_returns_is_left_alone() -> None:
    @task
    def outer():
        return bad.submit()

    @flow
    def body():
        future = outer()
        assert isinstance(future, PrefectFuture)
        return future.wait().type.value

    assert body() == "FAILED"
