"""The far end of `RayTaskRunner`: what Ray calls in its workers, once for each attempt.

What comes of it is described in `ray_values`. What an attempt tells before its end goes through the key-value store of Ray's head
(`ray_store`): bodies under half a second tell nothing and cost nothing, and the flow's process looks there only while longer ones run.
"""

from __future__ import annotations

import _thread
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from prefect_core import waiting
from prefect_core.engine import in_place
from prefect_core.engine.links import awaited_in
from prefect_core.engine.parcels import Parcel
from prefect_runners import ray_begun
from prefect_runners.chunk_places import ChunkPlaces
from prefect_runners.ray_seat import Seat
from prefect_runners.ray_store import HeadStore
from prefect_runners.ray_values import ENDED, ENDED_WITH_MORE, ChunkWithValues, Inputs, Kept

_MOST_SESSIONS = 16
_HEAR_SECONDS = 0.02


class Order(NamedTuple):
    """What an execution is told: a parcel whose larger parts lie in the store, and which inputs (`foreign`) no attempt of ours made."""

    session: bytes
    number: int
    foreign: frozenset[int]
    surroundings: int
    task: int
    call: bytes


def execute(order: bytes, *natives: Any) -> tuple[bytes, Any]:
    """Run one attempt; what Ray is given to call, with two returns. Never raises."""
    _shield.cover_this_task()
    try:
        reply, outcome = _execute(Order(*pickle.loads(order)), natives)
    except Exception as error:
        return ENDED + in_place.unloadable(error).reply, b""
    if not outcome.is_ok:
        return reply, b""
    return reply, outcome.dumped if outcome.is_sent else outcome.value


def execute_small(order: bytes, *natives: Any) -> Any:
    """Run one attempt whose value will most likely be small; what Ray is given to call, with one return. Never raises."""
    _shield.cover_this_task()
    try:
        reply, outcome = _execute(Order(*pickle.loads(order)), natives)
    except Exception as error:
        return ENDED + in_place.unloadable(error).reply
    if type(outcome.value) is Kept:
        outcome.value.reply = reply
        return outcome.value
    return reply


def execute_chunk(order: bytes) -> bytes | ChunkWithValues:
    """Run attempts one after the other; what Ray is given to call, with one return: their replies by their places. Never raises."""
    import ray  # loaded before this is called, by Ray itself

    _shield.cover_this_task()
    name, number, payloads = pickle.loads(order)
    try:
        session = _sessions.get(name) or _join(name)
        parcels = [
            Parcel(around, session.part(around), task, session.part(task), call, links)
            for around, task, call, links in payloads
        ]
    except Exception as error:
        failed = [(place, in_place.unloadable(error).reply) for place in range(len(payloads))]
        return ENDED_WITH_MORE + pickle.dumps((0, [], pickle.dumps(failed), None))
    news = _News(session.store, number)
    values: dict[int, tuple[Any, tuple[int, int]]] = {}

    def keep(place: int, value: Any) -> None:
        kept = Kept.of(number, value)
        values[place] = ray.put(kept), kept.making

    places = ChunkPlaces()

    def begins(place: int) -> None:
        places.begin(place)
        session.begins(f"{number}:{place}")

    hearing = _Hearing(session.store, number, places)
    with _shield.hearing(hearing), waiting.holding(_seat):
        left, awaited = places.left(parcels), awaited_in(parcels)
        replies = in_place.work_chunk(left, news.tell, keep, begins, hearing.look, awaited)
    replies = places.marked(replies)
    ahead, late = news.close()
    envelope = ENDED_WITH_MORE + pickle.dumps((ahead, late, pickle.dumps(replies), None))
    return ChunkWithValues(envelope, values) if values else envelope


