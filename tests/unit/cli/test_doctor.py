"""`prefect-core doctor`: what it finds, and what it makes of it."""

from __future__ import annotations

from importlib import metadata

import pytest

from prefect_core import clock, history, settings
from prefect_core.cli import health
from prefect_core.history.batch import Batch
from prefect_core.history.sqlite import driver


def findings(call):
    return {check["name"]: check for check in call("doctor", "--json").json["checks"]}


def test_all_is_well_on_a_machine_that_can_run_flows(call, ran):
    called = call("doctor", "--json")
    assert called.code == 0
    assert called.json["ok"] is True
    found = {check["name"]: check["status"] for check in called.json["checks"]}
    assert set(found) >= {
        "python", "platform", "package click", "sqlite", "settings", "home", "file system", "write ahead log", "disk", "history", "clock",
    }  # fmt: skip
    assert "fail" not in found.values()


def test_each_line_begins_with_its_status(call):
    called = call("doctor")
    assert {line.split()[0] for line in called.out.splitlines() if not line.startswith(" ")} <= {"ok", "warn", "fail"}
    assert called.lines[0][:2] == ["ok", "python"]


def test_nothing_is_left_behind_in_the_home(call, home):
    call("doctor")
    assert {path.name for path in home.iterdir() if path.name.startswith("doctor")} == set()


@pytest.mark.parametrize(
    ("version", "status"), [("3.40.1", "warn"), ("3.51.2", "warn"), ("3.51.3", "ok"), ("3.52.0", "ok")]
)
def test_an_old_sqlite_is_a_warning_that_names_the_extra(call, monkeypatch, version, status):
    monkeypatch.setattr(driver, "VERSION", version)
    check = findings(call)["sqlite"]
    assert check["status"] == status
    assert version in check["detail"]
    assert ("prefect_core[sqlite]" in check["advice"]) == (status == "warn")


def test_a_package_that_is_missing_or_too_old_fails(call, monkeypatch):
    versions = {"click": "8.0.4"}

    def version(name):
        if name == "anyio":
            raise metadata.PackageNotFoundError(name)
        return versions.get(name, "99.0")

    monkeypatch.setattr(health.metadata, "version", version)
    called = call("doctor", "--json")
    found = {check["name"]: check for check in called.json["checks"]}
    assert called.code == 1
    assert (found["package anyio"]["status"], found["package anyio"]["detail"]) == ("fail", "not installed")
    assert found["package click"]["status"] == "fail"
    assert "pip install 'click>=8.1.7'" in found["package click"]["advice"]
    assert found["package rich"]["status"] == "ok"


def test_a_home_that_others_can_look_into_is_a_warning(call, home):
    home.chmod(0o755)
    check = findings(call)["home"]
    assert check["status"] == "warn"
    assert f"chmod 700 {home}" in check["advice"]


def test_a_home_that_can_t_be_made_fails_and_the_other_checks_go_on(call, tmp_path, monkeypatch):
    (tmp_path / "in-the-way").touch()
    monkeypatch.setenv("PREFECT_CORE_HOME", str(tmp_path / "in-the-way"))
    settings.forget()
    called = call("doctor", "--json")
    found = {check["name"]: check["status"] for check in called.json["checks"]}
    assert called.code == 1
    assert found["home"] == "fail"
    assert "clock" in found


def test_a_missing_home_is_made_private(call, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_CORE_HOME", str(tmp_path / "new"))
    settings.forget()
    assert findings(call)["home"]["status"] == "ok"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("kind", "status"), [("nfs4", "fail"), ("tmpfs", "warn"), ("ext4", "ok"), ("", "ok")])
def test_the_kind_of_file_system_matters(call, monkeypatch, kind, status):
    monkeypatch.setattr(health, "file_system", lambda folder: kind)
    assert findings(call)["file system"]["status"] == status


class Usage:
    def __init__(self, free):
        self.free = free


@pytest.mark.parametrize(("free", "status"), [(10 << 30, "ok"), (500 << 20, "warn"), (1 << 20, "fail")])
def test_a_full_disk_is_noticed(call, monkeypatch, free, status):
    monkeypatch.setattr(health.shutil, "disk_usage", lambda path: Usage(free))
    assert findings(call)["disk"]["status"] == status


def test_a_damaged_history_fails(call, home):
    (home / "history.db").write_text("something else entirely")
    called = call("doctor", "--json")
    assert called.code == 1
    assert {check["name"]: check["status"] for check in called.json["checks"]}["history"] == "fail"


def test_missing_rows_are_a_warning(call, ran):
    store = history.open_store()
    loss = Batch()
    loss.incomplete = (clock.now_us(), 7)
    store.write(loss)
    store.close()
    assert "7 rows could not be written" in findings(call)["history"]["detail"]


def test_a_clock_behind_the_newest_run_is_a_warning(call, ran, monkeypatch):
    now = clock.now_us()

    class Behind(clock.SystemClock):
        def now_us(self):
            return now - 10 * 3_600_000_000

    before = clock.install(Behind())
    try:
        assert findings(call)["clock"]["status"] == "warn"
    finally:
        clock.install(before)


def test_a_setting_that_makes_no_sense_fails(call, monkeypatch):
    monkeypatch.setenv("PREFECT_CORE_MAX_THREADS", "many")
    settings.forget()
    called = call("doctor", "--json")
    assert called.code == 1
    assert called.json["checks"][-1]["name"] == "settings"
