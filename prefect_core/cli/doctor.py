"""`prefect-core doctor`: whether prefect_core can work on this machine, and what would help."""

from __future__ import annotations

import click

from prefect_core.cli import output
from prefect_core.cli.commands import FAILED, Command
from prefect_core.cli.health import FAIL, OK, WARN, examine

_STYLES = {OK: "green", WARN: "yellow", FAIL: "red"}


@click.command("doctor", cls=Command)
@output.json_option
def doctor(as_json: bool) -> int:
    """Check that prefect_core can work here; the exit code is 1 if it can't."""
    findings = list(examine())
    failed = any(finding.status == FAIL for finding in findings)
    if as_json:
        output.write_json({"ok": not failed, "checks": [finding._asdict() for finding in findings]})
        return FAILED if failed else 0
    width = max(len(finding.name) for finding in findings) + 2
    for finding in findings:
        output.heading(finding.status.ljust(6), end="", style=_STYLES[finding.status])
        click.echo(f"{finding.name.ljust(width)}{finding.detail}")
        if finding.advice:
            click.echo(f"{' ' * (6 + width)}{finding.advice}")
    return FAILED if failed else 0