def call(session: bytes, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function as a session's attempts are run: what Ray is given to call to ask a worker something."""
    if session not in _sessions:
        _join(session)
    return function(*args)


def _execute(told: Order, natives: tuple[Any, ...]) -> tuple[bytes, in_place.Outcome]:
    session = _sessions.get(told.session) or _join(told.session)
    inputs = Inputs(natives, told.foreign)
    if natives and not inputs.are_made():
        outcome = in_place.unready()
        return ENDED + outcome.reply, outcome
    news = _News(session.store, told.number)
    parcel = Parcel(told.surroundings, session.part(told.surroundings), told.task, session.part(told.task), told.call)
    begins = partial(session.begins, str(told.number))
    with waiting.holding(_seat):
        outcome = in_place.carry_out(parcel, inputs, news.tell, partial(Kept.of, told.number), begins)
    ahead, late = news.close()
    making = outcome.value.making if type(outcome.value) is Kept else None
    if ahead or late or making:
        return ENDED_WITH_MORE + pickle.dumps((ahead, late, outcome.reply, making)), outcome
    return ENDED + outcome.reply, outcome


class _Joined:
    """A session that this worker takes part in."""

    def __init__(self, name: bytes) -> None:
        self.store = HeadStore(name)
        self._parts: dict[int, bytes | None] = {}
        self.begins: Callable[[str], object] = ray_begun.unheard
        """Is told the keys of attempts that begin."""

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
        joined.begins = ray_begun.outlet(session.folder, joined.store)
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

    def tell(self, *content: Any) -> None:
        """Send one message; an outlet of `in_place`."""
        message = pickle.dumps(content)
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


class _Hearing:
    """Gives members of the chunk that runs here back, once somebody asks for some.

    Who asks says so by an interruption; until then, that is looked for now and then, in case the main thread does not get to hear it.
    """

    def __init__(self, store: HeadStore, number: int, places: ChunkPlaces) -> None:
        self._store = store
        self._number = number
        self._places = places
        self._looking = threading.Lock()
        self._has_begun = False
        self.is_over = False

    def begin(self) -> None:
        """Begin to look all the time; called in the midst of whatever the main thread does, which may hold any lock."""
        if not self._has_begun:
            self._has_begun = True
            _thread.start_new_thread(self._hear, ())

    def look(self) -> None:
        """Answer whoever asks just now. Raises what Ray raises if its head does not answer."""
        with self._looking:
            asked = self._store.asked_back(self._number)
            if asked is not None:
                self._store.give_back(self._number, self._places.take_back(asked))

    def _hear(self) -> None:
        while not self.is_over:
            try:
                self.look()
            except Exception:
                # Who asks gets no answer, and takes all for begun.
                return
            time.sleep(_HEAR_SECONDS)


class _Shield:
    """Keeps `ray.cancel` from interrupting a body: it is for attempts that have not begun, and which have is known here only.

    Ray interrupts the main thread if the task runs, by what Ctrl-C does. Bodies that are to be stopped are stopped with their process. A
    chunk takes the interruption as a sign that some of it is asked for.
    """

    def __init__(self) -> None:
        self._task: str | None = None
        self._before: Any = None
        self._hearing: _Hearing | None = None
        self._was_interrupted = False
        """Whether this task was told before it could hear what for."""

    @contextmanager
    def hearing(self, hearing: _Hearing) -> Iterator[None]:
        """Let a chunk hear what is asked of it in the block."""
        self._hearing = hearing
        if self._was_interrupted:
            hearing.begin()
        try:
            yield
        finally:
            self._hearing, hearing.is_over = None, True

    def cover_this_task(self) -> None:
        """Ignore interruptions for as long as Ray's present task runs."""
        self._task, self._was_interrupted = _present_task(), False
        if threading.current_thread() is threading.main_thread():
            # Each time: Ray puts back what it found where it held signals up, and a body may set a handler of its own.
            before = signal.getsignal(signal.SIGINT)
            if before != self._interrupted:
                self._before = before
                signal.signal(signal.SIGINT, self._interrupted)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        hearing = self._hearing
        if _present_task() != self._task and callable(self._before):
            self._before(number, frame)
        elif hearing is not None:
            hearing.begin()
        else:
            self._was_interrupted = True


def _present_task() -> str | None:
    import ray  # loaded before this is called, by Ray itself

    task: str | None = ray.get_runtime_context().get_task_id()
    return task


_sessions: dict[bytes, _Joined] = {}
_shield = _Shield()
_seat = Seat()
