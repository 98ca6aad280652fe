"""Generator functions as tasks, at the edges: closed while they clean up, and left by an exception."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from prefect_core import flow, task
from prefect_core.context import FlowRunContext, get_run_context
from prefect_core.testing import harness


def test_an_error_while_it_is_closed_fails_the_run() -> None:
    @task
    def count() -> Iterator[int]:
        try:
            yield from range(5)
        finally:
            raise ValueError("while closing")

    with harness() as world:
        values = count()
        next(values)
        values.close()
        row = world.store.task_run("count-0")
        assert (row.state_name, row.state_message) == (
            "Failed",
            "Task run encountered an exception ValueError: while closing",
        )


@pytest.mark.parametrize("ends", ["well", "badly", "early"])
def test_between_two_values_and_after_the_last_the_consumer_is_in_its_own_run(ends: str) -> None:
    @task
    def count() -> Iterator[Any]:
        yield get_run_context().run.name
        yield get_run_context().run.name
        if ends == "badly":
            raise ValueError

    @flow(flow_run_name="consumer")
    def main() -> list[str]:
        seen = []
        try:
            for name in count():
                seen += [name, get_run_context().run.name]
                if ends == "early":
                    break
        except ValueError:
            seen.append("raised")
        context = get_run_context()
        assert isinstance(context, FlowRunContext)
        return seen

    with harness():
        once = ["count-0", "consumer"]
        assert main() == {"well": once * 2, "badly": [*once, *once, "raised"], "early": once}[ends]
