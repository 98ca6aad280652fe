"""pandas: blocks, levels, storage of strings and other ways to hold a frame make no difference, its content does."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import pytz

from prefect_core.encoding import NotEncodable, digest


def column_kinds() -> dict[str, Any]:
    """Return a column of each dtype, with something missing where that can be."""
    return {
        "int": pd.Series([1, 2, 3]),
        "float": pd.Series([1.0, None, 3.0]),
        "bool": pd.Series([True, True, False]),
        "text": pd.Series(["a", None, "ä"], dtype="str"),
        "text with NA": pd.Series(["a", None, "ä"], dtype="string"),
        "objects": pd.Series([1, "a", None], dtype=object),
        "categories": pd.Series(pd.Categorical(["x", None, "y"])),
        "time": pd.Series(pd.to_datetime(["2020-01-01", None, "2020-01-03"])),
        "time in a zone": pd.Series(pd.to_datetime(["2020-01-01", None, "2020-01-03"]).tz_localize("Europe/Berlin")),
        "span": pd.Series(pd.to_timedelta([1, None, 3], unit="h")),
        "period": pd.Series(pd.PeriodIndex(["2020-01", "NaT", "2020-03"], freq="M")),
        "interval": pd.Series(pd.interval_range(0, 3)),
        "nullable int": pd.Series([1, None, 3], dtype="Int64"),
        "nullable small int": pd.Series([1, None, 3], dtype="Int8"),
        "nullable float": pd.Series([1.5, None, 3], dtype="Float64"),
        "nullable bool": pd.Series([True, None, False], dtype="boolean"),
        "sparse": pd.Series(pd.arrays.SparseArray([0, 0, 1])),
        "arrow int": pd.Series([1, None, 3], dtype=pd.ArrowDtype(pa.int64())),
        "arrow text": pd.Series(["a", None, "b"], dtype=pd.ArrowDtype(pa.string())),
    }


KINDS = pytest.mark.parametrize("name", column_kinds())


@KINDS
def test_a_column_of_each_dtype_counts_by_content(name: str) -> None:
    column = column_kinds()[name]
    assert (
        digest(column)
        == digest(column_kinds()[name])
        == digest(pd.concat([column[:1], column[1:]]).set_axis(column.index))
    )
    different = [
        column[::-1].set_axis(column.index),
        column.rename("a"),
        column.set_axis([1, 2, 3]),
        column[:2],
        column.to_frame(),
    ]
    assert len({digest(one) for one in [column, *different, column.array, pd.Index(column)]}) == 8


@KINDS
def test_every_value_in_a_column_and_its_dtype_can_be_encoded(name: str) -> None:
    column = column_kinds()[name]
    assert len({digest(value) for value in column}) == len(column.drop_duplicates())
    digest(column.dtype)


def test_no_two_dtypes_are_taken_for_each_other() -> None:
    columns = column_kinds()
    assert len({digest(column[:0].reset_index(drop=True)) for column in columns.values()}) == len(columns)
    assert len({digest(column.dtype) for column in columns.values()}) == len(columns)


def frame() -> Any:
    return pd.DataFrame(column_kinds())


def test_a_frame_counts_by_content() -> None:
    one = frame()
    in_blocks = pd.concat([one[[name]] for name in one], axis=1)
    assert digest(one) == digest(one.copy()) == digest(in_blocks) == digest(pd.concat([one[:2], one[2:]]))
    different = [
        one[one.columns[::-1]],
        one.rename(columns={"int": "i"}),
        one.set_index("int", drop=False),
        one.set_axis(pd.Index([0, 1, 2], name="n")),
        one.iloc[::-1],
        one.assign(int=[1, 2, 4]),
        one.astype({"int": "int32"}),
        one.drop(columns="int"),
    ]
    assert len({digest(other) for other in [one, *different]}) == 9


def test_text_counts_the_same_wherever_pandas_keeps_it() -> None:
    def kept(storage: str) -> Any:
        return pd.Series(["a", None, "b"], dtype=pd.StringDtype(storage))

    assert digest(kept("python")) == digest(kept("pyarrow"))


def test_what_is_missing_hides_what_lies_under_it() -> None:
    def hidden(number: int) -> Any:
        return pd.Series(pd.arrays.IntegerArray(np.array([1, number]), np.array([False, True])))

    assert digest(hidden(5)) == digest(hidden(6))


def test_levels_that_are_not_used_make_no_difference() -> None:
    index = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["x", "y"])
    assert digest(index[:2]) == digest(index[:2].remove_unused_levels()) != digest(index[2:])
    assert digest(index) != digest(index.rename(["x", "z"]))


def test_indexes_differ_by_kind() -> None:
    indexes = [
        pd.RangeIndex(3),
        pd.RangeIndex(1, 4),
        pd.RangeIndex(3, name="n"),
        pd.Index([0, 1, 2]),
        pd.Index([0.0, 1.0, 2.0]),
        pd.Index(["0", "1", "2"]),
        pd.date_range("2020", periods=3),
        pd.date_range("2020", periods=3, tz="UTC"),
        pd.CategoricalIndex(["a", "b", "c"]),
        pd.MultiIndex.from_arrays([[0, 1, 2]]),
    ]
    assert len({digest(index) for index in indexes}) == len(indexes)
    assert digest(pd.RangeIndex(0, 3, 2)) == digest(pd.RangeIndex(0, 4, 2))


def test_attributes_of_a_frame_count() -> None:
    one, other = frame(), frame()
    other.attrs["unit"] = "m"
    assert digest(one) != digest(other)


def test_moments_differ_by_zone_and_unit() -> None:
    moments = [
        pd.Timestamp("2020-01-01"),
        pd.Timestamp("2020-01-01").as_unit("s"),
        pd.Timestamp("2020-01-01", tz="UTC"),
        pd.Timestamp("2020-01-01 01:00", tz="Europe/Berlin"),
        pd.Timestamp("2020-01-01").to_pydatetime(),
        pd.NaT,
        pd.NA,
    ]
    assert len({digest(moment) for moment in moments}) == len(moments)


def test_zones_of_pytz_count_by_name_and_offset() -> None:
    berlin = pytz.timezone("Europe/Berlin")
    winter, summer = (berlin.localize(dt.datetime.fromisoformat(f"2020-{month}-01")) for month in ("01", "07"))
    zones = [berlin, winter.tzinfo, summer.tzinfo, pytz.UTC, pytz.FixedOffset(60), pytz.timezone("Europe/Paris")]
    assert len({digest(zone) for zone in zones}) == len({str(zone) + repr(zone) for zone in zones})
    assert digest(winter) != digest(summer)
    assert digest(pd.Timestamp(winter)) == digest(pd.Timestamp("2020-01-01", tz=berlin))


def test_the_error_names_the_column_and_the_row() -> None:
    with pytest.raises(NotEncodable) as raised:
        digest({"table": pd.DataFrame({"a": [1, 2], "b": [1, object()]})})
    assert raised.value.path == "table['b'][1]"


class Own(pd.DataFrame):
    pass


def test_a_subclass_is_refused() -> None:
    with pytest.raises(NotEncodable, match="nothing is known"):
        digest(Own({"a": [1]}))
