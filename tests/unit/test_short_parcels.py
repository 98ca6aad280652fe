"""Calls and replies that have nothing unusual travel short: bodies must not see a difference, and nothing may be left behind."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from prefect_core import flow, get_run_logger, tags, task
from prefect_core.concurrency import concurrency
from prefect_core.context import TaskRunContext
from prefect_core.engine.parcels import PLAIN_CALL_FIELDS, Parcel, opened_call
from prefect_core.engine.transport import Delivery, Transport
from tests.contract.holding import HoldingTaskRunner


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Parcel]:
    """What is sent while the test runs."""
    parcels: list[Parcel] = []
    take = Transport.take

    def keeping(self: Transport, payload: Any, *, in_chunk: bool = False) -> Delivery:
        delivery = take(self, payload, in_chunk=in_chunk)
        parcels.append(delivery.parcel)
        return delivery

    monkeypatch.setattr(Transport, "take", keeping)
    return parcels


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the replies that come while the test runs are short."""
    replies: list[bool] = []
    receipt = Delivery.receipt

    def keeping(self: Delivery, reply: Any, *reference: Any) -> Any:
        replies.append(isinstance(reply, tuple))
        return receipt(self, reply, *reference)

    monkeypatch.setattr(Delivery, "receipt", keeping)
    return replies


def seen() -> dict[str, Any]:
    """Return what a body can know of its run and of those around it."""
    context = TaskRunContext.get()
    assert context is not None
    run = context.task_run
    around = context.flow_context
    assert around is not None
    return {
        "id": str(run.id),
        "key": run.key,
        "name": run.name,
        "index": run.index,
        "task": (run.task_name, run.task_key),
        "tags": sorted(run.tags),
        "attempt": run.attempt,
        "run_count": run.run_count,
        "created": run.created_us,
        "has_started": run.started_us >= run.created_us,
        "inputs": len(run.inputs),
        "state": run.state.type.value,
        "state_of": run.state.state_details.task_run_id == run.id,
        "flow": (str(around.flow_run.id), around.flow.name),
        "inside": run.parent_task_run is None,
        "depth": context.depth,
        "log_prints": context.log_prints,
        "parameters": context.parameters,
    }


@task
def look(x: int) -> str:
    return repr(seen())


def expected(run: Any, x: int, flow_run: Any, **others: Any) -> str:
    return repr(
        {
            "id": str(run.id),
            "key": run.key,
            "name": f"{run.task_name}-{run.index}",
            "index": run.index,
            "task": (run.task_name, run.task_key),
            "tags": [],
            "attempt": 1,
            "run_count": 1,
            "created": run.created_us,
            "has_started": True,
            "inputs": 0,
            "state": "RUNNING",
            "state_of": True,
            "flow": (str(flow_run.id), "main"),
            "inside": True,
            "depth": 2,
            "log_prints": False,
            "parameters": {"x": x},
            **others,
        }
    )


def test_bodies_of_a_chunk_see_all_of_their_runs(sent: list[Parcel], told: list[bool]) -> None:
    @flow(task_runner=HoldingTaskRunner(), name="main")
    def main() -> None:
        futures = look.map([10, 20, 30], chunk=3)
        flow_run = futures[0].task_run.flow_run
        for future, x in zip(futures, [10, 20, 30], strict=True):
            assert future.result() == expected(future.task_run, x, flow_run)

    main()
    assert [len(parcel.call) for parcel in sent] == [PLAIN_CALL_FIELDS] * 3
    assert told == [True] * 3


def test_a_single_body_sees_the_same(sent: list[Parcel], told: list[bool]) -> None:
    @flow(task_runner=HoldingTaskRunner(), name="main")
    def main() -> None:
        future = look.submit(1)
        assert future.result() == expected(future.task_run, 1, future.task_run.flow_run)

    main()
    [parcel] = sent
    assert isinstance(parcel.call, bytes)
    assert opened_call(parcel.call).tags == frozenset()
    assert told == [False]


def test_what_is_particular_to_a_call_is_not_left_behind(sent: list[Parcel]) -> None:
    @flow(task_runner=HoldingTaskRunner(), name="main")
    def main() -> None:
        with tags("of-block"):
            in_block = look.map([1], chunk=1)
        tagged = look.with_options(tags={"of-task"}).map([2], chunk=1)
        timed = look.with_options(timeout_seconds=60).map([3], chunk=1)
        named = look.with_options(task_run_name="number-{x}").map([4], chunk=1)
        flow_run = in_block[0].task_run.flow_run
        assert in_block[0].result() == expected(in_block[0].task_run, 1, flow_run, tags=["of-block"])
        assert tagged[0].result() == expected(tagged[0].task_run, 2, flow_run, tags=["of-task"])
        assert timed[0].result() == expected(timed[0].task_run, 3, flow_run)
        assert named[0].result() == expected(named[0].task_run, 4, flow_run, name="number-4")

    main()
    assert not any(isinstance(parcel.call, tuple) for parcel in sent)


def test_a_slot_that_a_body_is_called_in_goes_with_the_call(sent: list[Parcel]) -> None:
    @flow(task_runner=HoldingTaskRunner())
    def main() -> list[str]:
        with concurrency("short-parcels"):
            return look.map([1], chunk=1).result()

    main()
    [parcel] = sent
    assert opened_call(parcel.call).blocks


def test_a_further_attempt_is_told_of_as_one(sent: list[Parcel]) -> None:
    @task(retries=1)
    def twice(x: int) -> tuple[int, int]:
        context = TaskRunContext.get()
        assert context is not None
        if context.task_run.run_count == 1:
            raise ValueError
        return context.task_run.attempt, context.task_run.run_count

    @flow(task_runner=HoldingTaskRunner())
    def main() -> list[tuple[int, int]]:
        return twice.map([1, 2], chunk=2).result()

    assert main() == [(2, 2)] * 2
    assert [isinstance(parcel.call, tuple) for parcel in sent] == [True, True, False, False]


def test_what_happened_in_a_body_comes_with_its_value(told: list[bool], caplog: pytest.LogCaptureFixture) -> None:
    @task
    def logging_one(x: int) -> int:
        get_run_logger().info("I am %d", x)
        return x

    @flow(task_runner=HoldingTaskRunner())
    def main() -> list[int]:
        return logging_one.map([1, 2], chunk=2).result()

    with caplog.at_level(logging.INFO, "prefect_core"):
        assert main() == [1, 2]
    assert [record.getMessage() for record in caplog.records if "I am" in record.getMessage()] == ["I am 1", "I am 2"]
    assert told == [False, False]


@pytest.mark.parametrize("value", [None, True, -(1 << 200), 0.5, "text", b"bytes", "\ud800"])
def test_plain_values_come_as_they_are(told: list[bool], value: Any) -> None:
    @task
    def giving(x: Any) -> Any:
        return x

    @flow(task_runner=HoldingTaskRunner())
    def main() -> Any:
        return giving.map([value, value], chunk=2).result()

    assert main() == [value, value]
    assert told == [True, True]


@pytest.mark.parametrize("value", [[1], {"a": 1}, (1, 2, 3, 4), ("host", 1, 2, "value")])
def test_other_values_are_not_taken_for_short_replies(told: list[bool], value: Any) -> None:
    @task
    def giving(x: int) -> Any:
        return value

    @flow(task_runner=HoldingTaskRunner())
    def main() -> Any:
        return giving.map([1, 2], chunk=2).result()

    assert main() == [value, value]
    assert told == [False, False]
