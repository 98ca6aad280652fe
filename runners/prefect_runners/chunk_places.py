"""How far a chunk has got where it runs, and what of it was taken back before it could begin."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator

from prefect_core.engine.in_place import CUT, PlacedReply, TakenBack
from prefect_core.engine.parcels import Parcel


class ChunkPlaces:
    """The places of one chunk, which begin in order. Taking back is asked from another thread than the one that begins."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_begun = -1
        self._taken_back: set[int] = set()

    def begin(self, place: int) -> None:
        """Take note that the body at a place begins. Raises `TakenBack` if it was taken back."""
        with self._lock:
            if place in self._taken_back:
                raise TakenBack
            self._last_begun = place

    def take_back(self, places: Collection[int]) -> list[int]:
        """Keep bodies from beginning; returns the places of those that won't."""
        with self._lock:
            taken = [place for place in places if place > self._last_begun]
            self._taken_back.update(taken)
            return taken

    def left(self, parcels: Collection[Parcel]) -> Iterator[tuple[int, Parcel]]:
        """Give what is not taken back of a chunk, with its places."""
        for place, parcel in enumerate(parcels):
            if place not in self._taken_back:
                yield place, parcel

    def marked(self, replies: list[PlacedReply]) -> list[PlacedReply]:
        """Return replies that tell if there are places without one: whoever took those back may not have heard of it in time."""
        return [*replies, (CUT, b"")] if self._taken_back else replies
