"""Submitted tasks whose bodies are quick go to a distant runner together, without being asked to (`bundles` makes the chunks).

A native task costs Dask and Ray about a millisecond, whatever its body does. So a task whose bodies have been seen to take less than
that, and to return little, travels in chunks while there is a backlog of calls. Nobody should notice but by the time it takes: what has
arguments that refer to values on the cluster, or options for the engine, goes alone, and so does all that is stuck behind a slow body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_core.engine.bundles import Bundle, Done, Pace

if TYPE_CHECKING:
    from prefect_core.engine.task_call import TaskCall
    from prefect_core.payload import Payload
    from prefect_core.task_runners import TaskRunner

_BACKLOG = 16
_LEAST_SEEN = 8
_QUICK_SECONDS = 0.002


class _Kind:
    """What is known of one task on one runner."""

    __slots__ = ("bundle", "pace", "task")

    def __init__(self, task: Any) -> None:
        self.task = task  # kept, so that its id stays its own
        self.pace = Pace()
        self.bundle = Bundle("auto", self.pace, loosens=True)

    @property
    def is_quick(self) -> bool:
        pace = self.pace
        return pace.count >= _LEAST_SEEN and pace.seconds < _QUICK_SECONDS and not pace.is_ruled_out


class Gathering:
    """The quick tasks of one flow run."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[int, int], _Kind] = {}

    def hand_over(self, call: TaskCall, runner: TaskRunner, payload: Payload, done: Done, backlog: int) -> None:
        """Hand an attempt to a runner that takes chunks, with others if that does no harm. `backlog` calls are open."""
        key = id(call.task), id(runner)
        kind = self._kinds.get(key) or self._kinds.setdefault(key, _Kind(call.task))
        if kind.is_quick and backlog >= _BACKLOG and _goes_with_others(payload) and runner.may_gather(payload):
            call.bundle = kind.bundle
            kind.bundle.add(runner, payload, done)
            return

        def observed(receipt: Any) -> None:
            kind.pace.learn(receipt)
            done(receipt)

        runner.submit(payload, observed)


def _goes_with_others(payload: Payload) -> bool:
    return (
        payload.attempt <= 1
        and not (payload.is_async or payload.timeout_seconds or payload.resources or payload.priority or payload.after)
        and payload.has_plain_arguments()
    )
