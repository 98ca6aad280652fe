"""Taking back from Ray what has not begun there: single attempts, and members of chunks."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial

from prefect_core.engine import timers
from prefect_runners.in_time import is_over_in
from prefect_runners.ray_attempts import Attempt, Attempts
from prefect_runners.ray_chunks import Chunk, HandOver, Member
from prefect_runners.ray_store import HeadStore

_WITHHELD_SECONDS = 0.05
_ANSWER_SECONDS = 2.0
"""More than the half second after which a worker looks by itself."""
_LAST_CALL_SECONDS = 1.0
_LOOK_SECONDS = 0.005

Asked = dict[Chunk, list[int]]
"""The places of members, by their chunks."""


class TakingBack:
    """Asks for all at once, since more begins with every moment that one is waited for.

    A chunk that has not begun is taken back as a whole, and what nobody else takes back of it is handed over again.

    The worker of one that has begun is asked, through the store of Ray's head, and goes on without the members that it gives back. It looks
    there at once when Ray interrupts it, which is what `ray.cancel` does to a task that runs, and every half second where its body keeps it
    from hearing that. It may end before its answer has been read, and
    what is left of it then is handed over again behind that.
    """

    def __init__(self, attempts: Attempts, store: HeadStore, hand_over: HandOver) -> None:
        self._attempts = attempts
        self._store = store
        self._hand_over = hand_over
        self._lock = threading.Lock()
        self._noting = threading.Lock()
        self._asked: set[Chunk] = set()
        """Those that are asked just now."""
        self._ended: list[Chunk] = []
        """Those that ended meanwhile, with members left."""

    def cancel(self, handles: Sequence[object]) -> list[bool]:
        """Take back attempts that have not begun; False for one that has, or may have, and for anything else."""
        with self._lock:
            chunks: Asked = defaultdict(list)
            for one in handles:
                if isinstance(one, Member) and one.at is not None:
                    chunk, place = one.at
                    chunks[chunk].append(place)
            singles = [one for one in handles if isinstance(one, Attempt)]
            taken: set[object] = {*self._cancel(singles, chunks)}
            for chunk, places in chunks.items():
                if chunk.is_withheld:
                    taken.update(chunk.take(place) for place in places)
            self._ask({chunk: places for chunk, places in chunks.items() if not chunk.is_withheld}, taken)
        taken.discard(None)
        return [one in taken for one in handles]

    def hand_over_rest(self, chunk: Chunk) -> None:
        """Hand over again what is left of a chunk that has ended, once it is known what of that was given back."""
        with self._noting:
            if chunk in self._asked:
                self._ended.append(chunk)
                return
        self._hand_over(chunk.take_rest())

    def _cancel(self, singles: Sequence[Attempt], chunks: Asked) -> set[Attempt]:
        """Cancel what has not begun as a whole."""
        fresh = [chunk for chunk in chunks if not chunk.is_withheld and not chunk.has_begun]
        cancelled = set(self._attempts.cancel([*singles, *fresh]))
        for chunk in fresh:
            if chunk in cancelled:
                chunk.is_withheld = True
                timers.after(_WITHHELD_SECONDS, partial(self._hand_over_again, chunk))
            elif chunk.reply is not None:
                chunk.has_begun = True
        return cancelled

    def _ask(self, chunks: Asked, taken: set[object]) -> None:
        """Ask chunks that run for members, and take those that they will not begin."""
        chunks = {chunk: places for chunk, places in chunks.items() if chunk.is_open and chunk.reply is not None}
        if not chunks:
            return
        with self._noting:
            self._asked |= chunks.keys()
        # A dead head never answers, and nobody knows then what else has begun.
        answers: list[tuple[Chunk, list[int]]] = []
        is_over_in(_ANSWER_SECONDS + _LAST_CALL_SECONDS, lambda: answers.extend(self._answers(chunks)))
        for chunk, places in answers.copy():
            taken.update(chunk.take(place) for place in places)
        with self._noting:
            self._asked.clear()
            ended, self._ended = self._ended, []
        for chunk in ended:
            self._hand_over(chunk.take_rest())

    def _answers(self, chunks: Asked) -> Iterator[tuple[Chunk, list[int]]]:
        for chunk, places in chunks.items():
            self._store.given_back(chunk.number)  # of a question that was answered too late
            self._store.ask_back(chunk.number, places)
            self._attempts.interrupt(chunk)
        left = set(chunks)
        deadline = time.monotonic() + _ANSWER_SECONDS
        while left and time.monotonic() < deadline:
            for chunk in list(left):
                # In this order: what it answers comes before its end.
                is_over = not chunk.is_open
                given = self._store.given_back(chunk.number)
                if given is not None:
                    yield chunk, given
                if is_over or given is not None:
                    left.discard(chunk)
            time.sleep(_LOOK_SECONDS)

    def _hand_over_again(self, chunk: Chunk) -> None:
        with self._lock:
            left = chunk.take_rest()
        if left:
            self._hand_over(left)
