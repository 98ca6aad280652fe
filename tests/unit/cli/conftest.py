"""A way to call the command in this process, and a history with something in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from prefect_core import flow, get_run_logger, history, tags, task
from prefect_core.cli.main import program


class Called(NamedTuple):
    """What a call of the command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[list[str]]:
        """The words of each line of the output."""
        return [line.split() for line in self.out.splitlines()]


Call = Callable[..., Called]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Call `prefect-core` with arguments, in this process."""

    def called(*arguments: str) -> Called:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            program.main(list(arguments), prog_name="prefect-core")
        captured = capsys.readouterr()
        return Called(ended.value.code, captured.out, captured.err)

    return called


@task
def double(x: int) -> int:
    get_run_logger().info("doubling %d", x)
    return 2 * x


@task(retries=1)
def unlucky(x: int) -> int:
    if x == 2:
        raise ValueError("two is not allowed")
    return x


@flow(flow_run_name="inner-of-{n}")
def inner(n: int) -> int:
    return sum(double.map(range(n)).result())


@flow(flow_run_name="shop-{n}")
def shop(n: int = 3) -> int:
    get_run_logger().warning("few in stock")
    first = double.submit(n)
    return double.submit(first).result() + inner(2)


@flow(flow_run_name="mishap")
def mishap() -> None:
    unlucky.map([1, 2])


@pytest.fixture
def ran() -> None:
    """Leave three flow runs in the history: shop-3 with its subflow run inner-of-2, and mishap, which failed."""
    shop()
    with tags("nightly", "eu"):
        mishap(return_state=True)
    history.current().flush()
