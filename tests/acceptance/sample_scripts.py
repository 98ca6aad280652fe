"""Runs a sample of the documents as the script it is, and gives what it printed in a form that can be compared."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(r"^\d\d:\d\d:\d\d\.\d{3} \| (\w+) +\| (.*)$")
_NAMED = re.compile(r"[Ff]low run '([a-z]+-[a-z]+)'|subflow run '([a-z]+-[a-z]+)'")


@dataclass
class Outcome:
    """How a script ended: its exit code and its lines, console and prints together, in order."""

    code: int
    lines: list[str]

    def has_in_order(self, *wanted: str) -> bool:
        """Tell whether these lines stand in the output in this order, others between them."""
        rest = iter(self.lines)
        return all(any(line == text for line in rest) for text in wanted)

    def mentions(self, *wanted: str) -> bool:
        """Tell whether all of these texts were printed; for tasks beside each other, whose lines may run into each other."""
        text = "\n".join(self.lines)
        return all(part in text for part in wanted)


# What is printed and what is logged stay in order, and lines of two threads whole: each line is one write.
_WHOLE_LINES = "import sys; sys.stdout.reconfigure(line_buffering=True)\n"


def run_script(folder: Path, code: str, **others: str) -> Outcome:
    """Run `code` in an empty folder beside modules `others`; names of flow runs become run-1, run-2 in the order of their appearance."""
    for name, text in others.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    script = folder / "hello.py"
    script.write_text(_WHOLE_LINES + code, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        timeout=50,
        check=False,
    )
    return Outcome(ended.returncode, _comparable(ended.stdout))


def _comparable(text: str) -> list[str]:
    names: dict[str, str] = {}
    for found in _NAMED.finditer(text):
        names.setdefault(found[1] or found[2], f"run-{len(names) + 1}")
    for name, stand_in in names.items():
        text = text.replace(f"'{name}'", f"'{stand_in}'")
    lines = []
    for line in text.splitlines():
        logged = _LINE.match(line)
        lines.append(f"{logged[1]} {logged[2]}" if logged else line)
    return lines
