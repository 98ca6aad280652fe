"""Running a flow run again that did not complete: from its recorded entry point, with its recorded parameters, as a further attempt.

What is needed is looked for first: the flow, then its parameters. Only then is the run claimed, so that a retry that can't begin leaves
the run as it was. Of several processes that try at once, one gets it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from prefect_core import history, logs
from prefect_core.context import tags
from prefect_core.control.reaping import reap
from prefect_core.engine.ledger import Ledger, flow_run_of, reopening
from prefect_core.entrypoints import load_flow
from prefect_core.errors import NotPausedError, NotRunnableAgain, describe
from prefect_core.flows import Flow
from prefect_core.history.process import ProcessIdentity, is_gone, this_user
from prefect_core.history.rows import FlowRunRow
from prefect_core.history.store import IN_MEMORY
from prefect_core.history.verdicts import DROPPED
from prefect_core.owed_hooks import call_owed
from prefect_core.results.kept import KeptValue
from prefect_core.state_kinds import PAUSED, UNSUCCESSFUL, StateType

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
    reason = obstacle(stored, row)
    if reason is not None or row.entrypoint is None:
        raise NotRunnableAgain(reason)
    flow = load_flow(row.entrypoint)
    return Again(row, flow, *_arguments(row, flow, recorded_parameters(stored, row)))


def refuse_unpaused(row: FlowRunRow) -> None:
    """Raise `NotPausedError`, with advice, if a flow run is not paused."""
    if row.state_type == PAUSED.value:
        return
    advice = f" To run it again, call `prefect-core flow-run retry {row.name}`." if _is_unsuccessful(row) else ""
    raise NotPausedError(f"Cannot resume a run that isn't paused! {row.name} is {row.state_name}.{advice}")


def _is_unsuccessful(row: FlowRunRow) -> bool:
    return StateType(row.state_type) in UNSUCCESSFUL


def obstacle(stored: HistoryStore, row: FlowRunRow) -> str | None:
    """Return why a flow run can't be run again, as far as that is known without loading anything of the user's; else None."""
    if not stored.is_shared:
        return IN_MEMORY
    if row.entrypoint is None:
        return (
            f"{row.name} can't be run again from here: its flow {row.flow_name!r} stands in no file, or inside a function. Move it "
            "to the top level of a file."
        )
    place = row.entrypoint.rpartition(":")[0]
    if place.endswith(".py") and not Path(place).is_file():
        return f"{row.name} can't be run again from here: There is no file {place!r} any more."
    unheld = stored.unheld(row.key)
    if unheld is None or (unheld.result is not None and stored.result(unheld.result) is not None):
        return None
    are_dropped = any(verdict.verdict == DROPPED for verdict in stored.verdicts(row.key))
    which = f"JSON can't hold its parameter{'s' if len(unheld.names) > 1 else ''} {', '.join(unheld.names)}"
    what = (
        "and what was stored of them was dropped"
        if are_dropped
        else "and they were not stored. Set persist_result=True on the flow to store them, or pass plain data"
    )
    return f"{row.name} can't be run again in another process: {which}, {what}."


def recorded_parameters(stored: HistoryStore, row: FlowRunRow) -> dict[str, Any]:
    """Return the parameters of a flow run as they were recorded, those that were stored too. Raises `NotRunnableAgain`."""
    unheld = stored.unheld(row.key)
    kept = stored.result(unheld.result) if unheld is not None and unheld.result is not None else None
    if kept is None:
        return row.parameters
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
def reopened(again: Again, *, force: bool = False, as_of_us: int | None = None) -> Iterator[None]:
    """Claim the run for this process, as `claimed` does.

    `force` is that of `find`. `as_of_us` is the moment of the state that the run must still be in. Raises `NotRunnableAgain`.
    """

    def claim(store: HistoryStore, process: int) -> Reopened:
        gone = _is_gone_or_forced if force else is_gone
        return store.reopen_run(again.row.key, process, this_user(), gone, as_of_us)

    with claimed(again, claim):
        yield


@contextmanager
def claimed(again: Again, claim: Callable[[HistoryStore, int], Reopened]) -> Iterator[None]:
    """Let the first flow that is called in the block go on with a run, with the tags that it had, once `claim` has got it.

    Hooks of earlier states, of this run and those in it, that a lost process could not call are called first. `claim` is called with a
    history and the number of this process in it, and raises if another process has the run.
    """
    recorder = history.current()
    # With a connection of its own: that of the recorder may be in the middle of a transaction.
    own = history.open_store()
    try:
        got = claim(own, recorder.process)
    finally:
        own.close()
    with going_on(again, got):
        yield


@contextmanager
def going_on(again: Again, claimed: Reopened) -> Iterator[None]:
    """Let the first flow that is called in the block go on with a run that this process has claimed."""
    stored = history.current().stored()
    for hooks in call_owed(stored, again.row.key):
        if hooks.obstacle is not None:
            logs.engine_line(None, logs.WARNING, f"Hooks of {hooks.row.name} are still owed: {hooks.obstacle}")
    run = flow_run_of(claimed.run, None, claimed.attempts)
    before, now = run.flow_version, again.flow.version
    if before is not None and before != now:
        logs.engine_line(
            run,
            logs.WARNING,
            f"Flow {run.flow_name!r} has changed since {run.name!r} began (version {before}, now {now}); results that are taken over were "
            "made by the earlier one.",
        )
    with tags(*claimed.run.tags), reopening(run, Ledger(again.row.key, stored)):
        yield


def _is_gone_or_forced(process: ProcessIdentity) -> bool | None:
    gone = is_gone(process)
    return True if gone is None else gone
