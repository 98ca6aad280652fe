"""Which calls are kept: whose value is stored, or remembered for a later attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_core.context import RunContext
from prefect_core.engine.keeping import Keeping
from prefect_core.results.rules import Plan, Scope, outermost
from prefect_core.settings import current as settings

if TYPE_CHECKING:
    from prefect_core.engine.flow_call import FlowCall
    from prefect_core.engine.task_call import TaskCall
    from prefect_core.flows import Flow
    from prefect_core.tasks import Task


def default_scope() -> Scope | None:
    """Return the scope of calls outside of all runs: None unless results are stored by default."""
    return outermost() if settings().results_persist_by_default else None


def keeping_of_task(call: TaskCall, parameters: dict[str, Any], wait_for: Any, key: str | None) -> Keeping | None:
    """Return what is done with the value of a call of a task, identified; None if nothing is."""
    task, parent = call.task, call.parent
    plan = _plan_of(parent, task)
    if plan is None:
        return None
    keeping = Keeping(plan, parent, task.code, task.refreshes_cache)
    pinned = parameters if call.upstreams is None else call.upstreams.pinned(task.binder)
    keeping.identify((parent, task.task_key, task.fn), key or task.key, pinned, wait_for)
    return keeping


def keeping_of_flow(call: FlowCall, parameters: dict[str, Any], wait_for: Any) -> Keeping | None:
    """Return what is done with the value of a call of a flow; None if nothing is."""
    flow, parent = call.flow, call.parent
    plan = _plan_of(parent, flow)
    if plan is None:
        return None
    keeping = Keeping(plan, parent, None, False)
    pinned = parameters if call.upstreams is None else call.upstreams.pinned(flow.binder)
    keeping.identify((parent, flow.flow_key, flow.fn), None, pinned, wait_for)
    return keeping


def _plan_of(parent: RunContext | None, called: Task[Any, Any] | Flow[Any, Any]) -> Plan | None:
    scope = (parent.scope if parent is not None else None) or outermost()
    has_history = parent is None or parent.dispatcher is None or parent.dispatcher.keeps_results
    return scope.plan(called.result_rules) if has_history and not called.is_generator else None
