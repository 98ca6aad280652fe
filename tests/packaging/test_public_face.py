"""The names that users import. Whoever adds or drops one says so here."""

from __future__ import annotations

import prefect_core

NAMES = [
    "Flow",
    "PrefectFuture",
    "State",
    "Task",
    "acancel_flow_run",
    "acancel_task_run",
    "allow_failure",
    "as_completed",
    "cancel_flow_run",
    "cancel_task_run",
    "flow",
    "get_run_logger",
    "opaque",
    "pause_flow_run",
    "quote",
    "resume_flow_run",
    "runtime",
    "suspend_flow_run",
    "tags",
    "task",
    "unmapped",
    "wait",
    "why",
]


def test_the_face_offers_these_names_and_no_others() -> None:
    assert sorted(prefect_core.__all__) == NAMES


def test_every_name_of_the_face_can_be_had() -> None:
    for name in prefect_core.__all__:
        assert getattr(prefect_core, name) is not None


def test_dir_lists_the_names_that_load_late() -> None:
    assert set(prefect_core.__all__) <= set(dir(prefect_core))
