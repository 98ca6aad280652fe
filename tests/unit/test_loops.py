"""Which event loop runs on this thread."""

from __future__ import annotations

import sys
from types import ModuleType

import anyio
import pytest

from prefect_core import loops


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_loop_of_either_library_is_found(backend: str) -> None:
    async def look() -> bool:
        return loops.running_loop() is not None

    assert anyio.run(look, backend=backend)
    assert loops.running_loop() is None


def test_libraries_that_another_thread_is_about_to_import_run_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    trio = ModuleType("trio")
    trio.lowlevel = ModuleType("trio.lowlevel")
    for in_part in (ModuleType("asyncio"), trio):
        monkeypatch.setitem(sys.modules, in_part.__name__, in_part)
    assert loops.running_loop() is None
    assert not loops.is_being_cancelled()
