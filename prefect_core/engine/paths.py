"""By what the runs are known that calls are made in, and what numbers equal calls in them.

Of a run that is kept, the call itself is identified. Of others nobody asks, until a call inside that is kept does: then they are
identified by their place and arguments too, as a *path* only. Their futures still count by value (see `identity`). Where anything may be
stored, a subflow, and a task that can be seen to call others, is identified before its body can change an argument.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from prefect_core import options
from prefect_core.context import FlowRunContext, RunContext, TaskRunContext
from prefect_core.errors import NotEncodable
from prefect_core.identity import CallIdentity, code_of, root_path, site_of
from prefect_core.results.rules import may_be_stored
from prefect_core.runs import FlowRun, TaskRun

if TYPE_CHECKING:
    from prefect_core.engine.ledger import Ledger

Place = tuple[RunContext | None, str, Any]
"""The run that a call is made in, and the key and function of what is called."""

_UNCHANGEABLE: frozenset[type] = frozenset({type(None), bool, int, float, complex, str, bytes})
_naming = threading.RLock()


def ledger_of(around: RunContext | None) -> Ledger | None:
    """Return the ledger of the root flow run that a call is made in."""
    flow_context = around.flow_context if isinstance(around, TaskRunContext) else around
    return flow_context.ledger if flow_context is not None else None


def counter_of(around: RunContext | None) -> Callable[[Hashable], int]:
    """Return what numbers equal calls in this attempt of the run around."""
    # A dispatcher is one attempt of a flow run, which may hold several runs of a task, and attempts of each, with one path.
    within = (around.run.uid, around.run.attempt) if isinstance(around, TaskRunContext) else None

    def count(calls: Hashable) -> int:
        number: int = around.dispatcher.next_index((calls, within)) if around is not None else 0
        return number

    return count


def may_be_made_again(around: RunContext | None) -> bool:
    """Tell whether a task around is tried again when it fails, and then makes once more the calls that it made."""
    while around is not None:
        if isinstance(around, TaskRunContext) and around.task.retries > 0:
            return True
        around = around.parent
    return False


def path_of(around: RunContext | None) -> bytes | None:
    """Return the identity of the run that a call is made in; None where there is no flow run around, or it can't be known again."""
    if around is None or ledger_of(around) is None:
        return None
    run = around.run
    if isinstance(run, FlowRun):
        if run.parent_flow_run is None:
            return root_path(run.uid)
        assert run.parent_task_run is not None
        run = run.parent_task_run
    return (run.identity or _identify(run, around)).value


def identify_before_body(around: RunContext) -> None:
    """Identify a run whose body may make calls that are kept, if it could change its arguments before it does."""
    if not may_be_stored() or _UNCHANGEABLE.issuperset(map(type, around.parameters.values())):
        return
    if ledger_of(around.parent) is None or not around.parent.dispatcher.keeps_results:  # type: ignore[union-attr]  # with a ledger it has a parent
        return
    if isinstance(around, FlowRunContext) or calls_others(options.underlying(around.task.fn)):
        path_of(around)


_calling: WeakKeyDictionary[FunctionType, bool] = WeakKeyDictionary()


def calls_others(function: Any) -> bool:
    """Tell whether a function can be seen to use flows or tasks: in its code, or in that of functions that it uses."""
    if not isinstance(function, FunctionType):
        return False
    known = _calling.get(function)
    if known is None:
        known = _calling[function] = _uses_any(function, set())
    return known


def _uses_any(function: FunctionType, met: set[FunctionType]) -> bool:
    met.add(function)
    return any(
        hasattr(used, "with_options") or (isinstance(used, FunctionType) and used not in met and _uses_any(used, met))
        for used in _used_by(function)
    )


def _used_by(function: FunctionType) -> Iterator[Any]:
    names = set(_names_in(function.__code__))
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            continue
    for name in names:
        value = function.__globals__.get(name)
        if isinstance(value, ModuleType):
            yield from (vars(value)[one] for one in names if one in vars(value))
        else:
            yield value


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _identify(run: TaskRun, around: RunContext) -> CallIdentity:
    """Find out by what a run is known of which nothing is kept."""
    with _naming:
        if run.identity is None:
            callee = (
                (around.flow.flow_key, around.flow.fn)
                if isinstance(around, FlowRunContext)
                else (around.task.task_key, around.task.fn)
            )
            path = path_of(around.parent)
            identity = identity_of(path, (around.parent, *callee), None, around.parameters, None)
            identity.is_path_only = True
            run.identity = identity
        return run.identity


def identity_of(
    path: bytes | None, place: Place, key: str | None, parameters: dict[str, Any], wait_for: Any
) -> CallIdentity:
    """Return by what a call in the run with this path is known, or why by nothing; `parameters` have their futures pinned."""
    parent, task_key, function = place
    problem, code = None, None
    try:
        code = code_of(function)
    except NotEncodable as error:
        problem = f"what the function closes over, or is bound to, can't be told from other things: {error}"
    identity = CallIdentity(site_of(path or b"", task_key, code), key)
    identity.problem = problem if path is not None else "the run that it was made in can't be known again"
    if identity.problem is None:
        identity.take(parameters, wait_for, counter_of(parent))
    return identity
