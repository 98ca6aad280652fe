"""Running a flow run again that did not complete: from its recorded entry point, with its recorded parameters, as a further attempt.

What is needed is looked for first: the flow, then its parameters. Only then is the run claimed, so that a retry that can't begin leaves
the run as it was. Of several processes that try at once, one gets it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from prefect_core import history
from prefect_core.engine.ledger import Ledger, flow_run_of, reopening
from prefect_core.entrypoints import load_flow
from prefect_core.errors import NotRunnableAgain, describe
from prefect_core.flows import Flow
from prefect_core.history.process import ProcessIdentity, is_gone, this_user
from prefect_core.history.rows import FlowRunRow
from prefect_core.results.kept import KeptValue


class Again(NamedTuple):
    """A flow run that can be run again: its flow, and what to call it with."""

    row: FlowRunRow
    flow: Flow[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]


def find(name: str | int) -> Again:
    """Find a flow run by id, start of an id or name, load its flow, and bring its parameters back.

    Raises `ObjectNotFound`, `NotRunnableAgain`, or what loading the entry point raises.
    """
    row = history.current().stored().flow_run(name)
    if row.entrypoint is None:
        raise NotRunnableAgain(
            f"{row.name} can't be run again from here: its flow {row.flow_name!r} stands in no file, or inside a function. Move it to the "
            "top level of a file."
        )
    flow = load_flow(row.entrypoint)
    args, kwargs = flow.binder.unbind(_parameters(row))
    return Again(row, flow, list(args), dict(kwargs))


def _parameters(row: FlowRunRow) -> dict[str, Any]:
    stored = history.current().stored()
    unheld = stored.unheld(row.key)
    if unheld is None:
        return row.parameters
    kept = stored.result(unheld.result) if unheld.result is not None else None
    if kept is None:
        raise NotRunnableAgain(
            f"{row.name} can't be run again in another process: JSON can't hold its parameter{'s' if len(unheld.names) > 1 else ''} "
            f"{', '.join(unheld.names)}, and they were not stored. Set persist_result=True on the flow to store them, or pass plain data."
        )
    try:
        return {**row.parameters, **KeptValue.of_row(kept).load()}
    except Exception as error:
        raise NotRunnableAgain(f"The stored parameters of {row.name} can't be had: {describe(error)}") from error


@contextmanager
def reopened(again: Again, *, force: bool = False) -> Iterator[None]:
    """Claim the run for this process; the first flow that is called in the block goes on with it.

    `force` says that its last process has ended where that can't be known from here. Raises `NotRunnableAgain`.
    """
    recorder = history.current()
    stored = recorder.stored()
    claimed = stored.reopen_run(again.row.key, recorder.process, this_user(), _is_gone_or_forced if force else is_gone)
    with reopening(flow_run_of(claimed.run, None, claimed.attempts), Ledger(again.row.key, stored)):
        yield


def _is_gone_or_forced(process: ProcessIdentity) -> bool | None:
    gone = is_gone(process)
    return True if gone is None else gone
