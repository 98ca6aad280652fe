"""Futures and states inside arguments: where they are looked for, and what stands in their place."""

from __future__ import annotations

import collections
import pickle
import threading
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from prefect_core import allow_failure, flow, inputs, opaque, quote, task, unmapped
from prefect_core.errors import UpstreamTaskError
from prefect_core.states import Cancelled, Completed, Crashed, Failed, Pending

pytestmark = pytest.mark.usefixtures("recorded")

ONE = Completed(data=1)
"""A leaf; states and futures are walked alike."""


def resolved(value: Any) -> Any:
    return inputs.replace(value, inputs.value_of)


class Pair(NamedTuple):
    a: object
    b: object


@dataclass
class Data:
    a: object
    made: int = field(init=False, default=0)

    def __post_init__(self):
        self.made = 1


@dataclass(frozen=True, slots=True)
class Frozen:
    a: object


class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    a: object
    number: int = 1
    _private: str = "kept"


COLLECTIONS = [
    ([ONE, 2], [1, 2]),
    ((ONE, 2), (1, 2)),
    ({ONE, 2}, {1, 2}),
    (frozenset({ONE}), frozenset({1})),
    ({"k": ONE}, {"k": 1}),
    ({ONE: "v"}, {1: "v"}),
    (OrderedDict(k=ONE), OrderedDict(k=1)),
    (Pair(ONE, 2), Pair(1, 2)),
    (Frozen(ONE), Frozen(1)),
    ([{"k": (ONE, [Pair(2, {ONE})])}], [{"k": (1, [Pair(2, {1})])}]),
    (unmapped(ONE), 1),
    (opaque(ONE), 1),
    (allow_failure([ONE]), [1]),
]


@pytest.mark.parametrize(
    ("value", "expected"), COLLECTIONS, ids=[type(value).__name__ + str(n) for n, (value, _) in enumerate(COLLECTIONS)]
)
def test_states_inside_collections_become_values(value: object, expected: object) -> None:
    assert resolved(value) == expected
    assert type(resolved(value)) is type(expected)
    assert [leaf for leaf, _ in inputs.find(value)] == [ONE] * len(inputs.find(value)) != []


def test_a_default_factory_stays_with_its_dict() -> None:
    made = resolved(defaultdict(list, k=ONE))
    assert made == {"k": 1}
    assert made["new"] == []


def test_a_dataclass_is_copied_without_running_its_constructor_again() -> None:
    data = Data(ONE)
    data.made = 7
    copied = resolved(data)
    assert (copied.a, copied.made) == (1, 7)
    assert data.a is ONE


def test_a_model_is_copied_without_validating_it_again_and_keeps_its_private_attributes() -> None:
    model = Model(a=ONE)
    model._private = "mine"
    model.number = "not a number"
    copied = resolved(model)
    assert (copied.a, copied.number, copied._private) == (1, "not a number", "mine")
    assert model.a is ONE


UNTOUCHED: list[Any] = [
    [1, [2, {"k": (3,)}]],
    Data([1]),
    Model(a=1),
    deque([ONE]),
    (value for value in (ONE,)),
    "text",
    object(),
    collections.UserList([ONE]),
]


@pytest.mark.parametrize("value", UNTOUCHED, ids=lambda value: type(value).__name__)
def test_what_holds_no_future_or_is_not_looked_into_stays_the_same_object(value: object) -> None:
    assert resolved(value) is value
    assert resolved([value, ONE])[0] is value


def test_a_collection_that_holds_itself_is_walked_once() -> None:
    endless: list[Any] = [ONE]
    endless.append(endless)
    assert [leaf for leaf, _ in inputs.find(endless)] == [ONE]
    assert resolved(endless)[0] == 1


def test_a_collection_that_is_shared_many_times_is_not_walked_each_time() -> None:
    shared: Any = [ONE]
    for _ in range(200):
        shared = [shared, shared]
    new = resolved(shared)
    while len(new) == 2:
        assert new[0] is new[1]
        new = new[0]
    assert new == [1]


def test_a_set_whose_element_becomes_unhashable_is_an_error_that_names_the_cure() -> None:
    @task
    def body(x):
        raise AssertionError("the body must not run")

    state = body({Completed(data=[1])}, return_state=True)
    assert state.is_failed()
    assert "Failed to resolve inputs of 'body-0'" in state.message
    assert "`quote`" in state.message


@given(
    st.recursive(
        st.just(ONE) | st.integers(),
        lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=1), inner),
    )
)
def test_every_leaf_is_found_and_none_is_left(value: object) -> None:
    new = resolved(value)
    assert inputs.find(new) == []
    assert repr(new) == repr(value).replace(repr(ONE), "1")


