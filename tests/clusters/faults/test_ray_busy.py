"""A process whose interpreter is busy is not ended by Ray for what chunks bring, of which Ray tells it late."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clusters.existing import not_of_ray

PROGRAM = Path(__file__).with_name("ray_busy.py")
RUNS = 40
"""One of the first 14 ended the process while what was called back for had been let go of before."""


@pytest.mark.slow
@pytest.mark.faults
def test_campaign_of_large_values_for_a_busy_process(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), str(RUNS)],
        capture_output=True,
        text=True,
        env={**not_of_ray(), "PYTHONPATH": os.pathsep.join(sys.path), "PREFECT_CORE_HOME": str(tmp_path)},
        timeout=600,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "all there\n"), ended.stderr[-3000:]
    print(f"{RUNS} runs of a busy process, each with 24 large values")
