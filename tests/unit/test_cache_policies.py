"""Cache policies: from what keys are made, how policies are put together, and what tasks say of them."""

from __future__ import annotations

import functools
import logging
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from prefect_core import flow, task
from prefect_core.cache_policies import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    NONE,
    RUN_ID,
    TASK_SOURCE,
    CacheKeyFnPolicy,
    CachePolicy,
    CompoundCachePolicy,
    Inputs,
    IsolationLevel,
    address,
    address_of,
    task_input_hash,
)
from prefect_core.context import TaskRunContext
from prefect_core.errors import NotEncodable
from prefect_core.locking import MemoryLockManager
from prefect_core.runs import FlowRun, TaskRun
from prefect_core.settings import temporary_settings
from prefect_core.states import Pending
from tests.unit.recorded import Recorded


@task
def add(x: int, y: int = 1) -> int:
    return x + y


_prices: list[str] = []


@dataclass
class Shop:
    name: str

    @task(cache_policy=INPUTS)
    def price(self, x: int) -> str:
        _prices.append(f"{self.name}{x}")
        return _prices[-1]


def context_of(some_task: Any, flow_run: FlowRun | None = None) -> TaskRunContext:
    run = TaskRun(Pending(), some_task.name, some_task.task_key, flow_run, 0, frozenset())
    return TaskRunContext(some_task, run, {}, False, None)


def key(policy: CachePolicy, inputs: dict[str, Any] | None = None, **flow_parameters: Any) -> str | None:
    return policy.compute_key(context_of(add), inputs or {}, flow_parameters or None)


def test_inputs_differ_by_name_and_value() -> None:
    keys = {key(INPUTS, inputs) for inputs in ({"x": 1}, {"x": 2}, {"y": 1}, {"x": "1"}, {"x": 1, "y": 1})}
    assert len(keys) == 5
    assert None not in keys
    assert key(INPUTS, {"y": 2, "x": 1}) == key(INPUTS, {"x": 1, "y": 2})


def test_no_inputs_give_no_key() -> None:
    assert key(INPUTS, {}) is None


def test_an_argument_is_left_out_by_subtraction() -> None:
    policy = INPUTS - "seed"
    assert isinstance(policy, Inputs)
    assert key(policy, {"x": 1, "seed": 1}) == key(policy, {"x": 1, "seed": 2}) == key(policy, {"x": 1})
    assert key(policy, {"x": 1}) != key(policy, {"x": 2})
    assert INPUTS.exclude == []


def test_from_a_sum_an_argument_is_left_out_too() -> None:
    policy = (TASK_SOURCE + INPUTS) - "seed"
    assert key(policy, {"x": 1, "seed": 1}) == key(policy, {"x": 1, "seed": 2})
    with_inputs = (TASK_SOURCE + RUN_ID) - "seed"
    assert isinstance(with_inputs, CompoundCachePolicy)
    assert Inputs(["seed"]) in with_inputs.policies


@pytest.mark.parametrize("policy", [INPUTS, DEFAULT, TASK_SOURCE])
def test_only_names_are_subtracted(policy: CachePolicy) -> None:
    with pytest.raises(TypeError, match=r"Can only subtract strings from key policies\."):
        policy - 1  # type: ignore[operator]  # that is what is wrong


def test_an_input_without_an_encoding_is_refused_with_its_name() -> None:
    with pytest.raises(NotEncodable, match='INPUTS - "x"'):
        key(INPUTS, {"x": lambda: 1})


def test_flow_parameters_are_those_of_the_flow_around() -> None:
    assert key(FLOW_PARAMETERS, a=1) == key(FLOW_PARAMETERS, {"x": 5}, a=1) != key(FLOW_PARAMETERS, a=2)
    assert key(FLOW_PARAMETERS) is None


def test_the_run_id_is_the_flow_runs_or_else_the_task_runs() -> None:
    flow_run = FlowRun(Pending(), "a", "f")
    inside, outside = context_of(add, flow_run), context_of(add)
    assert RUN_ID.compute_key(inside, {}, None) == str(flow_run.id)
    assert RUN_ID.compute_key(outside, {}, None) == str(outside.task_run.id)


def test_the_source_is_the_code_and_not_its_place() -> None:
    one, same, other = task(lambda: 1 + 1), task(lambda: 1 + 1), task(lambda: 1 + 2)
    keys = [TASK_SOURCE.compute_key(context_of(each), {}, None) for each in (one, same, other)]
    assert keys[0] == keys[1] != keys[2]


def test_the_source_covers_what_a_nameless_function_closes_over() -> None:
    def made(factor: int) -> Any:
        return task(lambda x: x * factor, cache_policy=TASK_SOURCE)

    two, three = (TASK_SOURCE.compute_key(context_of(made(factor)), {}, None) for factor in (2, 3))
    assert two != three


def test_the_source_does_not_change_with_what_the_function_itself_changes() -> None:
    seen: list[int] = []
    local = task(lambda x: seen.append(x), cache_policy=TASK_SOURCE)
    before = TASK_SOURCE.compute_key(context_of(local), {}, None)
    local.fn(1)
    assert TASK_SOURCE.compute_key(context_of(local), {}, None) == before
    assert TASK_SOURCE.compute_key(context_of(local.with_options(name="other")), {}, None) == before


