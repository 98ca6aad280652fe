"""`prefect-core version`."""

from __future__ import annotations

import platform

import click

from prefect_core import __version__
from prefect_core.cli import output
from prefect_core.cli.commands import Command


@click.command("version", cls=Command)
@output.json_option
def version(as_json: bool) -> None:
    """Show the version."""
    if as_json:
        output.write_json({"prefect_core": __version__, "python": platform.python_version()})
    else:
        click.echo(f"prefect_core {__version__}")
