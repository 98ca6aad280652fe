"""The interface of task runners, and how one is found by name.

A runner decides *where* attempts run; it knows nothing of retries, dependencies, states or the history. The engine hands it a payload
when all inputs are there and calls are made in this order, from any thread:

    start(host) → submit(payload, done)*, cancel/interrupt/end_within/abandon(payload)* → stop()

An instance given to a flow is a description: every flow run starts a duplicate of its own and stops it when the run ends, however it
ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from prefect_core.errors import RunnerArgumentError, UnknownRunnerError
from prefect_core.payload import Payload, Receipt

if TYPE_CHECKING:
    from typing import Self

    from prefect_core.references import Reference

ENTRY_POINT_GROUP = "prefect_core.task_runners"

BUILT_IN: dict[str, str] = {
    "sequential": "prefect_runners.sequential:SequentialTaskRunner",
    "concurrent": "prefect_runners.concurrent:ConcurrentTaskRunner",
    "processes": "prefect_runners.processes:ProcessPoolTaskRunner",
    "dask": "prefect_runners.dask:DaskTaskRunner",
    "ray": "prefect_runners.ray:RayTaskRunner",
}
"""Our own runners, known without asking the installed packages."""


class Host(Protocol):
    """What a runner may ask of the engine that started it."""

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> Callable[[], object]:
        """Run a coroutine function on the event loop of this flow run (of an async flow its own; else a loop in a thread).

        It must not raise. Returns what cancels it, callable from any thread.
        """
        ...

    def loop(self) -> object:
        """Return what identifies that event loop."""
        ...

    def engine_is_gone(self, reason: str) -> None:
        """Say that what the runner runs on is gone for good, so that the flow run ends Crashed for this reason, unless it ends well."""
        ...


class TaskRunner(ABC):
    """Where task bodies run.

    What a runner can and can't do it declares: `shares_memory` (payloads need no pickling; bodies see the flow's objects), `runs_on_submit`
    (the body has ended when `submit` returns), `can_cancel_running` (a body that runs can be stopped), `can_kill` (it can be stopped
    whatever it does, since each runs in a process that the runner may kill), `holds_values` (its engine keeps
    values where they were made: receipts bring references, and payloads may hold such references of this very runner), `takes_chunks`
    (many small payloads cost less when they are handed over together), `links_chunks` (an attempt of a chunk gets what those before it in
    the chunk have made: `engine.links`), `tells_begun` (that a body begins is told at once through `Delivery.begun`, not with its receipt).
    """

    shares_memory: bool = True
    runs_on_submit: bool = False
    can_cancel_running: bool = False
    can_kill: bool = False
    holds_values: bool = False
    takes_chunks: bool = False
    links_chunks: bool = False
    tells_begun: bool = True

    @property
    def name(self) -> str:
        """The class's name, as logs show it."""
        return type(self).__name__

    @classmethod
    def from_argument(cls, argument: str) -> Self:
        """Make one from the part behind the colon in a name such as "concurrent:8". Raises `RunnerArgumentError`."""
        raise RunnerArgumentError(f"{cls.__name__} takes no argument in its name, got {argument!r}.")

    @abstractmethod
    def duplicate(self) -> Self:
        """Return a fresh one with the same options, not started."""

    def start(self, host: Host) -> None:
        """Get ready. Called once, before the first submit."""

    @abstractmethod
    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        """Have the attempt run somewhere and call `done` with its receipt exactly once, from any thread.

        Doesn't wait. Raises for a payload that it can't take (for instance `SerializationError`); `done` is then not called.
        """

    def submit_chunk(self, chunk: Sequence[tuple[Payload, Callable[[Receipt], None]]]) -> None:
        """Have attempts run one after the other in one place; as `submit`, but a payload that can't be taken gets a receipt with the error.

        Only called where `takes_chunks`, for payloads without references.
        """
        for payload, done in chunk:
            try:
                self.submit(payload, done)
            except Exception as error:
                done(Receipt.of_unbegun(error))

    def may_gather(self, payload: Payload) -> bool:
        """Tell whether a payload may travel in a chunk that nobody asked for: not if its engine is to be told something of it alone.

        Only asked where `takes_chunks`.
        """
        return True

    def reference_to(self, payload: Payload) -> Reference | None:
        """Return where the value of a submitted attempt will lie, so that others can be handed over before it has ended; None if unknown.

        Only asked where `holds_values`. If the attempt does not end well, those get a receipt that is `unready`.
        """
        return None

    def cancel(self, payload: Payload) -> bool:
        """Keep an attempt that has not begun from running; then return True, and `done` is not called."""
        return False

    def cancel_many(self, payloads: Sequence[Payload]) -> list[bool]:
        """Do what `cancel` does for each; for runners that can do so at once."""
        return [self.cancel(payload) for payload in payloads]

    def interrupt(self, payload: Payload) -> None:
        """Stop an attempt that runs or is about to, if this runner can. Its `done` may still be called."""

    def end_within(self, payload: Payload, seconds: float) -> bool:
        """Have an attempt that runs, or is about to, end within some seconds; return whether it will, whatever its body does.

        Where time is given, the body may use it to clean up. `done` is called as ever.
        """
        self.interrupt(payload)
        return self.can_kill

    def abandon(self, payload: Payload) -> None:
        """Give the place of an attempt that is late to others. Its `done` may still be called."""

    def loop_needed(self, payload: Payload) -> object | None:
        """Return the host's loop if an attempt that has been submitted can't begin or end, as things are, while that is blocked.

        Asked before code on that loop's thread is let wait, and after each submit meanwhile; a runner that gives the last place to
        something on the loop says so by `endless_waits.look_again`. Without an answer such a wait never ends.
        """
        return None

    def stop(self) -> None:
        """Let go of threads, processes and connections.

        Called once, also after a `start` that failed, which may have got anywhere; no attempt is under way but abandoned ones.
        """

    def options(self) -> dict[str, Any]:
        """Return what this runner was made with; runners with equal options are equal."""
        return {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskRunner) and type(self) is type(other) and self.options() == other.options()

    def __hash__(self) -> int:
        return hash((type(self), *self.options()))

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.options().items() if value is not None)
        return f"{type(self).__name__}({given})"


