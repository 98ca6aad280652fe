"""Rank the airlines of New York by their delays in a month of 2013, and publish the ranking once somebody has looked at it.

    prefect-core run examples/approval.py:ranking -p month=2
    prefect-core flow-run ls
    prefect-core flow-run resume NAME -i approved=true -i least_flights=500

The first command ends when the figures are there: nothing runs while the ranking waits, for up to a week. Whoever resumes it says whether
it may go out, and with which airlines. What was computed is taken over; a wrong answer is refused, and asked for again.

Needs NumPy: `pip install "prefect_core[demo]"`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import flights_data as data
from prefect_core import flow, get_run_logger, suspend_flow_run, task
from prefect_core.input import RunInput

A_WEEK_SECONDS = 7 * 24 * 3600

Summary = dict[str, tuple[int, float]]
"""By airline: how many flights left, and their mean delay in minutes."""


class Approval(RunInput):
    """What is asked of whoever looks at the ranking."""

    approved: bool
    least_flights: int = 100
    remarks: str = ""


@task(retries=2, retry_delay_seconds=2)
def fetch_archive() -> Path:
    return data.cached_archive()


@task(persist_result=True)
def summarize(archive: Path, month: int) -> Summary:
    """Return flights and mean delay of each airline in a month."""
    carriers = data.read_carriers(archive)
    header, *lines = data.read_flight_lines(archive)
    flights = data.clean_flights(
        "\n".join([header, *(line for line in lines if line.split(",", 2)[1] == str(month))]), carriers
    )
    summary: Summary = {}
    for index, name in enumerate(carriers.values()):
        delay = flights["delay"][flights["carrier"] == index]
        flown = delay[~np.isnan(delay)]
        if len(flown):
            summary[name] = (len(flown), round(float(flown.mean()), 2))
    return summary


@task
def publish(out: Path, month: int, summary: Summary, approval: Approval) -> Path:
    """Write the ranking, the most punctual airline first."""
    ranked = sorted((mean, name, count) for name, (count, mean) in summary.items() if count >= approval.least_flights)
    lines = [
        f"{place:3}. {name:30}{mean:7.2f} min, {count:,} flights" for place, (mean, name, count) in enumerate(ranked, 1)
    ]
    if approval.remarks:
        lines += ["", approval.remarks]
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"ranking-{month:02}.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@flow
def ranking(month: int = 2, out: str = "ranking") -> str:
    """Rank the airlines; returns the file, or why there is none."""
    summary = summarize(fetch_archive(), month)
    flown = sum(count for count, _ in summary.values())
    get_run_logger().info("%d airlines with %d flights in month %d wait for approval", len(summary), flown, month)
    form = Approval.with_initial_data(description=f"{flown:,} flights of {len(summary)} airlines. Publish?")
    approval = suspend_flow_run(wait_for_input=form, timeout=A_WEEK_SECONDS)
    if not approval.approved:
        return f"Not published. {approval.remarks}".strip()
    return str(publish(Path(out), month, summary, approval))


if __name__ == "__main__":
    ranking(return_state=True)
