"""Arrow and polars: chunks, slices and what lies under a null make no difference, values and types do."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from prefect_core.encoding import NotEncodable, digest

KINDS: dict[str, Any] = {
    "int": pa.array([1, 2, None, 4]),
    "small int": pa.array([1, 2, None, 4], pa.int8()),
    "float": pa.array([1.0, float("nan"), None, 2.0]),
    "half float": pa.array([1, 2, None, 3], pa.float16()),
    "bool": pa.array([True, False, None, True]),
    "text": pa.array(["a", None, "ccc", ""]),
    "large text": pa.array(["a", None, "ccc", ""], pa.large_string()),
    "view of text": pa.array(["a", None, "ccc", ""], pa.string_view()),
    "binary": pa.array([b"a", None, b"ccc", b""]),
    "binary of one size": pa.array([b"123", None, b"456", b"789"], pa.binary(3)),
    "dictionary": pa.array(["a", "b", None, "a"]).dictionary_encode(),
    "decimal": pa.array([1, 2, None, 3], pa.decimal128(5)),
    "time": pa.array([1, 2, None, 3], pa.timestamp("us", "UTC")),
    "date": pa.array([1, 2, None, 3], pa.date32()),
    "list": pa.array([[1, 2], None, [], [None]]),
    "large list": pa.array([[1, 2], None, [], [None]], pa.large_list(pa.int64())),
    "list of one size": pa.array([[1, 2], None, [3, 4], [5, 6]], pa.list_(pa.int64(), 2)),
    "list of text": pa.array([["a"], None, ["b", "cc"], []]),
    "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}, {"a": 2, "b": None}]),
    "map": pa.array([[("a", 1)], None, [], [("b", 2)]], pa.map_(pa.string(), pa.int64())),
    "union": pa.UnionArray.from_sparse(
        pa.array([0, 1, 0, 1], pa.int8()), [pa.array([1, 2, 3, 4]), pa.array(["a", "b", "c", "d"])]
    ),
    "runs": pa.RunEndEncodedArray.from_arrays([2, 4], ["a", "b"]),
    "null": pa.nulls(4),
}


@pytest.mark.parametrize("array", KINDS.values(), ids=KINDS)
def test_chunks_and_slices_make_no_difference_to(array: Any) -> None:
    parts = [array[:1], array[1:1], array[1:3], array[3:]]
    assert digest(pa.chunked_array([array])) == digest(pa.chunked_array(parts))
    assert digest(array[1:3]) == digest(pa.concat_arrays([array[1:2], array[2:3]]))
    assert digest(pa.table({"a": array})) == digest(pa.table({"a": pa.chunked_array(parts)}))
    assert len({digest(one) for one in (array, array[:3], pa.chunked_array([array]), array.type, array[0])}) == 5


@pytest.mark.parametrize("array", KINDS.values(), ids=KINDS)
def test_the_order_of_values_makes_a_difference_to(array: Any) -> None:
    backwards = pa.chunked_array([array[3:], array[2:3], array[1:2], array[:1]])
    assert (digest(pa.chunked_array([array])) == digest(backwards)) == (str(array.type) == "null")
    for number in range(4):
        digest(array[number])


def test_no_two_types_are_taken_for_each_other() -> None:
    assert len({digest(array[:0]) for array in KINDS.values()}) == len(KINDS)
    assert len({digest(array.type) for array in KINDS.values()}) == len(KINDS)
    fields = [pa.field("a", pa.int64()), pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.int64())]
    assert len({digest(field) for field in fields} | {digest(pa.schema([field])) for field in fields}) == 6
    one = pa.struct([("a: int64, b", pa.int64())])
    assert digest(one) != digest(pa.struct([("a", pa.int64()), ("b", pa.int64())]))


def test_what_lies_under_a_null_makes_no_difference() -> None:
    def hidden(number: int) -> Any:
        return pa.Array.from_buffers(pa.int64(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(np.array([1, number]))])

    assert hidden(5).equals(hidden(6))
    assert digest(hidden(5)) == digest(hidden(6)) == digest(pa.array([1, None]))


def test_where_a_string_or_list_ends_makes_a_difference() -> None:
    values = [pa.array(["ab", "c"]), pa.array(["a", "bc"]), pa.array(["abc", ""]), pa.array(["abc", None])]
    values += [pa.array([[1, 2], [3]]), pa.array([[1], [2, 3]]), pa.array([[1, 2, 3], []]), pa.array([[1, 2, 3], None])]
    assert len({digest(value) for value in values}) == 8


def test_metadata_makes_no_difference_and_names_do() -> None:
    table = pa.table({"a": [1, 2]})
    assert digest(table) == digest(table.replace_schema_metadata({"pandas": "3.0"}))
    others = [table.rename_columns(["b"]), table[:1], table.to_batches()[0], table.cast(pa.schema([("a", pa.int32())]))]
    assert len({digest(one) for one in [table, *others]}) == 5


def test_scalars_count_by_type_and_value() -> None:
    scalars = [pa.scalar(1), pa.scalar(2), pa.scalar(1, pa.int8()), pa.scalar(None, pa.int64()), pa.scalar("1"), 1]
    assert len({digest(scalar) for scalar in scalars}) == 6
    assert digest(pa.scalar(1)) == digest(pa.array([0, 1])[1])


def test_the_error_names_the_column() -> None:
    table = pa.table({"a": [1], "r": pa.array([{"f": 1.0}])})
    marked = object()
    with pytest.raises(NotEncodable) as raised:
        digest({"pair": [table, marked]})
    assert raised.value.path == "pair[1]"


def frame() -> Any:
    return pl.DataFrame(
        {
            "a": [1, None, 3],
            "s": ["x", "y", None],
            "c": pl.Series(["a", "b", "a"], dtype=pl.Categorical),
            "e": pl.Series(["a", "b", "a"], dtype=pl.Enum(["a", "b"])),
            "l": [[1], [2, 3], None],
            "r": [{"f": 1.0}, None, {"f": None}],
        }
    )


def test_polars_counts_by_content() -> None:
    one = frame()
    assert digest(one) == digest(pl.concat([one[:1], one[1:]])) == digest(one.clone())
    others = [
        one[::-1],
        one.rename({"a": "b"}),
        one.drop("a"),
        one.with_columns(a=pl.col("a").cast(pl.Int8)),
        one["a"],
        one["s"],
    ]
    assert len({digest(other) for other in [one, *others]}) == 7
    for name in one.columns:
        assert digest(one[name]) == digest(pl.concat([one[name][:1], one[name][1:]]))


def test_what_polars_has_not_computed_yet_is_refused() -> None:
    with pytest.raises(NotEncodable, match="nothing is known"):
        digest(frame().lazy())
