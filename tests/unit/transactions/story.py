"""What tests of transactions share: tasks whose hooks write down that they were called."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from prefect_core import flow, task
from prefect_core.transactions import (
    atransaction,
    transaction,
)
from tests.unit.recorded import Recorded

BY_BOTH = pytest.mark.parametrize("is_async", [False, True], ids=["with", "async with"])


bodies_ran: list[str] = []


class Story:
    """Tasks whose hooks write down that they were called."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def task(self, name: str, **options: Any) -> Any:
        def body(value: Any = None) -> Any:
            self.told.append(name)
            return value

        told = task(body, name=name, **{"persist_result": True, **options})
        told.on_commit(self.hook(f"{name} committed"))
        told.on_rollback(self.hook(f"{name} undone"))
        return told

    def hook(self, word: str) -> Any:
        def tell(txn: Any) -> None:
            self.told.append(word)

        return tell


def kept(recorded: Recorded, name: str) -> list[bool]:
    """Tell of each run of a task whether its value can be taken over."""
    return [recorded.store.kept(row.key) is not None for row in recorded.task_runs(name)]


def in_block(is_async: bool, body: Any, **options: Any) -> Any:
    """Run `body(txn)` in a transaction inside a flow of either colour."""

    @flow(name="around", final_state_from="return_value")
    def around() -> Any:
        with transaction(**options) as txn:
            return body(txn)

    @flow(name="around", final_state_from="return_value")
    async def async_around() -> Any:
        async with atransaction(**options) as txn:
            return body(txn)

    return asyncio.run(async_around()) if is_async else around()
