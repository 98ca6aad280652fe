"""Why a value has no encoding, where in it, and what its owner can do."""

from __future__ import annotations

import re

from prefect_core.errors import NotEncodable


class Refusal(Exception):
    """A value has no stable encoding, for a reason; `steps` lead to it, the innermost first."""

    def __init__(self, value: object, reason: str) -> None:
        super().__init__(reason)
        self.kind = type(value)
        self.reason = reason
        self.steps: list[str] = []

    def within(self, step: str) -> None:
        """Note by which step the value was reached, as `[3]` or `.name`."""
        self.steps.append(step)

    def error(self) -> NotEncodable:
        """Return the error that a user reads."""
        path = _path(self.steps)
        kind = f"{self.kind.__module__}.{self.kind.__qualname__}".removeprefix("builtins.")
        what = f"The input {path!r}" if path else "The input"
        argument = re.split(r"[.\[{]", path, maxsplit=1)[0] or "name"
        return NotEncodable(
            f"{what} of type {kind} has no stable encoding: {self.reason}. Give the call a key (submit(..., key=...)), "
            f'leave the input out of the cache policy (INPUTS - "{argument}"), or pass plain data.',
            path=path,
        )


_KEY = re.compile(r"\['([^\W\d]\w*)'\]")


def _path(steps: list[str]) -> str:
    if not steps:
        return ""
    *inner, first = steps
    # The first step leads into the arguments of a call, mostly, where `config` reads better than `['config']`.
    name = _KEY.fullmatch(first)
    return (name[1] if name else first.removeprefix(".")) + "".join(reversed(inner))
