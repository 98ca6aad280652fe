"""`prefect-core task-run explain`: why the result of a call was taken over, or why its body ran."""

from __future__ import annotations

import click

from prefect_core.cli import forms, output
from prefect_core.cli.asked import opened
from prefect_core.cli.commands import Command
from prefect_core.errors import ObjectNotFound, PrefectException
from prefect_core.history.rows import TaskRunRow
from prefect_core.history.store import HistoryStore
from prefect_core.history.stored import VerdictRow
from prefect_core.results import explaining
from prefect_core.results.explaining import Explanation


@click.command("explain", cls=Command)
@click.argument("run")
@output.json_option
def explain(run: str, as_json: bool) -> None:
    """Say why the result of a call was taken over, or why its body ran.

    RUN is an id, the unique start of one, or a name; of a subflow run its own or that of the task run that stands for it.
    """
    with opened() as store:
        row = _find(store, run)
        explanation = explaining.explain(store, row)
    if as_json:
        output.write_json(_form(row, explanation))
        return
    output.heading(f"{row.name} ({row.id})", end="")
    click.echo(f": {explanation.verdict}")
    for sentence in explanation.sentences:
        click.echo(sentence)
    if len(explanation.verdicts) > 1:
        output.heading("\nDecided so far")
        output.table(
            ("AT", "VERDICT", "REASON"),
            [(output.local(one.at), one.verdict, one.reason) for one in explanation.verdicts],
        )


def _find(store: HistoryStore, name: str) -> TaskRunRow:
    try:
        return store.task_run(name)
    except ObjectNotFound:
        try:
            flow_run = store.flow_run(name)
        except ObjectNotFound:
            flow_run = None
        if flow_run is None:
            raise
    if flow_run.parent_task_run is None:
        raise PrefectException(
            f"{flow_run.name} was not called in another flow run, so nothing of it can be taken over as a whole; "
            "explain the task runs in it."
        )
    return store.task_run(flow_run.parent_task_run)


def _form(row: TaskRunRow, explanation: Explanation) -> forms.Form:
    identity, near = explanation.identity, explanation.nearest
    return {
        "id": str(row.id),
        "name": row.name,
        "task_name": row.task_name,
        "verdict": explanation.verdict,
        "reasons": explanation.sentences,
        "verdicts": [_verdict(one) for one in explanation.verdicts],
        "identity": None
        if identity is None
        else {
            "is_known": identity.identity is not None,
            "problem": identity.problem,
            "key": identity.given_key,
            "occurrence": identity.occurrence,
            "arguments": identity.arguments,
        },
        "nearest": None
        if near is None
        else {
            "id": str(near.run.id),
            "name": near.run.name,
            "other_arguments": list(near.arguments),
            "other_key": near.has_other_key,
            "other_occurrence": near.has_other_number,
        },
        "result": None if explanation.kept is None else forms.result(explanation.kept.result),
    }


def _verdict(row: VerdictRow) -> forms.Form:
    return {"at": output.iso(row.at), "verdict": row.verdict, "reason": row.reason}
