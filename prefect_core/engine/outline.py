"""Runs as plain tuples, and back: what a worker is told of the runs around its body, and what it tells of the runs inside.

Nothing of a user's object is in them, so they are cheap to pickle and always load.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prefect_core.runs import FlowRun, Run, TaskRun
from prefect_core.state_kinds import RUNNING
from prefect_core.states import State

Outline = tuple[Any, ...]
Known = dict[int, Run]
"""Runs by uid."""

_FLOW, _TASK = "f", "t"
_PLAIN_FIELDS = 4
_NO_TAGS: frozenset[str] = frozenset()


def outline(run: Run) -> Outline:
    """Return what can be known of a run before its body runs; runs around it are named by their uid."""
    course = (
        run.uid,
        run.key,
        run.created_us,
        run.started_us,
        run.run_count,
        run.attempt,
        run.tags,
        _uid(run.parent_task_run),
    )
    if isinstance(run, FlowRun):
        return (
            _FLOW,
            *course,
            run.name,
            run.flow_name,
            run.flow_version,
            run.entrypoint,
            run.parameters,
            run.runner_name,
            run.at_end,
        )
    return (
        _TASK,
        *course,
        run._name,
        run.task_name,
        run.task_key,
        run.index,
        run.inputs,
        _uid(run.flow_run),
        _uid(run.child_flow_run),
    )


def plain_outline(run: TaskRun) -> Outline | None:
    """Return what can be known of a task run that only its flow run is around, and that has nothing of its own; None if it has."""
    if (
        run.attempt != 1
        or run.run_count
        or run.tags
        or run.inputs
        or run._name is not None
        or run.parent_task_run is not None
        or run.child_flow_run is not None
    ):
        return None
    return (run.uid, run.key, run.created_us, run.index)


def is_plain(outline: Outline) -> bool:
    """Tell whether it is one that `plain_outline` returned."""
    return len(outline) == _PLAIN_FIELDS


def revive_plain(outline: Outline, task_name: str, task_key: str, flow_run: FlowRun) -> TaskRun:
    """Make a task run of what `plain_outline` returned."""
    uid, key, created_us, index = outline
    state = State(RUNNING)
    state.task_uid, state.timestamp_us = uid, created_us
    run = TaskRun(state, task_name, task_key, flow_run, index, _NO_TAGS)
    run.key, run.attempt = key, 1
    return run


def _uid(run: Run | None) -> int:
    return run.uid if run is not None else 0


def lineage(run: Run | None) -> list[Outline]:
    """Return the outlines of a run and of all around it, the outermost first."""
    found: dict[int, Outline] = {}

    def visit(one: Run | None) -> None:
        if one is not None and one.uid not in found:
            if isinstance(one, TaskRun):
                visit(one.flow_run)
            visit(one.parent_task_run)
            found[one.uid] = outline(one)

    visit(run)
    return list(found.values())


def revive(outlines: Iterable[Outline], known: Known) -> None:
    """Make runs of outlines and add them to `known`, which holds or gets the runs around them."""
    for one in outlines:
        kind, uid, key, created_us, started_us, run_count, attempt, tags, parent_uid, *own = one
        state = State(RUNNING)
        state.timestamp_us = started_us or created_us
        parent: Any = known.get(parent_uid)
        run = _flow_run(state, tags, parent, own) if kind == _FLOW else _task_run(state, tags, known, own)
        if isinstance(run, TaskRun):
            run.parent_task_run = parent
            state.task_uid = uid
        else:
            state.flow_uid = uid
        run.uid, run.key, run.created_us, run.started_us = uid, key, created_us, started_us
        run.run_count, run.attempt = run_count, attempt
        known[uid] = run


def _flow_run(state: State, tags: frozenset[str], parent: TaskRun | None, own: list[Any]) -> FlowRun:
    name, flow_name, version, entrypoint, parameters, runner_name, at_end = own
    run = FlowRun(state, name, flow_name, tags, parent)
    run.flow_version, run.entrypoint, run.parameters, run.runner_name = version, entrypoint, parameters, runner_name
    run.at_end, run.owes_hooks = at_end, False
    if parent is not None:
        parent.child_flow_run = run
    return run


def _task_run(state: State, tags: frozenset[str], known: Known, own: list[Any]) -> TaskRun:
    name, task_name, task_key, index, inputs, flow_uid, _ = own
    flow_run: Any = known.get(flow_uid)
    run = TaskRun(state, task_name, task_key, flow_run, index, tags)
    run._name, run.inputs = name, inputs
    return run
