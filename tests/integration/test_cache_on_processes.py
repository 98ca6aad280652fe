"""Cached tasks and transactions whose bodies run in worker processes: keys, locks and hooks stay in the flow's own."""

from __future__ import annotations

import os
from typing import Any

import pytest

from prefect_core import flow
from prefect_core.cache_policies import NO_CACHE, IsolationLevel
from prefect_core.testing import harness
from prefect_core.transactions import transaction
from tests.integration import bodies


def test_a_body_in_a_worker_runs_once_for_each_key() -> None:
    policy = NO_CACHE.from_cache_key_fn(lambda *_: "pid").configure(isolation_level=IsolationLevel.SERIALIZABLE)
    cached = bodies.process.with_options(cache_policy=policy)

    @flow(task_runner="processes:2")
    def calls() -> set[Any]:
        return {future.result() for future in [cached.submit() for _ in range(5)]}

    with harness(history="sqlite") as world:
        first = calls()
        assert len(first) == 1
        assert os.getpid() not in first
        assert calls() == first
        states = [row.state_name for row in world.store.task_runs()]
        assert sorted(states) == ["Cached"] * 9 + ["Completed"]


def test_hooks_of_a_transaction_run_in_the_process_of_the_flow() -> None:
    called: list[tuple[str, int, int]] = []
    double = bodies.double.with_options(
        persist_result=True,
        on_commit=[lambda txn: called.append(("committed", os.getpid(), txn.read()))],
        on_rollback=[lambda txn: called.append(("undone", os.getpid(), txn.read()))],
    )

    @flow(task_runner="processes:1")
    def around(fails: bool) -> None:
        with transaction():
            double.submit(4).result()
            if fails:
                raise ValueError

    with harness(history="sqlite") as world:
        around(False)
        with pytest.raises(ValueError):
            around(True)
        assert called == [("committed", os.getpid(), 8), ("undone", os.getpid(), 8)]
        assert len(world.store.results()) == 1
