"""What `--progress` counts and draws."""

from __future__ import annotations

import io
import os
import warnings

import pytest
from rich.console import Console

from prefect_core import flow, history, task
from prefect_core.cli.progress import MOST_BARS, _most_telling, _picture
from prefect_core.cli.tallies import Tallies, Tally
from prefect_core.cli.watching import _Watched, first_flow_run, watched


@task
def fine(x):
    return x


@task(retries=1)
def fails(x):
    raise ValueError("no")


@flow
def inside():
    fine.map([1, 2]).wait()


@flow
def around():
    first = fails.submit(1)
    fine.submit(first).wait()
    fine.submit(3).wait()
    inside()


@pytest.fixture
def tallies():
    tallies = Tallies()
    with watched(tallies.listen):
        around(return_state=True)
    return tallies


def test_task_runs_are_counted_by_task_and_state(tallies):
    found = {tally.name: (tally.ended, tally.total, tally.in_words()) for tally in tallies.fold()}
    assert found == {
        "fails": (1, 1, "1 Failed"),
        "fine": (2, 2, "1 Completed, 1 NotReady"),
        "inside": (1, 1, "1 Completed"),
        "inside > fine": (2, 2, "2 Completed"),
    }
    assert tallies.root_state == "Failed"


def test_folding_twice_counts_once(tallies):
    tallies.fold()
    assert [tally.total for tally in tallies.fold()] == [1, 2, 1, 2]


def test_the_picture_names_the_run_and_each_task(tallies):
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    console.print(_picture(tallies))
    lines = console.export_text().splitlines()
    assert lines[0].startswith("Flow run '")
    assert lines[0].rstrip().endswith("': Failed")
    assert [line.split()[0] for line in lines[1:]] == ["fails", "fine", "inside", "inside"]
    assert "1/1 1 Failed" in " ".join(lines[1].split())


def test_of_too_many_tasks_the_ones_at_work_are_shown_and_then_the_latest():
    every = [Tally(f"task {number}") for number in range(MOST_BARS + 5)]
    every[0].total = 1
    shown = _most_telling(every)
    assert len(shown) == MOST_BARS
    assert shown[0] is every[0]
    assert shown[1:] == every[-MOST_BARS + 1 :]


def test_the_first_flow_run_is_told_and_then_nobody_listens(home):
    recorder = history.current()
    with first_flow_run() as found:
        around(return_state=True)
        assert history.current() is recorder
    assert [run.flow_name for run in found] == ["around"]


def test_a_child_made_by_fork_does_not_write_through_the_watched_recorder(home):
    with watched(lambda run, state: None):
        assert isinstance(history.current(), _Watched)
        with warnings.catch_warnings():
            # Newer Pythons warn of a fork beside threads; this is what is tested.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            os._exit(int(isinstance(history.install(None), _Watched)))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert isinstance(history.current(), _Watched)