# Annotations.


def test_an_annotation_holds_one_value_and_is_equal_by_type_and_value() -> None:
    for kind in (unmapped, allow_failure, quote, opaque):
        assert kind(5).unwrap() == 5
        assert kind(5) == kind(5) != kind(6)
        assert kind(5) != 5
        assert hash(kind(5)) == hash(kind(5))
        assert kind(5).rewrap(6) == kind(6)
        assert repr(kind("x")) == f"{kind.__name__}('x')"
        assert pickle.loads(pickle.dumps(kind([5]))) == cloudpickle.loads(cloudpickle.dumps(kind([5]))) == kind([5])
    assert unmapped(5) != quote(5)
    assert unmapped([1])[99] == [1]
    assert quote([1]).unquote() == [1]


def test_nothing_is_looked_for_inside_quote_and_the_body_gets_what_is_in_it() -> None:
    @task
    def body(x, y):
        return x, y

    @flow
    def around():
        future = failing.submit()
        x, y = body(quote([future]), [quote(future)])
        assert x[0] is y[0] is future
        return "fine"

    assert around() == "fine"


def test_opaque_resolves_its_value_and_looks_no_deeper() -> None:
    @task
    def body(x, y):
        return x, y

    inner = [ONE]
    x, y = body(opaque(inner), opaque(Completed(data=5)))
    assert x is inner
    assert x[0] is ONE
    assert y == 5


@task
def failing():
    raise ValueError("x")


@task
def type_of(value):
    return type(value).__name__


def test_a_failure_that_is_allowed_arrives_as_its_exception() -> None:
    @flow
    def around():
        future = failing.submit()
        return type_of.submit(allow_failure(future)).result(), type_of(allow_failure(future))

    assert around() == ("ValueError", "ValueError")


@pytest.mark.parametrize(
    "wrap", [lambda f: allow_failure([f]), lambda f: [allow_failure(f)], lambda f: {"k": allow_failure((f,))}]
)
def test_a_failure_may_be_allowed_inside_collections_and_around_them(wrap) -> None:
    @task
    def body(x):
        return repr(x)

    assert "ValueError('x')" in flow(lambda: body.submit(wrap(failing.submit())).result())()


def test_only_the_nearest_annotation_counts() -> None:
    found = inputs.find([allow_failure([unmapped(ONE), ONE]), ONE])
    assert [allowed for _, allowed in found] == [False, True, False]


@pytest.mark.parametrize("state", [Crashed(), Cancelled(), Pending()], ids=lambda state: state.name)
def test_only_failures_can_be_allowed(state) -> None:
    with pytest.raises(UpstreamTaskError, match=f"Upstream task run '{state.id}' did not reach a 'COMPLETED' state."):
        inputs.value_of(state, True)


def test_a_run_that_could_not_start_is_allowed_with_a_failure() -> None:
    assert inputs.value_of(Pending(name="NotReady"), True) is None
    assert isinstance(inputs.value_of(Failed(), True), Exception)


# When the values are taken.


def test_what_the_caller_adds_to_a_list_after_submitting_it_does_not_reach_the_task() -> None:
    go = threading.Event()

    @task
    def first():
        go.wait()
        return 1

    @task
    def total(values, others):
        return sum(values), list(others)

    @flow
    def around():
        values, others = [first.submit()], ["kept"]
        for _ in range(3):
            values.append(total.submit(values, others))
            values[-1] = index.submit(values[-1])
        go.set()
        return [future.result() for future in values]

    @task
    def index(pair):
        return pair[0]

    assert around() == [1, 1, 2, 4]


def test_a_future_that_appears_in_a_mutable_argument_later_is_nobodys_upstream() -> None:
    go = threading.Event()

    @task
    def first():
        go.wait()

    @task
    def look(_first, box):
        return [type(item).__name__ for item in box]

    @flow
    def around():
        box = []
        seen = look.submit(first.submit(), box)
        box.append(seen)
        go.set()
        return seen.result()

    assert around() == ["PrefectFuture"]


def test_the_inputs_of_a_run_are_recorded_by_parameter(recorded) -> None:
    @task
    def body(a, b):
        return a

    @flow
    def around():
        one, two, three = (type_of.submit(n) for n in range(3))
        body.submit(one, {"x": [two]}, wait_for=[three]).wait()

    around()
    ids = [row.id for row in recorded.task_runs("type_of")]
    kept = recorded.task_runs("body")[0].inputs
    assert sorted((edge.parameter, edge.id) for edge in kept) == [("a", ids[0]), ("b", ids[1]), ("wait_for", ids[2])]
    assert {edge.kind for edge in kept} == {"task_run"}
