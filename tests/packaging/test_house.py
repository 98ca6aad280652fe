"""The measures of the house: sizes of files and functions, names, and what source files must not hold.

What is over a measure for a reason stands in a table here, with the reason; a row that is no longer needed fails too.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ["prefect_core", "runners/prefect_runners", "serializers/prefect_serializers"]
OWN = {"prefect_core", "prefect_runners", "prefect_serializers"}

MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 40
MOST_PARAMETERS = 6

LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
MANY_PARAMETERS: dict[str, str] = {
    "prefect_core/input/run_input.py receive_input": "the options are those that users of Prefect know",
    "prefect_core/limits/blocks.py __init__": "the options are those that users of Prefect know, and the priority",
    "prefect_core/state_details.py __init__": "the fields are those that users of Prefect know",
    "runners/prefect_runners/dask.py __init__": "the options are those that users of Prefect know",
}
LATE_OWN_IMPORTS: dict[str, str] = {
    "prefect_core/control/steward.py prefect_core.control.reaping": "a process that ends within a second never needs it",
    "prefect_core/engine/asked.py prefect_core.engine.cancelling": "most processes never cancel anything",
    "prefect_core/history/__init__.py prefect_core.history.sqlite.store": "loads sqlite3, at the first use of a history",
    "prefect_core/history/__init__.py prefect_core.history.sqlite.writer": "as the store",
    "prefect_core/input_forms.py prefect_core.pickling": "loads cloudpickle, for a pause that wants an input",
    "runners/prefect_runners/dask.py prefect_runners.dask_session": "loads Dask, at the first use of the runner",
}

EMPTY_NAMES = re.compile(r"(^|_)(utils?|helpers?|common|managers?|handlers?|misc)($|_)")
# A type checker may be silenced for one thing, named, with the reason behind it.
UNFINISHED = re.compile(
    r"\b(TODO|FIXME|XXX|NotImplementedError)\b|# noqa|# type: ignore(?!\[[\w,-]+\]  # \w)|# pyright: ignore"
)
# `skipif` with a reason is for what a machine may lack: strace, the right to mount a disk.
NOT_RUN = re.compile(r"pytest\.skip\b|mark\.(skip\b|xfail)|importorskip|skipif\((?!.*reason=)(?!$)")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in files(*PACKAGES)}


@cache
def functions() -> list[tuple[str, Function]]:
    return [
        (f"{place(path)} {node.name}", node)
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, Function)
    ]


def parameters(function: Function) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([argument for argument in named if argument.arg not in {"self", "cls"}])


def late_own_imports() -> set[str]:
    """Find the imports of our own modules inside functions, which hide a circle or a wrong floor. Commands may load late."""
    found = set()
    for where, function in functions():
        file = where.split()[0]
        if file.startswith("prefect_core/cli/"):
            continue
        for node in ast.walk(function):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found |= {f"{file} {name}" for name in names if name.split(".")[0] in OWN}
    return found


def matching(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{place(path)}:{number}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if path != Path(__file__) and pattern.search(line)
    ]


def test_no_source_file_is_too_long() -> None:
    long = {place(path) for path in files(*PACKAGES) if path.read_text().count("\n") > MOST_LINES_OF_A_FILE}
    assert long == set(LONG_FILES)


def test_no_function_is_too_long() -> None:
    long = {where for where, node in functions() if node.end_lineno - node.lineno >= MOST_LINES_OF_A_FUNCTION}
    assert long == set(LONG_FUNCTIONS)


def test_no_function_takes_too_many_parameters() -> None:
    assert {where for where, node in functions() if parameters(node) > MOST_PARAMETERS} == set(MANY_PARAMETERS)


def test_no_circle_hides_in_an_import_inside_a_function() -> None:
    assert late_own_imports() == set(LATE_OWN_IMPORTS)


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [place(path) for path in files(*PACKAGES) if EMPTY_NAMES.search(path.stem)] == []


def test_nothing_is_left_unfinished_or_silenced() -> None:
    assert matching(UNFINISHED, files(*PACKAGES, "tests", "benchmarks", "examples")) == []


def test_no_test_puts_itself_off() -> None:
    assert matching(NOT_RUN, files("tests")) == []


def test_every_module_says_what_it_is_for() -> None:
    assert [place(path) for path, tree in trees().items() if not ast.get_docstring(tree)] == []
