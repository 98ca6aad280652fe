"""NumPy: arrays count by dtype, shape and elements, and not by how these lie in memory.

Strides, byte order and the padding of structured types are layout. Elements are read in C order, little-endian, in chunks that stay
in the processor's cache, so no array is copied as a whole. What lies under a mask is no content. Any NaN is the one NaN, as for floats.
A NumPy scalar is not the Python number that equals it: `np.int64(1) << 64` and `1 << 64` differ.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from typing import Any

from prefect_core.encoding.pieces import record, size, text
from prefect_core.encoding.refusals import Refusal
from prefect_core.encoding.walk import How, Walk

_CHUNK_BYTES = 1 << 20
# Signed, unsigned, bool, float, complex, bytes, text, time stamps and spans, raw bytes.
_KINDS = "iubfcSUMmV"


def numpy() -> Any:
    """Return NumPy, which whoever has a value of it has loaded: it is never imported from here."""
    return sys.modules["numpy"]


def decide(kind: type) -> How | None:
    """Return how values of one of NumPy's own types are encoded; None for those that have no plain content."""
    np, word = numpy(), kind.__name__
    if kind is np.ma.MaskedArray:
        return _masked
    if kind in {np.ndarray, np.memmap, np.matrix, np.recarray}:
        return partial(_array, word)
    if issubclass(kind, np.dtype):
        return lambda dtype, _walk: record("numpy.dtype", dtype_piece(dtype))
    if issubclass(kind, np.generic):
        return _scalar
    if kind is np.ufunc:
        return _ufunc
    return None


def _array(word: str, array: Any, walk: Walk) -> bytes:
    content = elements(array.view(numpy().ndarray), walk)
    return walk.keep(array, record(f"numpy.{word}", dtype_piece(array.dtype), walk.items(array.shape), content))


def _scalar(value: Any, walk: Walk) -> bytes:
    array = numpy().asarray(value)
    return record("numpy scalar", dtype_piece(array.dtype), elements(array, walk))


def _masked(array: Any, walk: Walk) -> bytes:
    shape = walk.items(array.shape)
    return walk.keep(array, record("numpy.ma", dtype_piece(array.dtype), shape, _unmasked(array, walk)))


def _unmasked(array: Any, walk: Walk) -> bytes:
    if array.dtype.names is not None:
        return b"".join(_unmasked(array[name], walk) for name in array.dtype.names)
    np = numpy()
    mask = np.ma.getmaskarray(array)
    data = np.array(np.ma.getdata(array))
    data[mask] = np.zeros((), data.dtype)
    return elements(mask, walk) + elements(data, walk)


def _ufunc(value: Any, walk: Walk) -> bytes:
    word = value.__name__
    if getattr(numpy(), word, None) is not value:
        raise Refusal(value, "it is not one of NumPy's own")
    return record("numpy.ufunc", text(word))


def dtype_piece(dtype: Any) -> bytes:
    """Return what stands for a dtype: fields by name and without their offsets, byte order left out."""
    if dtype.names is not None:
        fields = [text(name) + dtype_piece(dtype[name]) for name in dtype.names]
        return b"{" + size(len(fields)) + b"".join(fields)
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return b"[" + text(repr(tuple(map(int, shape)))) + dtype_piece(base)
    if dtype.kind == "T":
        return text("StringDType")
    if dtype.kind == "O":
        return text("object")
    if dtype.kind not in _KINDS or (dtype.kind == "V" and dtype.type is not numpy().void):
        raise Refusal(dtype, f"the dtype {dtype} is not one of NumPy's own")
    if dtype.itemsize > {"f": 8, "c": 16}.get(dtype.kind, dtype.itemsize):
        raise Refusal(dtype, f"the dtype {dtype} differs from machine to machine; float64 does not")
    return text(dtype.newbyteorder("<").str)


def elements(array: Any, walk: Walk) -> bytes:
    """Return what stands for the elements of an array whose dtype and shape are known."""
    if array.dtype.names is not None:
        return b"".join(elements(array[name], walk) for name in array.dtype.names)
    if array.dtype.kind in "OT":
        return walk.items(array.ravel(order="C").tolist(), partial(_index, array.shape))
    hasher = sha256()
    feed(array, hasher.update)
    return hasher.digest()


def feed(array: Any, into: Callable[[Any], object]) -> None:
    """Hand over the bytes of the elements of an array of numbers or fixed-size text, chunk by chunk."""
    for chunk in _chunks(array):
        into(_with_one_nan(chunk).view(numpy().uint8))


def _index(shape: tuple[int, ...], number: int) -> str:
    return str(list(map(int, numpy().unravel_index(number, shape)))) if shape else "[()]"


def _chunks(array: Any) -> Iterator[Any]:
    """Yield the elements in C order and little-endian, in flat contiguous arrays."""
    if array.nbytes == 0:
        return
    little = array.dtype.newbyteorder("<")
    step = max(1, _CHUNK_BYTES // little.itemsize)
    if array.flags.c_contiguous and array.dtype == little:
        flat = array.reshape(-1)
        for begin in range(0, flat.size, step):
            yield flat[begin : begin + step]
        return
    yield from numpy().nditer(
        array,
        flags=["external_loop", "buffered"],
        op_flags=["readonly", "contig"],
        op_dtypes=[little],
        casting="equiv",
        order="C",
        buffersize=step,
    )


def _with_one_nan(chunk: Any) -> Any:
    if chunk.dtype.kind not in "fc":
        return chunk
    np = numpy()
    numbers = chunk if chunk.dtype.kind == "f" else chunk.view(f"<f{chunk.dtype.itemsize // 2}")
    unknown = np.isnan(numbers)
    if not unknown.any():
        return numbers
    numbers = numbers.copy()
    numbers[unknown] = np.nan
    return numbers
