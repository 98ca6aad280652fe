"""What a Dask worker runs for the Dask runner: attempts, and answers to questions about them."""

from __future__ import annotations

import asyncio
import ctypes
import pickle
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import starmap
from typing import Any

from dask.sizeof import sizeof
from distributed import get_worker

import prefect_core
from prefect_core.engine import deadlines, in_place
from prefect_core.engine.in_place import Outcome
from prefect_core.engine.links import awaited_in
from prefect_core.engine.parcels import Parcel
from prefect_runners import dask_begun
from prefect_runners.chunk_places import ChunkPlaces
from prefect_runners.dask_guard import REPLY

_MOST_REMEMBERED = 10_000
_TOLD_OF = {"executing", "long-running"}
"""The states of a running task that Dask's scheduler still knows."""
_INTERRUPT_ROUNDS = 25
_INTERRUPT_SECONDS = 0.02


@sizeof.register(Outcome)  # type: ignore[untyped-decorator]  # Dask is left untyped
def _size_of_outcome(outcome: Outcome) -> int:
    # By it Dask decides what to move, and what to spill.
    return int(sizeof(outcome.value)) + len(outcome.reply)


_NO_MEMBERS: Mapping[str, Collection[int]] = {}
HELD = -2
"""Stands in place of a place, for where the large values of a chunk are."""


class FlowRunEnded(BaseException):
    """Raised in a body whose flow run has ended without it."""


