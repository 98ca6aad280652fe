"""Pickles as stored results make them, and what scripts and processes that load them do with such pickles.

A script calls `act(globals(), sys.argv[1:])`; `python -m tests.integration.stored_pickles ENTRYPOINT COMMAND ...` does the same with the
module that an entry point is loaded as. `names dump PATH` and `check PATH ...` are the commands, and `dump PATH` alone.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle

from prefect_core import importable
from prefect_core.entrypoints import load_flow
from prefect_core.module_names import module_name_of

ROOT = Path(__file__).parents[2]

SCRIPT = """
import enum
import sys
from dataclasses import dataclass
from prefect_core import flow, task
from tests.integration.stored_pickles import act

@dataclass
class Point:
    x: int

    class Inner:
        pass

    def shift(self):
        return Point(self.x + 1)

class Colour(enum.Enum):
    RED = 1

@task
def double(x):
    return 2 * x

@flow
def shop():
    return Point(double(1))

def plain():
    pass

if __name__ == "__main__":
    act(globals(), sys.argv[1:])
"""


class Pickler(cloudpickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        return importable.reference_of(obj) or super().reducer_override(obj)


class Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, name: str) -> Any:
        return importable.find_class(module_name, name, super().find_class)


def dump(value: Any, path: str) -> None:
    with open(path, "wb") as file:
        Pickler(file).dump(value)


def load(path: str) -> Any:
    with open(path, "rb") as file:
        return Unpickler(file).load()


def things_in(names: dict[str, Any]) -> dict[str, Any]:
    point, shop, double = names["Point"], names["shop"], names["double"]
    return {
        "point": point(3),
        "inner": point.Inner,
        "red": names["Colour"].RED,
        "task": double,
        "task function": double.fn,
        "flow": shop,
        "flow function": shop.fn,
        "plain": names["plain"],
        "method": point.shift,
    }


def act(names: dict[str, Any], arguments: list[str]) -> None:
    command, *rest = arguments
    if command == "names":
        if rest:
            act(names, rest)
        double = names["double"]
        told = {
            module_name_of(thing) for thing in (double.fn, double, names["Point"], names["shop"], double.__module__)
        }
        print(json.dumps({"names": sorted(told), "key": double.task_key, "entrypoint": names["shop"].entrypoint}))
    elif command == "dump":
        dump(things_in(names), rest[0])
    elif command == "check":
        own, different = things_in(names), []
        for path in rest:
            loaded = load(path)
            different += [f"{name} in {path}" for name, thing in own.items() if loaded[name] != thing]
            assert type(loaded["point"]) is names["Point"]
        print(json.dumps(different))


def run(*command: str, cwd: Path, **variables: str) -> str:
    """Run Python with these arguments and return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    ended = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=50
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def loaded(entrypoint: str, *arguments: str, cwd: Path) -> str:
    """Do the same in a process that loads an entry point."""
    return run("-m", "tests.integration.stored_pickles", entrypoint, *arguments, cwd=cwd)


if __name__ == "__main__":
    found = load_flow(sys.argv[1])
    act(vars(sys.modules[found.__module__]), sys.argv[2:])
