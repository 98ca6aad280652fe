"""The samples of docs/limits.md run as they stand there, and the tests that it names exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from prefect_core.cli.main import program

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "limits.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")


def test_the_samples_run(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    shown = re.findall(r"^\$ prefect-core (limit create .*)\n(.*)\n", TEXT, re.MULTILINE)
    for line, answer in shown:
        with pytest.raises(SystemExit) as ended:
            program.main(shlex.split(line), prog_name="prefect-core")
        assert (ended.value.code, capsys.readouterr().err) == (0, f"{answer}\n")
    names: dict[str, object] = {"__name__": "sample"}
    for sample in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(sample, str(DOCUMENT), "exec"), names)
    assert "no concurrency limit" not in caplog.text


@pytest.mark.parametrize("name", re.findall(r"`(tests/[\w/]+\.py::\w+)`", TEXT))
def test_the_tests_that_it_names_exist(name: str) -> None:
    file, test = name.split("::")
    assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")
