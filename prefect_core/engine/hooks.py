"""Calling the hooks of a flow or task when its run has entered a state."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from prefect_core import context, logs
from prefect_core.crash_points import crash_points_around
from prefect_core.engine import deadlines, portal
from prefect_core.engine.steps import Block, Life
from prefect_core.logs import prints
from prefect_core.options import hook_name as hook_name
from prefect_core.options import is_async as is_async
from prefect_core.states import State

Hook = Callable[[Any, Any, State], Any]


def call_hooks(hooks: Sequence[Hook], subject: Any, state: State, around: context.RunContext) -> Life[None]:
    """Call each hook with the flow or task, its run and the state, in order, inside the run's context. A failing one is logged."""
    for hook in hooks:
        is_coroutine = is_async(hook)
        carry_out = _acall if is_coroutine else _call
        yield Block(partial(carry_out, hook, subject, state, around), is_coroutine)


def call_hooks_now(hooks: Sequence[Hook], subject: Any, state: State, around: context.RunContext) -> None:
    """Do the same on this thread, at once; async hooks run on the loop in a thread."""
    for step in call_hooks(hooks, subject, state, around):
        assert isinstance(step, Block)
        if step.is_async:
            portal.run(step.work)
        else:
            step.work()


@crash_points_around("engine.hook")
def _call(hook: Hook, subject: Any, state: State, around: context.RunContext) -> None:
    # A copy, since the hook runs beside the body's own context and on whatever thread learned the state.
    contextvars.copy_context().run(_call_inside, hook, subject, state, around)


@deadlines.door
def _call_inside(hook: Hook, subject: Any, state: State, around: context.RunContext) -> None:
    context.enter(around)
    _announce(around, hook, state)
    try:
        with prints.logged(around):
            hook(subject, around.run, state)
    except Exception as error:
        _report(around, hook, error)
    else:
        _finished(around, hook)


async def _acall(hook: Hook, subject: Any, state: State, around: context.RunContext) -> None:
    token = context.enter(around)
    _announce(around, hook, state)
    try:
        with prints.logged(around):
            await hook(subject, around.run, state)
    except Exception as error:
        _report(around, hook, error)
    else:
        _finished(around, hook)
    finally:
        context.leave(token)


def _announce(around: context.RunContext, hook: Hook, state: State) -> None:
    logs.note(around, logs.INFO, f"Running hook {hook_name(hook)!r} in response to entering state {state.name!r}")


def _finished(around: context.RunContext, hook: Hook) -> None:
    logs.note(around, logs.INFO, f"Hook {hook_name(hook)!r} finished running successfully")


def _report(around: context.RunContext, hook: Hook, error: Exception) -> None:
    logs.note(around, logs.ERROR, f"An error was encountered while running hook {hook_name(hook)!r}", error)
