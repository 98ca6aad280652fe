"""What travels to a task runner, and what comes back.

A *payload* is one attempt of one task run: the function, its arguments, and what the attempt needs to know of its surroundings. A
runner decides where it runs, calls `engine.remote` there, and hands the *receipt* back. In a runner that shares the engine's memory
the payload is passed as it is; elsewhere `engine.transport` and `engine.workplace` turn both into bytes.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from prefect_core.errors import InputNotMade, OutOfReach
from prefect_core.state_kinds import FINAL

if TYPE_CHECKING:
    from prefect_core.context import RunContext, TaskRunContext
    from prefect_core.placement import Resources
    from prefect_core.references import Reference
    from prefect_core.runs import FlowRun, TaskRun
    from prefect_core.storage import StorageSpec
    from prefect_core.waiting import Signal

PLAIN = frozenset({type(None), bool, int, float, str, bytes})
"""Types of values that are pickled without a look at what they refer to."""


class Isolated(Protocol):
    """An attempt whose body runs in a worker process beside its runner (`engine.isolation`)."""

    def run(self, payload: Payload) -> Receipt:
        """Block this thread until the attempt has ended. Never raises."""
        ...

    async def arun(self, payload: Payload) -> Receipt:
        """Do the same on an event loop, which goes on meanwhile."""
        ...

    def end(self, within_seconds: float) -> None:
        """End it, after some seconds by force; from any thread."""
        ...

    @property
    def is_async(self) -> bool:
        """Whether the body is `async def`."""
        ...


class Payload:
    """One attempt of a task run.

    `variables` are the context variables of the place that submitted it (None: those of the thread that runs it). `started` is called
    on the thread that runs the body, just before it, with the moment in wall microseconds; only where memory is shared. `over` is set
    for a body that may outlive its attempt, and fires when the body has ended. `after` are references to values that the body doesn't
    receive but is not to begin without. `resources` and `priority` are what the task asks for. `handle` is the runner's own, to find the
    attempt by. `storing` says where a large value may be stored by the place that makes it (None: nowhere), for runners whose engine keeps
    values; `storage` is the storage that the user named for the value, if there is one. `isolated` is set for a body that is to run in a
    worker process of its own, whatever its runner; `is_async` is False then, since on this side it is a call that blocks. `scope` is what
    an async body, or the delay behind it, can be cancelled by: a function to be called on the event loop beside it (None: on any thread).
    `chunk` is the number of the chunk that it was handed over in, and is only there for one that was.
    """

    __slots__ = (
        "after",
        "args",
        "attempt",
        "chunk",
        "context",
        "function",
        "handle",
        "is_again",
        "is_async",
        "isolated",
        "kwargs",
        "over",
        "priority",
        "resources",
        "scope",
        "started",
        "storage",
        "storing",
        "timeout_seconds",
        "variables",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: RunContext,
        is_async: bool,
    ) -> None:
        self.chunk: int
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.context = context
        self.is_async = is_async
        self.attempt = context.run.attempt
        self.timeout_seconds: float | None = None
        self.variables: contextvars.Context | None = None
        self.started: Callable[[int], None] | None = None
        self.over: Signal | None = None
        self.after: Sequence[Reference] = ()
        self.storing: Callable[[], Any] | None = None
        self.resources: Resources = {}
        self.priority = 0
        self.storage: StorageSpec | None = None
        self.handle: Any = None
        self.scope: tuple[Callable[[], object], object] | None = None
        self.isolated: Isolated | None = None
        self.is_again = False
        """Whether the run has ended before, and makes a value again that was lost since."""

    def has_plain_arguments(self) -> bool:
        """Tell whether the arguments refer to nothing."""
        return PLAIN.issuperset(map(type, self.args)) and PLAIN.issuperset(map(type, self.kwargs.values()))

    @classmethod
    def of_task(
        cls,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: TaskRunContext,
        variables: contextvars.Context | None,
    ) -> Payload:
        """Make that of an attempt of a task run, as its task says."""
        task = context.task
        payload = cls(task.fn, args, kwargs, context, task.is_async)
        payload.timeout_seconds, payload.variables = task.timeout_seconds, variables
        payload.resources, payload.priority = task.resources, task.priority
        return payload

    @property
    def run(self) -> FlowRun | TaskRun:
        """The run that this is an attempt of."""
        return self.context.run

    @property
    def is_unwanted(self) -> bool:
        """Whether the run was ended meanwhile: the body should not begin any more."""
        return self.context.run.state.type in FINAL and not self.is_again

    def __repr__(self) -> str:
        return f"Payload({self.run.name!r}, attempt {self.attempt})"


class Receipt:
    """How an attempt ended: with a value, or with the exception in `error`.

    The value may be a `Reference` to where it lies; `stored` then tells what the place that made it has stored, if it was to.
    `timed_out` marks an attempt that its own deadline ended, `lost` one whose place ended or could not be had (`error` then says how);
    `began` tells a body that ran from one that could not be started. An attempt is `unready` if it did not begin because a value that
    it was handed as a reference was never made, or could not be had there: to be tried again when the runs that make its inputs are
    over.
    """

    __slots__ = (
        "began",
        "ended_us",
        "error",
        "lost",
        "started_us",
        "stored",
        "timed_out",
        "unready",
        "value",
        "worker",
    )

    def __init__(self, value: Any = None, error: BaseException | None = None, timed_out: bool = False) -> None:
        self.value = value
        self.error = error
        self.timed_out = timed_out
        self.lost = False
        self.began = True
        self.unready = False
        self.stored: Any = None
        self.started_us = 0
        self.ended_us = 0
        self.worker = ""

    @classmethod
    def of_unbegun(cls, error: BaseException) -> Receipt:
        """Make the receipt of an attempt whose body could not begin; it is unready if an input has to be brought here first."""
        receipt = cls(error=error)
        receipt.began, receipt.unready = False, isinstance(error, OutOfReach | InputNotMade)
        return receipt

    def __repr__(self) -> str:
        return f"Receipt({self.value!r})" if self.error is None else f"Receipt(error={self.error!r})"