RunnerSpec = TaskRunner | type[TaskRunner] | str
"""What `task_runner=` takes: an instance, a class, or a name with an optional argument ("concurrent:8")."""


def check_runner(spec: Any) -> Any:
    """Return what was given as `task_runner`, which may be None. Raises `TypeError` for what can't be one.

    A name is looked up later, since it may be that of a plug-in; of ours, a bad argument is a `RunnerArgumentError` at once.
    """
    if isinstance(spec, str) and ":" in spec and spec.partition(":")[0] in BUILT_IN:
        _by_name(spec)
    is_class = isinstance(spec, type) and issubclass(spec, TaskRunner)
    if spec is None or is_class or isinstance(spec, TaskRunner | str):
        return spec
    raise TypeError(f"Expected a task runner, its class or its name for 'task_runner'; got {spec!r}.")


def resolve_runner(spec: RunnerSpec) -> TaskRunner:
    """Return a runner, not started, for an instance, class or name. Raises `UnknownRunnerError`, `ConfigurationError` or `TypeError`."""
    if isinstance(spec, str):
        return _by_name(spec)
    runner = spec() if isinstance(spec, type) else spec
    if not isinstance(runner, TaskRunner):
        raise TypeError(f"Expected a task runner, its class or its name for 'task_runner'; got {spec!r}.")
    return runner


def _by_name(spec: str) -> TaskRunner:
    name, colon, argument = spec.partition(":")
    runner_class = _load(name)
    return runner_class.from_argument(argument) if colon else runner_class()


def _load(name: str) -> type[TaskRunner]:
    if name in BUILT_IN:
        from importlib import import_module  # the faces name our runners as strings

        module, _, attribute = BUILT_IN[name].partition(":")
        return cast("type[TaskRunner]", getattr(import_module(module), attribute))
    from importlib.metadata import entry_points  # reads every installed package's metadata

    found = entry_points(group=ENTRY_POINT_GROUP)
    if name in found.names:
        return cast("type[TaskRunner]", found[name].load())
    known = ", ".join(sorted({*BUILT_IN, *found.names}))
    raise UnknownRunnerError(
        f"There is no task runner called {name!r}. Known: {known}; with an argument: concurrent:8."
    )


_EXPORTS = {
    "SequentialTaskRunner": "prefect_runners.sequential",
    "ConcurrentTaskRunner": "prefect_runners.concurrent",
    "ThreadPoolTaskRunner": "prefect_runners.concurrent",
    "ProcessPoolTaskRunner": "prefect_runners.processes",
    "ExecutorTaskRunner": "prefect_runners.executor",
    "DaskTaskRunner": "prefect_runners.dask",
    "RayTaskRunner": "prefect_runners.ray",
    "get_dask_client": "prefect_runners.dask_client",
    "get_async_dask_client": "prefect_runners.dask_client",
    "remote_options": "prefect_runners.ray_options",
}

if TYPE_CHECKING:
    from prefect_runners.concurrent import ConcurrentTaskRunner as ConcurrentTaskRunner
    from prefect_runners.concurrent import ThreadPoolTaskRunner as ThreadPoolTaskRunner
    from prefect_runners.dask import DaskTaskRunner as DaskTaskRunner
    from prefect_runners.dask_client import get_async_dask_client as get_async_dask_client
    from prefect_runners.dask_client import get_dask_client as get_dask_client
    from prefect_runners.executor import ExecutorTaskRunner as ExecutorTaskRunner
    from prefect_runners.processes import ProcessPoolTaskRunner as ProcessPoolTaskRunner
    from prefect_runners.ray import RayTaskRunner as RayTaskRunner
    from prefect_runners.ray_options import remote_options as remote_options
    from prefect_runners.sequential import SequentialTaskRunner as SequentialTaskRunner


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        from importlib import import_module  # the faces name our runners as strings

        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
