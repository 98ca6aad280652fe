"""The samples of docs/recovery.md: the flow is really killed and recovered, and the report is as it says."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from tests.integration.retrying import Flows

DOCUMENT = Path(__file__).parents[2] / "docs" / "recovery.md"
FLOW, REPORT = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def test_the_samples_do_what_they_say(tmp_path: Path, home: Path) -> None:
    flows = Flows(tmp_path, home)
    flows.write(FLOW)
    killed = flows.call("run", "work.py:backfill", "-p", "days=4", PREFECT_CORE_CRASH_AT="keeping.after_state:2")
    assert killed.returncode == -signal.SIGKILL
    called = flows.call("recover")
    assert called.returncode == 0
    assert "is Crashed: The process that ran this ended without a word." in called.stderr
    assert flows.state(flows.newest("backfill")) == "Completed"
    exec(compile(REPORT, str(DOCUMENT), "exec"), {"__name__": "sample"})
