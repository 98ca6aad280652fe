"""States: their constructors, fields, words, equality, and what `result()` gives."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta

import cloudpickle
import pytest

from prefect_core import errors, states
from prefect_core.state_kinds import FINAL, TRANSITIONS, StateType
from prefect_core.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Late,
    Paused,
    Pending,
    Retrying,
    Running,
    Scheduled,
    State,
    StateDetails,
    Stored,
    Suspended,
    exception_of,
    raise_state_exception,
)

MOMENT = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

NAMED = {
    Scheduled: ("SCHEDULED", "Scheduled"),
    Late: ("SCHEDULED", "Late"),
    AwaitingRetry: ("SCHEDULED", "AwaitingRetry"),
    Pending: ("PENDING", "Pending"),
    Running: ("RUNNING", "Running"),
    Retrying: ("RUNNING", "Retrying"),
    Completed: ("COMPLETED", "Completed"),
    Failed: ("FAILED", "Failed"),
    Crashed: ("CRASHED", "Crashed"),
    Cancelling: ("CANCELLING", "Cancelling"),
    Cancelled: ("CANCELLED", "Cancelled"),
    Paused: ("PAUSED", "Paused"),
    Suspended: ("PAUSED", "Suspended"),
}


@pytest.mark.parametrize("make", NAMED, ids=lambda make: make.__name__)
def test_a_constructor_gives_the_kind_and_the_name(make) -> None:
    state = make(message="why")
    assert (state.type.value, state.name, state.message) == (*NAMED[make], "why")


@pytest.mark.parametrize("make", NAMED, ids=lambda make: make.__name__)
def test_any_state_may_carry_a_name_of_its_own(make) -> None:
    assert make(name="Skipped").name == "Skipped"


@pytest.mark.parametrize("kind", StateType)
def test_exactly_one_predicate_is_true_for_each_kind(kind: StateType) -> None:
    state = State(kind)
    true = [other.value for other in StateType if getattr(state, f"is_{other.value.lower()}")()]
    assert true == [kind.value]
    assert state.is_final() == (kind.value in {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})


def test_a_final_kind_has_no_successor_and_every_other_has_one() -> None:
    assert {kind for kind, after in TRANSITIONS.items() if not after} == set(FINAL)
    assert set(TRANSITIONS) == set(StateType)


def test_a_state_without_a_time_begins_now_in_utc() -> None:
    before = datetime.now(UTC)
    state = Completed()
    assert state.timestamp.utcoffset() == timedelta(0)
    assert before - timedelta(milliseconds=1) <= state.timestamp <= datetime.now(UTC) + timedelta(milliseconds=1)


def test_a_given_timestamp_is_kept_to_the_microsecond() -> None:
    assert Completed(timestamp=MOMENT).timestamp == MOMENT
    assert Completed(timestamp=MOMENT.replace(tzinfo=None)).timestamp == MOMENT


def test_a_scheduled_state_is_due_now_or_when_it_says() -> None:
    assert Scheduled(scheduled_time=MOMENT).state_details.scheduled_time == MOMENT
    assert Scheduled(state_details=StateDetails(scheduled_time=MOMENT)).state_details.scheduled_time == MOMENT
    due = Scheduled().state_details.scheduled_time
    assert due is not None
    assert abs(due - datetime.now(UTC)) < timedelta(seconds=30)


def test_two_scheduled_times_are_refused() -> None:
    with pytest.raises(ValueError, match="An extra scheduled_time was provided in state_details"):
        Scheduled(scheduled_time=MOMENT, state_details=StateDetails(scheduled_time=MOMENT))


def test_a_pause_ends_after_seconds_or_at_a_moment() -> None:
    assert Paused(pause_expiration_time=MOMENT).state_details.pause_timeout == MOMENT
    end = Paused(timeout_seconds=600).state_details.pause_timeout
    assert end is not None
    assert timedelta(seconds=570) < end - datetime.now(UTC) <= timedelta(seconds=600)
    assert Paused().state_details.pause_timeout is None


def test_two_ends_of_a_pause_are_refused() -> None:
    with pytest.raises(ValueError, match="Cannot supply both a pause_expiration_time and timeout_seconds"):
        Paused(timeout_seconds=1, pause_expiration_time=MOMENT)
    with pytest.raises(ValueError, match="An extra pause timeout was provided in state_details"):
        Paused(timeout_seconds=1, state_details=StateDetails(pause_timeout=MOMENT))


def test_a_suspended_state_is_a_pause_that_reschedules() -> None:
    details = Suspended(pause_key="approval").state_details
    assert (details.pause_reschedule, details.pause_key) == (True, "approval")
    assert not Paused().state_details.pause_reschedule


def test_str_leaves_out_what_says_nothing() -> None:
    assert str(Completed()) == "Completed()"
    assert str(Failed(message="1/2 states failed.")) == "Failed('1/2 states failed.')"
    assert str(Completed(name="Skipped")) == "Skipped(type=COMPLETED)"
    assert str(Failed(name="TimedOut", message="late")) == "TimedOut('late', type=FAILED)"
    assert str(State(StateType.COMPLETED, name="COMPLETED")) == "COMPLETED()"


def test_repr_shows_message_kind_and_result() -> None:
    assert repr(Completed(data="foo")) == "Completed(message=None, type=COMPLETED, result='foo')"
    state = Failed(message="m", data=ValueError("x"))
    assert repr(state) == "Failed(message='m', type=FAILED, result=ValueError('x'))"


def test_a_notebook_gets_escaped_html() -> None:
    html = Completed(name="<b>", message="<script>")._repr_html_()
    assert "<script>" not in html
    assert "<b>" not in html


def test_states_with_equal_fields_are_equal_and_hash_alike() -> None:
    one, other = Completed(message="m", data=[1], timestamp=MOMENT), Completed(message="m", data=[1], timestamp=MOMENT)
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1


@pytest.mark.parametrize(
    "other",
    [
        Completed(message="other", timestamp=MOMENT),
        Completed(name="Skipped", timestamp=MOMENT),
        Completed(data=1, timestamp=MOMENT),
        Completed(timestamp=MOMENT + timedelta(microseconds=1)),
        Failed(timestamp=MOMENT),
        "Completed()",
    ],
    ids=["message", "name", "data", "timestamp", "type", "no state"],
)
def test_states_that_differ_in_a_field_are_not_equal(other: object) -> None:
    assert Completed(timestamp=MOMENT) != other


def test_a_copy_begins_now_and_belongs_to_no_run() -> None:
    state = Failed(message="m", data=1, timestamp=MOMENT)
    state.task_uid = 7
    copied = state.copy(message="n")
    assert (copied.type, copied.name, copied.message, copied.data) == (state.type, "Failed", "n", 1)
    assert copied.timestamp != MOMENT
    assert copied.id != state.id
    assert state.belongs_to_run
    assert not copied.belongs_to_run


def test_the_identifier_of_a_state_stays_the_same() -> None:
    state = Completed()
    assert state.id == state.id
    assert state.id != Completed().id


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps], ids=["pickle", "cloudpickle"])
@pytest.mark.parametrize("make", NAMED, ids=lambda make: make.__name__)
def test_a_state_survives_pickling(make, dumps) -> None:
    state = make(message="m", data={"a": 1}, timestamp=MOMENT)
    loaded = pickle.loads(dumps(state))
    assert loaded == state
    assert loaded.timestamp == MOMENT
    assert loaded.state_details == state.state_details
    assert str(loaded) == str(state)


def test_a_state_with_an_exception_survives_pickling_and_copying() -> None:
    state = Failed(data=ValueError("x"))
    assert pickle.loads(pickle.dumps(state)).data.args == ("x",)
    assert copy.copy(state) == state
    assert copy.deepcopy(Completed(data=[1])).data == [1]


def test_a_value_that_was_not_kept_is_still_missing_after_pickling() -> None:
    state = Completed(data=states.NO_DATA)
    with pytest.raises(errors.MissingResult, match="State data is missing"):
        state.result()
    with pytest.raises(errors.MissingResult):
        pickle.loads(pickle.dumps(state)).result()


# What result() gives.


@pytest.mark.parametrize("value", [None, 0, "x", [1, 2], {"a": 1}, object])
def test_the_result_of_a_completed_state_is_its_data(value: object) -> None:
    assert Completed(data=value).result() is value
    assert Completed(data=value).result(raise_on_failure=False) is value


def test_the_result_of_a_completed_state_that_holds_a_state_is_that_states_result() -> None:
    assert Completed(data=Completed(data=5)).result() == 5


def test_a_paused_run_has_no_result_and_the_error_holds_the_state() -> None:
    state = Paused()
    with pytest.raises(errors.PausedRun, match="Run is paused, its result is not available.") as caught:
        state.result()
    assert caught.value.state is state


@pytest.mark.parametrize("make", [Scheduled, Pending, Running, Cancelling], ids=lambda make: make.__name__)
@pytest.mark.parametrize("raise_on_failure", [True, False])
def test_an_unfinished_run_has_no_result(make, raise_on_failure: bool) -> None:
    state = make()
    with pytest.raises(errors.UnfinishedRun, match=f"Run is in {state.type.value} state, its result is not available."):
        state.result(raise_on_failure=raise_on_failure)


@pytest.mark.parametrize("make", [Failed, Crashed, Cancelled], ids=lambda make: make.__name__)
def test_an_exception_in_an_unsuccessful_state_is_raised_or_returned_itself(make) -> None:
    error = KeyboardInterrupt("even a BaseException")
    with pytest.raises(KeyboardInterrupt) as caught:
        make(data=error).result()
    assert caught.value is error
    assert make(data=error).result(raise_on_failure=False) is error


@pytest.mark.parametrize(
    ("make", "wrapper", "default"),
    [
        (Failed, errors.FailedRun, "Run failed."),
        (Crashed, errors.CrashedRun, "Run crashed."),
        (Cancelled, errors.CancelledRun, "Run cancelled."),
    ],
    ids=["Failed", "Crashed", "Cancelled"],
)
def test_an_unsuccessful_state_without_an_exception_raises_one_of_its_kind(make, wrapper, default: str) -> None:
    for state, text in ((make(), default), (make(message="m"), "m"), (make(data="text", message="m"), "text")):
        with pytest.raises(wrapper) as caught:
            state.result()
        assert str(caught.value) == text
    assert isinstance(make().result(raise_on_failure=False), wrapper)
    assert make(data="text").result(raise_on_failure=False) == "text"


def test_a_nested_state_is_asked_for_the_exception() -> None:
    error = ValueError("inner")
    assert exception_of(Failed(data=Failed(data=error))) is error
    assert exception_of(Crashed(data=Failed(data=Cancelled(data=error)))) is error


@pytest.mark.parametrize("collect", [list, tuple], ids=["list", "tuple"])
def test_the_first_unsuccessful_of_several_states_gives_the_exception(collect) -> None:
    first, second = ValueError("1"), ValueError("2")
    data = collect([Completed(data=1), Failed(data=first), Crashed(data=second)])
    assert exception_of(Failed(data=data)) is first


def test_one_failed_state_in_a_set_gives_the_exception() -> None:
    error = ValueError("x")
    assert exception_of(Failed(data={Completed(), Failed(data=error)})) is error


def test_several_states_of_which_none_failed_are_an_error() -> None:
    with pytest.raises(ValueError, match="Failed state result was an iterable of states but none were failed."):
        exception_of(Failed(data=[Completed(), Completed()]))


@pytest.mark.parametrize("data", [Pending(), [Pending()], (Completed(), Running())], ids=["state", "list", "tuple"])
def test_a_failure_for_a_run_that_never_ended_says_so(data: object) -> None:
    assert isinstance(exception_of(Failed(data=data)), errors.UnfinishedRun)


def test_a_failed_state_with_other_data_is_a_type_error() -> None:
    with pytest.raises(
        TypeError, match="Unexpected result for failed state: 5 .* int cannot be resolved into an exception"
    ):
        Failed(data=5).result()
    assert Failed(data=5).result(raise_on_failure=False) == 5


@pytest.mark.parametrize("state", [Completed(), Running(), Paused()], ids=str)
def test_only_unsuccessful_states_have_an_exception(state: State) -> None:
    with pytest.raises(ValueError, match="Expected failed or crashed state got"):
        exception_of(state)
    raise_state_exception(state)


def test_raise_state_exception_raises_for_each_unsuccessful_kind() -> None:
    for make in (Failed, Crashed, Cancelled):
        with pytest.raises(ZeroDivisionError):
            raise_state_exception(make(data=ZeroDivisionError()))


def test_a_value_kept_elsewhere_is_loaded_when_asked_for() -> None:
    class Kept(Stored):
        def load(self) -> object:
            return self.value

        def __init__(self, value: object) -> None:
            self.value = value

    class OfTheUser:
        def load(self) -> object:
            raise AssertionError("nobody asked for it")

    theirs = OfTheUser()
    assert Completed(data=theirs).result() is theirs
    assert Completed(data=Kept(5)).result() == 5
    error = ValueError("x")
    assert exception_of(Failed(data=Kept(error))) is error
    assert Failed(data=Kept(error)).result(raise_on_failure=False) is error
