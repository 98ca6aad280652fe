"""Futures: what `submit` returns, and waiting for several of them.

A future is done when its run can go no further: at a final state, or Pending/NotReady when an input failed. There is one class for all
runners. The engine finishes it from whatever thread learned the end; callbacks run there, each once, in the order they were added.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

from prefect_core import clock
from prefect_core.blocking import on_thread
from prefect_core.states import State
from prefect_core.waiting import Signal, block_until_done, check_timeout, until_done

if TYPE_CHECKING:
    from uuid import UUID

    from prefect_core.runs import FlowRun, TaskRun

R = TypeVar("R", covariant=True)
V = TypeVar("V")
F = TypeVar("F", bound="PrefectFuture[Any]")

FIRST_COMPLETED = "FIRST_COMPLETED"
FIRST_EXCEPTION = "FIRST_EXCEPTION"
ALL_COMPLETED = "ALL_COMPLETED"
_MOST_SHOWN = 20
"""Futures of a list that a notebook shows."""
ReturnWhen = Literal["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"]


class PrefectFuture(Signal, Generic[R]):
    """The result of a task run that may still be under way."""

    __slots__ = ("__weakref__", "_call_in_progress", "task_run", "was_asked")

    def __init__(self, task_run: TaskRun, call_in_progress: Any = None) -> None:
        super().__init__()
        self.task_run = task_run
        self._call_in_progress = call_in_progress
        self.was_asked = False
        """Whether somebody has asked how the run ended, and so knows of a failure."""

    @property
    def task_run_id(self) -> UUID:
        """The task run's identifier."""
        return self.task_run.id

    @property
    def name(self) -> str:
        """The task run's name."""
        return self.task_run.name

    @property
    def state(self) -> State:
        """The run's state as it is now."""
        return self.task_run.state

    _kind = "Task"

    @property
    def _identity(self) -> UUID:
        return self.task_run.id

    def finish(self) -> None:
        """Mark the run as over; its record holds the state. For the engine."""
        self._call_in_progress = None
        self.fire()

    def wait(self, timeout: float | None = None) -> State | None:
        """Block until the run is over and return its state, or None if that takes more than `timeout` seconds."""
        if not self._done and not block_until_done([self], timeout):
            return None
        self.was_asked = True
        return self.state

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """Block until the run is over and return its value, or raise what ended it.

        Raises `TimeoutError` after `timeout` seconds. With `raise_on_failure=False` the exception is returned instead.
        """
        if not self._done and not block_until_done([self], timeout):
            raise TimeoutError(f"{self._kind} run {self._identity} did not complete within {timeout} seconds")
        self.was_asked = True
        value: R = self.state.result(raise_on_failure)
        return value

    def __await__(self) -> Generator[Any, Any, R]:
        if not self._done:
            yield from until_done([self]).__await__()
        self.was_asked = True
        state = self.state
        value: R = (yield from on_thread(state.result).__await__()) if state.lies_elsewhere else state.result()
        return value

    def promise(self, home: Any) -> Any:
        """Return a reference to the value that the runner `home` will hold when the run has ended well; None if it can't be told."""
        call = self._call_in_progress
        return None if call is None else call.promise(home)

    def gathered_in(self) -> Any:
        """Return what gathers the call with others for one chunk at this moment; None if nothing does. For the engine."""
        call = self._call_in_progress
        return None if call is None else call.gathered_in()

    def handed_over_or_done(self) -> Signal:
        """Return what happens when the call is gathered or handed to its runner, or ends before; its end, if it was already."""
        call = self._call_in_progress
        return self if call is None else call.handed_over_or(self)

    def run_uid(self) -> int:
        return self.task_run.uid if self.task_run is not None else 0

    def loop_needed(self) -> object | None:
        call = self._call_in_progress
        return None if call is None else call.loop_needed()

    def upstreams(self) -> Collection[Signal]:
        call = self._call_in_progress
        return () if call is None else call.still_open()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.state})"

    def _repr_html_(self) -> str:
        return f"<div>Future of {self.task_run._repr_html_()}</div>"


class PrefectFlowRunFuture(PrefectFuture[R]):
    """The result of a submitted flow run; `task_run` is what stands for it in its parent."""

    __slots__ = ("flow_run",)

    _kind = "Flow"

    def __init__(self, task_run: TaskRun | None, flow_run: FlowRun, call_in_progress: Any = None) -> None:
        super().__init__(task_run, call_in_progress)  # type: ignore[arg-type]  # None outside of flows and tasks, where nothing stands for it
        self.flow_run = flow_run

    @property
    def _identity(self) -> UUID:
        return self.flow_run.id

    @property
    def flow_run_id(self) -> UUID:
        """The flow run's identifier."""
        return self.flow_run.id

    @property
    def name(self) -> str:
        return self.flow_run.name

    @property
    def state(self) -> State:
        return self.flow_run.state

    def run_uid(self) -> int:
        return self.flow_run.uid

    def _repr_html_(self) -> str:
        return f"<div>Future of {self.flow_run._repr_html_()}</div>"


