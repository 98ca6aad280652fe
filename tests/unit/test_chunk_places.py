"""What is taken back of a chunk does not begin, and the replies tell that there are places without one."""

from __future__ import annotations

import pytest

from prefect_core.engine.in_place import CUT, TakenBack
from prefect_core.engine.parcels import Parcel
from prefect_runners.chunk_places import ChunkPlaces


def test_one_that_is_taken_back_just_before_it_would_begin_does_not() -> None:
    places = ChunkPlaces()
    left = places.left([Parcel(0, None, 0, None, call) for call in (b"first", b"second", b"third")])
    next(left)
    places.begin(0)
    # On its way to `begin`, and taken back from another thread.
    assert next(left)[0] == 1
    assert places.take_back([0, 1]) == [1]
    with pytest.raises(TakenBack):
        places.begin(1)
    assert next(left)[0] == 2
    assert places.marked([(0, b"done"), (2, b"done")]) == [(0, b"done"), (2, b"done"), (CUT, b"")]


def test_replies_of_a_chunk_of_which_nothing_was_taken_back_are_all_there_is() -> None:
    places = ChunkPlaces()
    places.begin(0)
    assert places.take_back([0]) == []
    assert places.marked([(0, b"done")]) == [(0, b"done")]
