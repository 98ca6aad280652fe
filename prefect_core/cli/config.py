"""`prefect-core config`: the settings in force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from prefect_core import settings
from prefect_core.cli import output
from prefect_core.cli.commands import Group


@click.group("config", cls=Group)
def config() -> None:
    """Show the settings and where they come from."""


@config.command("view")
@click.option("--show-sources", is_flag=True, help="Show where each value comes from, and the variable that sets it.")
@output.json_option
def view(show_sources: bool, as_json: bool) -> None:
    """Show the settings in force: from the environment, prefect_core.toml, pyproject.toml, or their defaults."""
    current = settings.current()
    if as_json:
        output.write_json(
            [
                {
                    "name": setting.name,
                    "value": _plain(getattr(current, setting.name)),
                    "source": current.sources[setting.name],
                    "variable": setting.variable,
                    "description": setting.doc,
                }
                for setting in settings.SETTINGS
            ]
        )
        return
    rows = [(setting.name, _shown(getattr(current, setting.name))) for setting in settings.SETTINGS]
    if not show_sources:
        output.table(("SETTING", "VALUE"), rows)
        return
    sources = [(current.sources[setting.name], setting.variable) for setting in settings.SETTINGS]
    output.table(
        ("SETTING", "VALUE", "FROM", "VARIABLE"), [(*row, *source) for row, source in zip(rows, sources, strict=True)]
    )


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _shown(value: Any) -> str:
    plain = _plain(value)
    return plain if isinstance(plain, str) and plain else output.one_line(plain)
