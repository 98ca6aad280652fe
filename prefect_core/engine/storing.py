"""Storing a value for a run: inside the history if it is small, else as an object under a name of its own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from prefect_core import context, history, ids, runtime
from prefect_core.crash_points import crash_point
from prefect_core.engine.steps import Block, Life
from prefect_core.engine.storing_afar import Order
from prefect_core.errors import SerializationError
from prefect_core.results.kept import KeptValue, is_shared
from prefect_core.runs import FlowRun
from prefect_core.serializers import describe_unserializable
from prefect_core.storage import check_key, resolve_storage

if TYPE_CHECKING:
    from prefect_core.context import RunContext
    from prefect_core.results.rules import Plan


def storing(
    plan: Plan, around: RunContext, value: Any, *, is_placed: bool = False, later: bool = False, suffix: str = ""
) -> Life[KeptValue]:
    """Store a value of the run of `around`; `is_placed` says that it must be an object, `later` that the object is not written yet.

    With a `suffix` it is not the run's own value, and no key that the user chose is taken.

    Raises `SerializationError` that names the run, `StorageError`, or what a template of keys raises.
    """
    serializer = plan.serializer
    try:
        pieces = serializer.dump(value)
    except Exception as failure:
        raise SerializationError(
            f"The result of {around.run.name!r} can't be stored: {describe_unserializable(serializer, value, failure)}"
        ) from failure
    kept = KeptValue(history.current().new_key(), serializer.spec(), ())
    if not is_placed and sum(memoryview(piece).nbytes for piece in pieces) <= plan.most_inside:
        kept.put_inside(pieces)
        return kept
    storage, key = plan.storage, check_key(_own_key(around) + suffix if suffix else _object_key(plan, around))
    if later:
        kept.put_outside_later(storage.url, key, pieces)
    else:
        written = yield Block(partial(storage.write, key, pieces))
        kept.put_outside(storage.url, key, written)
        crash_point("keeping.after_object")
    return kept


def order_for(plan: Plan, around: RunContext, *, is_placed: bool) -> Order | None:
    """Return what a worker is told that may store a value of the run of `around` itself; None if that is for the flow's process to do.

    A key that the user's template gives is known when the attempt has ended, and not before. Raises what says why nothing can be stored.
    """
    storage = plan.storage
    if plan.key_template is not None or not is_shared(storage.url):
        return None
    if type(resolve_storage(storage.url)) is not type(storage):
        # One of the user's own, which is not what others would make of its URL.
        return None
    return Order(storage.url, _own_key(around), plan.serializer.spec(), -1 if is_placed else plan.most_inside)


def _own_key(around: RunContext) -> str:
    run = around.run
    flow_run = run if isinstance(run, FlowRun) else run.flow_run
    root = flow_run.root if flow_run is not None else run
    return f"{ids.as_text(root.uid)}/{ids.as_text(run.uid)}.{run.attempt}"


def _object_key(plan: Plan, around: RunContext) -> str:
    if plan.key_template is None:
        return _own_key(around)
    token = context.enter(around)
    try:
        return plan.key_template.format(
            flow_run=runtime.flow_run, task_run=runtime.task_run, parameters=around.parameters
        )
    finally:
        context.leave(token)
