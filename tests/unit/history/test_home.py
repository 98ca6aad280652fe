"""What is refused as a home of the history, and how the folder is made."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from prefect_core.errors import HistoryError
from prefect_core.history.sqlite import home as home_checks

MOUNTS = r"""22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:25 / /home rw,nosuid shared:5 master:1 - nfs4 server:/home rw,vers=4.2
31 30 0:26 / /home/me/local rw - xfs /dev/vdb rw
32 22 0:27 / /with\040space rw - cifs //server/share rw
33 22 0:28 / /mnt rw - tmpfs tmpfs rw
34 33 0:29 / /mnt rw - fuse.sshfs host:/ rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/.prefect_core", "nfs4"),
        ("/homework", "ext4"),
        ("/home/me/local/x", "xfs"),
        ("/with space/x", "cifs"),
        ("/mnt/x", "fuse.sshfs"),
    ],
)
def test_the_innermost_and_latest_mount_tells_the_file_system(tmp_path: Path, folder: str, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert home_checks.file_system(Path(folder), mounts) == kind


def test_an_unknown_file_system_is_taken_as_local(tmp_path: Path) -> None:
    assert home_checks.file_system(tmp_path, tmp_path / "missing") == ""
    home_checks.refuse_network(tmp_path)


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_checks, "NETWORK_FILE_SYSTEMS", {home_checks.file_system(tmp_path)})
    with pytest.raises(HistoryError, match=rf"{tmp_path}.*network file system.*PREFECT_CORE_HOME"):
        home_checks.prepare(tmp_path, tmp_path / "history.db")


def test_folder_and_file_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "a" / "b"
    home_checks.prepare(home, home / "history.db")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "history.db").stat().st_mode) == 0o600


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("not a folder")
    for home in (tmp_path / "home", tmp_path / "home" / "below"):
        with pytest.raises(HistoryError, match=rf"{home}.*PREFECT_CORE_HOME"):
            home_checks.prepare(home, home / "history.db")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "history.db").mkdir()
    with pytest.raises(HistoryError, match="PREFECT_CORE_HOME"):
        home_checks.prepare(tmp_path, tmp_path / "history.db")
