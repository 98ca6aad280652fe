"""A file has one module name, whether it runs as a script or is loaded by its entry point, and stored pickles hold in both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.stored_pickles import SCRIPT, loaded, run

pytestmark = pytest.mark.slow


class Case(NamedTuple):
    """A way to run a script: its file, the arguments of Python, and the name that its module must have."""

    file: str
    arguments: tuple[str, ...]
    name: str | None
    packages: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()


MADE_UP = None
CASES = {
    "a script": Case("job.py", ("job.py",), "job"),
    "a script in another folder, beside one of its name": Case("folder/job.py", ("folder/job.py",), "job"),
    "a roundabout path": Case("folder/job.py", ("folder/../folder/./job.py",), "job"),
    "a roundabout path into a package": Case("pack/job.py", ("pack/../pack/job.py",), "pack.job", ("pack",)),
    "a file in a package, by its path": Case("pack/sub/job.py", ("pack/sub/job.py",), "pack.sub.job", ("pack", "pack/sub")),
    "a file in a package, by -m": Case("pack/sub/job.py", ("-m", "pack.sub.job"), "pack.sub.job", ("pack", "pack/sub")),
    "a file in a folder without __init__.py, by -m": Case("space/job.py", ("-m", "space.job"), "space.job"),
    "a file in a folder without __init__.py": Case("space/job.py", ("space/job.py",), "job"),
    "a package in a folder without __init__.py": Case("space/pack/job.py", ("-m", "space.pack.job"), "space.pack.job", ("space/pack",)),
    "the main file of a package": Case("pack/__main__.py", ("-m", "pack"), "pack.__main__", ("pack",)),
    "the main file of a folder": Case("folder/__main__.py", ("folder",), MADE_UP),
    "a package itself": Case("pack/__init__.py", ("pack/__init__.py",), "pack"),
    "a linked script": Case("folder/job.py", ("linked.py",), "linked", links=(("linked.py", "folder/job.py"),)),
    "a script in a linked folder": Case("folder/job.py", ("linked/job.py",), "job", links=(("linked", "folder"),)),
    "a name that is no identifier": Case("the-job.py", ("the-job.py",), MADE_UP),
    "a file of another kind": Case("job.txt", ("job.txt",), MADE_UP),
    "a name of the standard library": Case("colorsys.py", ("colorsys.py",), MADE_UP),
    "a name of the standard library's tests": Case("test.py", ("test.py",), MADE_UP),
    "a name of an installed module": Case("pluggy.py", ("pluggy.py",), MADE_UP),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    made: Case = CASES[request.param]
    (tmp_path / "job.py").write_text("raise AssertionError('the wrong file is loaded')\n")
    for package in made.packages:
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "__init__.py").touch()
    path = tmp_path / made.file
    path.parent.mkdir(exist_ok=True)
    path.write_text(SCRIPT)
    for link, target in made.links:
        (tmp_path / link).symlink_to(target)
    return made


def names(text: str) -> Any:
    return json.loads(text.splitlines()[-1])


def test_a_script_and_its_entry_point_agree_on_names_and_pickles_of_both_hold_in_both(
    case: Case, tmp_path: Path
) -> None:
    stored = [f"{tmp_path}/by script", f"{tmp_path}/by entry point"]
    by_script = names(run(*case.arguments, "names", "dump", stored[0], cwd=tmp_path))
    by_entry_point = names(loaded(by_script["entrypoint"], "names", "dump", stored[1], cwd=tmp_path))
    [name] = by_script["names"]
    assert name == case.name if case.name else name.startswith("prefect_core_script_")
    assert by_script["key"] == f"{name}.double"
    assert (by_entry_point["names"], by_entry_point["key"]) == ([name], by_script["key"])
    assert names(run(*case.arguments, "check", *stored, cwd=tmp_path)) == []
    assert names(loaded(by_script["entrypoint"], "check", *stored, cwd=tmp_path)) == []


def test_a_main_without_a_file_is_called_main(tmp_path: Path) -> None:
    code = "from prefect_core import task; print(task(lambda: 1).task_key)"
    assert run("-c", code, cwd=tmp_path) == "__main__.<lambda>\n"


def test_what_was_stored_under_either_name_of_a_file_is_read_under_the_other(tmp_path: Path) -> None:
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "job.py").write_text(SCRIPT)
    scripts = [f"{tmp_path}/by script {number}" for number in (0, 1)]
    for path, write in zip(scripts, ("-m space.job", "space/job.py"), strict=True):
        run(*write.split(), "dump", path, cwd=tmp_path)
    by_entry_point = f"{tmp_path}/by entry point"
    loaded("space/job.py", "dump", by_entry_point, cwd=tmp_path)
    assert names(run("-m", "space.job", "check", *scripts, by_entry_point, cwd=tmp_path)) == []
    assert names(run("space/job.py", "check", *scripts, cwd=tmp_path)) == []


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "job.py"
    path.write_text(SCRIPT)
    return path


EDITED = """
from prefect_core import flow

