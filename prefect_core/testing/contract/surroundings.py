"""What a body sees around it: its run, tags, logger, prints."""

from __future__ import annotations

import logging
from typing import Any

from prefect_core import flow, get_run_logger, runtime, tags, task
from prefect_core.context import TaskRunContext, get_run_context
from prefect_core.testing.contract.journal import MakeRunner
from prefect_core.testing.surroundings import Harness


class Surroundings:
    """The context of a body."""

    def test_a_body_knows_its_run_and_its_flow_run(self, make_runner: MakeRunner, world: Harness) -> None:
        @task(retries=1)
        def look(number: int) -> tuple[Any, ...]:
            context = get_run_context()
            assert isinstance(context, TaskRunContext)
            run = context.task_run
            if run.run_count == 1:
                raise ValueError("once more")
            assert run.flow_run is not None
            return run.name, run.run_count, str(run.id), run.flow_run.name, context.parameters, context.task.name

        @flow(task_runner=make_runner(), flow_run_name="here")
        def run() -> tuple[Any, ...]:
            return look.submit(5).result()

        seen = run()
        row = world.store.task_run("look-0")
        assert seen == ("look-0", 2, str(row.id), "here", {"number": 5}, "look")

    def test_the_runtime_answers_in_a_body(self, make_runner: MakeRunner) -> None:
        @task(tags=["own"])
        def look(number: int) -> tuple[Any, ...]:
            return (
                runtime.task_run.name,
                runtime.task_run.task_name,
                runtime.task_run.parameters,
                sorted(runtime.task_run.tags),
                runtime.flow_run.name,
                runtime.flow_run.flow_name,
            )

        @flow(task_runner=make_runner(), flow_run_name="here")
        def run() -> tuple[Any, ...]:
            with tags("around"):
                return look.submit(5).result()

        assert run() == ("look-0", "look", {"number": 5}, ["around", "own"], "here", "run")

    def test_tags_reach_the_runs_made_in_a_body(self, make_runner: MakeRunner, world: Harness) -> None:
        @task
        def inner() -> None:
            """Do nothing."""

        @task(tags=["own"])
        def outer() -> None:
            with tags("inside"):
                inner.submit().wait()

        @flow(task_runner=make_runner())
        def run() -> None:
            with tags("around"):
                outer.submit().wait()

        run()
        assert {row.task_name: set(row.tags) for row in world.store.task_runs()} == {
            "outer": {"own", "around"},
            "inner": {"around", "inside"},
        }

    def test_log_records_and_prints_of_a_body_are_kept_with_its_run(
        self, make_runner: MakeRunner, world: Harness
    ) -> None:
        @task(log_prints=True)
        def speak(word: str) -> None:
            get_run_logger().info("logged %s", word)
            print("printed", word)
            get_run_logger().warning("warned %s", word)

        @flow(task_runner=make_runner())
        def run() -> None:
            speak.map(["one", "two"])

        run()
        store = world.store
        kept = {
            row.name: [
                (log.level, log.message)
                for log in store.logs(row.key)
                if not log.logger.startswith("prefect_core.engine")
            ]
            for row in store.task_runs()
        }
        assert kept == {
            f"speak-{index}": [
                (logging.INFO, f"logged {word}"),
                (logging.INFO, f"printed {word}"),
                (logging.WARNING, f"warned {word}"),
            ]
            for index, word in enumerate(("one", "two"))
        }
