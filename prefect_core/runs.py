"""Records of runs: what the engine knows of a flow run or a task run, and hands to hooks, the runtime and the history.

A run belongs to the engine of one process. Only its lifecycle (`engine.flow_run`, `engine.task_run`) changes a record; everybody else
reads. Moments are wall microseconds (`*_us`, 0 = not yet), with datetimes as properties; identifiers are 128-bit integers (`uid`),
with UUIDs as properties. `key` is the run's integer key in the history, given when the run is first recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_core import clock, ids

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from uuid import UUID

    from prefect_core.identity import CallIdentity
    from prefect_core.states import State

Edge = tuple[str, str, int]
"""One input of a task run: parameter name (or "wait_for"), kind of the source ("task_run" or "flow_run"), its uid."""


AtEnd = tuple[str, str | None]
"""What is to be done when a flow run ends: the kinds of states that have hooks, apart by spaces, and the flow's `on_crash`."""


class _Run:
    """What flow runs and task runs have in common."""

    __slots__ = ("attempt", "created_us", "ended_us", "key", "run_count", "started_us", "state", "tags", "uid")

    state: State

    def __init__(self, state: State, tags: frozenset[str], uid: int = 0) -> None:
        """`uid` is that of a run that was made elsewhere."""
        self.created_us = state.timestamp_us
        self.uid = uid or ids.new_id(self.created_us)
        self.key = 0
        self.state = state
        self.tags = tags
        self.started_us = 0
        self.ended_us = 0
        self.run_count = 0
        self.attempt = 0

    @property
    def id(self) -> UUID:
        """The run's identifier."""
        return ids.as_uuid(self.uid)

    @property
    def start_time(self) -> datetime | None:
        """When its body first ran, UTC."""
        return clock.to_datetime(self.started_us) if self.started_us else None

    @property
    def end_time(self) -> datetime | None:
        """When it reached a final state, UTC."""
        return clock.to_datetime(self.ended_us) if self.ended_us else None

    @property
    def expected_start_time(self) -> datetime:
        """When it was meant to start, UTC."""
        return clock.to_datetime(self.created_us)

    @property
    def total_run_time(self) -> timedelta:
        """From its first start to its end, or to now."""
        if not self.started_us:
            return clock.to_datetime(0) - clock.to_datetime(0)
        return clock.to_datetime(self.ended_us or clock.now_us()) - clock.to_datetime(self.started_us)

    @property
    def state_type(self) -> str:
        return self.state.type.value

    @property
    def state_name(self) -> str:
        return self.state.name


class FlowRun(_Run):
    """One execution of a flow."""

    __slots__ = (
        "at_end",
        "entrypoint",
        "flow_name",
        "flow_version",
        "name",
        "owes_hooks",
        "parameters",
        "parent_task_run",
        "runner_name",
    )

    def __init__(
        self,
        state: State,
        name: str,
        flow_name: str,
        tags: frozenset[str] = frozenset(),
        parent_task_run: TaskRun | None = None,
    ) -> None:
        super().__init__(state, tags)
        state.flow_uid = self.uid
        self.name = name
        self.flow_name = flow_name
        self.parent_task_run = parent_task_run
        self.flow_version: str | None = None
        self.parameters: dict[str, Any] = {}
        self.entrypoint: str | None = None
        self.runner_name: str = ""
        self.at_end: AtEnd | None = None
        self.owes_hooks = True
        """Whether the process that records the run, and not a worker, is to call its hooks."""

    @property
    def parent_flow_run(self) -> FlowRun | None:
        """The flow run that this one was called in, if any."""
        return self.parent_task_run.flow_run if self.parent_task_run is not None else None

    @property
    def parent_task_run_id(self) -> UUID | None:
        """The task run that stands for this subflow run in its parent."""
        return self.parent_task_run.id if self.parent_task_run is not None else None

    @property
    def parent_flow_run_id(self) -> UUID | None:
        parent = self.parent_flow_run
        return parent.id if parent is not None else None

    @property
    def root(self) -> FlowRun:
        """The outermost flow run."""
        run = self
        while (parent := run.parent_flow_run) is not None:
            run = parent
        return run

    def __repr__(self) -> str:
        return f"FlowRun(name={self.name!r}, flow={self.flow_name!r}, id={self.id}, state={self.state})"

    def _repr_html_(self) -> str:
        return _as_html("Flow run", self.name, self.state)


class TaskRun(_Run):
    """One execution of a task; also what stands for a subflow run in its parent (`child_flow_run` is set then)."""

    __slots__ = (
        "__weakref__",
        "_name",
        "child_flow_run",
        "flow_run",
        "identity",
        "index",
        "inputs",
        "parent_task_run",
        "task_key",
        "task_name",
        "worker",
    )

    def __init__(
        self,
        state: State,
        task_name: str,
        task_key: str,
        flow_run: FlowRun | None,
        index: int,
        tags: frozenset[str],
    ) -> None:
        """A state that names its run is of one that was made elsewhere."""
        super().__init__(state, tags, state.task_uid)
        state.task_uid = self.uid
        self.task_name = task_name
        self.task_key = task_key
        self.flow_run = flow_run
        self.index = index
        self._name: str | None = None
        self.inputs: tuple[Edge, ...] = ()
        self.parent_task_run: TaskRun | None = None
        self.child_flow_run: FlowRun | None = None
        self.worker: str = ""
        self.identity: CallIdentity | None = None
        if flow_run is not None:
            state.flow_uid = flow_run.uid

    @property
    def name(self) -> str:
        """The run's own name, by default the task's name and a count from 0."""
        return self._name or f"{self.task_name}-{self.index}"

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    @property
    def flow_run_id(self) -> UUID | None:
        return self.flow_run.id if self.flow_run is not None else None

    @property
    def dynamic_key(self) -> str:
        return str(self.index)

    def __repr__(self) -> str:
        return f"TaskRun(name={self.name!r}, id={self.id}, state={self.state})"

    def _repr_html_(self) -> str:
        return _as_html("Task run", self.name, self.state)


Run = FlowRun | TaskRun


def _as_html(kind: str, name: str, state: State) -> str:
    from html import escape  # only notebooks ask

    return f"<div>{kind} <b>{escape(name)}</b> {state._repr_html_()}</div>"
