"""The report of the flights example: aligned tables as text, the numbers as JSON, and a picture.

Works on what `flights_data.tally` and the bootstrap return; knows nothing of flows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from flights_data import Columns

TITLES = {
    "month": "By month",
    "hour": "By scheduled hour of departure",
    "carrier": "By carrier, with 95 % bootstrap intervals",
    "wind_speed": "By wind at the airport",
    "visib": "By visibility",
    "precip": "By rain and snow",
}

Interval = tuple[float, float, float]
"""An estimate, and the lower and the upper end of its 95 % interval."""

Estimates = dict[str, dict[str, Interval]]
"""By carrier: "mean_delay" in minutes and "late_share" between 0 and 1. A carrier that never flew has none."""


def text_report(totals: Columns, labels: dict[str, list[str]], estimates: Estimates) -> str:
    """Return one aligned table per grouping, without the groups that have no flights."""
    lines = []
    for name, title in TITLES.items():
        heading = f"{title:42}{'flights':>9}{'cancelled':>11}{'mean delay':>13}"
        lines += ["", heading + (f"{'interval':>16}{'late':>10}{'interval':>20}" if name == "carrier" else "")]
        for label, (flights, cancelled, minutes) in zip(labels[name], totals[name].tolist(), strict=True):
            if flights:
                delay = f"{minutes / (flights - cancelled):.1f} min" if flights > cancelled else "-"
                line = f"  {label:40}{flights:9,.0f}{cancelled / flights:11.1%}{delay:>13}"
                lines.append(line + (interval_text(estimates, label) if name == "carrier" else ""))
    return "\n".join(lines[1:])


def interval_text(estimates: Estimates, carrier: str) -> str:
    if carrier not in estimates:
        return ""
    _, low, high = estimates[carrier]["mean_delay"]
    share, share_low, share_high = estimates[carrier]["late_share"]
    return f"{low:8.1f} to {high:4.1f}{share:10.1%}{share_low:10.1%} to {share_high:5.1%}"


def write_numbers(path: Path, totals: Columns, labels: dict[str, list[str]], estimates: Estimates) -> None:
    """Write the numbers for programs: per group its flights, its cancelled flights and its minutes of delay."""
    tables = {name: dict(zip(labels[name], totals[name].tolist(), strict=True)) for name in TITLES}
    path.write_text(json.dumps({"totals": tables, "carriers": estimates}, indent=1), encoding="utf-8")


def draw(path: Path, totals: Columns, labels: dict[str, list[str]], estimates: Estimates) -> None:
    """Draw the mean delays of every grouping into a PNG file. Works on any thread and without a screen."""
    # Loaded here, because every worker process imports this file and only one task draws. A Figure of its own and not
    # pyplot, which keeps the current figure in a global and belongs to the main thread.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 10), layout="constrained")
    figure.suptitle("Flights from New York in 2013: mean delay of departure in minutes")
    for axes, (name, title) in zip(figure.subplots(2, 3).flat, TITLES.items(), strict=True):
        means = dict(mean_delays(labels[name], totals[name].tolist()))
        axes.barh(range(len(means)), list(means.values()), tick_label=list(means), color="#4477aa")
        if name == "carrier":
            intervals = [estimates[carrier]["mean_delay"][1:] for carrier in means]
            axes.hlines(range(len(means)), *zip(*intervals, strict=True), color="#222222", linewidth=3)
        axes.invert_yaxis()
        axes.set_title(title)
    figure.savefig(path, dpi=100)


def mean_delays(labels: list[str], table: list[list[float]]) -> Iterator[tuple[str, float]]:
    """Yield the groups from which at least one flight left, with their mean delay in minutes."""
    for label, (flights, cancelled, minutes) in zip(labels, table, strict=True):
        if flights > cancelled:
            yield label, minutes / (flights - cancelled)