def test_what_can_not_be_encoded_in_a_closure_counts_by_its_type(recorded: Recorded) -> None:
    lock, ran = threading.Lock(), []

    @task(cache_policy=INPUTS)
    def guarded(x: int) -> int:
        with lock:
            ran.append(x)
            return x

    assert guarded(1) == guarded(1) == 1
    assert ran == [1]


def test_a_factory_makes_tasks_that_never_share_results(recorded: Recorded) -> None:
    def times(factor: int) -> Any:
        def inner() -> int:
            return factor

        return task(lambda x: x * inner(), cache_policy=INPUTS)

    assert [times(2)(1), times(3)(1), times(2)(1)] == [2, 3, 2]


def test_methods_of_other_objects_never_share_results(recorded: Recorded) -> None:
    assert [Shop("a").price(1), Shop("b").price(1), Shop("a").price(1)] == ["a1", "b1", "a1"]
    assert _prices == ["a1", "b1"]


def test_partials_never_share_results(recorded: Recorded) -> None:
    two, three = (task(functools.partial(add.fn, y=y), cache_policy=INPUTS - "y") for y in (2, 3))
    assert (two(1), three(1)) == (3, 4)


def test_no_cache_gives_no_key_and_adds_nothing() -> None:
    assert key(NO_CACHE, {"x": 1}) is None
    assert NONE is NO_CACHE
    assert INPUTS + NO_CACHE is INPUTS
    assert NO_CACHE + INPUTS is INPUTS


def test_sums_are_flat_and_depend_on_all_their_parts() -> None:
    assert isinstance(DEFAULT, CompoundCachePolicy)
    assert DEFAULT.policies == [INPUTS, TASK_SOURCE, RUN_ID]
    policy = INPUTS + FLOW_PARAMETERS
    assert len({key(policy, {"x": 1}, a=1), key(policy, {"x": 2}, a=1), key(policy, {"x": 1}, a=2)}) == 3


def test_a_sum_whose_parts_give_nothing_gives_no_key() -> None:
    assert key(INPUTS + FLOW_PARAMETERS) is None


def test_what_one_part_gives_never_stands_for_what_another_does() -> None:
    first, second = CacheKeyFnPolicy(lambda *_: "k"), CacheKeyFnPolicy(lambda *_: None)
    assert key(first + second) != key(second + first)


def test_a_function_gives_the_key_itself() -> None:
    policy = CachePolicy.from_cache_key_fn(lambda context, inputs: f"{context.task.name}-{inputs['x']}")
    assert key(policy, {"x": 3}) == "add-3"


def test_configure_changes_a_copy() -> None:
    locks = MemoryLockManager()
    changed = INPUTS.configure(key_storage="/keys", lock_manager=locks, isolation_level=IsolationLevel.SERIALIZABLE)
    assert (changed.key_storage, changed.lock_manager, changed.isolation_level) == (
        "/keys",
        locks,
        IsolationLevel.SERIALIZABLE,
    )
    assert INPUTS.key_storage is None
    assert changed.configure(key_storage="/others").lock_manager is locks


def test_what_one_policy_configures_holds_for_the_sum() -> None:
    policy = INPUTS.configure(key_storage="/keys") + TASK_SOURCE
    assert policy.key_storage == "/keys"


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ({"key_storage": "/a"}, {"key_storage": "/b"}, "storage locations"),
        (
            {"isolation_level": IsolationLevel.SERIALIZABLE},
            {"isolation_level": IsolationLevel.READ_COMMITTED},
            "isolation levels",
        ),
    ],
)
def test_policies_that_are_configured_otherwise_can_not_be_added(one: Any, other: Any, what: str) -> None:
    with pytest.raises(ValueError, match=rf"Cannot add CachePolicies with different {what}\."):
        INPUTS.configure(**one) + TASK_SOURCE.configure(**other)


def test_policies_with_other_locks_can_not_be_added(tmp_path) -> None:
    from prefect_core.locking import FileSystemLockManager

    with pytest.raises(ValueError, match=r"different lock implementations\."):
        INPUTS.configure(lock_manager=MemoryLockManager()) + RUN_ID.configure(
            lock_manager=FileSystemLockManager(tmp_path)
        )


def test_a_policy_class_of_ones_own_needs_a_method() -> None:
    class Mine(CachePolicy):
        pass

    with pytest.raises(TypeError, match="Mine is a cache policy without a method `compute_key`"):
        key(Mine())


def test_two_tasks_never_share_what_our_policies_find() -> None:
    other = task(lambda x, y=1: x * y)
    same = INPUTS.compute_key(context_of(add), {"x": 1}, None)
    assert same == INPUTS.compute_key(context_of(other), {"x": 1}, None)
    assert address(INPUTS, add, same) != address(INPUTS, other, same)
    own = CacheKeyFnPolicy(lambda *_: "k")
    assert address(own, add, "k") == address(own, other, "k") == "k"


