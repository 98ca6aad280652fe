"""When a process counts as gone: every row of the table in `history.leases`, with processes that are really there or really not."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from prefect_core.control.reaping import reap
from prefect_core.history import process
from prefect_core.history.leases import LeaseRow, Sight, is_over, was_seen_unchanged
from prefect_core.history.memory import MemoryStore
from prefect_core.history.process import ProcessIdentity, monotonic_us

HOUR_US = 3_600_000_000


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as waiting:
        yield waiting
        waiting.kill()


def identity_of(child: subprocess.Popen[bytes]) -> ProcessIdentity:
    return process.this_process()._replace(pid=child.pid, pid_started=process.started(child.pid))


def lease(owner: ProcessIdentity, *, left_us: int = HOUR_US) -> LeaseRow:
    """Return the lease of a process that expires so long from now."""
    return LeaseRow(1, owner, monotonic_us() + left_us, 60_000_000)


def over(one: LeaseRow) -> bool | None:
    return is_over(one, monotonic_us())


def test_a_process_that_is_there_is_never_over_however_old_its_lease(child: subprocess.Popen[bytes]) -> None:
    assert over(lease(identity_of(child), left_us=-HOUR_US)) is False
    child.send_signal(signal.SIGSTOP)
    assert over(lease(identity_of(child), left_us=-HOUR_US)) is False


def test_a_process_that_is_not_there_is_over_at_once(child: subprocess.Popen[bytes]) -> None:
    known = lease(identity_of(child))
    child.kill()
    # Not waited for: a zombie.
    while process.started(child.pid):
        pass
    assert over(known) is True
    child.wait()
    assert over(known) is True


def test_another_process_of_the_same_number_does_not_count(child: subprocess.Popen[bytes]) -> None:
    known = identity_of(child)
    assert over(lease(known._replace(pid_started=known.pid_started - 1))) is True


def test_a_name_that_changed_makes_no_other_machine(child: subprocess.Popen[bytes]) -> None:
    known = identity_of(child)._replace(host="elsewhere")
    assert over(lease(known, left_us=-HOUR_US)) is False
    assert over(lease(known._replace(pid=1 << 30))) is True


@pytest.mark.parametrize("namespace", ["pid:[1]", ""])
def test_in_another_or_an_unknown_namespace_the_lease_decides(namespace: str) -> None:
    known = process.this_process()._replace(pid=1 << 30, pid_namespace=namespace)
    assert over(lease(known)) is False
    assert over(lease(known, left_us=0)) is True


def test_a_process_of_an_unknown_namespace_that_is_there_lives(child: subprocess.Popen[bytes]) -> None:
    # As earlier versions recorded it.
    assert over(lease(identity_of(child)._replace(pid_namespace=""), left_us=-HOUR_US)) is False


def test_a_machine_that_was_started_anew_has_none_of_its_processes(child: subprocess.Popen[bytes]) -> None:
    assert over(lease(identity_of(child)._replace(boot_id="before"))) is True


def test_of_another_machine_nothing_is_known(child: subprocess.Popen[bytes]) -> None:
    known = identity_of(child)._replace(host="elsewhere", boot_id="there")
    assert over(lease(known)) is None
    assert over(lease(known, left_us=-HOUR_US)) is None
    assert over(lease(known._replace(boot_id=""))) is None


def test_who_let_go_is_over_although_it_is_there(child: subprocess.Popen[bytes]) -> None:
    assert over(lease(identity_of(child))._replace(let_go_us=1)) is True


def test_an_expiry_must_be_seen_unchanged_for_a_whole_lease() -> None:
    known = LeaseRow(1, process.this_process(), 500, length_us=60)
    assert was_seen_unchanged(known, "here", 1000) is None
    seen = known._replace(seen=Sight("here", 1000, 500))
    assert was_seen_unchanged(seen, "here", 1059) is False
    assert was_seen_unchanged(seen, "here", 1060) is True
    # It spoke up; another machine looked; this one was started anew meanwhile.
    assert was_seen_unchanged(seen._replace(expires_us=501), "here", 1060) is None
    assert was_seen_unchanged(seen, "there", 1060) is None
    assert was_seen_unchanged(seen, "here", 999) is None


def test_looks_of_one_machine_at_another_add_up() -> None:
    store = MemoryStore()
    number = store.next_key() >> 32
    control = store.control()
    here = control.lease(number)
    assert here is not None
    elsewhere = here.process._replace(host="elsewhere", boot_id="there")
    control._leases[number] = here._replace(process=elsewhere, length_us=1)  # what no memory can come to by itself
    assert reap(control) == []
    assert (first := control.lease(number)) is not None
    assert first.seen is not None
    assert first.taken_by is None
    while monotonic_us() <= first.seen.at_us:
        pass
    reap(control)
    assert (second := control.lease(number)) is not None
    assert second.taken_by is not None
