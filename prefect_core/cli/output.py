"""What commands print: tables and records for people, JSON for programs, messages on standard error.

A terminal gets a table with colours, drawn by rich, if that is installed and NO_COLOR is not set; everything else gets plain columns,
never cut.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.util import find_spec
from typing import Any, Self, TextIO, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

STATE_STYLES = {
    "SCHEDULED": "yellow",
    "PENDING": "yellow",
    "RUNNING": "blue",
    "COMPLETED": "green",
    "FAILED": "red",
    "CRASHED": "magenta",
    "CANCELLING": "bright_black",
    "CANCELLED": "bright_black",
    "PAUSED": "cyan",
}


class Cell(str):
    """A text of a table with a style for terminals."""

    __slots__ = ("style",)
    style: str

    def __new__(cls, text: str, style: str) -> Self:
        cell = super().__new__(cls, text)
        cell.style = style
        return cell


def json_option(function: F) -> F:
    """Give a command the option `--json`, as parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def say(message: str) -> None:
    """Print a message for people, on standard error."""
    click.echo(message, err=True)


def write_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def state_cell(type_: str, name: str) -> Cell:
    """Return a state's name, coloured by its kind."""
    return Cell(name, STATE_STYLES.get(type_, ""))


def one_line(value: Any) -> str:
    """Return a value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)


def local(moment: datetime | None) -> str:
    """Return a moment in the time zone of this machine, to the second; "-" for none."""
    return "-" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def iso(moment: datetime | None) -> str | None:
    """Return a moment as JSON has it, with microseconds and zone."""
    return None if moment is None else moment.isoformat(timespec="microseconds")


def span(seconds: float | None) -> str:
    """Return a duration in words of few letters: "0.42s", "3m 05s", "2h 10m", "4d 03h"; "-" for none."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.2f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours < 24 else f"{hours // 24}d {hours % 24:02}h"


def size(count: int) -> str:
    """Return a number of bytes in the largest unit that fits."""
    if count < 1024:
        return f"{count} B"
    amount, unit = count / 1024, "KiB"
    for further in ("MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, further
    return f"{amount:.1f} {unit}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their columns. The last column is left out on a terminal that is too narrow for all."""
    if not can_draw(sys.stdout):
        _plain_table(columns, rows)
        return
    from rich.console import Console  # only terminals need it
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    width = sum(max(len(row[at]) for row in (columns, *rows)) + 2 for at in range(len(columns)))
    shown = len(columns) if width <= console.width else len(columns) - 1
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns[:shown]:
        drawn.add_column(column, no_wrap=True, overflow="ellipsis")
    for row in rows:
        drawn.add_row(*(Text(text, style=getattr(text, "style", "")) for text in row[:shown]))
    console.print(drawn)


def record(fields: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one pair a line."""
    width = max(len(name) for name, _ in fields) + 2
    for name, value in fields:
        heading(f"{name}:".ljust(width), end="")
        _write(value)


def heading(text: str, *, end: str = "\n", style: str = "bold") -> None:
    """Print a text that stands out on a terminal."""
    _write(Cell(text, style), end)


def _write(text: str, end: str = "\n") -> None:
    style = getattr(text, "style", "")
    if not style or not can_draw(sys.stdout):
        click.echo(text + end, nl=False)
        return
    from rich.console import Console  # only terminals need it
    from rich.text import Text

    Console(highlight=False, soft_wrap=True).print(Text(text, style=style), end=end)


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[at]) for row in (columns, *rows)) for at in range(len(columns))]
    for row in (columns, *rows):
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def can_draw(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal, and there is something to draw on it with."""
    return stream.isatty() and find_spec("rich") is not None
