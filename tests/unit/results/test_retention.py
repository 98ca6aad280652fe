"""Which results are dropped, by age and size."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from prefect_core.history.stored import ResultRow
from prefect_core.results.housekeeping import Retention


def row(key: int, size: int, created_us: int) -> ResultRow:
    return ResultRow(key, "pickle", None, None, None, size, b"", None, created_us)


NEWEST_FIRST = [row(4, 40, 400), row(3, 10, 300), row(2, 30, 200), row(1, 20, 100)]


@pytest.mark.parametrize(
    ("wanted", "gone"),
    [
        (Retention(), []),
        (Retention(before_us=200), [1]),
        (Retention(before_us=201), [2, 1]),
        (Retention(larger_than=20), [4, 2]),
        (Retention(before_us=300, larger_than=20), [2]),
        (Retention(keep_total=100), []),
        (Retention(keep_total=99), [1]),
        (Retention(keep_total=50), [2, 1]),
        (Retention(keep_total=49), [3, 2, 1]),
        (Retention(keep_total=0), [4, 3, 2, 1]),
        (Retention(larger_than=30, keep_total=60), [4]),
        (Retention(larger_than=30, keep_total=45), [4, 1]),
    ],
)
def test_what_goes_is_old_large_or_too_much(wanted: Retention, gone: list[int]) -> None:
    assert [row.key for row in wanted.chosen(NEWEST_FIRST, set())] == gone


def test_what_is_in_use_stays_and_counts() -> None:
    assert [row.key for row in Retention(before_us=1000).chosen(NEWEST_FIRST, {4, 1})] == [3, 2]
    assert [row.key for row in Retention(keep_total=60).chosen(NEWEST_FIRST, {1})] == [3, 2]
    assert [row.key for row in Retention(keep_total=0).chosen(NEWEST_FIRST, {1, 2, 3, 4})] == []


@given(
    st.lists(st.integers(0, 100), max_size=20),
    st.sets(st.integers(0, 19)),
    st.integers(0, 1000),
)
def test_what_is_left_fits_or_is_in_use(sizes: list[int], in_use: set[int], most: int) -> None:
    rows = [row(key, size, key) for key, size in enumerate(sizes)][::-1]
    gone = Retention(keep_total=most).chosen(rows, in_use)
    left = [one for one in rows if one not in gone]
    assert not in_use & {one.key for one in gone}
    assert sum(one.size for one in left) <= most or all(one.key in in_use for one in left)
    if gone:
        # The newest that went had to.
        assert sum(one.size for one in left) + gone[0].size > most
