"""Waits that could never end, and refusing them.

Such a wait blocks the very event loop that has to run what it waits for, or waits for the run it stands in, or is one of several that
wait for each other. What a wait needs may change while it lasts: a task that was ready for a thread finds the last place of its runner
taken by an async task of the blocked loop. So each wait is looked at when it begins, and one that blocks a loop once more whenever a
runner has given such a place away, or has been handed something to run (`look_again`).

First a wait is made known, then looked through: of two waits that block each other, at least one sees the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prefect_core import context, loops
from prefect_core.errors import BlockingWaitError

if TYPE_CHECKING:
    from prefect_core.waiting import Signal

_THIS_LOOP = (
    "Waiting for {!r} here would block the event loop that has to run it, or a task ahead of it, for ever. "
    "Use `await future` (or `await futures` for the list that map returns) instead of .result() or .wait()."
)
_ITSELF = "{!r} was waited for by code that runs inside it. A run that waits for itself would never end: return the value instead."
_CIRCLE = (
    "{!r} was waited for here, and it can't end before this run does: runs that wait for each other would never end. In async code, "
    "use `await future` instead of .result() or .wait(), which block the event loop."
)


class _Wait:
    """One wait: for what, on the thread of which event loop, and inside which runs."""

    __slots__ = ("_has_place", "_loop", "_one_is_enough", "_own", "_signals", "_stop", "refusal")

    def __init__(
        self,
        signals: Collection[Signal],
        one_is_enough: bool,
        loop: object | None,
        has_place: bool,
        stop: Callable[[], object],
    ) -> None:
        self._signals = signals
        self._one_is_enough = one_is_enough
        self._loop = loop
        self._has_place = has_place
        self._stop = stop
        self._own = frozenset(context.lineage(context.current()))
        self.refusal: BlockingWaitError | None = None

    def look(self) -> None:
        """Raise `BlockingWaitError` if it could never end; of several signals, where one is enough, if that is true of each."""
        if self._loop is None and not self._own and not blocked_loops:
            return
        is_deep = self._loop is not None or bool(blocked_loops) or (self._has_place and len(_blocked_runs) > 1)
        obstacles = []
        for signal in self._signals:
            obstacle = self._obstacle(signal) if is_deep else _ITSELF if signal.run_uid() in self._own else None
            if obstacle is not None:
                obstacles.append((signal, obstacle))
                if not self._one_is_enough:
                    break
        if obstacles and (not self._one_is_enough or len(obstacles) == len(self._signals)):
            signal, obstacle = obstacles[0]
            raise BlockingWaitError(obstacle.format(signal))

    def look_again(self) -> None:
        """Do so on another thread, while the wait lasts, and end it with that error."""
        try:
            self.look()
        except BlockingWaitError as error:
            self.refusal = error
            self._stop()

    def _obstacle(self, wanted: Signal) -> str | None:
        """Look through all that has to happen before `wanted`; return why it can't while this wait lasts, or None."""
        seen: set[int] = set()
        ahead = [wanted]
        while ahead:
            signal = ahead.pop()
            if id(signal) in seen or signal.done():
                continue
            seen.add(id(signal))
            uid = signal.run_uid()
            if uid in self._own:
                return _ITSELF if signal is wanted else _CIRCLE
            needed = signal.loop_needed()
            if needed is not None:
                if needed is self._loop:
                    return _THIS_LOOP
                ahead += _held_up.get(needed, ())
            ahead += _blocked_runs.get(uid, ())
            ahead += signal.upstreams()
        return None


blocked_loops: dict[object, _Wait] = {}
"""Event loops whose thread blocks now, and in which wait."""
_held_up: dict[object, Collection[Signal]] = {}
"""Those of them that block until all of these have happened."""
_blocked_runs: dict[int, Collection[Signal]] = {}
"""Runs whose body blocks on a thread of a runner now, by uid, until all of these have happened."""


@contextmanager
def refused(
    signals: Collection[Signal], one_is_enough: bool, timeout: float | None, has_place: bool, stop: Callable[[], object]
) -> Iterator[_Wait]:
    """Let others know of a blocking wait while the block lasts. Raises `BlockingWaitError` if it could never end.

    `stop` ends the wait from another thread, when that is found out later, and the yielded wait's `refusal` is then the error.
    `has_place` tells that this thread is one of a runner.
    """
    loop = loops.running_loop()
    wait = _Wait(signals, one_is_enough, loop, has_place, stop)
    until_all = signals if timeout is None and not one_is_enough else ()
    around = context.current()
    uid = around.run.uid if until_all and loop is None and around is not None and has_place else 0
    if loop is not None:
        blocked_loops[loop], _held_up[loop] = wait, until_all
    elif uid:
        _blocked_runs[uid] = signals
    try:
        wait.look()
        yield wait
    finally:
        if loop is not None:
            blocked_loops.pop(loop, None)
            _held_up.pop(loop, None)
        elif uid:
            _blocked_runs.pop(uid, None)


def refuse(signals: Collection[Signal], one_is_enough: bool) -> None:
    """Raise `BlockingWaitError` for an await that could never end."""
    _Wait(signals, one_is_enough, None, has_place=False, stop=bool).look()


def look_again(loop: object | None) -> None:
    """Look once more at the wait that blocks `loop`, if one does: what it waits for may need that loop now."""
    wait = blocked_loops.get(loop)
    if wait is not None:
        wait.look_again()
