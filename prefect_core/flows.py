"""`@flow`: a function whose call is a recorded run that tasks and other flows run in."""

from __future__ import annotations

import contextvars
import copy
import inspect
from collections.abc import Callable, Coroutine, Iterable
from contextlib import aclosing, nullcontext
from functools import cached_property, partial
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, Unpack, overload

from prefect_core import context, loops, options
from prefect_core.context import FlowRunContext, RunContext
from prefect_core.engine import deadlines, drive, module_level, signals, starting
from prefect_core.engine.dispatcher import Dispatcher
from prefect_core.engine.flow_call import FlowCall
from prefect_core.engine.flow_run import flow_life
from prefect_core.engine.outside import outside
from prefect_core.errors import InvalidNameError
from prefect_core.futures import PrefectFlowRunFuture, PrefectFutureList
from prefect_core.importable import reduce_decorated
from prefect_core.mapping import expand
from prefect_core.module_names import marked, module_name_of
from prefect_core.options import FinalStateFrom, Hook, OnCrash, SharedOptions
from prefect_core.parameters import Binder, check_reserved
from prefect_core.results.rules import rules_of
from prefect_core.settings import current as settings
from prefect_core.state_kinds import CANCELLED, CANCELLING, COMPLETED, CRASHED, FAILED, StateType
from prefect_core.states import State
from prefect_core.task_runners import check_runner
from prefect_core.validation import Validator
from prefect_core.waiting import when_done

if TYPE_CHECKING:
    from prefect_core.task_runners import RunnerSpec

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
T = TypeVar("T")

_FORBIDDEN_IN_NAMES = ("/", "%", "&", ">", "<")


class FlowOptions(SharedOptions, total=False):
    """What `@flow` and `Flow.with_options` take. An option that is left out has the default, or in `with_options` its old value."""

    flow_run_name: str | Callable[..., str] | None
    retry_delay_seconds: float | None
    task_runner: RunnerSpec | None
    validate_parameters: bool
    final_state_from: FinalStateFrom | None
    on_crash: OnCrash | None
    on_cancellation: Iterable[Hook] | None
    on_crashed: Iterable[Hook] | None


_HOOKS: dict[str, tuple[StateType, ...]] = {
    "on_completion": (COMPLETED,),
    "on_failure": (FAILED,),
    "on_cancellation": (CANCELLED, CANCELLING),
    "on_crashed": (CRASHED,),
}