class Begun:
    """Which attempts began in this process, which were taken back before they could, and which are given up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[str, None] = {}
        self._taken_back: dict[str, None] = {}
        self._running: dict[str, int] = {}
        """The threads they run on."""
        self._chunks: dict[str, ChunkPlaces] = {}
        """Of those that run and are chunks."""

    def places_of(self, chunk: str) -> ChunkPlaces:
        """Return how far a chunk that runs here has got."""
        with self._lock:
            return self._chunks.setdefault(chunk, ChunkPlaces())

    def begun_in(self, chunk: str, places: Collection[int]) -> Collection[int]:
        """Keep what has not begun of a chunk from doing so; returns the places of the others, none if the chunk is not here."""
        with self._lock:
            if chunk in self._running:
                taken = self._chunks.setdefault(chunk, ChunkPlaces()).take_back(places)
                return set(places).difference(taken)
            return places if chunk in self._begun else ()

    def may_begin(self, key: str) -> bool:
        """Take note that an attempt begins on this thread, unless it was taken back."""
        with self._lock:
            if key in self._taken_back:
                return False
            self._running[key] = threading.get_ident()
            self._begun[key] = None
            _forget_oldest(self._begun)
            return True

    def ended(self, key: str) -> bool:
        """Take note of its end; False if it was given up, so that nobody wants to hear of it."""
        with self._lock:
            self._running.pop(key, None)
            self._chunks.pop(key, None)
            # What was about to be raised here must not strike Dask's own code.
            _raise_in(threading.get_ident(), None)
            return key not in self._taken_back

    def is_wanted(self, key: str) -> bool:
        """Tell whether somebody wants to hear of it."""
        return key not in self._taken_back

    def take_back(self, keys: Collection[str], *, by_force: bool = False) -> list[str]:
        """Keep attempts from beginning here; returns those that have begun. `by_force` gives up these, too."""
        with self._lock:
            begun = [key for key in keys if key in self._running or key in self._begun]
            self._taken_back.update(dict.fromkeys(keys if by_force else set(keys).difference(begun)))
            _forget_oldest(self._taken_back)
            return begun

    def interrupt(self, keys: Collection[str]) -> bool:
        """Interrupt those that run here and can be interrupted where they are; tells whether some run on."""
        with self._lock:
            threads = [self._running[key] for key in keys if key in self._running]
            frames = sys._current_frames()
            for thread in threads:
                if deadlines.may_interrupt(frames.get(thread)):
                    _raise_in(thread, FlowRunEnded)
            return bool(threads)


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    raised = ctypes.py_object(kind) if kind is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)


def _forget_oldest(keys: dict[str, None]) -> None:
    while len(keys) > _MOST_REMEMBERED:
        del keys[next(iter(keys))]


_here = Begun()


def work(dumped: bytes, inputs: Sequence[Any] = ()) -> Outcome:
    """Run an attempt, tell the near end how it goes and how it ended, and leave its outcome with Dask."""
    topic, key, is_guarded, parcel = pickle.loads(dumped)
    if not _here.may_begin(key):
        return Outcome(False, b"")
    worker = get_worker()

    def tell(kind: str, what: Any) -> None:
        if _here.is_wanted(key):
            worker.log_event(topic, (kind, key, what))

    outcome = Outcome(False, b"")
    try:
        outcome = in_place.work(Parcel(*parcel), inputs, tell, partial(dask_begun.of(worker).note, key))
    except FlowRunEnded:
        # It came a moment too late for the body.
        return outcome
    finally:
        is_wanted = _here.ended(key)
    _tell_end(worker, topic, key, is_guarded, outcome.reply if is_wanted else None)
    return outcome


def work_chunk(dumped: bytes) -> Outcome:
    """Run attempts one after the other, and tell of each as `work` does: by its place, behind the key of the Dask task."""
    topic, key, is_guarded, packed = pickle.loads(dumped)
    if not _here.may_begin(key):
        return Outcome(False, b"")
    worker = get_worker()
    parcels = [*starmap(Parcel, packed)]

    places, awaited = _here.places_of(key), awaited_in(parcels)

    def tell(place: int, kind: str, what: Any) -> None:
        if _here.is_wanted(key):
            worker.log_event(topic, (kind, place_in(key, place), what))

    def wanted() -> Iterator[tuple[int, Parcel]]:
        for one in places.left(parcels):
            if not _here.is_wanted(key):
                return
            yield one

    def begins(place: int) -> None:
        places.begin(place)
        begun.note(place_in(key, place))

    replies: list[in_place.PlacedReply] = []
    values: dict[int, Any] = {}
    try:
        begun = dask_begun.of(worker)
        replies = places.marked(in_place.work_chunk(wanted(), tell, values.__setitem__, begins, awaited=awaited))
        if values:
            replies.insert(0, (HELD, worker.address.encode()))
    except FlowRunEnded:
        return Outcome(False, b"")
    finally:
        is_wanted = _here.ended(key)
    dumped = pickle.dumps(replies)
    # In a tuple, by which they are told from the reply of a single attempt.
    _tell_end(worker, topic, key, is_guarded, (dumped,) if is_wanted else None)
    return Outcome(True, dumped, values)


def value_of(chunk: Outcome, place: int) -> Outcome:
    """Make a large value that an attempt of a chunk has left one of its own."""
    return Outcome(True, b"", chunk.value[place])


def place_in(key: str, place: int) -> str:
    """Return by what an attempt in a chunk is known."""
    return f"{key}:{place}"


def chunk_and_place(key: str) -> tuple[str, int]:
    """Return the key of the Dask task and the place in it, of what `place_in` returned."""
    chunk, _, place = key.rpartition(":")
    return chunk, int(place)


def _tell_end(worker: Any, topic: str, key: str, is_guarded: bool, reply: Any) -> None:
    if reply is None:
        return
    task = worker.state.tasks.get(key) if is_guarded else None
    if task is not None and task.state in _TOLD_OF:
        # It travels with what Dask itself tells of the end.
        task.metadata[REPLY] = reply
    else:
        worker.log_event(topic, (REPLY, key, reply))


def reply_of(outcome: Outcome) -> bytes:
    """Return the reply of an attempt that has ended; run where the outcome lies."""
    reply: bytes = outcome.reply
    return reply


def take_back(keys: Collection[str], members: Mapping[str, Collection[int]] = _NO_MEMBERS) -> list[str]:
    """Keep attempts from beginning on this worker, and members of chunks by their places; returns those that have begun."""
    begun = _here.take_back(keys)
    return begun + [place_in(chunk, place) for chunk in members for place in _here.begun_in(chunk, members[chunk])]


async def give_up(keys: Collection[str]) -> bool:
    """Let attempts end, or not begin, of which nobody will hear; tells whether some run on all the same."""
    _here.take_back(keys, by_force=True)
    for _ in range(_INTERRUPT_ROUNDS):
        if not _here.interrupt(keys):
            return False
        await asyncio.sleep(_INTERRUPT_SECONDS)
    return True


async def aside(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function here, on a thread beside those that run tasks."""
    return await asyncio.to_thread(function, *args)


def version() -> str:
    """Return the version of prefect_core here."""
    return prefect_core.__version__
