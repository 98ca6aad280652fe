"""Taking members of chunks back from Ray that have not begun there."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from prefect_core.engine import timers
from prefect_runners.ray_attempts import Attempts
from prefect_runners.ray_chunks import Chunk, HandOver, Member
from prefect_runners.ray_store import HeadStore

_WITHHELD_SECONDS = 0.05
_ANSWER_SECONDS = 1.0
_LOOK_SECONDS = 0.005


class TakingBack:
    """A chunk that has not begun is taken back as a whole, and what nobody else takes back of it is handed over again.

    The worker of one that has begun is asked, through the store of Ray's head, and goes on without the members that it gives back. It looks
    there once Ray has interrupted it, which is what `ray.cancel` does to a task that runs.
    """

    def __init__(self, attempts: Attempts, store: HeadStore, hand_over: HandOver) -> None:
        self._attempts = attempts
        self._store = store
        self._hand_over = hand_over
        self._lock = threading.Lock()

    def cancel(self, members: Sequence[Member]) -> list[bool]:
        """Take back attempts that have not begun; False for one that has, or may have."""
        with self._lock:
            chunks: dict[int, list[Member]] = defaultdict(list)
            for member in members:
                if member.is_open and member.chunk is not None:
                    chunks[member.chunk.number].append(member)
            taken: set[int] = set()
            for group in chunks.values():
                assert group[0].chunk is not None
                for member in self._taken(group[0].chunk, group):
                    member.is_open = False
                    taken.add(id(member))
        return [id(member) in taken for member in members]

    def _taken(self, chunk: Chunk, members: list[Member]) -> list[Member]:
        if not chunk.is_withheld and not chunk.has_begun:
            if self._attempts.cancel(chunk):
                chunk.is_withheld = True
                timers.after(_WITHHELD_SECONDS, partial(self._hand_over_again, chunk))
            else:
                chunk.has_begun = True
        return members if chunk.is_withheld else self._given_back(chunk, members)

    def _given_back(self, chunk: Chunk, members: list[Member]) -> list[Member]:
        """Return those that a chunk that runs will not begin."""
        try:
            self._store.given_back(chunk.number)  # of a question that was answered too late
            self._store.ask_back(chunk.number, [member.place for member in members])
            self._attempts.interrupt(chunk)
            deadline = time.monotonic() + _ANSWER_SECONDS
            while chunk.is_open and time.monotonic() < deadline:
                given = self._store.given_back(chunk.number)
                if given is not None:
                    return [member for member in members if member.place in given]
                time.sleep(_LOOK_SECONDS)
        except Exception:
            # The head does not answer: nobody knows what has begun.
            return []
        return []

    def _hand_over_again(self, chunk: Chunk) -> None:
        with self._lock:
            left = [member for member in chunk.members if member.is_open]
        if left:
            self._hand_over(left)
