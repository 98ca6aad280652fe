"""Calls of flows at the module level of a file while it is loaded for its entry point: they warn and do nothing."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from types import ModuleType

import pytest

from prefect_core import flow, task
from prefect_core.entrypoints import load_flow
from prefect_core.errors import ScriptError

FLOWS = """
import threading
from prefect_core import flow, task

ran = []

@flow
def plain(x=1):
    ran.append("plain")
    return x

@flow
async def asynchronous():
    ran.append("asynchronous")
    return 1

@flow
def yields():
    ran.append("yields")
    yield 1

@flow
async def yields_asynchronously():
    ran.append("yields_asynchronously")
    yield 1

@task
def work():
    ran.append("work")
    return plain()
"""

pytestmark = pytest.mark.usefixtures("recorded")


@pytest.fixture
def loaded(folder):
    """Load a file with these lines at the end of it, and return its module."""

    def load(lines, name="calls_flows"):
        (folder / f"{name}.py").write_text(FLOWS + lines)
        return sys.modules[load_flow(f"{name}.py:plain").__module__]

    return load


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_call_warns_and_gives_none(loaded, caplog):
    module = loaded("given = plain()\n")
    assert (module.given, module.ran) == (None, [])
    [warning] = warnings_in(caplog)
    assert warning.startswith(
        "Script loading is in progress, flow 'plain' will not be executed. Consider updating the script to only call"
    )
    assert 'if __name__ == "__main__":' in warning


@pytest.mark.parametrize("name", ["calls_flows", "calls-flows"])
def test_the_flow_runs_once_the_file_is_loaded(loaded, name):
    module = loaded("plain()\n", name)
    assert module.plain(3) == 3
    assert module.ran == ["plain"]


@pytest.mark.parametrize(
    ("call", "given"),
    [
        ("plain(return_state=True)", None),
        ("plain.submit()", None),
        ("plain.submit(return_state=True)", None),
        ("plain.map([1, 2])", []),
        ("plain.map([1, 2], return_state=True)", []),
        ("plain.map([1, 2]).result()", []),
        ("plain.with_options(name='plain')()", None),
        ("plain(unknown=1)", None),
        ("list(yields())", []),
        ("asyncio.run(asynchronous())", None),
        ("asyncio.run(gathered())", []),
    ],
)
def test_each_kind_of_call_gives_nothing_of_its_kind(loaded, caplog, call, given):
    module = loaded(
        "import asyncio\nasync def gathered():\n    return [value async for value in yields_asynchronously()]\n"
        f"given = {call}\n"
    )
    assert (module.given, module.ran) == (given, [])
    assert len(warnings_in(caplog)) == 1


def test_a_task_called_at_module_level_runs_with_the_flows_in_it(loaded, caplog):
    module = loaded("given = work()\n")
    assert (module.given, module.ran) == (1, ["work", "plain"])
    assert warnings_in(caplog) == []


def test_a_thread_that_the_file_starts_runs_flows(loaded):
    module = loaded("thread = threading.Thread(target=plain)\nthread.start()\nthread.join()\n")
    assert module.ran == ["plain"]


def test_other_threads_run_flows_while_a_file_is_loaded(loaded, monkeypatch):
    events = ModuleType("events_of_calls_flows")
    events.begun, events.go_on = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, events.__name__, events)
    loads = threading.Thread(
        target=loaded, args=(f"import {events.__name__} as events\nevents.begun.set()\nevents.go_on.wait()\n",)
    )

    @flow
    def elsewhere():
        return 1

    loads.start()
    try:
        events.begun.wait()
        assert elsewhere() == 1
    finally:
        events.go_on.set()
        loads.join()


def test_a_file_loaded_inside_a_run_does_not_run_its_flows_in_it(loaded, caplog):
    @flow(final_state_from="return_value")
    def loads():
        return loaded("given = plain()\n").ran

    assert loads() == []
    assert len([text for text in warnings_in(caplog) if "loading is in progress" in text]) == 1


def test_a_file_that_is_imported_by_others_runs_its_flows(folder):
    (folder / "imported_calls_flows.py").write_text(FLOWS + "given = plain()\n")
    sys.path.insert(0, str(folder))
    import imported_calls_flows

    assert imported_calls_flows.given == 1


def test_what_the_file_imports_does_not_run_flows_either(loaded, folder):
    (folder / "neighbour_calls_flows.py").write_text(FLOWS + "given = plain()\n")
    assert loaded("import neighbour_calls_flows\n").neighbour_calls_flows.given is None


def test_flows_are_called_as_ever_after_a_file_that_raised(loaded):
    with pytest.raises(ScriptError):
        loaded("plain()\n1 / 0\n")

    @flow
    def after():
        return 1

    @task
    def works():
        return after()

    assert (after(), works()) == (1, 1)


def test_an_async_flow_may_load_a_file(loaded):
    @flow
    async def loads():
        return loaded("plain()\n").ran

    assert asyncio.run(loads()) == []