class PrefectFutureList(list[PrefectFuture[V]]):
    """Futures in the order of their inputs; what `map` returns. Awaiting it gives the list of values."""

    def wait(self, timeout: float | None = None) -> list[State] | None:
        """Block until all are over and return their states in order, or None after `timeout` seconds."""
        check_timeout(timeout)
        return self._asked_states() if block_until_done(self, timeout) else None

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[V]:
        """Block until all are over and return their values in order, or raise the first one's exception.

        Raises `TimeoutError` after `timeout` seconds for all of them together.
        """
        check_timeout(timeout)
        if not block_until_done(self, timeout):
            raise TimeoutError(f"Timed out waiting for all futures to complete within {timeout} seconds")
        return [state.result(raise_on_failure) for state in self._asked_states()]

    def __await__(self) -> Generator[Any, Any, list[V]]:
        yield from until_done(self).__await__()
        states = self._asked_states()
        if any(state.lies_elsewhere for state in states):
            return (yield from on_thread(lambda: [state.result() for state in states]).__await__())
        return [state.result() for state in states]

    def _asked_states(self) -> list[State]:
        for future in self:
            future.was_asked = True
        return [future.state for future in self]

    def _repr_html_(self) -> str:
        shown = "".join(f"<li>{future._repr_html_()}</li>" for future in self[:_MOST_SHOWN])
        more = f"<li>and {len(self) - _MOST_SHOWN:,} more</li>" if len(self) > _MOST_SHOWN else ""
        return f"<div>{len(self):,} futures<ol start='0'>{shown}{more}</ol></div>"


class DoneAndNotDoneFutures(NamedTuple):
    """What `wait` returns."""

    done: set[PrefectFuture[Any]]
    not_done: set[PrefectFuture[Any]]


def wait(
    futures: Iterable[PrefectFuture[Any]], timeout: float | None = None, return_when: ReturnWhen = "ALL_COMPLETED"
) -> DoneAndNotDoneFutures:
    """Block until the futures are done, the first is, or the first failed; at most `timeout` seconds. Never raises for the time."""
    check_timeout(timeout)
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION):
        raise ValueError(f"return_when must be ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION, got {return_when!r}")
    unique = dict.fromkeys(futures)
    if return_when == ALL_COMPLETED:
        block_until_done(unique, timeout)
    else:
        failed_only = return_when == FIRST_EXCEPTION
        block_until_done(unique, timeout, enough=lambda future: not failed_only or not future.state.is_completed())
    done = {future for future in unique if future.done()}
    return DoneAndNotDoneFutures(done, set(unique) - done)


class as_completed(Generic[F]):
    """Iterate over futures as they become done, each once, done ones first; with `for` or `async for`.

    Raises `TimeoutError` when `timeout` seconds have passed since it was made and some are not done.
    """

    def __init__(self, futures: Iterable[F], timeout: float | None = None) -> None:
        check_timeout(timeout)
        self._unique: dict[F, None] = dict.fromkeys(futures)
        self._timeout = timeout
        self._deadline = None if timeout is None else clock.current().monotonic() + timeout
        self._arrived: list[F] = []
        self._taken = 0
        self._signal = Signal()
        for future in self._unique:
            future.add_done_callback(self._arrive)

    def _arrive(self, future: F) -> None:
        self._arrived.append(future)
        self._signal.fire()

    def _next(self) -> F | None:
        """Return the next one that has arrived; None if none has, and then `_signal` fires at the next arrival."""
        if self._taken == len(self._arrived):
            self._signal = Signal()
            if self._taken == len(self._arrived):
                return None
        future = self._arrived[self._taken]
        self._taken += 1
        return future

    def _remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - clock.current().monotonic())

    def _late(self) -> TimeoutError:
        return TimeoutError(f"{len(self._unique) - self._taken} (of {len(self._unique)}) futures unfinished")

    def __iter__(self) -> Iterator[F]:
        while self._taken < len(self._unique):
            future = self._next()
            if future is not None:
                yield future
            elif not block_until_done([self._signal], self._remaining(), needed_by=list(self._unique)):
                raise self._late()

    async def __aiter__(self) -> AsyncIterator[F]:
        import anyio  # only async code comes here

        while self._taken < len(self._unique):
            future = self._next()
            if future is not None:
                yield future
                continue
            with anyio.move_on_after(self._remaining()) as scope:
                await until_done([self._signal])
            if scope.cancelled_caught and not self._signal.done():
                raise self._late()


def resolve_futures_to_states(futures: Iterable[PrefectFuture[Any]]) -> list[State]:
    """Block until all are over and return their states in order."""
    listed = list(futures)
    block_until_done(listed, None)
    return [future.state for future in listed]
