"""pandas: frames, series and indexes count by values, dtypes, labels and names, and not by blocks, chunks or unused levels.

Strings of one dtype are equal whether pandas keeps them in Python objects or in Arrow; the frequency of a DatetimeIndex,
which slicing and files lose, does not count; `attrs` count where there are any.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from prefect_core.encoding import arrays, arrow
from prefect_core.encoding.pieces import record, size, text
from prefect_core.encoding.refusals import Refusal
from prefect_core.encoding.walk import How, Walk
from prefect_core.errors import shown


def _pandas() -> Any:
    return sys.modules["pandas"]


def decide(kind: type) -> How | None:
    """Return how values of one of pandas' own types are encoded; None for those that have no plain content."""
    pd = _pandas()
    exact: dict[type, How] = {
        pd.DataFrame: _frame,
        pd.Series: _series,
        pd.MultiIndex: _multi_index,
        pd.RangeIndex: _range_index,
        pd.Categorical: lambda value, walk: record("pandas.Categorical", values(value, walk)),
        pd.Timestamp: _timestamp,
        pd.Timedelta: lambda value, walk: record("pandas.Timedelta", walk.encode(value.asm8)),
        pd.Period: lambda value, walk: record("pandas.Period", walk.encode(value.ordinal), text(value.freqstr)),
        pd.Interval: _interval,
        type(pd.NaT): lambda _value, _walk: record("pandas.NaT"),
        type(pd.NA): lambda _value, _walk: record("pandas.NA"),
    }
    if kind in exact:
        return exact[kind]
    if issubclass(kind, pd.Index):
        return _index
    if issubclass(kind, pd.api.extensions.ExtensionDtype):
        return _dtype
    if issubclass(kind, pd.api.extensions.ExtensionArray):
        return lambda value, walk: walk.keep(value, record("pandas.array", values(value, walk)))
    return None


def _frame(frame: Any, walk: Walk) -> bytes:
    columns = []
    for position, label in enumerate(frame.columns):
        try:
            columns.append(values(frame.iloc[:, position], walk))
        except Refusal as refusal:
            refusal.within(f"[{shown(label, 60)}]")
            raise
    labels = walk.part(frame.columns, ".columns") + walk.part(frame.index, ".index")
    content = size(len(columns)) + b"".join(columns)
    return walk.keep(frame, record("pandas.DataFrame", labels, walk.part(frame.attrs, ".attrs"), content))


def _series(series: Any, walk: Walk) -> bytes:
    labels = walk.part(series.index, ".index") + walk.part(series.name, ".name")
    return walk.keep(series, record("pandas.Series", labels, walk.part(series.attrs, ".attrs"), values(series, walk)))


def _index(index: Any, walk: Walk) -> bytes:
    names = walk.items(list(index.names), ".names[{}]".format)
    return walk.keep(index, record("pandas.Index", names, values(index, walk)))


def _range_index(index: Any, walk: Walk) -> bytes:
    numbers = walk.encode(range(index.start, index.stop, index.step))
    return record("pandas.RangeIndex", walk.items(list(index.names), ".names[{}]".format), numbers)


def _multi_index(index: Any, walk: Walk) -> bytes:
    levels = [values(index.get_level_values(level), walk) for level in range(index.nlevels)]
    names = walk.items(list(index.names), ".names[{}]".format)
    return walk.keep(index, record("pandas.MultiIndex", names, *levels))


def _timestamp(value: Any, walk: Walk) -> bytes:
    return record("pandas.Timestamp", walk.encode(value.asm8), walk.encode(value.fold), walk.part(value.tz, ".tz"))


def _interval(value: Any, walk: Walk) -> bytes:
    return record(
        "pandas.Interval", walk.part(value.left, ".left"), walk.part(value.right, ".right"), text(value.closed)
    )


def values(column: Any, walk: Walk) -> bytes:
    """Return what stands for the values of a series, index or array of pandas: dtype, length and content."""
    dtype = column.dtype
    head = size(len(column))
    if isinstance(dtype, arrays.numpy().dtype):
        return head + arrays.dtype_piece(dtype) + arrays.elements(column.to_numpy(), walk)
    for name, encode in _EXTENSIONS.items():
        if isinstance(dtype, getattr(_pandas(), name)):
            return head + record(name, *encode(getattr(column, "array", column), dtype, walk))
    if hasattr(dtype, "numpy_dtype") and _is_own(dtype):
        return head + record("masked", *_masked(column, dtype, walk))
    raise Refusal(column, f"the dtype {dtype} is not one of pandas' own")


Pieces = tuple[bytes, ...]


def _is_own(dtype: Any) -> bool:
    return type(dtype).__module__.partition(".")[0] == "pandas"


def _categories(array: Any, dtype: Any, walk: Walk) -> Pieces:
    codes = array.codes.astype("int64")
    return walk.encode(dtype), arrays.elements(codes, walk)


def _instants(array: Any, dtype: Any, walk: Walk) -> Pieces:
    return text(str(dtype)), arrays.elements(array.asi8, walk)


def _intervals(array: Any, dtype: Any, walk: Walk) -> Pieces:
    return text(dtype.closed), values(array.left, walk), values(array.right, walk)


def _sparse(array: Any, dtype: Any, walk: Walk) -> Pieces:
    dense = arrays.numpy().asarray(array)
    return walk.encode(dtype.fill_value), arrays.dtype_piece(dense.dtype), arrays.elements(dense, walk)


def _strings(array: Any, dtype: Any, walk: Walk) -> Pieces:
    missing = array.isna()
    present = array[~missing].to_numpy(dtype=object).tolist()
    return walk.encode(dtype.na_value), arrays.elements(missing, walk), walk.items(present)


def _of_arrow(array: Any, dtype: Any, walk: Walk) -> Pieces:
    return (arrow.column(array.__arrow_array__(), walk),)


def _masked(column: Any, dtype: Any, walk: Walk) -> Pieces:
    data = column.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0))
    missing = arrays.numpy().asarray(column.isna(), dtype=bool)
    return arrays.dtype_piece(data.dtype), arrays.elements(missing, walk), arrays.elements(data, walk)


# By the name of the dtype's class in `pandas`.
_EXTENSIONS: dict[str, Callable[[Any, Any, Walk], Pieces]] = {
    "ArrowDtype": _of_arrow,
    "CategoricalDtype": _categories,
    "DatetimeTZDtype": _instants,
    "PeriodDtype": _instants,
    "IntervalDtype": _intervals,
    "SparseDtype": _sparse,
    "StringDtype": _strings,
}


def _dtype(dtype: Any, walk: Walk) -> bytes:
    """Return the piece of a dtype on its own: what it says of itself, and the categories of one that has them."""
    pd = _pandas()
    if isinstance(dtype, pd.CategoricalDtype):
        categories = walk.part(dtype.categories, ".categories")
        return record("pandas.CategoricalDtype", categories, walk.encode(dtype.ordered))
    if not _is_own(dtype):
        raise Refusal(dtype, "it is not one of pandas' own")
    if isinstance(dtype, pd.ArrowDtype):
        return record("pandas.ArrowDtype", walk.encode(dtype.pyarrow_dtype))
    return record("pandas.dtype", text(type(dtype).__name__), text(str(dtype)))
