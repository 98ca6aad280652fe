"""Pickling for transport and storage: cloudpickle, but for what it would change in silence on the way."""

from __future__ import annotations

import io
import sys
from collections import ChainMap
from types import CodeType
from typing import Any, ClassVar

import cloudpickle

from prefect_core import reducers


def _reduce_file(file: io.TextIOWrapper) -> Any:
    if file in (sys.stdout, sys.stderr):
        return _theirs[io.TextIOWrapper](file)
    # cloudpickle would send what is in the file, and an object of another kind would arrive.
    raise TypeError("cannot pickle an open file")


def _reduce_view(view: memoryview) -> Any:
    # It would arrive as bytes, without its format.
    raise TypeError("cannot pickle a memoryview; pass its bytes")


def _reduce_code(code: CodeType) -> Any:
    # Newer versions of cloudpickle leave the file out, and tracebacks would come back without their lines.
    make, arguments = _theirs[CodeType](code)
    return make, tuple([code.co_filename if part == _NO_FILE else part for part in arguments])


_NO_FILE = "<dynamic-code>"
# It goes on to the table of copyreg, which grows.
_theirs: Any = cloudpickle.Pickler.dispatch_table


class _Table(ChainMap[type, Any]):
    """The table without what tblib, which Dask brings, puts there for every exception: it forgets fields, as that of StopIteration."""

    def __missing__(self, kind: type) -> Any:
        reduce = reducers.reduce_of(kind)
        if reduce is None:
            raise KeyError(kind)
        return reduce

    def __getitem__(self, kind: type) -> Any:
        reduce = super().__getitem__(kind)
        if getattr(reduce, "__module__", None) == "tblib.pickling_support":
            raise KeyError(kind)
        return reduce


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no type information
    """Pickles by value what can't be imported, and refuses what would arrive as something else."""

    dispatch_table: ClassVar[ChainMap[type, Any]] = _Table(
        {io.TextIOWrapper: _reduce_file, memoryview: _reduce_view, CodeType: _reduce_code}, *_theirs.maps
    )


def dumps(value: Any) -> bytes:
    """Return the value as bytes for `pickle.loads`: what can't be imported goes by value. Raises whatever a part of it raises."""
    with io.BytesIO() as stream:
        Pickler(stream).dump(value)
        return stream.getvalue()
