"""The program as a whole: help, errors, exit codes, and the small commands."""

from __future__ import annotations

import importlib
from pathlib import Path

import click
import pytest

from prefect_core import __version__, settings
from prefect_core.cli.main import COMMANDS, program


def commands(group, path=()):
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


EVERY = dict(commands(program))


def test_the_help_names_every_command(call):
    called = call("--help")
    assert called.code == 0
    assert all(f"  {name} " in called.out for name in COMMANDS)


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_each_command_has_help(call, path):
    called = call(*path, "-h")
    assert called.code == 0
    assert EVERY[path].help
    assert called.out.startswith(f"Usage: prefect-core {' '.join(path)} ")


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_each_option_says_what_it_is_for(path):
    assert [one.name for one in EVERY[path].params if isinstance(one, click.Option) and not one.help] == []


READING = [
    path
    for path in EVERY
    if path[-1] in {"ls", "inspect", "logs", "view", "stats", "check", "doctor", "version", "run"}
]


@pytest.mark.parametrize("path", READING, ids=" ".join)
def test_each_command_that_reads_can_print_json(path):
    assert "as_json" in {one.name for one in EVERY[path].params}


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["flow-run", "ls", "--nonsense"], ["flow-run", "ls", "--limit", "0"], ["flow-run", "inspect"]],
)
def test_a_wrong_call_gives_exit_code_2_and_no_output(call, arguments):
    called = call(*arguments)
    assert (called.code, called.out) == (2, "")
    assert "Error: " in called.err


def test_a_setting_that_makes_no_sense_is_an_error_in_one_line(call, monkeypatch):
    monkeypatch.setenv("PREFECT_CORE_LOGGING_LEVEL", "LOUD")
    settings.forget()
    called = call("config", "view")
    assert (called.code, called.out) == (1, "")
    assert called.err == (
        "Error: Setting logging_level from PREFECT_CORE_LOGGING_LEVEL is 'LOUD': "
        "expected DEBUG, INFO, WARNING, ERROR or CRITICAL.\n"
    )


@pytest.mark.parametrize(
    "arguments", [["--debug", "flow-run", "inspect", "nobody"], ["flow-run", "inspect", "nobody", "--debug"]]
)
def test_debug_shows_the_traceback_wherever_it_stands(call, arguments):
    called = call(*arguments)
    assert called.code == 1
    assert called.err.startswith("Error: The history holds no flow run")
    assert "Traceback (most recent call last):" in called.err
    assert "ObjectNotFound" in called.err


def test_an_error_that_nobody_expected_is_one_line_too(call, monkeypatch):
    module = importlib.import_module("prefect_core.cli.flow")
    monkeypatch.setattr(module, "opened", lambda: 1 / 0)
    called = call("flow", "ls")
    assert called.code == 1
    assert called.err == "Error: ZeroDivisionError: division by zero (--debug shows where)\n"


@pytest.mark.parametrize("path", [path for path in EVERY if not isinstance(EVERY[path], click.Group)], ids=" ".join)
def test_each_command_has_a_sample_in_the_documentation(path):
    text = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert f"$ prefect-core {' '.join(path)}" in text


def test_an_interrupt_gives_exit_code_130(call, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("prefect_core.cli.flow"), "opened", interrupted)
    assert call("flow", "ls").code == 130


def test_the_version_is_that_of_the_package(call):
    assert call("version").out == f"prefect_core {__version__}\n"
    assert call("version", "--json").json["prefect_core"] == __version__


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_each_shell_asks_our_command(call, shell):
    called = call("completion", shell)
    assert called.code == 0
    assert f"_PREFECT_CORE_COMPLETE={shell}_complete" in called.out


def test_the_settings_are_shown_with_their_sources(call, home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prefect_core.toml").write_text("max_threads = 7\n")
    monkeypatch.setenv("PREFECT_CORE_LOG_PRINTS", "true")
    settings.forget()
    rows = {line[0]: line[1:] for line in call("config", "view", "--show-sources").lines}
    assert rows["SETTING"] == ["VALUE", "FROM", "VARIABLE"]
    assert rows["max_threads"] == ["7", str(tmp_path / "prefect_core.toml"), "PREFECT_CORE_MAX_THREADS"]
    assert rows["log_prints"] == ["true", "PREFECT_CORE_LOG_PRINTS", "PREFECT_CORE_LOG_PRINTS"]
    assert rows["max_nesting"] == ["400", "default", "PREFECT_CORE_MAX_NESTING"]
    assert len(call("config", "view").lines[0]) == 2


def test_the_settings_in_json_are_all_there(call, home):
    found = {row["name"]: row for row in call("config", "view", "--json").json}
    assert list(found) == [setting.name for setting in settings.SETTINGS]
    assert found["home"]["value"] == str(home)
    assert found["home"]["source"] == "PREFECT_CORE_HOME"
