"""NumPy's arrays, scalars and dtypes: layout makes no difference, content does."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_core.encoding import NotEncodable, digest

GRID = np.arange(24.0).reshape(2, 3, 4)
RECORDS = np.array(
    [(1, 2.5, "a", [1, 2]), (2, np.nan, "b", [3, 4])], [("i", "i1"), ("f", "f8"), ("s", "U3"), ("p", "i4", (2,))]
)
MANY = np.arange(700_000.0)


def with_nan(array: Any, *, negative: bool) -> Any:
    array = array.copy()
    array.reshape(-1)[1] = np.copysign(np.nan, -1 if negative else 1)
    return array


def masked(hidden: int) -> Any:
    return np.ma.array([1, hidden, 3], mask=[False, True, False])


def aligned(array: Any) -> Any:
    return array.astype(np.dtype(array.dtype.descr, align=True))


EQUAL: dict[str, tuple[Any, Any]] = {
    "Fortran order": (GRID, np.asfortranarray(GRID)),
    "steps": (GRID[:, ::2, ::-1], GRID[:, ::2, ::-1].copy()),
    "transposed": (GRID.T, np.ascontiguousarray(GRID.T)),
    "broadcast": (np.broadcast_to(np.arange(3), (4, 3)), np.array([[0, 1, 2]] * 4)),
    "byte order": (GRID, GRID.astype(">f8")),
    "byte order of text": (np.array(["a", "bc"]), np.array(["a", "bc"], ">U2")),
    "byte order of time": (np.array(["2020", "NaT"], "M8[ns]"), np.array(["2020", "NaT"], ">M8[ns]")),
    "padding": (RECORDS, aligned(RECORDS)),
    "padding of one record": (RECORDS[0], aligned(RECORDS)[0]),
    "sign of NaN": (with_nan(GRID, negative=False), with_nan(GRID, negative=True)),
    "sign of NaN among many": (with_nan(MANY, negative=False), with_nan(MANY, negative=True)),
    "sign of complex NaN": (np.array([complex(np.nan, 1)]), np.array([complex(-np.nan, 1)])),
    "many with steps": (np.repeat(MANY, 2)[::2], MANY),
    "under a mask": (masked(2), masked(9)),
    "a mask of none": (np.ma.array([1, 2]), np.ma.array([1, 2], mask=[False, False])),
    "objects": (np.array([[1, "a"], [None, 2.0]], object), np.array([[1, "a"], [None, 2.0]], object, order="F")),
    "dtypes": (np.dtype("<i4"), np.dtype(">i4")),
    "no elements, backwards": (np.zeros((3, 0))[::-1], np.zeros((3, 0))),
}


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_equal_in_spite_of(one: Any, other: Any) -> None:
    assert digest(one) == digest(other)
    assert digest([one, one]) == digest([one, other])


GROUPS: dict[str, list[Any]] = {
    "shapes": [GRID, GRID.reshape(3, 2, 4), GRID.reshape(-1), GRID.T, GRID.tolist()],
    "no elements": [
        np.zeros(0),
        np.zeros((0, 3)),
        np.zeros((3, 0)),
        np.zeros(0, "i8"),
        np.zeros(0, "U1"),
        np.zeros(2, "V0"),
    ],
    "dtypes": [
        np.zeros(2, dtype)
        for dtype in ("i4", "u4", "i8", "f4", "f8", "c8", "?", "S1", "S2", "U1", "V4", "O", "M8[s]", "M8[ns]", "m8[s]")
    ],
    "scalars": [
        1,
        np.int64(1),
        np.int32(1),
        np.float64(1),
        1.0,
        np.bool_(True),
        True,
        np.array(1),
        np.array([1]),
        np.str_("1"),
        "1",
    ],
    "times": [
        np.datetime64("2020"),
        np.datetime64("2020-01"),
        np.datetime64("NaT", "s"),
        np.timedelta64(1, "s"),
        np.timedelta64(1, "ms"),
    ],
    "zeros": [np.array([0.0]), np.array([-0.0])],
    "one element": [MANY, np.where(np.arange(700_000) == 699_999, 0.0, MANY)],
    "records": [RECORDS, RECORDS[::-1], RECORDS[["i", "f"]], RECORDS[["f", "i"]], RECORDS["i"]],
    "masks": [masked(1), np.ma.array([1, 2, 3]), np.ma.array([1, 2, 3], mask=True), np.array([1, 2, 3])],
    "masks of records": [np.ma.array(RECORDS), np.ma.array(RECORDS, mask=[(True, False, False, False)] * 2)],
    "classes": [np.array([[1]]), np.array([[1]]).view(np.matrix)],
    "functions": [np.sin, np.cos, np.mean, np.float64, np.int32, np.dtype("i4"), np.ndarray],
    "objects": [np.array([1, "a"], object), np.array([1, "b"], object), np.array(["1", "a"])],
}


@pytest.mark.parametrize("values", GROUPS.values(), ids=GROUPS)
def test_every_two_differ_in(values: list[Any]) -> None:
    assert len({digest(value) for value in values}) == len(values)


def test_a_file_mapped_into_memory_counts_by_content(tmp_path) -> None:
    def mapped(name: str, number: int) -> Any:
        array = np.memmap(tmp_path / name, dtype="i8", mode="w+", shape=(3,))
        array[:] = number
        return array

    assert digest(mapped("a", 1)) == digest(mapped("b", 1)) != digest(mapped("c", 2))


class Own(np.ndarray):
    pass


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: np.zeros(2).view(Own), "nothing is known"),
        (lambda: np.random.default_rng(1), "nothing is known"),
        (lambda: np.zeros(2, "longdouble"), "differs from machine to machine"),
        (lambda: np.longdouble(1), "differs from machine to machine"),
        (lambda: np.frompyfunc(abs, 1, 1), "not one of NumPy's own"),
    ],
    ids=["subclass", "random generator", "long double", "long double scalar", "own function"],
)
def test_refused_is(make: Any, reason: str) -> None:
    with pytest.raises(NotEncodable, match=reason):
        digest(make())


def test_the_error_names_the_place_in_an_array_of_objects() -> None:
    array = np.array([[1, 2], [3, object()]], object)
    with pytest.raises(NotEncodable) as raised:
        digest({"grid": array})
    assert raised.value.path == "grid[1, 1]"


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.data(),
    st.sampled_from(["i2", ">i4", "f4", ">f8", "c16", "?", "U2", "S3", "M8[s]"]),
)
def test_a_view_of_any_kind_equals_its_copy(shape: list[int], data: st.DataObject, dtype: str) -> None:
    array = np.arange(functools.reduce(int.__mul__, shape)).astype(dtype if dtype[0] != "M" else "i8").reshape(shape)
    array = array.view("M8[s]") if dtype[0] == "M" else array
    view = array[tuple(slice(None, None, data.draw(st.sampled_from([1, -1, 2]))) for _ in shape)]
    view = view.transpose(data.draw(st.permutations(range(len(shape)))))
    assert digest(view) == digest(np.array(view, order="C")) == digest(np.array(view, order="F"))
    other = view.copy()
    other.flat[-1] = (
        view.dtype.type(1 if dtype != "?" else not other.flat[-1]) if dtype[0] != "M" else np.datetime64(7, "s")
    )
    assert (digest(other) == digest(view)) == np.array_equal(other, view)
