"""The identity of a process."""

from __future__ import annotations

import os
import subprocess
import sys

from prefect_core.history import process


def test_this_process_is_told_apart_from_others_of_its_number() -> None:
    first, again = process.this_process(), process.this_process()
    assert first == again
    assert first.pid == os.getpid()
    assert first.pid_started == process.started(os.getpid()) > 0
    assert first.boot_id


def test_a_process_that_is_not_there_has_no_start() -> None:
    assert process.started(1 << 30) == 0


def test_a_process_that_has_ended_is_gone_before_its_parent_has_asked() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    known = process.this_process()._replace(pid=child.pid, pid_started=process.started(child.pid))
    assert process.is_gone(known) is False
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process.is_gone(known) is True
    child.communicate()