class Flow(Generic[P, R]):
    """A flow. Calling it runs it and returns its value; `submit` and `map` let it run beside the caller and return futures."""

    def __init__(self, fn: Callable[P, R], **given: Unpack[FlowOptions]) -> None:
        if not callable(fn) and not isinstance(fn, staticmethod | classmethod):
            raise TypeError("'fn' must be callable")
        self._refuse_unknown(given)
        self.fn = fn
        options.take_metadata(self, fn)
        self.is_async, self.is_generator = options.kind_of(fn)
        self.name: str = _checked_name(given.get("name"), fn)
        self.description = options.described_as(fn, given.get("description"))
        self.flow_run_name = options.run_name("flow_run_name", given.get("flow_run_name"))
        self.task_runner: RunnerSpec = check_runner(given.get("task_runner")) or "concurrent"
        self.timeout_seconds = options.timeout("timeout_seconds", given.get("timeout_seconds"))
        self.log_prints = given.get("log_prints")
        self.should_validate_parameters = given.get("validate_parameters", True)
        self.final_state_from = options.final_state_source(given.get("final_state_from") or settings().final_state_from)
        self.on_crash = options.on_crash(given.get("on_crash"))
        self._set_retries(given)
        self.result_rules = rules_of(given)
        self.flow_key = f"{module_name_of(options.underlying(fn))}.{getattr(fn, '__qualname__', self.name)}"
        self.hooks: dict[str, list[Hook]] = {
            name: options.hooks(name, given.get(name), "flow") for name in (*_HOOKS, "on_running")
        }
        self._given = given
        check_reserved(self.binder.signature if callable(fn) else inspect.signature(fn.__func__))

    @staticmethod
    def _refuse_unknown(given: FlowOptions) -> None:
        unknown = sorted(set(given) - set(FlowOptions.__annotations__) - set(SharedOptions.__annotations__))
        if unknown:
            raise TypeError(f"@flow takes no option {', '.join(map(repr, unknown))}.")

    def _set_retries(self, given: FlowOptions) -> None:
        retries, delay = given.get("retries"), given.get("retry_delay_seconds")
        self.retries = settings().flow_default_retries if retries is None else options.whole_number("retries", retries)
        self.retry_delay_seconds = (
            settings().flow_default_retry_delay_seconds
            if delay is None
            else options.seconds("retry_delay_seconds", delay)
        )

    @cached_property
    def binder(self) -> Binder:
        """What turns the arguments of a call into parameters."""
        return Binder(self.fn)

    @cached_property
    def validator(self) -> Validator:
        """What checks the parameters of a call."""
        return Validator(self.fn, self.binder.signature)

    @cached_property
    def version(self) -> str | None:
        """The version given, or a hash of the file that the flow stands in; None where there is no file."""
        if given := self._given.get("version"):
            return given
        import hashlib  # only a run that starts asks

        try:
            source = inspect.getsourcefile(options.underlying(self.fn))
            return hashlib.md5(Path(source).read_bytes(), usedforsecurity=False).hexdigest() if source else None
        except (TypeError, OSError):
            return None

    @cached_property
    def entrypoint(self) -> str | None:
        """Where another process finds this flow, `path.py:name`; None for one that has no file or stands in a function."""
        plain = options.underlying(self.fn)
        name = getattr(plain, "__qualname__", "<")
        path = getattr(getattr(plain, "__code__", None), "co_filename", "<")
        return None if "<" in name or path.startswith("<") else f"{marked(path, module_name_of(plain))}:{name}"

    def with_options(self, **changes: Unpack[FlowOptions]) -> Flow[P, R]:
        """Return a flow of the same function with some options changed. Whatever is given counts, None and [] included."""
        merged: Any = {**self._given, **self.hooks, **changes}
        return type(self)(self.fn, **merged)

    def _add_hook(self, name: str, hook: Hook) -> Hook:
        self.hooks[name].append(hook)
        return hook

    def on_completion(self, hook: Hook) -> Hook:
        """Add a hook that is called when a run completed; usable as a decorator, like the others."""
        return self._add_hook("on_completion", hook)

    def on_failure(self, hook: Hook) -> Hook:
        """Add a hook that is called when a run failed and has no retries left."""
        return self._add_hook("on_failure", hook)

    def on_cancellation(self, hook: Hook) -> Hook:
        """Add a hook that is called when a run is cancelled."""
        return self._add_hook("on_cancellation", hook)

    def on_crashed(self, hook: Hook) -> Hook:
        """Add a hook that is called when something outside of the flow's function ended a run."""
        return self._add_hook("on_crashed", hook)

    def on_running(self, hook: Hook) -> Hook:
        """Add a hook that is called when the body starts, at each attempt."""
        return self._add_hook("on_running", hook)

    def __getattr__(self, name: str) -> Any:
        # on_failure_hooks and its like, as lists.
        if name.endswith("_hooks") and name[:-6] in self.__dict__.get("hooks", ()):
            return self.hooks[name[:-6]]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __get__(self, instance: Any, owner: type | None = None) -> Flow[..., R]:
        fn: Any = self.fn
        if instance is None and not isinstance(fn, classmethod | staticmethod):
            return self
        return self._bound_to(fn.__get__(instance, owner))

    def _bound_to(self, method: Callable[..., R]) -> Flow[..., R]:
        bound = copy.copy(self)
        for cached in ("binder", "validator"):
            bound.__dict__.pop(cached, None)
        bound.fn = method
        return bound

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(
        self: Flow[P, Coroutine[Any, Any, T]], *args: Any, return_state: Literal[True], **kwargs: Any
    ) -> Coroutine[Any, Any, State]: ...
    @overload
    def __call__(self, *args: Any, return_state: Literal[True], **kwargs: Any) -> State: ...
    @overload
    def __call__(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the flow here (an async one: when it is awaited) and return its value, or raise what ended it.

        `return_state=True` returns the final state instead. `wait_for` names futures to wait for whose values aren't passed; only a
        flow inside another may have some. While a file is loaded for one of its flows, calls at its module level warn and return None.
        """
        if self.binder.lacks_class and args and isinstance(args[0], type):
            # @classmethod over @flow, from Python 3.13 on: the class is no parameter.
            return self._bound_to(MethodType(self.fn, args[0]))(*args[1:], **kwargs)
        return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
        parent = context.current()
        if module_level.is_ignored(self, parent):
            return module_level.nothing_from(self)
        if wait_for is not None and parent is None:
            raise ValueError("Only flows run as subflows can wait for dependencies.")
        if self.is_generator:
            if return_state:
                raise ValueError(
                    "The return_type for a generator flow must be 'result'; it has no state before it is consumed."
                )
            self.binder.bind(args, kwargs)
            return (
                self._aiterate(args, kwargs, wait_for, parent)
                if self.is_async
                else self._iterate(args, kwargs, wait_for, parent)
            )
        if self.is_async:
            self.binder.bind(args, kwargs)
            return self._acall(args, kwargs, wait_for, parent, return_state)
        with signals.watched():
            state = starting.run_here(FlowCall(self, args, kwargs, wait_for, parent))
        deadlines.pass_on(state.data)
        signals.pass_on(state.data)
        return state if return_state else state.result()

    async def _acall(self, args: Any, kwargs: Any, wait_for: Any, parent: RunContext | None, return_state: bool) -> Any:
        async with signals.watched_on_loop() if parent is None else nullcontext():
            state = await starting.arun_here(FlowCall(self, args, kwargs, wait_for, parent))
        if return_state and loops.is_being_cancelled():
            state.result()
        return state if return_state else state.result()

    def _iterate(self, args: Any, kwargs: Any, wait_for: Any, parent: RunContext | None) -> Any:
        call = FlowCall(self, args, kwargs, wait_for, parent)
        with signals.watched():
            try:
                state = yield from drive.iterate(flow_life(call))
            finally:
                starting.note_in_parent(call)
        return state.result()

    async def _aiterate(self, args: Any, kwargs: Any, wait_for: Any, parent: RunContext | None) -> Any:
        # Tasks that it submits run on the loop in a thread: a task group may not be held open across a yield.
        call = FlowCall(self, args, kwargs, wait_for, parent)
        try:
            async with aclosing(drive.aiterate(flow_life(call))) as values:
                async for value in values:
                    yield value
        finally:
            starting.note_in_parent(call)
        call.run.state.result()

    @overload
    def submit(
        self: Flow[P, Coroutine[Any, Any, T]],
        *args: Any,
        return_state: Literal[False] = ...,
        wait_for: Any = ...,
        **kwargs: Any,
    ) -> PrefectFlowRunFuture[T]: ...
    @overload
    def submit(
        self, *args: Any, return_state: Literal[False] = ..., wait_for: Any = ..., **kwargs: Any
    ) -> PrefectFlowRunFuture[R]: ...
    @overload
    def submit(self, *args: Any, return_state: Literal[True], wait_for: Any = ..., **kwargs: Any) -> State: ...

    def submit(self, *args: Any, wait_for: Any = None, return_state: bool = False, **kwargs: Any) -> Any:
        """Let the flow run beside the caller, on a thread (an async flow: on the caller's loop), and return a future at once.

        Futures among the arguments are replaced by their values; the run starts when all are there.
        """
        parent = context.current()
        if module_level.is_ignored(self, parent):
            return None
        taker: Dispatcher = (parent.dispatcher if parent is not None else None) or outside()
        call = FlowCall(self, args, kwargs, wait_for, parent)
        future: PrefectFlowRunFuture[Any] = PrefectFlowRunFuture(call.tracking, call.run, call)
        taker.expect_in_block(call.context.transaction, call, future)
        if self.is_async:
            call.loop = taker.loop()
        if taker.admit(call, future):
            still_open = call.still_open()
            variables = contextvars.copy_context()
            when_done(
                still_open, partial(starting.start_beside, call, taker, variables)
            ) if still_open else starting.start_beside(call, taker, variables)
        return future.wait() if return_state else future

    @overload
    def map(
        self: Flow[P, Coroutine[Any, Any, T]],
        *args: Any,
        return_state: Literal[False] = ...,
        wait_for: Any = ...,
        **kwargs: Any,
    ) -> PrefectFutureList[T]: ...
    @overload
    def map(
        self, *args: Any, return_state: Literal[False] = ..., wait_for: Any = ..., **kwargs: Any
    ) -> PrefectFutureList[R]: ...
    @overload
    def map(self, *args: Any, return_state: Literal[True], wait_for: Any = ..., **kwargs: Any) -> list[State]: ...

    def map(self, *args: Any, wait_for: Any = None, return_state: bool = False, **kwargs: Any) -> Any:
        """Submit one run for each element of the iterable arguments; returns their futures in order."""
        if module_level.is_ignored(self, context.current()):
            return [] if return_state else PrefectFutureList()
        submitted: PrefectFutureList[Any] = PrefectFutureList(
            self.submit(*positional, wait_for=wait_for, **named)
            for positional, named in map(self.binder.unbind, expand(self.binder, args, kwargs))
        )
        return submitted.wait() if return_state else submitted

    # What the lifecycle asks.

    @property
    def validates_parameters(self) -> bool:
        return self.should_validate_parameters and self.validator.is_needed

    def logs_prints(self, parent: RunContext | None) -> bool:
        """Tell whether `print` in a run is logged: as the flow says, else as the run around it does, else as the setting does."""
        if self.log_prints is not None:
            return self.log_prints
        return parent.log_prints if parent is not None else settings().log_prints

    def run_name_for(self, around: FlowRunContext) -> str:
        """Return the name of a run, found inside its own context so that `runtime.flow_run` answers."""
        assert self.flow_run_name is not None
        token = context.enter(around)
        try:
            return options.name_from("flow_run_name", self.flow_run_name, around.parameters)
        finally:
            context.leave(token)

    def hooks_for(self, kind: StateType) -> list[Hook]:
        """Return the hooks that are called when a run ends in this kind of state."""
        return next((self.hooks[name] for name, kinds in _HOOKS.items() if kind in kinds), [])

    def __repr__(self) -> str:
        return f"Flow(name={self.name!r})"

    def __copy__(self) -> Flow[P, R]:
        # By pickling, a copy of an importable flow would be that flow itself.
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __reduce__(self) -> str | tuple[Any, ...]:
        return reduce_decorated(self, {**self._given, **self.hooks})


def _checked_name(name: Any, fn: Any) -> str:
    if name is not None and not isinstance(name, str):
        advice = " Perhaps you meant to call it? e.g. '@flow(name=get_flow_run_name())'" if callable(name) else ""
        raise TypeError(f"Expected string for flow parameter 'name'; got {type(name).__name__} instead.{advice}")
    plain = options.name_of(fn)
    checked: str = name or ("unknown-lambda" if plain == "<lambda>" else plain.replace("_", "-"))
    if any(character in checked for character in _FORBIDDEN_IN_NAMES):
        raise InvalidNameError(
            f"Name {checked!r} contains an invalid character. Must not contain any of: {list(_FORBIDDEN_IN_NAMES)}"
        )
    return checked


@overload
def flow(fn: Callable[P, R], /, **given: Unpack[FlowOptions]) -> Flow[P, R]: ...
@overload
def flow(fn: None = None, /, **given: Unpack[FlowOptions]) -> Callable[[Callable[P, R]], Flow[P, R]]: ...


def flow(fn: Callable[P, R] | None = None, /, **given: Unpack[FlowOptions]) -> Any:
    """Make a function a flow; `@flow` bare or with options.

    Options (each also of `with_options`): `name`, `description`, `version`; `flow_run_name`, a template over the parameters or a callable;
    `retries` and `retry_delay_seconds`; `timeout_seconds` of one attempt; `task_runner`, an instance, class or name such as
    "concurrent:8"; `validate_parameters`; `log_prints`; `final_state_from`, "children" or "return_value": what decides a run that
    returns None; `on_crash`, "resume" to have `prefect-core recover` run it again; the hooks `on_completion`,
    `on_failure`, `on_cancellation`, `on_crashed`, `on_running`.
    """
    if fn is None:
        return lambda function: Flow(function, **given)
    return Flow(fn, **given)
