"""A real network file system, where the machine can have one without a network: sshfs, talking to an SFTP server through a socket pair."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from prefect_core import flow, settings
from prefect_core.errors import HistoryError
from prefect_core.history.sqlite.home import MOUNTS, file_system

SERVER = next(
    (path for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server") if Path(path).exists()), ""
)
MISSING = [name for name in ("sshfs", "fusermount3") if shutil.which(name) is None]

pytestmark = pytest.mark.skipif(
    bool(MISSING) or not SERVER or not os.access("/dev/fuse", os.W_OK),
    reason="needs sshfs, fusermount3, OpenSSH's sftp-server, and the right to mount",
)


@pytest.fixture
def network_folder(tmp_path: Path) -> Iterator[Path]:
    """Mount a folder by sshfs."""
    far, near = tmp_path / "far", tmp_path / "near"
    far.mkdir()
    near.mkdir()
    ours, theirs = socket.socketpair()
    with ExitStack() as stack, MOUNTS.open(encoding="utf-8") as mounts:
        mounted = select.poll()
        mounted.register(mounts, select.POLLPRI)  # the kernel says so when the table has changed
        started = [
            subprocess.Popen(command, stdin=end, stdout=end)
            for command, end in (
                ([SERVER], theirs),
                (["sshfs", "-f", "-o", "passive", f"nobody:{far}", str(near)], ours),
            )
        ]
        for process in started:
            stack.callback(process.wait, 20)
        ours.close()
        theirs.close()
        stack.callback(subprocess.run, ["fusermount3", "-u", str(near)], check=True)
        while file_system(near) == file_system(far):
            assert mounted.poll(20_000), "sshfs did not mount"
        yield near


def test_a_home_on_a_network_file_system_is_refused_before_user_code_starts(
    network_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = network_folder / "home"
    monkeypatch.setenv("PREFECT_CORE_HOME", str(home))
    settings.forget()
    ran = []
    with pytest.raises(HistoryError, match=r"network file system \(fuse\.sshfs\).*PREFECT_CORE_HOME"):
        flow(lambda: ran.append("body"))()
    assert ran == []
    assert list(home.iterdir()) == []
