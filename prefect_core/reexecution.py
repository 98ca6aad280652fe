"""Running a flow run again that did not complete: from its recorded entry point, with its recorded parameters, as a further attempt.

What is needed is looked for first: the flow, then its parameters. Only then is the run claimed, so that a retry that can't begin leaves
the run as it was. Of several processes that try at once, one gets it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from prefect_core import history, logs
from prefect_core.context import tags
from prefect_core.control.reaping import reap
from prefect_core.engine.ledger import Ledger, flow_run_of, reopening
from prefect_core.entrypoints import load_flow
from prefect_core.errors import NotRunnableAgain, describe
from prefect_core.flows import Flow
from prefect_core.history.process import ProcessIdentity, is_gone, this_user
from prefect_core.history.rows import FlowRunRow
from prefect_core.history.verdicts import DROPPED
from prefect_core.results.kept import KeptValue

if TYPE_CHECKING:
    from prefect_core.history import HistoryStore
    from prefect_core.history.stored import Reopened


class Again(NamedTuple):
    """A flow run that can be run again: its flow, and what to call it with."""

    row: FlowRunRow
    flow: Flow[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]


def find(name: str | int, *, force: bool = False) -> Again:
    """Find a flow run by id, start of an id or name, load its flow, and bring its parameters back.

    `force` says that its last process has ended where that can't be known from here. Raises `ObjectNotFound`, `NotRunnableAgain`, or what
    loading the entry point raises.
    """
    with history.reading() as stored:
        reap(stored.control())
        row = stored.flow_run(name)
        stored.check_runnable(row.key, _is_gone_or_forced if force else is_gone)
        return load(stored, row)


def load(stored: HistoryStore, row: FlowRunRow) -> Again:
    """Load the flow of a run, and bring its parameters back. Raises `NotRunnableAgain`, or what loading the entry point raises."""
    if row.entrypoint is None:
        raise NotRunnableAgain(
            f"{row.name} can't be run again from here: its flow {row.flow_name!r} stands in no file, or inside a function. Move it "
            "to the top level of a file."
        )
    flow = load_flow(row.entrypoint)
    return Again(row, flow, *_arguments(row, flow, _parameters(stored, row)))


def _parameters(stored: HistoryStore, row: FlowRunRow) -> dict[str, Any]:
    unheld = stored.unheld(row.key)
    if unheld is None:
        return row.parameters
    kept = stored.result(unheld.result) if unheld.result is not None else None
    if kept is None:
        are_dropped = any(verdict.verdict == DROPPED for verdict in stored.verdicts(row.key))
        which = f"JSON can't hold its parameter{'s' if len(unheld.names) > 1 else ''} {', '.join(unheld.names)}"
        what = (
            "and what was stored of them was dropped"
            if are_dropped
            else "and they were not stored. Set persist_result=True on the flow to store them, or pass plain data"
        )
        raise NotRunnableAgain(f"{row.name} can't be run again in another process: {which}, {what}.")
    try:
        return {**row.parameters, **KeptValue.of_row(kept).load()}
    except Exception as error:
        raise NotRunnableAgain(f"The stored parameters of {row.name} can't be had: {describe(error)}") from error


def _arguments(row: FlowRunRow, flow: Flow[..., Any], parameters: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    try:
        args, kwargs = flow.binder.unbind(parameters)
        flow.binder.bind(args, kwargs)
    except TypeError as error:
        takes = ", ".join(flow.binder.signature.parameters) or "none"
        raise NotRunnableAgain(
            f"{row.name} can't be run again: it was called with the parameters {', '.join(parameters) or 'none'}, and its flow "
            f"{row.flow_name!r} in {row.entrypoint} takes {takes} now."
        ) from error
    return list(args), dict(kwargs)


@contextmanager
def reopened(again: Again, *, force: bool = False) -> Iterator[None]:
    """Claim the run for this process; the first flow that is called in the block goes on with it, with the tags that it had.

    `force` is that of `find`. Raises `NotRunnableAgain`.
    """

    def claim(store: HistoryStore, process: int) -> Reopened:
        return store.reopen_run(again.row.key, process, this_user(), _is_gone_or_forced if force else is_gone)

    with claimed(again, claim):
        yield


@contextmanager
def claimed(again: Again, claim: Callable[[HistoryStore, int], Reopened]) -> Iterator[None]:
    """Let the first flow that is called in the block go on with a run, with the tags that it had, once `claim` has got it.

    `claim` is called with a history and the number of this process in it, and raises if another process has the run.
    """
    recorder = history.current()
    stored = recorder.stored()
    # With a connection of its own: that of the recorder may be in the middle of a transaction.
    own = history.open_store()
    try:
        got = claim(own, recorder.process)
    finally:
        own.close()
    run = flow_run_of(got.run, None, got.attempts)
    before, now = run.flow_version, again.flow.version
    if before is not None and before != now:
        logs.engine_line(
            run,
            logs.WARNING,
            f"Flow {run.flow_name!r} has changed since {run.name!r} began (version {before}, now {now}); results that are taken over were "
            "made by the earlier one.",
        )
    with tags(*got.run.tags), reopening(run, Ledger(again.row.key, stored)):
        yield


def _is_gone_or_forced(process: ProcessIdentity) -> bool | None:
    gone = is_gone(process)
    return True if gone is None else gone
