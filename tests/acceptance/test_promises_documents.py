"""Each line of docs/when-things-die.md names tests that show it, and these exist; so do those that other documents name."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import prefect_core

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
INSTALLED = Path(prefect_core.__file__).parents[1]
"""Where the packages are, which may be another place than that of the tests."""
CHAPTER, *OTHERS = ("when-things-die.md", "promises.md", "limits.md")
RULE = re.compile(r"\|(-+\|)+")


def tables(document: str) -> list[tuple[str, list[str]]]:
    """Return the tables of a document: the head of the last column of each, and what stands in that in each row."""
    lines = (ROOT / "docs" / document).read_text(encoding="utf-8").splitlines()
    found: list[tuple[str, list[str]]] = []
    is_inside = False
    for before, line in zip(lines, lines[1:], strict=False):
        if RULE.fullmatch(line):
            found.append((last_cell(before), []))
        elif line.startswith("|") and is_inside:
            found[-1][1].append(last_cell(line))
        is_inside = line.startswith("|") and bool(found)
    return found


def last_cell(row: str) -> str:
    return row.strip("| ").rpartition(" | ")[2]


def rows(document: str) -> list[str]:
    return [cell for head, cells in tables(document) if head.startswith("show") for cell in cells]


@cache
def functions(file: str) -> set[str]:
    """Return the test functions of a file; none if there is no such file."""
    path = TESTS / file
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def named(cell: str) -> list[tuple[str, list[str]]]:
    """Return the files that a cell names, each with the tests that come behind it; those before the first file are of the file ""."""
    found: list[tuple[str, list[str]]] = [("", [])]
    for words in re.findall(r"`([^`]+)`", cell):
        file, _, test = words.rpartition("::") if "::" in words else (words, "", "")
        if words.startswith("test_") and not words.endswith(".py"):
            found[-1][1].append(words)
        elif file.endswith(".py") or "/" in file:
            found.append((file.removeprefix("tests/"), [test] if test else []))
    return found if found[0][1] else found[1:]


def wrong_names(cell: str) -> list[str]:
    """Return what is wrong with the files and tests that a cell names."""
    wrong = []
    for file, tests in named(cell):
        if not file:
            wrong.append(f"{tests[0]} stands without its file")
        elif not any((folder / file).exists() for folder in (TESTS, ROOT, INSTALLED)):
            wrong.append(f"there is no {file}")
        else:
            wrong += [f"{file} has no {test}" for test in tests if test not in functions(file)]
    return wrong


def problems(cell: str) -> list[str]:
    """Return what is wrong with a row of the chapter, which names one test or more, and with each file some."""
    wrong = wrong_names(cell) + [f"{file} stands without a test" for file, tests in named(cell) if not tests]
    return wrong if named(cell) else ["no test is named"]


def test_each_table_of_the_chapter_says_by_what_it_is_shown() -> None:
    assert {head for head, _ in tables(CHAPTER)} == {"shown by", "shown to fail where it must by"}
    assert len(rows(CHAPTER)) > 50


@pytest.mark.parametrize("cell", rows(CHAPTER))
def test_each_line_of_the_chapter_names_tests_that_exist(cell: str) -> None:
    assert problems(cell) == []


@pytest.mark.parametrize("document", OTHERS)
def test_what_other_documents_name_exists(document: str) -> None:
    cells = rows(document) or [cells for _, table in tables(document) for cells in table if "::" in cells]
    assert len(cells) > 5
    assert [wrong for cell in cells for wrong in wrong_names(cell)] == []


HERE = "acceptance/test_promises_documents.py"
THIS = "test_a_row_with_a_wrong_name_is_seen"


@pytest.mark.parametrize(
    ("cell", "wrong"),
    [
        (f"`{HERE}`: `{THIS}`", []),
        (f"`tests/{HERE}::{THIS}`, a campaign of 200", []),
        (f"`{HERE}`: `{THIS}`, `test_misspelt`", [f"{HERE} has no test_misspelt"]),
        (f"`{HERE}::test_misspelt`", [f"{HERE} has no test_misspelt"]),
        (f"`{HERE}`", [f"{HERE} stands without a test"]),
        (f"`{HERE}`: `{THIS}`; `unit/test_futures.py`", ["unit/test_futures.py stands without a test"]),
        (f"`unit/test_misspelt.py`: `{THIS}`", ["there is no unit/test_misspelt.py"]),
        (f"`unit/test_futures.py`: `{THIS}`", [f"unit/test_futures.py has no {THIS}"]),
        (f"`{THIS}`", [f"{THIS} stands without its file"]),
        ("time limits of 50 s", ["no test is named"]),
        ("the same", ["no test is named"]),
    ],
)
def test_a_row_with_a_wrong_name_is_seen(cell: str, wrong: list[str]) -> None:
    assert problems(cell) == wrong
