"""The samples of docs/identity.md run as they stand there, and do what is said of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "identity.md"
REPORT, KEYS = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def prefect_core(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; from prefect_core.cli.main import main; sys.argv[1:] = {arguments!r}; main()"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True)


def test_nothing_is_downloaded_a_second_time(tmp_path: Path) -> None:
    (tmp_path / "report.py").write_text(REPORT, encoding="utf-8")
    first = subprocess.run([sys.executable, "report.py"], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert first.returncode == 1
    assert first.stdout.count("downloading") == 3
    (tmp_path / "mended").touch()
    [run] = json.loads(prefect_core(tmp_path, "flow-run", "ls", "--json").stdout)
    again = prefect_core(tmp_path, "flow-run", "retry", run["id"], "--json")
    assert json.loads(again.stdout)["result"] == sum(len(f"weather of {city}") for city in ("Lisbon", "Oslo", "Kyoto"))
    assert "downloading" not in again.stdout + again.stderr


def test_keys_stand_in_place_of_arguments() -> None:
    names: dict[str, Any] = {"__name__": "sample"}
    exec("from prefect_core import flow, task, unmapped", names)
    exec("@task(persist_result=True)\ndef count_rows(connection: object, table: str) -> int: return len(table)", names)
    exec(KEYS, names)
    assert names["load"](object()) == [6, 9, 6, 9]
