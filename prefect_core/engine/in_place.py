"""The far end for engines that keep values where they were made (`Reference` is what the near end has of them).

A native execution leaves an `Outcome` with its engine, which hands it to the executions that depend on it, wherever those run. The reply,
which is small, goes to the flow's process over a channel of the runner's own; so does what an attempt has to tell before its end: that its
body began, and what happened inside, every half second.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from io import BytesIO
from typing import Any

from prefect_core import pickling
from prefect_core.engine import remote
from prefect_core.engine.parcels import Parcel, PlainReply, Reply, opened
from prefect_core.engine.workplace import Workplace
from prefect_core.errors import describe
from prefect_core.payload import PLAIN, Receipt
from prefect_core.states import State, is_collection_of_states

MOST_INLINE = 64 << 10
"""Bytes of a pickled value that travels with the reply; a larger one is fetched by who asks for it."""
TELL_SECONDS = 0.5
_IDLE_ROUNDS = 20

BEGUN, HAPPENED, ENDED = "begun", "happened", "ended"
CUT = -1
"""Stands in place of a place, for the rest of a chunk."""
Tell = Callable[[str, Any], object]
"""Sends something ahead of the reply: (BEGUN, moment in wall microseconds) or (HAPPENED, bytes for `Delivery.happened`)."""


PlacedReply = tuple[int, bytes | PlainReply]
"""A place in a chunk, and the reply of the attempt there."""


class TakenBack(Exception):
    """Raised just before the body of an attempt in a chunk: it begins not, and has no reply.

    That might arrive before whoever took it back has heard that it is had, and would then be how the attempt ended.
    """


class Outcome:
    """What an execution leaves with its engine: the value, for those who depend on it, and the reply, for who asks how it ended.

    `is_ok` is False where there is no value, since the body failed or could not begin. `is_sent` tells whether the value went with the
    reply: inside of it, if it `is_plain`, or behind it. In a chunk, a plain reply is not pickled by itself.
    """

    __slots__ = ("_dumped", "is_ok", "is_plain", "reply", "value")

    def __init__(
        self, is_ok: bool, reply: Any, value: Any = None, dumped: bytes | None = None, *, is_plain: bool = False
    ) -> None:
        self.is_ok = is_ok
        self.reply = reply
        self.value = value
        self.is_plain = is_plain
        self._dumped = dumped

    @property
    def is_sent(self) -> bool:
        return self.is_plain or self._dumped is not None

    @property
    def dumped(self) -> bytes | None:
        """The pickled value, if it went with the reply."""
        return pickle.dumps(self.value) if self.is_plain else self._dumped


def work(
    parcel: Parcel, inputs: Sequence[Any] = (), tell: Tell | None = None, begins: Callable[[], object] | None = None
) -> Outcome:
    """Run the attempt in `parcel` here; `inputs` are the values, or the outcomes, that its references stand for. Never raises.

    `begins` is called just before the body. What it raises ends the attempt.
    """
    if any(isinstance(one, Outcome) and not one.is_ok for one in inputs):
        return unready()
    values = [one.value if isinstance(one, Outcome) else one for one in inputs]
    return carry_out(parcel, values, tell, begins=begins)


def unready() -> Outcome:
    """Make the outcome of an attempt whose inputs were never made."""
    return Outcome(False, pickle.dumps(tuple(Reply(0, 0, False, remote.process_name(), None, [], is_unready=True))))


def unloadable(error: Exception) -> Outcome:
    """Make the outcome of an attempt that could not be loaded where it should run."""
    reply = Reply(0, 0, False, remote.process_name(), None, [], unloadable=describe(error))
    return Outcome(False, pickle.dumps(tuple(reply)))


def value_in_reply(dumped: bytes) -> tuple[bool, Any]:
    """Return whether an attempt ended well, by its reply, and then the value that went with it. Raises what unpickling raises."""
    stream = BytesIO(dumped)
    reply, plain = opened(pickle.load(stream))
    if plain:
        return True, plain[0]
    is_ok = reply.error is None and not (reply.timed_out or reply.is_unready or reply.unloadable)
    return is_ok, pickle.load(stream) if is_ok and not reply.is_kept else None


def carry_out(
    parcel: Parcel,
    values: Sequence[Any],
    tell: Tell | None = None,
    keep: Callable[[Any], Any] | None = None,
    begins: Callable[[], object] | None = None,
) -> Outcome:
    """Do as `work`, with the values of all references at hand.

    `keep` is called with a value that is too large to be sent, and returns what the outcome holds in its place; what it raises is why the
    value can't be kept.
    """
    news = _News(tell, begins) if tell is not None else None
    if news is not None:
        _teller.add(news)
    try:
        return _workplace.run_in_place(tuple(parcel), values, news, partial(_outcome, keep, pickle.dumps))
    finally:
        if news is not None:
            _teller.remove(news)


def work_chunk(
    parcels: Iterable[tuple[int, Parcel]],
    tell: Callable[[int, str, Any], object],
    keep: Callable[[int, Any], Any],
    begins: Callable[[int], object] | None = None,
    meanwhile: Callable[[], object] | None = None,
    awaited: Collection[int] = (),
) -> list[PlacedReply]:
    """Run attempts here, by place in the chunk and one after the other, and return replies by place. Never raises.

    What is known every half second goes ahead through `tell(place, kind, content)`: replies too, as ENDED. `keep(place, value)` takes what
    is too large to be sent, which is had when the chunk is over: its reply does not go ahead, and the chunk ends within half a second,
    behind the body under way. It then has a last reply of no place, CUT: places without one have not begun. `begins(place)` is called just
    before each body; where it raises `TakenBack` there is neither body nor reply. `meanwhile` is called every half second on a thread
    beside.

    Attempts whose links name one of the `awaited` places get a copy of the value that was made there; they are unready if there is none, or
    it is too large to be sent.
    """
    made: dict[int, bytes] = {}
    chunk = _Chunk(tell, begins, meanwhile)
    _teller.add(chunk)
    try:
        with _workplace.staying():
            for place, parcel in parcels:
                if chunk.has_kept_long():
                    return [*chunk.take_last(), (CUT, b"")]
                chunk.begin(place)
                if parcel.links and not made.keys() >= {*parcel.links}:
                    chunk.end(unready())
                    continue
                inputs = [pickle.loads(made[link]) for link in parcel.links] if parcel.links else ()
                ending = partial(_outcome, partial(keep, place), _as_it_is)
                outcome = _workplace.run_in_place(parcel, inputs, chunk.news, ending)
                if place in awaited and (dumped := _input_of_others(outcome)) is not None:
                    made[place] = dumped
                chunk.end(outcome)
    finally:
        chunk.close()
    return chunk.take_last()


def _input_of_others(outcome: Outcome) -> bytes | None:
    """Return the pickled value that others in the chunk get; None if it has none, or there are states, which the near end looks into."""
    value = outcome.value
    return None if isinstance(value, State) or is_collection_of_states(value) else outcome.dumped


def _outcome(keep: Callable[[Any], Any] | None, pack: Callable[[Any], Any], receipt: Receipt, attempt: Any) -> Outcome:
    """Make of the end of an attempt what it leaves; `pack` is called with a plain reply."""
    if receipt.error is not None:
        return Outcome(False, attempt.bare_reply(receipt, receipt.error))
    value = receipt.value
    if type(value) in PLAIN and not (isinstance(value, str | bytes) and len(value) > MOST_INLINE):
        reply = attempt.reply_with(receipt)
        return Outcome(True, reply if isinstance(reply, bytes) else pack(reply), value, is_plain=True)
    try:
        dumped = _dumped_if_small(value)
        stored = attempt.store_large(value) if dumped is None else None
        if dumped is None and keep is not None:
            value = keep(value)
    except Exception as failure:
        return Outcome(False, attempt.bare_reply(receipt, attempt.unpicklable(receipt.value, failure)))
    reply = attempt.bare_reply(receipt, None, dumped is None, stored)
    return Outcome(True, reply + (dumped or b""), value, dumped)


def _as_it_is(reply: PlainReply) -> PlainReply:
    return reply


class _TooLarge(Exception):
    """Ends the pickling of a value that is not sent."""


class _SmallStream(BytesIO):
    def write(self, chunk: Any) -> int:
        # The pickler hands large buffers over as they are, before it copies them.
        if self.tell() + memoryview(chunk).nbytes > MOST_INLINE:
            raise _TooLarge
        return super().write(chunk)


def _dumped_if_small(value: Any) -> bytes | None:
    if isinstance(value, State) or is_collection_of_states(value):
        # What the run ends with depends on it.
        return pickling.dumps(value)
    if getattr(value, "nbytes", 0) > MOST_INLINE:
        return None
    stream = _SmallStream()
    try:
        pickling.Pickler(stream).dump(value)
    except _TooLarge:
        return None
    return stream.getvalue()


class _News:
    """What one attempt tells before its end."""

    def __init__(self, tell: Tell, begins: Callable[[], object] | None) -> None:
        self._tell = tell
        self.begins = begins
        self._has_begun = False
        self._lock = threading.Lock()
        self.attempt: Any = None

    def happened(self, dumped: bytes) -> None:
        """Send events ahead (an outlet of `Collector`)."""
        self.tell_begun()
        self._tell(HAPPENED, dumped)

    def tell_begun(self) -> None:
        with self._lock:
            is_new, self._has_begun = not self._has_begun, True
        if is_new:
            self._tell(BEGUN, self.attempt.started_us)

    def tell_so_far(self, now: float) -> None:
        """Tell what is known, once the body runs for a while."""
        attempt = self.attempt
        if attempt is not None and attempt.started_us and now - attempt.started_us / 1e6 > TELL_SECONDS / 2:
            self.tell_begun()
            attempt.collector.send_ahead()


class _Chunk:
    """What a chunk tells before its end."""

    def __init__(
        self,
        tell: Callable[[int, str, Any], object],
        begins: Callable[[int], object] | None,
        meanwhile: Callable[[], object] | None,
    ) -> None:
        self._tell = tell
        self._begins = begins
        self._meanwhile = meanwhile
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._since = time.time()
        self._place = 0
        self._replies: list[PlacedReply] = []
        self._kept: list[PlacedReply] = []
        self._taken_back: set[int] = set()
        self.news: _News | None = None

    def begin(self, place: int) -> None:
        self._place = place
        begins = partial(self._begin_body, place) if self._begins is not None else None
        self.news = _News(partial(self._tell_of, place), begins)

    def _begin_body(self, place: int) -> None:
        assert self._begins is not None
        try:
            self._begins(place)
        except TakenBack:
            self._taken_back.add(place)
            raise

    def _tell_of(self, place: int, kind: str, content: Any) -> None:
        if place not in self._taken_back:
            self._tell(place, kind, content)

    def end(self, outcome: Outcome) -> None:
        if self._place in self._taken_back:
            return
        if outcome.is_ok and not outcome.is_sent:
            self._kept.append((self._place, outcome.reply))
            return
        with self._lock:
            self._replies.append((self._place, outcome.reply))

    def has_kept_long(self) -> bool:
        """Tell whether somebody waits for what is kept here until the chunk is over."""
        return bool(self._kept) and time.time() - self._since > TELL_SECONDS

    def close(self) -> None:
        """Tell nothing more from now on, and let go of what tells of the last member, which refers to the chunk."""
        _teller.remove(self)
        self.news = None

    def take(self) -> list[PlacedReply]:
        with self._lock:
            replies, self._replies = self._replies, []
        return replies

    def tell_so_far(self, now: float) -> None:
        """Send what has ended, and what is known of the body under way, once the chunk runs for a while."""
        if now - self._since < TELL_SECONDS / 2:
            return
        if self._meanwhile is not None:
            self._meanwhile()
        with self._telling:
            for place, reply in self.take():
                self._tell(place, ENDED, reply if isinstance(reply, bytes) else pickle.dumps(reply))
        news = self.news  # the chunk may end meanwhile
        if news is not None:
            news.tell_so_far(now)

    def take_last(self) -> list[PlacedReply]:
        """Return what has not been sent, once all that was taken for it is on its way."""
        with self._telling:
            return self.take() + self._kept


class _Teller:
    """The thread of this process that lets attempts tell, every half second while there are some."""

    def __init__(self) -> None:
        self._open: set[_News | _Chunk] = set()
        self._lock = threading.Lock()
        self._is_running = False

    def add(self, news: _News | _Chunk) -> None:
        self._open.add(news)
        if not self._is_running:
            self.start()

    def start(self) -> None:
        """Have one thread tell."""
        with self._lock:
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._tell, name="prefect-core-teller", daemon=True).start()

    def remove(self, news: _News | _Chunk) -> None:
        self._open.discard(news)

    def _tell(self) -> None:
        idle = 0
        while idle < _IDLE_ROUNDS:
            time.sleep(TELL_SECONDS)
            idle = 0 if self._open else idle + 1
            for news in list(self._open):
                try:
                    news.tell_so_far(time.time())
                except Exception:
                    # Its channel is closed: the reply will find out.
                    self._open.discard(news)
        with self._lock:
            self._is_running = False
        if self._open:
            # One came since it was looked.
            self.start()


_workplace = Workplace()
_teller = _Teller()


def _begin_anew() -> None:
    global _workplace, _teller
    _workplace, _teller = Workplace(), _Teller()


os.register_at_fork(after_in_child=_begin_anew)
