"""Which runner keeps which part of the contract: the table of README.md, made from what the contract suite has found.

    python -m tests.contract.matrix [--check] [junit.xml ...]

Runs the suite on every runner, or reads the results of runs that wrote junit files, and writes the table between its marks in README.md;
with `--check` it says what differs, and ends with 1. A cell shows how many tests of a part a runner passed, and how many do not apply.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from prefect_core.testing.runner_contract import RunnerContract

ROOT = Path(__file__).parents[2]
SUITES = (
    "tests/contract/test_runners.py",
    "tests/clusters/test_dask_contract.py",
    "tests/clusters/test_ray_contract.py",
)
COLUMNS = {
    "sequential": ("contract.test_runners", "TestSequential"),
    "concurrent": ("contract.test_runners", "TestConcurrent"),
    "processes": ("contract.test_runners", "TestProcesses"),
    "executor": ("contract.test_runners", "TestExecutorOfProcesses"),
    "dask": ("clusters.test_dask_contract", "TestProcesses"),
    "ray": ("clusters.test_ray_contract", "TestOwnRay"),
}
"""Runners, and the class of tests that stands for each."""
BEGIN, END = "<!-- what the contract suite has found: python -m tests.contract.matrix -->", "<!-- end -->"


def parts() -> dict[str, str]:
    """Return what the tests of the contract are about, by their names."""
    about: dict[str, str] = {}
    for part in RunnerContract.__mro__:
        tests = [name for name in vars(part) if name.startswith("test_")]
        # The first line of its docstring, without the full stop.
        about |= dict.fromkeys(tests, (part.__doc__ or part.__name__).strip().splitlines()[0].rstrip("."))
    return about


def outcomes(files: Iterable[Path]) -> dict[tuple[str, str], Counter[str]]:
    """Count outcomes by runner and part."""
    about, found = parts(), dict[tuple[str, str], Counter[str]]()
    runners = {classname: runner for runner, classname in ((r, ".".join(c)) for r, c in COLUMNS.items())}
    for file in files:
        for case in ET.parse(file).iter("testcase"):
            classname, name = case.get("classname", ""), re.sub(r"\[.*", "", case.get("name", ""))
            runner = next((runners[end] for end in runners if classname.endswith(end)), None)
            if runner is not None and name in about:
                kinds = {child.tag for child in case}
                outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
                found.setdefault((runner, about[name]), Counter())[outcome] += 1
    return found


def table(found: dict[tuple[str, str], Counter[str]]) -> str:
    """Return the table as Markdown."""
    rows = [f"| | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    rows += [
        f"| {part} | {' | '.join(_cell(found.get((runner, part), Counter())) for runner in COLUMNS)} |"
        for part in dict.fromkeys(parts().values())
    ]
    return "\n".join(rows)


def _cell(counts: Counter[str]) -> str:
    if not counts:
        return "not run"
    total = counts["passed"] + counts["failed"]
    kept = f"{counts['passed']}" if not counts["failed"] else f"{counts['passed']} of {total}"
    return f"{kept}, {counts['skipped']} n/a" if counts["skipped"] else kept


def run() -> Path:
    """Run the suites and return the file with their results."""
    results = Path(tempfile.mkdtemp()) / "results.xml"
    suites = [suite for suite in SUITES if (ROOT / suite).exists()]
    subprocess.run([sys.executable, "-m", "pytest", "-q", f"--junitxml={results}", *suites], cwd=ROOT, check=False)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the table of runners and what they keep into README.md.")
    parser.add_argument("--check", action="store_true", help="only say whether it is as it should be")
    parser.add_argument("results", nargs="*", type=Path, help="junit files; without any, the suites are run")
    given = parser.parse_args()
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    new = f"{before}{BEGIN}\n\n{table(outcomes(given.results or [run()]))}\n\n{END}{rest.partition(END)[2]}"
    if given.check:
        print("README.md is as the contract suite has found it." if new == text else "README.md differs:\n" + new)
        return int(new != text)
    readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
