"""`--progress`: what becomes of the task runs while the flow runs, on standard error.

A terminal gets a bar for each task, drawn anew ten times a second; anything else a line for each task that moved, every two seconds.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from prefect_core.cli.output import STATE_STYLES, can_draw
from prefect_core.cli.tallies import Tallies, Tally
from prefect_core.cli.watching import watched

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

LINES_EVERY_SECONDS = 2.0
MOST_BARS = 12


@contextmanager
def shown_progress() -> Iterator[None]:
    """Show the progress of the flow that runs in the block."""
    tallies = Tallies()
    show = _bars if can_draw(sys.stderr) else _lines
    with watched(tallies.listen), show(tallies):
        yield


@contextmanager
def _lines(tallies: Tallies) -> Iterator[None]:
    over = threading.Event()
    printed: dict[str, str] = {}

    def print_changes() -> None:
        for tally in tallies.fold():
            line = f"{tally.name}: {tally.ended}/{tally.total} ended ({tally.in_words()})"
            if printed.get(tally.name) != line:
                printed[tally.name] = line
                click.echo(line, err=True)

    def print_now_and_then() -> None:
        while not over.wait(LINES_EVERY_SECONDS):
            print_changes()

    painter = threading.Thread(target=print_now_and_then, name="prefect-core-progress", daemon=True)
    painter.start()
    try:
        yield
    finally:
        over.set()
        painter.join()
        print_changes()


@contextmanager
def _bars(tallies: Tallies) -> Iterator[None]:
    from rich.console import Console  # only terminals need it
    from rich.live import Live

    lock = threading.Lock()

    def picture() -> Group:
        with lock:
            return _picture(tallies)

    console = Console(stderr=True)
    # What bodies print goes above the bars, if it goes to the same terminal.
    with Live(
        console=console,
        get_renderable=picture,
        refresh_per_second=10,
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=True,
    ):
        yield


def _picture(tallies: Tallies) -> Group:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    every = tallies.fold()
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=40)
    grid.add_column(width=30)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(no_wrap=True)
    shown = _most_telling(every)
    for tally in shown:
        colour = "red" if tally.has_failures else "green"
        bar = ProgressBar(tally.total, tally.ended, width=30, complete_style=colour, finished_style=colour)
        grid.add_row(tally.name, bar, f"{tally.ended}/{tally.total}", _counts(tally))
    title = Text(f"Flow run {tallies.root.name!r}: {tallies.root_state}" if tallies.root is not None else "Starting")
    hidden = len(every) - len(shown)
    return Group(title, grid, *([Text(f"and {hidden} more tasks", style="bright_black")] if hidden else []))


def _most_telling(every: list[Tally]) -> list[Tally]:
    """Return as many tallies as there is room for: those with open runs first, then the latest."""
    if len(every) <= MOST_BARS:
        return every
    chosen = sorted(range(len(every)), key=lambda at: (every[at].is_over, -at))[:MOST_BARS]
    return [every[at] for at in sorted(chosen)]


def _counts(tally: Tally) -> Text:
    from rich.text import Text

    line = Text()
    for (kind, name), count in sorted(tally.by_state.items()):
        if count:
            line.append(f"{count} {name} ", style=STATE_STYLES.get(kind, ""))
    return line
