"""Sending an input to a flow run, from whatever process opens the history."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from prefect_core import clock, history
from prefect_core.blocking import on_thread
from prefect_core.context import FlowRunContext
from prefect_core.control import steward
from prefect_core.control.reaping import reap
from prefect_core.errors import NotReceiving, ObjectNotFound
from prefect_core.history.sent import SentInput
from prefect_core.input import colour
from prefect_core.input.contents import channel_of, packed

if TYPE_CHECKING:
    from prefect_core.input.contents import Content

SENDER = "prefect.flow-run."
"""What stands before the id of a flow run that sends."""


def send(value: Any, flow_run_id: UUID | str, sender: str | None, key_prefix: str | None) -> Any:
    """Send a value to a flow run; awaitable in async code."""
    # As it is now, and not when somebody comes to it.
    content = packed(value)
    channel = key_prefix if key_prefix is not None else channel_of(type(value))
    around = FlowRunContext.get()
    if sender is None and around is not None:
        sender = f"{SENDER}{around.flow_run.id}"
    work = partial(_keep, str(flow_run_id), channel, sender, content)
    return on_thread(work) if colour.is_awaited() else work()


def _keep(name: str, channel: str, sender: str | None, content: Content) -> None:
    with history.reading() as stored:
        control = stored.control()
        reap(control)
        try:
            run = stored.flow_run(name)
        except ObjectNotFound as error:
            raise ObjectNotFound(f"No input can be sent to flow run {name!r}. {error}") from error
        key = f"{channel}-{uuid4()}"
        row = SentInput(run.key, channel, key, sender, clock.now_us(), int(content.is_pickled), content.data)
        if not control.send_input(row):
            state = stored.flow_run(run.key).state_name
            raise NotReceiving(f"No input can be sent to flow run '{run.id}', {run.name}: it has ended, {state}.")
    steward.nudge()


def run_that_sent(sender: str | None) -> UUID:
    """Return the id of the flow run that sent an input. Raises `RuntimeError` if none did."""
    if sender is None or not sender.startswith(SENDER):
        raise RuntimeError("Cannot respond to an input that was not sent by a flow run.")
    return UUID(sender.removeprefix(SENDER))
