"""What becomes of runs whose process is killed, stopped or taken for dead: real processes, looked at from others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from prefect_core.control.reaping import reap
from prefect_core.history import process
from prefect_core.history.process import monotonic_us
from prefect_core.history.requests import LOST
from tests.integration.control.owners import HIDDEN, SHORT, SHORTER, Owners, can_hide, stop, until_expired
from tests.integration.retrying import COMMAND

pytestmark = pytest.mark.slow

needs_namespaces = pytest.mark.skipif(not can_hide(), reason="this user may not make pid namespaces")


@pytest.fixture
def owners(tmp_path: Path, home: Path) -> Owners:
    return Owners(tmp_path, home)


def asked(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([COMMAND, *arguments, "--json"], stdout=subprocess.PIPE, text=True)


def told(command: subprocess.Popen[str]) -> Any:
    out, _ = command.communicate(timeout=50)
    assert command.returncode == 0
    return json.loads(out)


def states(command: str) -> list[tuple[str, str]]:
    """Return what `ls` shows: the name of each run, of flow runs the flow's, and its state."""
    rows = told(asked(command, "ls"))
    return sorted((row["name"] if command == "task-run" else row["flow_name"], row["state"]["name"]) for row in rows)


def test_a_killed_process_is_found_out_at_once(owners: Owners) -> None:
    with owners.started("outer", lines=2) as owner:
        assert states("flow-run") == [("inner", "Running"), ("outer", "Running")]
        owner.kill()
        owner.wait()
        assert states("flow-run") == [("inner", "Crashed"), ("outer", "Crashed")]
    assert states("task-run") == [
        ("hold-0", "Crashed"),
        ("hold-0", "Crashed"),
        ("inner-0", "Crashed"),
        ("quick-0", "Completed"),
        ("quick-1", "Crashed"),
    ]
    assert owners.states("outer") == ["Pending", "Running", "Crashed"]
    with owners.history() as store:
        assert {row.state_message for row in store.flow_runs()} == {LOST}
        assert store.check() == []
        assert store.control().leases() == []


def test_a_killed_process_that_nobody_waited_for_is_found_out(owners: Owners) -> None:
    with owners.started("outer", lines=2) as owner:
        owner.kill()
        os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
        assert {row["state"]["name"] for row in told(asked("task-run", "ls"))} == {"Completed", "Crashed"}


def test_eight_who_look_at_once_end_each_run_once(owners: Owners) -> None:
    with owners.started("outer", lines=2) as owner:
        owner.kill()
        owner.wait()
    readers = [asked("flow-run", "ls") for _ in range(8)]
    assert all({row["state"]["name"] for row in told(reader)} == {"Crashed"} for reader in readers)
    with owners.history() as store:
        rows = [*store.flow_runs(), *store.task_runs()]
        ends = [[state.name for state in store.states(row.key)].count("Crashed") for row in rows]
        assert sorted(ends) == [0, *[1] * (len(rows) - 1)]


def test_a_stopped_process_is_not_taken_for_dead(owners: Owners) -> None:
    with owners.started("outer", lines=2, **SHORTER) as owner, owners.history() as store:
        stop(owner)
        until_expired(store, owners.lease(store))
        assert {row["state"]["name"] for row in told(asked("flow-run", "ls"))} == {"Running"}
        owner.send_signal(signal.SIGCONT)
        owners.go()
        assert owner.wait(timeout=50) == 0
    assert owners.states("outer") == ["Pending", "Running", "Completed"]


def test_a_process_whose_body_holds_the_interpreter_is_not_taken_for_dead(owners: Owners) -> None:
    os.mkfifo(owners.folder / "fifo")
    with owners.started("gripping", **SHORTER) as owner, owners.history() as store:
        owners.go()
        # Until three leases have gone by without a beat; while other threads of the process can run, one comes each tenth of a second.
        while (held := owners.lease(store)).expires_us + 3 * held.length_us > monotonic_us():
            assert reap(store.control()) == []
        assert {row["state"]["name"] for row in told(asked("flow-run", "ls"))} == {"Running"}
        assert owners.lease(store) == held
        (owners.folder / "fifo").write_bytes(b"\n")
        assert owner.wait(timeout=50) == 0
    assert owners.states("gripping") == ["Pending", "Running", "Completed"]


