"""What an import loads: nothing heavy before its first use."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "anyio",
    "asyncio",
    "click",
    "cloudpickle",
    "dask",
    "distributed",
    "fsspec",
    "numpy",
    "pydantic",
    "pydantic_core",
    "ray",
    "rich",
    "sqlite3",
    "trio",
}


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter holds after `statement` and did not hold before it."""
    program = (
        f"import json, sys; before = set(sys.modules); {statement}; print(json.dumps([*set(sys.modules) - before]))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    return set(json.loads(run.stdout))


@pytest.mark.parametrize(
    "statement",
    [
        "import prefect_core",
        "from prefect_core import flow, task, unmapped, State",
        "from prefect_core import task; task(lambda x: x)",
        "import prefect_core.cli.main",
        "from prefect_core.concurrency import concurrency, rate_limit",
        "import prefect_core.serializers, prefect_core.storage; prefect_core.storage.resolve_storage('/tmp/x')",
    ],
)
def test_nothing_heavy_is_loaded_before_its_first_use(statement: str) -> None:
    heavy = HEAVY - {"click"} if ".cli" in statement else HEAVY
    assert not loaded_by(statement) & heavy


def test_the_import_loads_few_modules_of_our_own() -> None:
    ours = {
        name for name in loaded_by("import prefect_core") if name.split(".")[0] in {"prefect_core", "prefect_runners"}
    }
    assert len(ours) <= 40, sorted(ours)
