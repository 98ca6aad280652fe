"""Stand-ins for sys.stdout and sys.stderr, which take what is written in some runs and pass everything else through.

`print` looks up sys.stdout at each call, so `builtins.print` stays what it is. Who wrote is told by the context variable of the run:
other threads, other async tasks and runs that log no prints reach the stream behind as if nothing stood in between. Streams that the
code names itself (`print(..., file=report)`) are never touched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from prefect_core import context
from prefect_core.context import RunContext

Take = Callable[[RunContext, str, str], bool]
"""Offered the run's context, the stream's name and the text; tells whether it took it."""

_NAMES = ("stdout", "stderr")
# What these write is no print of the body's: lines of a handler that was made inside it, and the prompts of a debugger.
_NOT_OF_THE_BODY = frozenset({"logging", "cmd", "pdb", "bdb"})


class StandIn:
    """Stands where `stream` stood; all but `write` is the stream's own."""

    def __init__(self, name: str, stream: Any, take: Take) -> None:
        self.name_in_sys = name
        self.stream = stream
        self._take = take

    def write(self, text: str) -> int:
        around = context.current()
        # A carriage return draws a progress bar anew; that is not a line.
        if around is not None and around.log_prints and not text.startswith("\r"):
            writer = sys._getframe(1).f_globals.get("__name__")
            if writer not in _NOT_OF_THE_BODY and self._take(around, self.name_in_sys, text):
                return len(text)
        written: int = self.stream.write(text)
        return written

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def install(take: Take) -> None:
    """Put stand-ins in the place of both streams, where there are none yet."""
    for name in _NAMES:
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, StandIn):
            setattr(sys, name, StandIn(name, stream, take))


def remove() -> None:
    """Put the streams back; whatever somebody else put there meanwhile stays."""
    for name in _NAMES:
        stream = getattr(sys, name)
        if isinstance(stream, StandIn):
            setattr(sys, name, stream.stream)


def behind(stream: Any) -> Any:
    """Return the real stream behind a stand-in, or the stream itself."""
    while isinstance(stream, StandIn):
        stream = stream.stream
    return stream