def test_a_process_that_begins_looks_by_itself(owners: Owners) -> None:
    with owners.started("inner") as killed:
        killed.kill()
        killed.wait()
    with owners.started("outer", lines=2), owners.history() as store:
        while (oldest := store.flow_runs()[-1].state_name) != "Crashed":
            assert oldest == "Running"


def test_a_child_made_by_fork_has_a_lease_of_its_own(owners: Owners) -> None:
    with owners.started("outer inner", lines=3) as parent:
        with owners.history() as store:
            assert {lease.process.pid for lease in store.control().leases()} == owners.pids
        [child] = owners.pids - {parent.pid}
        os.kill(child, signal.SIGKILL)
        while process.started(child):
            pass
        assert states("flow-run") == [("inner", "Crashed"), ("inner", "Running"), ("outer", "Crashed")]
        owners.go()
        assert parent.wait(timeout=50) == 0
    assert states("flow-run") == [("inner", "Completed"), ("inner", "Crashed"), ("outer", "Crashed")]


@needs_namespaces
@pytest.mark.parametrize("sees", ["its own /proc", "that of others"])
def test_in_another_pid_namespace_the_lease_decides(owners: Owners, sees: str) -> None:
    hidden = HIDDEN if sees == "its own /proc" else [word for word in HIDDEN if word != "--mount-proc"]
    with owners.started("inner", *hidden, **SHORT) as owner, owners.history() as store:
        first = owners.lease(store)
        assert bool(first.process.pid_namespace) == (sees == "its own /proc")
        while owners.lease(store).expires_us == first.expires_us:
            assert reap(store.control()) == []
        owner.kill()
        owner.wait()
        left = owners.lease(store)
        ended = reap(store.control())
        assert ended == [] or monotonic_us() > left.expires_us
        until_expired(store, left)
        assert {row["state"]["name"] for row in told(asked("flow-run", "ls"))} == {"Crashed"}


def test_who_was_taken_for_dead_writes_nothing_more_and_ends(owners: Owners) -> None:
    with owners.started("outer", lines=2, **SHORT) as owner, owners.history() as store:
        assert store.control().take_lease(owners.lease(store), "a test")
        _, said = owner.communicate(timeout=50)
        assert owner.returncode == 128 + signal.SIGTERM
        assert "This process was declared dead by" in said
        for row in store.flow_runs():
            assert [state.name for state in store.states(row.key)] == ["Pending", "Running", "Crashed"]
        assert all(row.state_name in ("Completed", "Crashed") for row in store.task_runs())


def test_who_was_taken_for_dead_is_found_out_by_what_it_writes(owners: Owners) -> None:
    with owners.started("outer", lines=2) as owner, owners.history() as store:
        assert store.control().take_lease(owners.lease(store), "a test")
        owners.go()
        _, said = owner.communicate(timeout=50)
        assert owner.returncode != 0
        assert "This process was declared dead by a test, who ended its runs" in said
        assert owners.states("outer") == ["Pending", "Running", "Crashed"]


def test_who_was_taken_for_dead_and_hears_no_signal_is_ended_by_force(owners: Owners) -> None:
    with owners.started("deaf", **SHORT) as owner, owners.history() as store:
        assert store.control().take_lease(owners.lease(store), "a test")
        # A beat, the grace period and one second are 1.3 s; the rest is for a machine that others use too.
        assert owner.wait(timeout=15) == 128 + signal.SIGTERM


@needs_namespaces
def test_who_was_stopped_until_its_lease_was_taken_ends_when_it_goes_on(owners: Owners) -> None:
    with owners.started("inner", *HIDDEN, **SHORTER) as owner, owners.history() as store:
        children = Path(f"/proc/{owner.pid}/task/{owner.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGSTOP)
        until_expired(store, owners.lease(store))
        assert reap(store.control())
        os.kill(int(children[0]), signal.SIGCONT)
        assert owner.wait(timeout=50) != 0
        assert owners.states("inner") == ["Pending", "Running", "Crashed"]
