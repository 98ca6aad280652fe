"""Submitted tasks whose bodies are quick go to a distant runner together, without being asked to (`bundles` makes the chunks).

A native task costs Dask and Ray about a millisecond, whatever its body does. So a task whose bodies have been seen to take less than
that, and to return little, travels in chunks while there is a backlog of calls. Nobody should notice but by the time it takes: what has
arguments that refer to values on the cluster, or options for the engine, goes alone, and so does all that is stuck behind a slow body.

A quick call whose inputs are being gathered joins them, as links (`links`). The next task of a chain waits until that before it is
gathered, and not until it has ended: when one is handed over, all that are behind it join it, one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from prefect_core.engine.bundles import Bundle, Done, Pace
from prefect_core.engine.steps import Life, Wait
from prefect_core.errors import InputNotMade
from prefect_core.payload import Payload, Receipt

if TYPE_CHECKING:
    from prefect_core.engine.task_call import TaskCall
    from prefect_core.engine.upstreams import Promised, Upstreams
    from prefect_core.task_runners import TaskRunner

_BACKLOG = 16
_LEAST_SEEN = 8
_QUICK_SECONDS = 0.002
_LINKED_SECONDS = 0.00025
"""What a body may take to go into one chunk with its inputs: less than a native task costs this process, so that no number of workers
would be through with a chain, or several, any sooner."""


class _Kind:
    """What is known of one task on one runner."""

    __slots__ = ("bundle", "pace", "task")

    def __init__(self, task: Any) -> None:
        self.task = task  # kept, so that its id stays its own
        # What earlier runs have seen of its bodies, so that not each begins with calls that go alone.
        before = _paces.get(task)
        self.pace = _paces[task] = Pace() if before is None else before.anew()
        self.bundle = Bundle("auto", self.pace, loosens=True)

    @property
    def is_quick(self) -> bool:
        pace = self.pace
        return pace.count >= _LEAST_SEEN and pace.seconds < _QUICK_SECONDS and not pace.is_ruled_out


_paces: WeakKeyDictionary[Any, Pace] = WeakKeyDictionary()
"""Of the runs of this process, by their tasks: the latest."""


class Gathering:
    """The quick tasks of one flow run."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[int, int], _Kind] = {}

    def hand_over(self, call: TaskCall, runner: TaskRunner, payload: Payload, done: Done, backlog: int) -> bool:
        """Hand an attempt to a runner that takes chunks, with others if that does no harm. `backlog` calls are open.

        False for one that was to join its inputs and came too late, which has its receipt.
        """
        kind = self._kind_of(call, runner)
        linked_in, call.linked_in = call.linked_in, None
        if linked_in is not None and call.held is not None:
            call.bundle = linked_in
            if not linked_in.join(payload, done, kind.pace, [one.task_run for one in call.held.promised]):
                call.bundle = None
                done(Receipt.of_unbegun(InputNotMade("The chunk of its inputs was handed over.")))
                return False
            return True
        if kind.is_quick and backlog >= _BACKLOG and _goes_with_others(payload) and runner.may_gather(payload):
            call.bundle = kind.bundle
            kind.bundle.add(runner, payload, done)
            return True

        def observed(receipt: Any) -> None:
            kind.pace.learn(receipt)
            done(receipt)

        runner.submit(payload, observed)
        return True

    def may_link(self, call: TaskCall, backlog: int) -> bool:
        """Tell whether a call goes with its inputs if these are gathered."""
        runner = call.home
        if runner is None or not runner.links_chunks or backlog < _BACKLOG:
            return False
        kind = self._kind_of(call, runner)
        if not kind.is_quick or kind.pace.seconds > _LINKED_SECONDS:
            return False
        # As it will be, but for its arguments.
        payload = Payload.of_task((), {}, call.context, call.variables)
        return call.task.isolation is None and _goes_with_others(payload) and runner.may_gather(payload)

    def _kind_of(self, call: TaskCall, runner: TaskRunner) -> _Kind:
        key = id(call.task), id(runner)
        return self._kinds.get(key) or self._kinds.setdefault(key, _Kind(call.task))


def linked_inputs(call: TaskCall, upstreams: Upstreams) -> Life[Promised | None]:
    """Return links to the inputs of a quick call, once they are gathered; None where it does not go with them in one chunk."""
    dispatcher = call.taker
    if dispatcher is None or not upstreams.may_be_linked:
        return None
    while dispatcher.gathering.may_link(call, dispatcher.backlog):
        still_open = call.still_open()
        # In this order: what happens in between is seen.
        signal = still_open[0].handed_over_or_done() if len(still_open) == 1 else None
        linked = upstreams.linked()
        if linked is not None or signal is None:
            return linked
        yield Wait([signal])
        if not upstreams.may_be_linked:
            return None
    return None


def _goes_with_others(payload: Payload) -> bool:
    return (
        payload.attempt <= 1
        and not (payload.is_async or payload.timeout_seconds or payload.resources or payload.priority or payload.after)
        and payload.has_plain_arguments()
    )
