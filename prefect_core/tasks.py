"""`@task`: a function whose every call is a recorded run, called directly or handed to a task runner."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing
from functools import cached_property
from itertools import repeat
from typing import Any, Generic, Literal, ParamSpec, TypeVar, Unpack, overload

from prefect_core import context, options
from prefect_core.cache_policies import task_input_hash as task_input_hash
from prefect_core.context import FlowRunContext, RunContext
from prefect_core.engine import deadlines, drive, signals
from prefect_core.engine.asked import deal_with_outside
from prefect_core.engine.bundles import Bundle, ChunkSize
from prefect_core.engine.flow_call import make_room_for_frames
from prefect_core.engine.outside import let_deal, outside
from prefect_core.engine.task_call import TaskCall
from prefect_core.engine.task_run import task_life
from prefect_core.errors import NestingTooDeep
from prefect_core.future_streams import PrefectFutureStream
from prefect_core.futures import PrefectFuture, PrefectFutureList
from prefect_core.importable import reduce_decorated
from prefect_core.mapping import expand, expand_one_by_one
from prefect_core.module_names import module_name_of
from prefect_core.parameters import Binder, check_reserved
from prefect_core.retry_delays import exponential_backoff as exponential_backoff
from prefect_core.settings import current as settings
from prefect_core.state_kinds import COMPLETED, CRASHED
from prefect_core.states import State
from prefect_core.task_settings import TaskOptions as TaskOptions
from prefect_core.task_settings import TaskSettings

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
T = TypeVar("T")

# What takes calls outside of flows lies below what deals with a run's being cancelled.
let_deal(deal_with_outside)


class Task(TaskSettings, Generic[P, R]):
    """A task. Calling it runs it here and now; `submit` and `map` hand it to the task runner and return futures."""

    def __init__(self, fn: Callable[P, R], **given: Unpack[TaskOptions]) -> None:
        if not callable(fn) and not isinstance(fn, staticmethod | classmethod):
            raise TypeError("'fn' must be callable")
        self.fn = fn
        options.take_metadata(self, fn)
        plain = options.underlying(fn)
        self.is_async, self.is_generator = options.kind_of(fn)
        self.name: str = options.text("name", given.get("name")) or options.name_of(fn)
        self.task_key = f"{module_name_of(plain)}.{getattr(plain, '__qualname__', self.name)}"
        self._take_options(given)
        check_reserved(self.binder.signature if callable(fn) else inspect.signature(fn.__func__))

    @cached_property
    def binder(self) -> Binder:
        """What turns the arguments of a call into parameters."""
        return Binder(self.fn)

    def with_options(self, **changes: Unpack[TaskOptions]) -> Task[P, R]:
        """Return a task of the same function with some options changed. Whatever is given counts, None and [] included."""
        merged: Any = {**self._given, **self._hooks_now(), **changes}
        changed = type(self)(self.fn, **merged)
        changed.closure = self.closure or changed.closure
        return changed

    def __get__(self, instance: Any, owner: type | None = None) -> Task[..., R]:
        fn: Any = self.fn
        if instance is None and not isinstance(fn, classmethod | staticmethod):
            return self
        bound = copy.copy(self)
        bound.fn = fn.__get__(instance, owner)
        # All instances share the binder of the first one, since making one costs more than a call.
        bound.__dict__["binder"] = self.__dict__.get("_binder_of_methods") or self._bind_methods_by(bound.fn)
        return bound

    def _bind_methods_by(self, method: Callable[..., Any]) -> Binder:
        self.__dict__["_binder_of_methods"] = binder = Binder(method)
        return binder

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(
        self: Task[P, Coroutine[Any, Any, T]], *args: Any, return_state: Literal[True], **kwargs: Any
    ) -> Coroutine[Any, Any, State]: ...
    @overload
    def __call__(self, *args: Any, return_state: Literal[True], **kwargs: Any) -> State: ...
    @overload
    def __call__(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task on this thread (an async one: when it is awaited) and return its value, or raise what it raised.

        `return_state=True` returns the final state instead. `wait_for` names futures to wait for whose values aren't passed.
        """
        return_state, wait_for = (
            (kwargs.pop("return_state", False), kwargs.pop("wait_for", None)) if kwargs else (False, None)
        )
        parent = context.current()
        if self.is_async or self.is_generator:
            return self._call_otherwise(args, kwargs, return_state, wait_for, parent)
        call = self._new_call(args, kwargs, wait_for, parent)
        state = drive.run(task_life(call))
        if type(parent) is FlowRunContext:
            parent.dispatcher.note(call.run)
        if return_state:
            if state.type is CRASHED:
                deadlines.pass_on(state.data)
                signals.pass_on(state.data)
            return state
        if state.type is COMPLETED:
            # What is kept of a value may stand in its place.
            return state.data if state.kept is None and type(state.data) is not State else state.result()
        return state.result()

    def _call_otherwise(
        self, args: Any, kwargs: Any, return_state: bool, wait_for: Any, parent: RunContext | None
    ) -> Any:
        self.binder.bind(args, kwargs)
        if self.is_generator:
            if return_state:
                raise ValueError(
                    "The return_type for a generator task must be 'result'; it has no state before it is consumed."
                )
            return (
                self._aiterate(args, kwargs, wait_for, parent)
                if self.is_async
                else self._iterate(args, kwargs, wait_for, parent)
            )
        return self._acall(args, kwargs, return_state, wait_for, parent)

    async def _acall(self, args: Any, kwargs: Any, return_state: bool, wait_for: Any, parent: RunContext | None) -> Any:
        call = self._new_call(args, kwargs, wait_for, parent)
        state = await drive.arun(task_life(call))
        if type(parent) is FlowRunContext:
            parent.dispatcher.note(call.run)
        return state if return_state else state.result()

    def _iterate(self, args: Any, kwargs: Any, wait_for: Any, parent: RunContext | None) -> Any:
        call = self._new_call(args, kwargs, wait_for, parent)
        try:
            state = yield from drive.iterate(task_life(call))
        finally:
            if type(parent) is FlowRunContext:
                parent.dispatcher.note(call.run)
        return state.result()

    async def _aiterate(self, args: Any, kwargs: Any, wait_for: Any, parent: RunContext | None) -> Any:
        call = self._new_call(args, kwargs, wait_for, parent)
        try:
            async with aclosing(drive.aiterate(task_life(call))) as values:
                async for value in values:
                    yield value
        finally:
            if type(parent) is FlowRunContext:
                parent.dispatcher.note(call.run)
        call.run.state.result()

    def _new_call(
        self, args: Any, kwargs: Any, wait_for: Any, parent: RunContext | None, key: str | None = None
    ) -> TaskCall:
        if parent is not None and parent.depth > 20:
            _check_depth(self.name, parent)
        call = TaskCall(self, args, kwargs, wait_for, parent, key)
        taker = parent.dispatcher if parent is not None else None
        call.taker = taker if taker is not None else outside()
        if self.isolation is not None and call.context.dispatcher is None:
            call.context.outside = call.taker
        return call

    def _take(self, option: str, kwargs: dict[str, Any]) -> Any:
        """Take an option out of the arguments, unless the function has a parameter of that name."""
        is_ours = option in kwargs and option not in self.binder.signature.parameters
        return kwargs.pop(option, None) if is_ours else None

    @overload
    def submit(
        self: Task[P, Coroutine[Any, Any, T]],
        *args: Any,
        return_state: Literal[False] = ...,
        wait_for: Any = ...,
        **kwargs: Any,
    ) -> PrefectFuture[T]: ...
    @overload
    def submit(
        self, *args: Any, return_state: Literal[False] = ..., wait_for: Any = ..., **kwargs: Any
    ) -> PrefectFuture[R]: ...
    @overload
    def submit(self, *args: Any, return_state: Literal[True], wait_for: Any = ..., **kwargs: Any) -> State: ...

    def submit(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
        """Hand the task to the task runner and return a future at once; with `return_state=True` wait and return the final state.

        Futures among the arguments, at any depth, are replaced by their values before the body runs; it starts when all are there.
        Outside of a flow a concurrent runner of the process is used. `key` is by what the call is known when its flow run is run again, in
        place of its arguments; if the function has a parameter of that name, use `with_options(key=...)`.
        """
        future = self._submit(args, kwargs, wait_for, self._take("key", kwargs) if kwargs else None)
        return future.wait() if return_state else future

    def _submit(
        self, args: Any, kwargs: Any, wait_for: Any, key: str | None, bundle: Bundle | None = None
    ) -> PrefectFuture[Any]:
        call = self._new_call(args, kwargs, wait_for, context.current(), key)
        call.bundle = bundle
        assert call.taker is not None
        return call.taker.submit(call)

    @overload
    def map(
        self: Task[P, Coroutine[Any, Any, T]],
        *args: Any,
        window: None = ...,
        return_state: Literal[False] = ...,
        wait_for: Any = ...,
        **kwargs: Any,
    ) -> PrefectFutureList[T]: ...
    @overload
    def map(
        self: Task[P, Coroutine[Any, Any, T]],
        *args: Any,
        window: int,
        return_state: Literal[False] = ...,
        wait_for: Any = ...,
        **kwargs: Any,
    ) -> PrefectFutureStream[T]: ...
    @overload
    def map(
        self,
        *args: Any,
        window: None = ...,
        return_state: Literal[False] = ...,
        wait_for: Any = ...,
        **kwargs: Any,
    ) -> PrefectFutureList[R]: ...
    @overload
    def map(
        self, *args: Any, window: int, return_state: Literal[False] = ..., wait_for: Any = ..., **kwargs: Any
    ) -> PrefectFutureStream[R]: ...
    @overload
    def map(self, *args: Any, return_state: Literal[True], wait_for: Any = ..., **kwargs: Any) -> list[State]: ...

    def map(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
        """Submit one run for each element of the iterable arguments, which must be equally long; returns their futures in order.

        Strings, bytes, files and what is wrapped in `unmapped` go to every run whole. `key`, called with the arguments of each, gives the
        `key` of its run. With `window=n` at most n of the runs are under way, and elements are taken from the iterables when their turn
        comes, so that these may be generators of any length: what is returned gives the futures one by one (`PrefectFutureStream`).

        `chunk=n` hands n runs at a time to a runner of another machine or process, for bodies that take less time than their way there;
        "auto" finds the number. They run there one after the other, each as a run of its own. If the function has parameters called `key`,
        `window` or `chunk`, those are meant.
        """
        key, window, chunk = map(self._take, ("key", "window", "chunk"), repeat(kwargs)) if kwargs else (None,) * 3
        bundle = None if chunk is None else Bundle(_checked_chunk(chunk), is_filling=window is None)
        calls = (expand if window is None else expand_one_by_one)(self.binder, args, kwargs)
        submissions = (
            self._submit(positional, named, wait_for, key and key(*positional, **named), bundle)
            for positional, named in map(self.binder.unbind, calls)
        )
        try:
            submitted: Any = (
                PrefectFutureList(submissions) if window is None else self._stream(submissions, window, bundle)
            )
        finally:
            if bundle is not None:
                bundle.flush()
        return submitted.wait() if return_state else submitted

    def _stream(
        self, submissions: Iterator[PrefectFuture[Any]], window: Any, bundle: Bundle | None
    ) -> PrefectFutureStream[Any]:
        filled = bundle.flush if bundle is not None else None
        stream = PrefectFutureStream(submissions, options.whole_number("window", window, least=1), filled)
        around = context.current()
        if around is not None and around.dispatcher is not None:
            around.dispatcher.expect_stream(stream)
        return stream

    def __repr__(self) -> str:
        return f"Task(name={self.name!r})"

    def __copy__(self) -> Task[P, R]:
        # By pickling, a copy of an importable task would be that task itself.
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __reduce__(self) -> str | tuple[Any, ...]:
        # Where a copy arrives, `__main__` is another file.
        return reduce_decorated(self, {**self._given, **self._hooks_now()}, {"task_key": self.task_key})


def _check_depth(name: str, parent: RunContext) -> None:
    limit = settings().max_nesting
    if parent.depth >= limit:
        raise NestingTooDeep(
            f"Task {name!r} would run {parent.depth + 1} runs deep, and max_nesting is {limit}. "
            "Look for a flow or task that calls itself without an end, or raise that setting."
        )
    make_room_for_frames(parent)


def _checked_chunk(chunk: Any) -> ChunkSize:
    return "auto" if chunk == "auto" else options.whole_number("chunk", chunk, least=1)


@overload
def task(fn: Callable[P, R], /, **given: Unpack[TaskOptions]) -> Task[P, R]: ...
@overload
def task(fn: None = None, /, **given: Unpack[TaskOptions]) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(fn: Callable[P, R] | None = None, /, **given: Unpack[TaskOptions]) -> Any:
    """Make a function a task; `@task` bare or with options.

    Options (each also of `with_options`): `name`, `description`, `version`, `tags`; `task_run_name`, a template over the parameters or
    a callable; `retries`, with `retry_delay_seconds` (a number, a list, or a callable from the number of retries to a list, such as
    `exponential_backoff(2)`), `retry_jitter_factor` and `retry_condition_fn(task, task_run, state)`; `retries_on_crash`, how often an
    attempt whose worker was lost is made again, without it as often as any other (`retries`); `timeout_seconds` of one attempt;
    `log_prints`; `task_runner`, where submitted runs of this task run; `isolation="process"`, a worker process for each body, which its
    timeout and its cancellation end for certain, on local runners and in direct calls; what a submitted run needs where it runs,
    `resources` such as {"gpu": 1, "memory": "8GB"}, and its `priority`, the higher the sooner, as far as the runner
    knows of them, and among those that wait for slots of its tags;
    `cache_policy` or `cache_key_fn`, by which results of earlier calls stand for new ones, with `cache_expiration` and `refresh_cache`;
    `persist_result` and what goes with it; the hooks `on_completion`, `on_failure`, `on_running`, and those of transactions, `on_commit`
    and `on_rollback`.
    """
    if fn is None:
        return lambda function: Task(function, **given)
    return Task(fn, **given)
