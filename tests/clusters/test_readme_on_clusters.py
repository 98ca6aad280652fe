"""What the README shows of clusters runs as it stands there, behind the sample that its tasks are from."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clusters.existing import not_of_ray

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Ray has no wheel for the newest Python")
def test_the_same_tasks_run_on_dask_and_on_ray(tmp_path: Path) -> None:
    script = tmp_path / "clusters.py"
    script.write_text("".join(SAMPLES[1:]), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script],
        env={**not_of_ray(), "PREFECT_CORE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = sum(x * x for x in range(1000))
    assert done.stdout.strip() == f"{expected} {expected}"
