"""How an entry point becomes a flow."""

from __future__ import annotations

import pickle
import sys

import cloudpickle
import pytest

from prefect_core.entrypoints import load_flow
from prefect_core.errors import MissingFlowError, ScriptError, UnspecifiedFlowError

ONE = """
from dataclasses import dataclass
from prefect_core import flow, task

@dataclass
class Point:
    x: int

@task
def plain(x):
    return Point(x)

@flow(name="the only one")
def only(x: int = 1):
    return plain(x)
"""
TWO = ONE + "\n@flow\ndef other():\n    pass\n\nalias = other\nnumber = 5\n\ndef no_flow():\n    pass\n"


@pytest.fixture
def files(folder):
    (folder / "one_flow_file.py").write_text(ONE)
    (folder / "two_flow_file.py").write_text(TWO)
    return folder


def test_a_flow_is_found_by_file_and_name(files):
    assert load_flow("two_flow_file.py:other").name == "other"
    assert load_flow(f"{files}/two_flow_file.py:only").name == "the only one"


def test_a_flow_is_found_by_module_and_name(files):
    assert load_flow("two_flow_file:other").name == "other"


def test_the_only_flow_needs_no_name(files):
    assert load_flow("one_flow_file.py").name == "the only one"
    assert load_flow("one_flow_file").name == "the only one"


def test_a_flow_is_also_found_by_its_own_name(files):
    assert load_flow("two_flow_file.py:the only one").fn.__name__ == "only"


def test_the_entry_point_that_is_recorded_finds_the_flow_again(files):
    found = load_flow("two_flow_file.py:other")
    assert found.entrypoint == f"{files}/two_flow_file.py:other"
    assert load_flow(found.entrypoint) is found


def test_an_entry_point_finds_a_flow_that_was_made_from_a_function_of_another_name(folder):
    (folder / "renamed_flow_file.py").write_text(
        "from prefect_core import flow\n\ndef plain():\n    pass\n\nspecial = flow(plain, name='special flow')\n"
    )
    found = load_flow("renamed_flow_file.py:special")
    assert found.entrypoint.endswith(":plain")
    assert load_flow(found.entrypoint) is found


def test_a_file_is_loaded_as_the_module_that_its_neighbours_import(files):
    (files / "user_of_one.py").write_text("import one_flow_file\nfrom one_flow_file import only\n")
    found = load_flow("one_flow_file.py:only")
    assert load_flow("user_of_one.py:only") is found
    assert found.fn.__module__ == "one_flow_file"


def test_flows_that_a_file_only_imports_don_t_make_its_own_ambiguous(files):
    (files / "importing_file.py").write_text(
        "from prefect_core import flow\nfrom one_flow_file import only\n\n@flow\ndef mine():\n    only()\n"
    )
    assert load_flow("importing_file.py").name == "mine"


def test_a_file_in_a_package_may_import_relatively(folder):
    (folder / "flow_package" / "inner").mkdir(parents=True)
    for file in ("flow_package/__init__.py", "flow_package/inner/__init__.py"):
        (folder / file).touch()
    (folder / "flow_package/values.py").write_text("VALUE = 7\n")
    (folder / "flow_package/inner/flows.py").write_text(
        "from prefect_core import flow\nfrom ..values import VALUE\n\n@flow\ndef seven():\n    return VALUE\n"
    )
    assert load_flow("flow_package/inner/flows.py").fn() == 7
    assert "flow_package.inner.flows" in sys.modules


def test_what_a_file_defines_can_be_pickled(files):
    load_flow("one_flow_file.py")
    point = sys.modules["one_flow_file"].Point(3)
    assert pickle.loads(pickle.dumps(point)) == point


@pytest.mark.parametrize("name", ["random.py", "my-flows.py", "flows.txt"])
def test_a_file_that_can_t_be_imported_by_its_name_gets_a_name_of_its_own(folder, name):
    import random

    (folder / name).write_text(ONE)
    found = load_flow(f"./{name}:only")
    module = sys.modules[found.fn.__module__]
    assert module.__name__.startswith("prefect_core_script_")
    assert module.__file__ == str(folder / name)
    assert sys.modules["random"] is random
    assert load_flow(f"./{name}") is found
    assert found.entrypoint == f"{folder / name}:only"


def test_what_such_a_file_defines_travels_by_value(folder):
    (folder / "my-flows.py").write_text(ONE)
    found = load_flow("my-flows.py")
    module = sys.modules.pop(found.fn.__module__)
    sent = cloudpickle.dumps(module.Point(3))
    try:
        assert pickle.loads(sent).x == 3
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_two_files_of_one_name_in_two_folders_are_two_modules(folder):
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "same_name.py").write_text(
            f"from prefect_core import flow\n\n@flow\ndef where():\n    return {name!r}\n"
        )
    assert [load_flow(f"{name}/same_name.py:where").fn() for name in ("a", "b")] == ["a", "b"]


@pytest.mark.parametrize(
    ("entrypoint", "message"),
    [
        ("missing.py:flow", "There is no file 'missing.py' here"),
        ("no_such_module:flow", "There is no file and no module called 'no_such_module'"),
        ("two_flow_file.py:nothing", "two_flow_file.py has no flow called 'nothing'; its flows are only, other."),
        ("two_flow_file.py:number", "'number' in two_flow_file.py is no flow but an instance of int"),
        ("two_flow_file.py:no_flow", "'no_flow' in two_flow_file.py is no flow but a function without @flow"),
        ("empty_flow_file.py", "empty_flow_file.py has no flow."),
    ],
)
def test_a_flow_that_is_not_there_is_said_to_be_missing(files, entrypoint, message):
    (files / "empty_flow_file.py").touch()
    with pytest.raises(MissingFlowError) as raised:
        load_flow(entrypoint)
    assert str(raised.value).startswith(message)


def test_a_file_with_several_flows_asks_for_a_name(files):
    with pytest.raises(UnspecifiedFlowError, match="has 2 flows: only, other. Name one, as in two_flow_file.py:only"):
        load_flow("two_flow_file.py")


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [("\n1 / 0\n", ZeroDivisionError, 2), ("import no_such_package\n", ModuleNotFoundError, 1), ("\n\nif:\n", SyntaxError, 3),
     ("import sys\nsys.exit(3)\n", SystemExit, 2)],
)  # fmt: skip
def test_a_file_that_raises_while_it_is_loaded_is_named_with_the_line(folder, text, kind, line):
    (folder / "broken_flow_file.py").write_text(text)
    for entrypoint in ("broken_flow_file.py:x", "broken_flow_file:x"):
        with pytest.raises(ScriptError) as raised:
            load_flow(entrypoint)
        assert isinstance(raised.value.user_exc, kind)
        assert f"raised {kind.__name__} while it was loaded" in str(raised.value)
        assert f"{folder / 'broken_flow_file.py'}, line {line})" in str(raised.value)


def test_a_file_that_raised_can_be_loaded_once_it_is_mended(folder):
    file = folder / "mended-file.py"
    file.write_text("1 / 0")
    with pytest.raises(ScriptError):
        load_flow("mended-file.py")
    file.write_text(ONE)
    assert load_flow("mended-file.py").name == "the only one"
