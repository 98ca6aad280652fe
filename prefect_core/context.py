"""Which run is this code in: two contexts, for a flow's body and a task's, and the tags around them.

They live in context variables, so each thread and each async task sees its own. The engine sets them around a body; `carried` takes
them along to a thread that the user starts.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from prefect_core import clock
from prefect_core.errors import MissingContextError

if TYPE_CHECKING:
    from datetime import datetime

    from prefect_core.results.rules import Scope
    from prefect_core.runs import FlowRun, TaskRun

P = ParamSpec("P")
R = TypeVar("R")


class FlowRunContext:
    """What is known inside a flow's body.

    For the engine: `dispatcher` takes the tasks that it submits, `scope` says what becomes of their values (None: nothing), `ledger` knows
    the calls of earlier attempts, and `transaction` is the one that the flow was called in. `gate` is closed while the run is paused (None:
    it never was), `beginning` has an item for each body that is about to begin, and `pausing` pauses the run.
    """

    __slots__ = (
        "beginning",
        "depth",
        "dispatcher",
        "flow",
        "flow_run",
        "gate",
        "ledger",
        "log_prints",
        "parameters",
        "parent",
        "pausing",
        "run",
        "scope",
        "transaction",
    )

    def __init__(
        self, flow: Any, flow_run: FlowRun, parameters: dict[str, Any], log_prints: bool, parent: RunContext | None
    ) -> None:
        self.flow = flow
        self.run = self.flow_run = flow_run
        """The run whose body this is, by both names."""
        self.parameters = parameters
        self.log_prints = log_prints
        self.parent = parent
        self.depth: int = 1 if parent is None else parent.depth + 1
        self.dispatcher: Any = None
        self.scope: Scope | None = None
        self.ledger: Any = None
        self.transaction: Any = None
        self.gate: Any = None
        self.beginning: list[None] = []
        self.pausing: Any = None

    @property
    def task_runner(self) -> Any:
        """The started runner of this flow run."""
        return self.dispatcher.runner if self.dispatcher is not None else None

    @property
    def start_time(self) -> datetime:
        return clock.to_datetime(self.flow_run.started_us or self.flow_run.created_us)

    @classmethod
    def get(cls) -> FlowRunContext | None:
        """Return the innermost flow's context, from inside a task too; None outside of flows."""
        context = _current.get()
        return context.flow_context if isinstance(context, TaskRunContext) else context


class TaskRunContext:
    """What is known inside a task's body. For the engine: `transaction` is the run's own."""

    __slots__ = (
        "depth",
        "flow_context",
        "log_prints",
        "outside",
        "parameters",
        "parent",
        "run",
        "scope",
        "task",
        "task_run",
        "transaction",
    )

    def __init__(
        self, task: Any, task_run: TaskRun, parameters: dict[str, Any], log_prints: bool, parent: RunContext | None
    ) -> None:
        self.task = task
        self.run = self.task_run = task_run
        """The run whose body this is, by both names."""
        self.parameters = parameters
        self.log_prints = log_prints
        self.parent = parent
        self.flow_context: FlowRunContext | None = parent.flow_context if isinstance(parent, TaskRunContext) else parent
        self.depth: int = 1 if parent is None else parent.depth + 1
        self.outside: Any = None
        self.scope: Scope | None = parent.scope if parent is not None else None
        self.transaction: Any = None

    @property
    def dispatcher(self) -> Any:
        """What takes the tasks that this task submits."""
        return self.flow_context.dispatcher if self.flow_context is not None else self.outside

    @property
    def start_time(self) -> datetime:
        return clock.to_datetime(self.task_run.started_us or self.task_run.created_us)

    @classmethod
    def get(cls) -> TaskRunContext | None:
        """Return the innermost context if it is a task's."""
        context = _current.get()
        return context if isinstance(context, TaskRunContext) else None


RunContext = FlowRunContext | TaskRunContext

_current: contextvars.ContextVar[RunContext | None] = contextvars.ContextVar("prefect_core.run", default=None)
_tags: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar("prefect_core.tags", default=frozenset())

current = _current.get
"""Return the innermost run's context, or None."""
enter = _current.set
"""Make a context the innermost one; returns the token for `leave`. For the engine."""
leave = _current.reset
current_tags = _tags.get
"""Return the tags that `tags(...)` blocks around this code set."""
set_tags = _tags.set
"""Put tags in place of those; for the engine."""


def current_in(variables: contextvars.Context) -> RunContext | None:
    """Return the innermost run's context where these context variables were copied, or None."""
    return variables.get(_current)


def tags_among(variables: contextvars.Context | None) -> frozenset[str]:
    """Return the tags that `tags(...)` blocks set around the place where these context variables were copied."""
    return variables.get(_tags, frozenset()) if variables is not None else frozenset()


def lineage(around: RunContext | None) -> Iterator[int]:
    """Give the uids of the runs that this context is inside of, and of the task runs that stand for them."""
    while around is not None:
        yield around.run.uid
        if around.run.parent_task_run is not None:
            yield around.run.parent_task_run.uid
        around = around.parent


def get_run_context() -> RunContext:
    """Return the context of the innermost run. Raises `MissingContextError` outside of runs."""
    context = _current.get()
    if context is None:
        raise MissingContextError("No run context available. You are not in a flow or task run context.")
    return context


@contextmanager
def tags(*new_tags: str) -> Iterator[frozenset[str]]:
    """Give these tags, and those of enclosing blocks, to every run created inside the `with` block."""
    for tag in new_tags:
        if not isinstance(tag, str):
            raise TypeError(f"Expected strings for tags; got {type(tag).__name__} instead.")
    token = _tags.set(_tags.get() | frozenset(new_tags))
    try:
        yield _tags.get()
    finally:
        _tags.reset(token)


def carried(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` bound to the run context, tags and other context variables of here.

    For threads that you start yourself: `Thread(target=carried(work))`. Each call gets a copy of its own, so the result may be called
    from many threads at once.
    """
    context = contextvars.copy_context()

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return context.copy().run(function, *args, **kwargs)

    return call
