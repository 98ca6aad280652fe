"""The table of README.md, of what the runner contract has found for each runner, is that of the contract as it is now."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

from tests.contract.matrix import BEGIN, COLUMNS, END, ROOT, SUITES, parts


def test_the_table_has_every_part_of_the_contract_with_all_of_its_tests() -> None:
    suites = [suite for suite in SUITES if (ROOT / suite).exists()]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *suites]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    about, wanted = parts(), dict[tuple[str, str], Counter[str]]()
    of_class = {f"{module.replace('.', '/')}.py::{name}": runner for runner, (module, name) in COLUMNS.items()}
    for node in listed.splitlines():
        place, _, test = node.rpartition("::")
        name = re.sub(r"\[.*", "", test)
        runner = next((runner for end, runner in of_class.items() if place.endswith(end)), None)
        if runner is not None and name in about:
            wanted.setdefault((runner, about[name]), Counter())["tests"] += 1
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()]
    header, _, *body = rows
    shown = {(runner, row[0]): row[1:][at] for row in body for at, runner in enumerate(header[1:])}
    assert {row[0] for row in body} == set(about.values())
    for place, counts in wanted.items():
        # What does not apply is among them; a failed one would have to be explained.
        numbers = re.fullmatch(r"(\d+)(?:, (\d+) n/a)?", shown[place])
        assert numbers is not None, place
        assert sum(map(int, filter(None, numbers.groups()))) == counts["tests"], place
