"""Arrow: tables and arrays count by schema and values, and not by chunks, slices, or what lies under a null; polars by way of Arrow.

A column is written as which of its values are there, and then those alone; of nested ones the lengths, and then all children as one
column. Metadata of schemas and fields does not count, as for `==`: pandas writes its own version there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from typing import Any

from prefect_core.encoding import arrays
from prefect_core.encoding.pieces import record, size, text
from prefect_core.encoding.refusals import Refusal
from prefect_core.encoding.walk import How, Walk

_Chunks = list[Any]
_Feed = Callable[[Any], object]


def _arrow() -> Any:
    return sys.modules["pyarrow"]


def decide(kind: type) -> How | None:
    """Return how values of one of Arrow's own types are encoded; None for those that have no plain content."""
    pa = _arrow()
    families: dict[type, How] = {
        pa.Table: lambda value, walk: walk.keep(value, record("arrow.Table", _table(value, walk))),
        pa.RecordBatch: lambda value, walk: walk.keep(value, record("arrow.RecordBatch", _table(value, walk))),
        pa.ChunkedArray: lambda value, walk: walk.keep(value, record("arrow.ChunkedArray", column(value, walk))),
        pa.Array: lambda value, walk: walk.keep(value, record("arrow.Array", column(value, walk))),
        pa.Scalar: _scalar,
        pa.Schema: lambda value, _walk: record("arrow.Schema", _fields(value)),
        pa.Field: lambda value, _walk: record("arrow.Field", _field(value)),
        pa.DataType: lambda value, _walk: record("arrow.DataType", _type(value)),
    }
    return next((how for family, how in families.items() if issubclass(kind, family)), None)


def decide_polars(kind: type) -> How | None:
    """Return how frames and series of polars are encoded; needs pyarrow, as their own `to_arrow` does."""
    pl = sys.modules["polars"]
    if kind is pl.DataFrame:
        return _polars_frame
    if kind is pl.Series:
        return _polars_series
    return None


def _polars_frame(frame: Any, walk: Walk) -> bytes:
    columns = [_polars_series(series, walk) for series in frame.get_columns()]
    return walk.keep(frame, record("polars.DataFrame", walk.items(frame.shape), *columns))


def _polars_series(series: Any, walk: Walk) -> bytes:
    content = column(series.to_arrow(), walk)
    return walk.keep(series, record("polars.Series", text(series.name), text(repr(series.dtype)), content))


def _table(table: Any, walk: Walk) -> bytes:
    columns = []
    for number, name in enumerate(table.schema.names):
        try:
            columns.append(column(table.column(number), walk))
        except Refusal as refusal:
            refusal.within(f"[{name!r}]")
            raise
    return _fields(table.schema) + size(table.num_rows) + b"".join(columns)


def _scalar(value: Any, walk: Walk) -> bytes:
    pa = _arrow()
    return record("arrow.Scalar", column(pa.repeat(value, 1) if value.is_valid else pa.nulls(1, value.type), walk))


def column(data: Any, walk: Walk) -> bytes:
    """Return what stands for an array or a chunked array: its type, its length and its values."""
    hasher = sha256()
    _write(getattr(data, "chunks", [data]), data.type, hasher.update, walk)
    return _type(data.type) + size(len(data)) + hasher.digest()


def _fields(fields: Any) -> bytes:
    return size(len(fields)) + b"".join(map(_field, fields))


def _field(field: Any) -> bytes:
    return text(field.name) + size(field.nullable) + _type(field.type)


def _type(kind: Any) -> bytes:
    """Return what stands for a type: its own text, which may hold any name in any place, and its parts."""
    types = _arrow().types
    own = text(str(kind))
    if hasattr(kind, "storage_type"):
        return own + text(kind.extension_name) + _type(kind.storage_type)
    if types.is_dictionary(kind):
        return own + _type(kind.value_type)
    if types.is_map(kind):
        return own + _field(kind.key_field) + _field(kind.item_field)
    if types.is_struct(kind) or types.is_union(kind):
        return own + _fields([kind.field(number) for number in range(kind.num_fields)])
    return own + (_field(kind.value_field) if hasattr(kind, "value_field") else b"")


def _write(chunks: _Chunks, kind: Any, feed: _Feed, walk: Walk) -> None:
    """Feed the values of chunks of one type, so that it makes no difference where one ends and the next begins."""
    chunks, kind = _plain(chunks, kind)
    chunks = [chunk for chunk in chunks if len(chunk)]
    if any(chunk.null_count for chunk in chunks):
        feed(b"?")
        for chunk in chunks:
            feed(_fixed(chunk.is_valid().cast("uint8")))
        chunks = [chunk for chunk in (chunk.drop_null() for chunk in chunks) if len(chunk)]
    else:
        feed(b"!")
    types = _arrow().types
    if types.is_floating(kind):
        for chunk in chunks:
            arrays.feed(chunk.to_numpy(), feed)
    elif types.is_primitive(kind) or types.is_decimal(kind) or types.is_fixed_size_binary(kind):
        for chunk in chunks:
            feed(_fixed(chunk.cast("uint8") if types.is_boolean(kind) else chunk))
    elif _is_sized_text(kind):
        _write_text(chunks, feed)
    elif types.is_struct(kind):
        for number in range(kind.num_fields):
            _write([chunk.flatten()[number] for chunk in chunks], kind.field(number).type, feed, walk)
    elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        _write_lengths(chunks, "list_value_length", feed)
        _write([chunk.flatten() for chunk in chunks], kind.value_type, feed, walk)
    elif not types.is_null(kind):
        # Maps, unions, views: rare, so one by one.
        feed(walk.items([item for chunk in chunks for item in chunk.to_pylist()]))


def _plain(chunks: _Chunks, kind: Any) -> tuple[_Chunks, Any]:
    """Return chunks without what is only a way to write their values: dictionaries, extensions, views of text."""
    pa = _arrow()
    while True:
        if hasattr(kind, "storage_type"):
            chunks, kind = [chunk.storage for chunk in chunks], kind.storage_type
        elif pa.types.is_dictionary(kind):
            chunks, kind = [chunk.dictionary_decode() for chunk in chunks], kind.value_type
        elif str(kind) in {"string_view", "binary_view"}:
            plain = pa.large_string() if str(kind) == "string_view" else pa.large_binary()
            chunks, kind = [chunk.cast(plain) for chunk in chunks], plain
        else:
            return chunks, kind


def _fixed(chunk: Any) -> memoryview:
    """Return the bytes of an array without nulls whose values have one width."""
    width = chunk.type.bit_width // 8
    return memoryview(chunk.buffers()[1])[chunk.offset * width : (chunk.offset + len(chunk)) * width]


def _is_sized_text(kind: Any) -> bool:
    types = _arrow().types
    return any(
        is_one(kind) for is_one in (types.is_string, types.is_binary, types.is_large_string, types.is_large_binary)
    )


def _write_text(chunks: _Chunks, feed: _Feed) -> None:
    _write_lengths(chunks, "binary_length", feed)
    for chunk in chunks:
        _, offsets, content = chunk.buffers()
        wide = str(chunk.type).startswith("large")
        bounds = memoryview(offsets).cast("q" if wide else "i")[chunk.offset : chunk.offset + len(chunk) + 1]
        if bounds[-1] > bounds[0]:
            feed(memoryview(content)[bounds[0] : bounds[-1]])


def _write_lengths(chunks: _Chunks, measure: str, feed: _Feed) -> None:
    compute = import_module("pyarrow.compute")  # which the methods of arrays load too
    for chunk in chunks:
        feed(_fixed(getattr(compute, measure)(chunk).cast("int64")))
