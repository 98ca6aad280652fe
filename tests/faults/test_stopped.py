"""Processes that are stopped for longer than their lease, by a debugger or a laptop that sleeps: they are not taken for dead."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from prefect_core.control.reaping import reap
from prefect_core.history.process import monotonic_us
from tests.integration.control.owners import SHORT, SHORTER, Owners, stop, until_expired

GONE_ON = ["Pending", "Running", "Completed"]


def be_stopped(owners: Owners, rounds: int) -> None:
    """Stop a process for longer than its lease, again and again; nobody takes it for dead, and it goes on."""
    with owners.started("outer", lines=2, **SHORTER) as owner, owners.history() as store:
        for _ in range(rounds):
            stop(owner)
            lease = owners.lease(store)
            until_expired(store, lease)
            assert reap(store.control()) == []
            owner.send_signal(signal.SIGCONT)
            while owners.lease(store).expires_us == lease.expires_us:
                pass
        owners.go()
        assert owner.wait(timeout=50) == 0
    assert owners.states("outer") == GONE_ON


def be_stopped_together(folder: Path, home: Path, count: int, seconds: float) -> None:
    """Stop many processes at once for so long; looked at all the while, none is taken for dead, and all go on."""
    with ExitStack() as stack:
        programs = []
        for number in range(count):
            own_folder = folder / str(number)
            own_folder.mkdir()
            owners = Owners(own_folder, home)
            programs.append((owners, stack.enter_context(owners.started("outer", lines=2, **SHORT))))
        owners.until_recorded(2 * count)
        store = stack.enter_context(owners.history())
        for _, program in programs:
            stop(program)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert reap(store.control()) == []
        assert all(lease.expires_us < monotonic_us() for lease in store.control().leases())
        for owners, program in programs:
            program.send_signal(signal.SIGCONT)
            owners.go()
        assert [program.wait(timeout=50) for _, program in programs] == [0] * count
        assert owners.all_states("outer") == [GONE_ON] * count


def test_a_process_that_is_stopped_time_and_again_is_not_taken_for_dead(tmp_path: Path, home: Path) -> None:
    be_stopped(Owners(tmp_path, home), 3)


def test_several_that_are_stopped_together_are_not_taken_for_dead(tmp_path: Path, home: Path) -> None:
    be_stopped_together(tmp_path, home, 2, 3.5)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_campaign_of_stops(tmp_path: Path, home: Path) -> None:
    be_stopped(Owners(tmp_path, home), 50)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_campaign_of_fifty_stopped_together(tmp_path: Path, home: Path) -> None:
    be_stopped_together(tmp_path, home, 50, 20)