def test_keys_of_any_kind_have_a_name_that_can_be_kept() -> None:
    assert address_of("daily report") == "daily report"
    for strange in ("x" * 10_000, "a\0b", "\ud800", "task:1", "sha256:1"):
        assert address_of(strange).startswith("sha256:")
    assert address_of("x" * 10_000) != address_of("x" * 10_001)


def test_task_input_hash_differs_by_task_code_and_arguments() -> None:
    other = task(lambda x: x)
    hashes = {
        task_input_hash(context_of(add), {"x": 1}),
        task_input_hash(context_of(add), {"x": 2}),
        task_input_hash(context_of(other), {"x": 1}),
    }
    assert len(hashes) == 3


def test_keys_are_the_same_in_every_process() -> None:
    program = (
        "from prefect_core.cache_policies import INPUTS; "
        "print(INPUTS.compute_key(None, {'x': {'a', 'b', 'c'}, 'y': {'k': 1.5}}, None))"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(keys) == 1


# What tasks say.


def test_nothing_is_cached_unless_asked_for() -> None:
    assert add.cache_policy == NO_CACHE
    assert add.caching_policy is None
    assert task(lambda: 1, persist_result=True).caching_policy is None


def test_a_policy_means_that_results_are_stored() -> None:
    cached = add.with_options(cache_policy=INPUTS)
    assert cached.caching_policy == INPUTS
    assert cached.result_rules is not None
    assert cached.result_rules.persists is True
    assert add.with_options(cache_policy=NO_CACHE).result_rules is None


def test_who_stores_nothing_caches_nothing(caplog) -> None:
    cached = task(lambda: 1, persist_result=False, cache_policy=INPUTS)
    assert cached.caching_policy is None
    assert "Ignoring `cache_policy` because `persist_result` is False" in caplog.text


def test_of_policy_and_function_the_function_counts(caplog) -> None:
    both = task(lambda: 1, name="both", cache_policy=INPUTS, cache_key_fn=lambda *_: "k")
    assert isinstance(both.cache_policy, CacheKeyFnPolicy)
    assert "Both `cache_policy` and `cache_key_fn` are set on task 'both'. `cache_key_fn` will be used." in caplog.text


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cache_policy": "INPUTS"}, TypeError, "Expected a cache policy for 'cache_policy'"),
        ({"cache_key_fn": 3}, TypeError, "Expected a callable for 'cache_key_fn'"),
        ({"cache_expiration": 3}, TypeError, "Expected a timedelta for 'cache_expiration'"),
        ({"cache_expiration": timedelta(0)}, ValueError, "'cache_expiration' must be longer than no time"),
        ({"on_commit": [3]}, TypeError, "Expected callables in 'on_commit'"),
        ({"on_rollback": 3}, TypeError, "Expected iterable for 'on_rollback'"),
    ],
)
def test_options_that_can_not_work_are_refused_by_name(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        task(lambda: 1, **options)


def test_a_generator_task_has_nothing_to_cache() -> None:
    def numbers() -> Any:
        yield 1

    with pytest.raises(ValueError, match="'cache_policy' has nothing to store of a generator task"):
        task(numbers, cache_policy=INPUTS)


def test_a_setting_keeps_every_task_from_caching(recorded: Recorded) -> None:
    ran = []
    cached = task(lambda x: ran.append(x), cache_policy=INPUTS)
    with temporary_settings(tasks_disable_caching=True):
        cached(1)
        cached(1)
    assert ran == [1, 1]


def test_options_survive_with_options_and_pickling() -> None:
    import cloudpickle

    local = task(lambda x: x, cache_policy=INPUTS - "x", cache_expiration=timedelta(days=1))
    for again in (local.with_options(name="other"), cloudpickle.loads(cloudpickle.dumps(local))):
        assert again.cache_policy == INPUTS - "x"
        assert again.cache_expiration == timedelta(days=1)


def test_a_key_that_can_not_be_made_is_logged_and_the_task_runs(recorded: Recorded, caplog) -> None:
    caplog.set_level(logging.ERROR)
    stored = task(lambda x: 5, name="stored", cache_policy=INPUTS)
    assert flow(lambda: stored(lambda: 1))() == 5
    assert "Error encountered when computing cache key - result will not be persisted." in caplog.text
    recorded.recorder.flush()
    assert recorded.store.results() == []
    assert recorded.verdicts("stored") == [("not cached", recorded.verdicts("stored")[0][1])]
    assert "its cache key can't be computed: NotEncodable" in recorded.verdicts("stored")[0][1]


def test_a_key_must_be_a_text(recorded: Recorded, caplog) -> None:
    assert task(lambda: 5, cache_key_fn=lambda *_: 3)() == 5
    assert "A cache key is a string or None; got 3" in caplog.text


def test_no_key_means_no_caching_and_no_complaint(recorded: Recorded, caplog) -> None:
    caplog.set_level(logging.WARNING)
    ran = []
    uncached = task(lambda x: ran.append(x), cache_key_fn=lambda *_: None)
    uncached(1)
    uncached(1)
    assert ran == [1, 1]
    assert not caplog.records
