"""Processes that code of a user makes by `fork` inside a body.

Such a child has a copy of the engine without its threads, of runs that belong to its parent. While it is in the body it may run flows and
tasks, on a dispatcher of its own. When it comes back out of the body it ends there, as the function given to `multiprocessing.Process`
does: what follows (states, retries, the caller's code) is its parent's.
"""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from typing import NoReturn

generation = 0
"""How many forks lie between this process and the first one."""


def leave(error: BaseException | None) -> NoReturn:
    """End a child that came back from a body, with the exit code that Python would give it."""
    code = _exit_code(error)
    try:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
        return 1
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1


def _count() -> None:
    global generation
    generation += 1


os.register_at_fork(after_in_child=_count)
