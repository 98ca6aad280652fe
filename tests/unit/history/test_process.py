"""The identity of a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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


HIDING = ("unshare", "--mount", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh")
ASK = """
import ctypes, os, sys
from prefect_core.history import process
known = process.ProcessIdentity(*eval(sys.argv[1]))
process.this_process()  # loads what the other user may not read
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
# The kernel keeps /proc/self from one that changed its user, unless told that there is nothing to hide (PR_SET_DUMPABLE).
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
assert process.started(known.pid) == 0
print(process.is_gone(known), process.is_gone(known._replace(pid=1 << 30)))
"""


def can_hide() -> bool:
    return os.getuid() == 0 and subprocess.run([*HIDING, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_hide(), reason="only root may mount a /proc that hides processes")
def test_of_a_process_that_proc_hides_nothing_is_known() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        known = process.this_process()._replace(pid=child.pid, pid_started=process.started(child.pid))
        asked = [*HIDING, sys.executable, "-c", ASK, repr(tuple(known))]
        said = subprocess.run(asked, stdout=subprocess.PIPE, text=True, timeout=50, check=True).stdout
        child.communicate()
    assert said.split() == ["None", "True"]
