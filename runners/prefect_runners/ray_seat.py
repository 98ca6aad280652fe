"""The CPUs that Ray has given to a task, handed back while the task waits for others on the same Ray.

A flow in a task's body may run on the Ray around it. Ray gives a task's CPUs to others only while the main thread of its worker is inside
one of Ray's own waits; on any other wait of ours the task would keep them from those it waits for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from prefect_core.engine import deadlines

_LOOK_SECONDS = 0.1
_MOST_WAITED_FOR = 1000
_DEALING_SECONDS = 0.02
"""How long those that have ended are given until whoever waits for them knows."""
_STEP_SECONDS = 0.001

_sources: list[tuple[ModuleType, Callable[[], list[Any]]]] = []


def open_for(ray: ModuleType, replies: Callable[[], list[Any]]) -> Callable[[], None]:
    """Take note of a runner in this process, by Ray's references to what it waits for; returns what forgets it again."""
    source = (ray, replies)
    _sources.append(source)
    return lambda: _sources.remove(source)


class Seat:
    """What the thread has that runs a task's body (`waiting.Slot`)."""

    def give_back(self, is_done: Callable[[], bool]) -> None:
        seen: set[Any] = set()
        while _sources and not is_done():
            ray, replies = _sources[-1]
            open_ones = replies()
            seen.intersection_update(open_ones)
            fresh = [reply for reply in open_ones if reply not in seen][:_MOST_WAITED_FOR]
            if not fresh:
                # Somebody has to hand over the next first.
                _wait_at_most(_DEALING_SECONDS, is_done)
                continue
            try:
                ended = _wait_in_ray(ray, fresh)
            except Exception:
                # Ray is gone, of which those hear too that are waited for.
                return
            seen.update(ended)
            if ended:
                _wait_at_most(_DEALING_SECONDS, is_done)

    def take_again(self) -> None:
        """Ray has given it back."""


@deadlines.door
def _wait_in_ray(ray: ModuleType, replies: list[Any]) -> Any:
    return ray.wait(replies, num_returns=1, timeout=_LOOK_SECONDS, fetch_local=False)[0]


@deadlines.door
def _wait_at_most(seconds: float, is_done: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not is_done() and time.monotonic() < until:
        time.sleep(_STEP_SECONDS)
