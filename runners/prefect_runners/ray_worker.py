"""The far end of `RayTaskRunner`: what Ray calls in its workers, once for each attempt.

Two objects come of it. The first is small and goes to the flow's process with Ray's own reply: how the attempt ended. The second is what
dependents are handed: the value, or empty bytes where there is none.

What an attempt tells before its end goes through the key-value store of Ray's head (`ray_store`): bodies under half a second tell nothing
and cost nothing, and the flow's process looks there only while longer ones run.
"""

from __future__ import annotations

import pickle
import signal
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from prefect_core.engine import in_place
from prefect_core.engine.workplace import Parcel
from prefect_runners.ray_store import HeadStore
from prefect_runners.ray_values import Kept, value_in

_MOST_SESSIONS = 16
ENDED, ENDED_AFTER_NEWS = b"E", b"N"
"""How a reply begins: with that of `in_place`, or with what it told before and could not tell."""


class Order(NamedTuple):
    """What an execution is told: a parcel whose larger parts lie in the store, and which inputs (`foreign`) no attempt of ours made."""

    session: bytes
    number: int
    foreign: frozenset[int]
    surroundings: int
    task: int
    call: bytes


def execute(order: bytes, *natives: Any) -> tuple[bytes, Any]:
    """Run one attempt; what Ray is given to call. Never raises."""
    _shield.cover_this_task()
    try:
        return _execute(Order(*pickle.loads(order)), natives)
    except Exception as error:
        return ENDED + in_place.unloadable(error).reply, b""


def _execute(told: Order, natives: tuple[Any, ...]) -> tuple[bytes, Any]:
    session = _sessions.get(told.session) or _join(told.session)
    if any(type(made) is bytes and not made and place not in told.foreign for place, made in enumerate(natives)):
        return ENDED + in_place.unready().reply, b""
    news = _News(session.store, told.number)
    parcel = Parcel(told.surroundings, session.part(told.surroundings), told.task, session.part(told.task), told.call)
    outcome = in_place.carry_out(parcel, _Inputs(natives, told.foreign), news.tell, partial(Kept.of, told.number))
    ahead, late = news.close()
    reply = ENDED + outcome.reply
    if ahead or late:
        reply = ENDED_AFTER_NEWS + pickle.dumps((ahead, late, outcome.reply))
    if not outcome.is_ok:
        return reply, b""
    return reply, outcome.value if outcome.dumped is None else outcome.dumped


class _Inputs(Sequence[Any]):
    """What the references in a parcel stand for, loaded when they are asked for, so that what fails is told with the parcel."""

    def __init__(self, natives: tuple[Any, ...], foreign: frozenset[int]) -> None:
        self._natives = natives
        self._foreign = foreign

    def __len__(self) -> int:
        return len(self._natives)

    def __getitem__(self, place: Any) -> Any:
        native = self._natives[place]
        return native if place in self._foreign else value_in(native)


class _Joined:
    """A session that this worker takes part in."""

    def __init__(self, name: bytes) -> None:
        self.store = HeadStore(name)
        self._parts: dict[int, bytes | None] = {}

    def part(self, number: int) -> bytes | None:
        """Return a part of a payload, which is asked for once."""
        if number not in self._parts:
            self._parts[number] = self.store.part(number)
        return self._parts[number]


def _join(name: bytes) -> _Joined:
    """Take part in a session: find modules where the process finds them that it comes from, as far as they are on this machine too."""
    joined = _Joined(name)
    session = joined.store.session()
    if session is not None:
        known = {*sys.path}
        sys.path.extend(entry for entry in session.path if entry not in known and Path(entry).exists())
    if len(_sessions) >= _MOST_SESSIONS:
        _sessions.clear()
    _sessions[name] = joined
    return joined


class _News:
    """What an attempt tells before its end, numbered. What can't be told goes with the reply."""

    def __init__(self, store: HeadStore, number: int) -> None:
        self._store = store
        self._number = number
        self._ahead = 0
        self._late: list[bytes] = []
        self._lock = threading.Lock()

    def tell(self, kind: str, content: Any) -> None:
        """Send one message; an outlet of `in_place`."""
        message = pickle.dumps((kind, content))
        with self._lock:
            if not self._late:
                try:
                    self._store.tell(self._number, self._ahead, message)
                except Exception:
                    # The head does not answer now. The order is kept: nothing else is sent ahead.
                    self._late.append(message)
                else:
                    self._ahead += 1
            else:
                self._late.append(message)

    def close(self) -> tuple[int, list[bytes]]:
        """Return how many messages went ahead, and those that did not, once the last is on its way."""
        with self._lock:
            return self._ahead, self._late


class _Shield:
    """Keeps `ray.cancel` from interrupting a body: it is for attempts that have not begun, and which have is known here only.

    Ray interrupts the main thread if the task runs, by what Ctrl-C does. Bodies that are to be stopped are stopped with their process.
    """

    def __init__(self) -> None:
        self._task: str | None = None
        self._before: Any = None

    def cover_this_task(self) -> None:
        """Ignore interruptions for as long as Ray's present task runs."""
        self._task = _present_task()
        if self._before is None and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupted)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if _present_task() != self._task and callable(self._before):
            self._before(number, frame)


def _present_task() -> str | None:
    import ray  # loaded before this is called, by Ray itself

    task: str | None = ray.get_runtime_context().get_task_id()
    return task


_sessions: dict[bytes, _Joined] = {}
_shield = _Shield()
