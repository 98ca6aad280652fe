"""A Ray that a runner started listens on loopback alone, and ends with the last flow run that uses it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from prefect_core import flow
from prefect_core.states import State
from prefect_core.task_runners import RayTaskRunner
from tests.clusters.ray_bodies import our_threads, process

pytestmark = pytest.mark.slow


def listening() -> set[str]:
    """Return the addresses on which this process and its children wait for connections."""
    found = set()
    for one in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        found |= {where.laddr.ip for where in one.net_connections("inet") if where.status == psutil.CONN_LISTEN}
    return found


def is_loopback(ip: str) -> bool:
    return ip.removeprefix("::ffff:").startswith("127.") or ip == "::1"


@pytest.mark.parametrize("end", ["return", "raise"])
def test_a_ray_that_a_runner_started_listens_on_loopback_alone_and_ends_with_the_flow_run(
    ray_options: dict[str, Any], end: str
) -> None:
    addresses: set[str] = set()
    listening_before = listening()
    before = signal.getsignal(signal.SIGTERM)

    @flow(task_runner=RayTaskRunner(init_kwargs=ray_options))
    def run() -> int:
        pid = process.submit().result()
        assert ray.is_initialized()
        addresses.update(listening() - listening_before)
        if end == "raise":
            raise KeyError(pid)
        return pid

    state = run(return_state=True)
    assert state.is_completed() == (end == "return")
    assert addresses
    assert [ip for ip in addresses if not is_loopback(ip)] == []
    assert not ray.is_initialized()
    assert our_threads() == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_subflows_share_the_ray_of_their_parent_and_leave_it_up(ray_options: dict[str, Any]) -> None:
    runner = RayTaskRunner(init_kwargs=ray_options)

    @flow(task_runner=runner)
    def inner() -> int:
        return process.submit().result()

    @flow(task_runner=runner)
    def outer() -> int:
        inner()
        inner.submit().wait()
        return process.submit().result()

    assert outer() > 0
    assert not ray.is_initialized()


@pytest.mark.usefixtures("own")
class TestOwn:
    def test_a_module_that_is_not_on_the_path_travels_by_value(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "only_now.py").write_text(
            "from prefect_core import task\nFACTOR = 3\n@task\ndef triple(number):\n    return FACTOR * number\n"
        )
        with monkeypatch.context() as here_only:
            here_only.syspath_prepend(tmp_path)
            import only_now

        @flow(task_runner="ray")
        def run() -> int:
            return only_now.triple.submit(1).result()

        assert run() == 3
        del sys.modules["only_now"]

    def test_a_task_that_asks_for_more_than_there_is_is_an_error(self) -> None:
        @flow(task_runner=RayTaskRunner())
        def run() -> State | None:
            return process.with_options(resources={"cpu": 3}).submit().wait(20)

        assert "at most they have 2 of 'CPU'" in str(run(return_state=True).data.data)
