"""Running what becomes ready without recursion.

The end of one run releases others, whose end releases more: a chain of a hundred thousand failures must not be a hundred thousand
frames. `push` runs a step now if this thread is not running one, else after it. A body's code is not a step: `suspend` lets what the
body pushes run at once, since the body may wait for it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

Steps = deque[Callable[[], object]]


class _Here(threading.local):
    steps: Steps | None = None


_here = _Here()


def push(step: Callable[[], object]) -> None:
    """Run `step` and all that it pushes, in order, unless this thread is doing so already."""
    steps = _here.steps
    if steps is not None:
        steps.append(step)
        return
    steps = _here.steps = deque((step,))
    interrupt: BaseException | None = None
    while steps:
        try:
            steps.popleft()()
        except BaseException as error:
            # Others' runs must not stay open because of it.
            interrupt = interrupt or error
    _here.steps = None
    if interrupt is not None:
        raise interrupt


def suspend() -> Steps | None:
    """Begin code of a user on this thread; returns what `resume` wants."""
    steps, _here.steps = _here.steps, None
    return steps


def resume(steps: Steps | None) -> None:
    """End code of a user on this thread."""
    _here.steps = steps
