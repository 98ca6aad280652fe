"""`prefect-core recover`: does what lost processes left undone."""

from __future__ import annotations

import click

from prefect_core import recovering
from prefect_core.cli import forms, output
from prefect_core.cli.commands import COMPLETED, FAILED, Command
from prefect_core.cli.execution import stdout_as_stderr
from prefect_core.history.rows import FlowRunRow
from prefect_core.owed_hooks import OwedHooks
from prefect_core.recovering import RAN, Recovered, Report


@click.command("recover", cls=Command)
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Run so many runs at once."
)
@click.option("--dry-run", is_flag=True, help="Only list what would be done; no file of yours is loaded.")
@output.json_option
def recover(workers: int, dry_run: bool, as_json: bool) -> int:
    """Call the hooks that lost processes could not call, and run again the crashed runs of flows with on_crash="resume".

    Each run is run again in a process of its own, with what was stored of it taken over, one after the other unless --workers says
    otherwise. Runs that keep killing their process are left alone. The exit code is 1 if something could not be done, or a run did not
    complete.
    """
    with stdout_as_stderr():
        # Hooks may print.
        report = recovering.outlook() if dry_run else recovering.recover(workers)
    if as_json:
        output.write_json(_form(report, dry_run=dry_run))
    else:
        _tell(report, dry_run=dry_run)
    return COMPLETED if report.is_well else FAILED


def _form(report: Report, *, dry_run: bool) -> forms.Form:
    return {
        "hooks": [
            {
                **_named(one.row),
                "state": {"type": one.state.type, "name": one.state.name},
                "outcome": _of_hooks(one, dry_run=dry_run),
                "reason": one.obstacle,
            }
            for one in report.hooks
        ],
        "runs": [
            {
                **_named(one.row),
                "state": {"type": one.row.state_type, "name": one.row.state_name},
                "outcome": one.what,
                "reason": one.reason,
            }
            for one in report.runs
        ],
    }


def _named(row: FlowRunRow) -> forms.Form:
    return {"id": str(row.id), "name": row.name, "flow_name": row.flow_name}


def _of_hooks(hooks: OwedHooks, *, dry_run: bool) -> str:
    return "impossible" if hooks.obstacle is not None else "owed" if dry_run else "called"


def _tell(report: Report, *, dry_run: bool) -> None:
    hooks = [
        (
            one.row.name,
            one.row.flow_name,
            f"hooks of {one.state.name}",
            _of_hooks(one, dry_run=dry_run),
            str(one.row.id),
        )
        for one in report.hooks
    ]
    runs = [(one.row.name, one.row.flow_name, "run", _of_run(one), str(one.row.id)) for one in report.runs]
    if not hooks and not runs:
        output.say("There is nothing to recover.")
        return
    output.table(("NAME", "FLOW", "WHAT", "OUTCOME", "ID"), [*hooks, *runs])
    for reason in [*(one.obstacle for one in report.hooks), *(one.reason for one in report.runs)]:
        if reason is not None:
            output.say(reason)


def _of_run(run: Recovered) -> str:
    return output.state_cell(run.row.state_type, run.row.state_name) if run.what == RAN else run.what
