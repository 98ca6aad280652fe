"""Pickles for storage: what is copied, what comes back writeable, and what no pickle of ours is."""

from __future__ import annotations

import pickle
import random
from io import BytesIO
from typing import Any

import numpy as np
import pytest

from prefect_core.errors import SerializationError
from prefect_core.serializers import CompressedPickleSerializer, JSONSerializer, PickleSerializer
from prefect_serializers import pickled
from tests.unit.results import streams

PICKLE = PickleSerializer()


def there_and_back(value: Any) -> Any:
    return PICKLE.load(BytesIO(b"".join(PICKLE.dump(value))))


def test_a_large_array_is_written_from_its_own_memory() -> None:
    array = np.arange(100_000.0)
    pieces = PICKLE.dump({"a": array, "b": [array[::-1].copy()]})
    views = [piece for piece in pieces if isinstance(piece, memoryview)]
    assert [view.nbytes for view in views] == [800_000, 800_000]
    assert np.shares_memory(np.frombuffer(views[0]), array)
    assert sum(map(len, pieces)) < 1_601_000


def test_a_large_bytes_object_is_written_from_its_own_memory() -> None:
    data = bytes(1_000_000)
    assert any(piece is data for piece in PICKLE.dump(data))
    assert any(piece is data for piece in PICKLE.dump({"x": [data]}))


@pytest.mark.parametrize("count", [0, 1, 100, 2048, 2049, 200_000, 3_000_001])
@pytest.mark.parametrize("kind", ["<f8", "u1", ">i4"])
def test_arrays_come_back_aligned_and_writeable(count: int, kind: str) -> None:
    array = np.arange(count).astype(kind)
    back = there_and_back([array, array + 1])
    for made, meant in zip(back, (array, array + 1), strict=True):
        assert made.dtype == meant.dtype
        assert (made == meant).all()
        assert made.flags.writeable
        assert made.flags.aligned
        made += 1


def test_an_array_that_was_read_only_stays_so() -> None:
    array = np.arange(10_000)
    array.flags.writeable = False
    assert not there_and_back(array).flags.writeable


def test_orders_views_and_shared_arrays_are_kept() -> None:
    matrix = np.asfortranarray(np.arange(40_000).reshape(200, 200))
    back = there_and_back((matrix, matrix, matrix[::2, 1:], matrix.T))
    assert back[0].flags.f_contiguous
    assert back[0] is back[1]
    assert (back[2] == matrix[::2, 1:]).all()
    assert (back[3] == matrix.T).all()


def test_buffers_stand_on_multiples_of_64() -> None:
    data = PICKLE.dumps([np.full(20_000, 7, "u1"), np.full(30_001, 9, "u1"), np.full(17_000, 5, "u1")])
    assert data.startswith(pickled.MAGIC)
    for byte, size in ((7, 20_000), (9, 30_001), (5, 17_000)):
        assert data.find(bytes([byte]) * size) % 64 == 0


def test_small_values_are_plain_pickles_that_anybody_can_load() -> None:
    for value in (1, "a", {"a": 1}, [1, "b", None], {"a": [1, {2}]}, np.arange(10)):
        (piece,) = PICKLE.dump(value)
        assert repr(pickle.loads(piece)) == repr(value)


def test_many_small_pieces_of_a_large_value_are_put_together_again() -> None:
    value = {str(number): [number] * 3 for number in range(50_000)}
    assert len(PICKLE.dump(value)) > 2
    assert there_and_back(value) == value


def test_functions_and_classes_that_can_not_be_imported_go_by_value() -> None:
    offset = 5

    class Local:
        def __init__(self, number: int) -> None:
            self.number = number + offset

    back = there_and_back({"f": lambda number: number + offset, "c": Local, "o": Local(1)})
    assert back["f"](1) == 6
    assert back["c"](2).number == 7
    assert back["o"].number == 6


def test_objects_go_by_the_reference_that_is_given_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def local() -> None: ...

    monkeypatch.setattr(pickled, "reference_of", lambda thing: (str, ("found again",)) if thing is local else None)
    assert there_and_back([local, 1, {"k": local}]) == ["found again", 1, {"k": "found again"}]


@pytest.mark.parametrize("step", [1, 7, 64, 100_000])
def test_a_stream_that_gives_little_at_a_time_will_do(step: int) -> None:
    array = np.arange(5_000)
    source = streams.Trickling(PICKLE.dumps({"a": array, "b": "x"}), step)
    assert (PICKLE.load(source)["a"] == array).all()


def test_everything_is_read_before_anything_is_interpreted() -> None:
    tripwire = streams.Tripwire()
    for value in (tripwire, [tripwire, np.arange(100_000)]):
        for serializer in (PICKLE, CompressedPickleSerializer(compressionlib="gzip")):
            source = streams.Failing(serializer.dumps(value))
            with pytest.raises(OSError, match="the end was reached"):
                serializer.load(source)
    assert streams.Tripwire.loaded == 0


def test_a_damaged_pickle_never_asks_for_more_memory_than_there_is() -> None:
    data = bytearray(PICKLE.dumps([np.arange(5_000), np.arange(9_000)]))
    dice = random.Random(5)
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(3):
            broken[dice.randrange(len(pickled.MAGIC), 60)] = dice.choice([0, 1, 127, 255])
        try:
            PICKLE.load(BytesIO(broken))
        except (
            SerializationError,
            pickle.UnpicklingError,
            ValueError,
            TypeError,
            AttributeError,
            EOFError,
            ImportError,
            IndexError,
            KeyError,
        ):
            continue
        except Exception as error:
            pytest.fail(f"{error!r}")


@pytest.mark.parametrize("cut", [9, 20, 40, 60, 200, 20_000])
def test_a_pickle_that_ends_early_or_late_says_so(cut: int) -> None:
    data = PICKLE.dumps([np.arange(5_000)])
    with pytest.raises(SerializationError, match="This is no whole pickle"):
        PICKLE.loads(data[:cut])
    with pytest.raises(SerializationError, match="bytes behind its end"):
        PICKLE.loads(data + b"\0")


@pytest.mark.parametrize("value", [np.float64(1), np.arange(3), {"a": [np.int8(1)]}], ids=str)
def test_json_says_that_arrays_are_for_pickle(value: object) -> None:
    with pytest.raises(
        SerializationError, match=r'is a numpy\.\w+ \(TypeError: JSON has no form for it\).*result_serializer="pickle"'
    ):
        JSONSerializer().dumps(value)