@flow
def shop():
    pass
"""
LOADS = """
import sys
from prefect_core.errors import PrefectException
from tests.integration.stored_pickles import load
try:
    print(load(sys.argv[1]))
except PrefectException as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("writer", ["script", "entry point"])
@pytest.mark.parametrize("reader", ["script", "entry point", "neither"])
def test_a_class_that_is_gone_from_the_file_is_named_with_the_file(
    script: Path, tmp_path: Path, writer: str, reader: str
) -> None:
    write = ("dump", f"{tmp_path}/stored")
    run("job.py", *write, cwd=tmp_path) if writer == "script" else loaded("job.py", *write, cwd=tmp_path)
    script.write_text(EDITED + (LOADS if reader == "script" else ""))
    code = (
        LOADS
        if reader == "neither"
        else f"from prefect_core.entrypoints import load_flow\nload_flow('job.py')\n{LOADS}"
    )
    told = run(*(("job.py",) if reader == "script" else ("-c", code)), "stored", cwd=tmp_path)
    assert told.startswith(
        f"SerializationError The stored value needs 'Point' of {script}, which has nothing of that name now."
    )


def test_a_file_that_is_gone_is_named_with_what_was_needed_of_it(script: Path, tmp_path: Path) -> None:
    run("job.py", "dump", f"{tmp_path}/stored", cwd=tmp_path)
    script.unlink()
    told = run("-c", LOADS, "stored", cwd=tmp_path)
    assert told.startswith(f"SerializationError The stored value needs 'Point' of {script}, but that file is gone")


def test_a_file_that_raises_when_a_stored_value_needs_it_is_named(script: Path, tmp_path: Path) -> None:
    run("job.py", "dump", f"{tmp_path}/stored", cwd=tmp_path)
    script.write_text("\n1 / 0\n")
    told = run("-c", LOADS, "stored", cwd=tmp_path)
    assert (
        told
        == f"ScriptError {script} raised ZeroDivisionError while it was loaded: division by zero ({script}, line 2)\n"
    )


def test_a_script_that_was_moved_finds_its_classes(script: Path, tmp_path: Path) -> None:
    run("job.py", "dump", f"{tmp_path}/stored", cwd=tmp_path)
    (tmp_path / "moved").mkdir()
    script.rename(tmp_path / "moved" / "job.py")
    assert names(run("moved/job.py", "check", "stored", cwd=tmp_path)) == []
    assert names(loaded("moved/job.py", "check", "stored", cwd=tmp_path)) == []


def test_a_stored_value_loads_the_file_that_it_needs_and_runs_none_of_its_flows(script: Path, tmp_path: Path) -> None:
    script.write_text(SCRIPT + "\nprint('loaded as', __name__, 'with', shop())\n")
    run("job.py", "dump", f"{tmp_path}/stored", cwd=tmp_path)
    told = run("-c", LOADS, "stored", cwd=tmp_path).splitlines()
    assert told[0] == "loaded as job with None"
    assert told[1].startswith("{'point': Point(x=3), ")


