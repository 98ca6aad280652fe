"""Versions of what the flow's process and a cluster have to have in common, and the table of those that differ."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache

import prefect_core

MISSING = "not installed"
Versions = Mapping[str, str]
"""By what they are of: "python", and packages by name."""


def here(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions in this process."""
    found = {"python": python_of(".".join(map(str, sys.version_info)))}
    found.update((package, _installed(package)) for package in packages)
    # It may lie on the path as a checkout.
    found["prefect_core"] = prefect_core.__version__
    return found


@cache
def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return MISSING


def python_of(full: str) -> str:
    """Return the part of Python's version that bytecode and pickles depend on."""
    return ".".join(full.split(".")[:2])


def exactly(version: str) -> str:
    """Return all of a version."""
    return version


def without_corrections(version: str) -> str:
    """Return a version without its last number, which is for corrections."""
    return version if version == MISSING else ".".join(version.split(".")[:2])


def difference(
    whose: str, ours: Versions, theirs: Mapping[str, Versions], what_matters: Callable[[str], str] = exactly
) -> str | None:
    """Return a table of what differs between here and each place, and what to do about it; None if nothing does."""
    rows = [
        (name, ours[name], place, found.get(name, MISSING))
        for place, found in sorted(theirs.items())
        for name in ours
        if what_matters(found.get(name, MISSING)) != what_matters(ours[name])
    ]
    return _table(whose, rows) if rows else None


def _table(whose: str, rows: list[tuple[str, str, str, str]]) -> str:
    titles = ("what", "here", "where", "there")
    widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (titles, *rows)]
    cures = []
    names = {row[0] for row in rows}
    if "python" in names:
        cures.append("run the flow and the cluster with the same minor version of Python")
    packages = sorted({f"{name}=={here}" for name, here, _, _ in rows if name != "python"})
    if packages:
        cures.append(f"install there: pip install {' '.join(packages)}")
    text = "\n".join(line.rstrip() for line in lines)
    return f"The software of {whose} differs from that of the flow's process:\n{text}\nTo do: {'; '.join(cures)}."