def test_what_only_the_guarded_part_of_a_script_defines_is_stored_by_value(script: Path, tmp_path: Path) -> None:
    guarded = """
    class Own(Point):
        pass

    def make():
        class Local:
            x = 5
        return Local()

    from tests.integration.stored_pickles import dump
    dump([Own(4), make()], sys.argv[1])
"""
    script.write_text(SCRIPT.replace("    act(globals(), sys.argv[1:])\n", guarded))
    run("job.py", "stored", cwd=tmp_path)
    shows = "from tests.integration.stored_pickles import load; own, local = load('stored'); import job; "
    assert run("-c", shows + "print(own.x, isinstance(own, job.Point), local.x)", cwd=tmp_path) == "4 True 5\n"


def test_two_scripts_of_one_name_in_one_process_keep_their_classes_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "job.py").write_text(SCRIPT)
        run(f"{folder}/job.py", "dump", f"{tmp_path}/by {folder}", cwd=tmp_path)
    code = """
import sys
from prefect_core.entrypoints import load_flow
from tests.integration.stored_pickles import dump, load
a, b = (sys.modules[load_flow(f"{folder}/job.py:shop").__module__] for folder in "ab")
dump([a.Point(1), b.Point(1)], "stored")
print([type(point) for point in load("stored")] == [a.Point, b.Point], a.double.task_key, b.double.task_key)
print(type(load("by b")["point"]) is b.Point)
"""
    assert run("-c", code, cwd=tmp_path).splitlines() == ["True job.double job.double", "True"]


def test_keys_of_tasks_are_the_same_under_a_profiler_and_in_spawned_processes(script: Path, tmp_path: Path) -> None:
    profiled = names(run("-m", "cProfile", "-o", "profile", "job.py", "names", cwd=tmp_path))
    assert profiled["key"] == "job.double"

    spawn = "    import multiprocessing as m\n    p = m.get_context('spawn').Process(target=tell)\n    p.start()\n    p.join()\n"
    tell = "def tell():\n    print(double.task_key, double.__module__)\n\n"
    script.write_text(
        SCRIPT.replace("if __name__", tell + "if __name__").replace("    act(globals(), sys.argv[1:])\n", spawn)
    )
    assert run("job.py", cwd=tmp_path) == "job.double __mp_main__\n"


def test_keys_of_tasks_of_a_script_are_the_same_in_worker_processes(script: Path, tmp_path: Path) -> None:
    script.write_text(
        """
from prefect_core import flow, history, task

@task
def inner(x):
    return x

@task
def outer(x):
    @task
    def local():
        return inner.with_options(name="changed")(x)
    return inner(x) + inner.submit(x).result() + local()

@flow(task_runner="processes:1")
def nested():
    return outer.submit(1).result()

if __name__ == "__main__":
    nested()
    history.current().flush()
    print(*sorted({row.task_key for row in history.open_store().task_runs()}))
"""
    )
    keys = "job.inner job.outer job.outer.<locals>.local\n"
    assert run("job.py", cwd=tmp_path, PREFECT_CORE_HOME=f"{tmp_path}/home") == keys


def test_a_script_that_loads_its_own_entry_point_gets_itself(script: Path, tmp_path: Path) -> None:
    loads = "    from prefect_core.entrypoints import load_flow\n"
    tells = "    print([load_flow(place) is shop for place in (__file__, 'job.py:shop', 'job:shop')], 'job' in sys.modules)\n"
    script.write_text(SCRIPT.replace("    act(globals(), sys.argv[1:])\n", loads + tells))
    assert run("job.py", cwd=tmp_path) == "[True, True, True] False\n"


def test_a_linked_script_finds_its_neighbours_by_its_entry_point(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "neighbour.py").touch()
    (tmp_path / "folder" / "job.py").write_text("import neighbour\n" + SCRIPT)
    (tmp_path / "linked.py").symlink_to("folder/job.py")
    entrypoint = names(run("linked.py", "names", cwd=tmp_path))["entrypoint"]
    assert names(loaded(entrypoint, "names", cwd=tmp_path))["names"] == ["linked"]
