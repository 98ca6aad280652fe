"""Values as pickles, of which large arrays and frames are written and read without being copied.

A small value is a plain pickle of protocol 5. A large one has a head, and its buffers stand behind the pickle, out of its band:

    magic (8) │ length of the pickle (8) │ number of buffers (8) │ for each: length (8), 1 if it is read-only (8) │ pickle
    then each buffer, after zeros up to the next multiple of 64

Lengths are little-endian. Each buffer is read straight into memory of its own, so what comes back is aligned, and writeable if it was.
"""

from __future__ import annotations

import mmap
import pickle
import struct
from contextlib import suppress
from io import BytesIO
from typing import Any

from prefect_core.buffers import Buffer, Source, fill
from prefect_core.errors import SerializationError
from prefect_core.importable import find_class, reference_of
from prefect_core.pickling import Pickler
from prefect_core.serializers import Serializer, check_code_is_allowed, describe_unserializable, import_library

MAGIC = b"\x93PCBUF1\n"
ALIGNMENT = 64
LEAST_OUT_OF_BAND = 16_384
"""Smaller buffers stay in the pickle, where they cost less."""

_LEAST_MAPPED = 1 << 20
_HEAD = struct.Struct("<QQ")
_ENTRY = struct.Struct("<QQ")
_MOST_PLAIN_ITEMS = 64
_PLAIN = frozenset({type(None), bool, int, float, str, bytes})


class PickleSerializer(Serializer):
    """Any value that cloudpickle can take: what can't be imported, such as lambdas and classes of the main script, goes by value.

    `picklelib` names another module with `dumps` and `loads`, which is then used as it is. Loading a pickle runs code that is in it.
    """

    name = "pickle"
    advice = "Return what it can be made from, or don't store it (persist_result=False)."

    def __init__(self, picklelib: str = "cloudpickle") -> None:
        self.picklelib = picklelib
        self._library: Any = None
        if picklelib != "cloudpickle":
            check_code_is_allowed(f"A serializer with picklelib={picklelib!r}")
            self._library = import_library("picklelib", picklelib)

    def options(self) -> dict[str, Any]:
        """Return the pickle library where it is another one."""
        return {} if self._library is None else {"picklelib": self.picklelib}

    def dumps(self, value: Any) -> bytes:
        """Return the pickle, with its buffers."""
        pieces = self.dump(value)
        return pieces[0] if len(pieces) == 1 and isinstance(pieces[0], bytes) else b"".join(pieces)

    def loads(self, data: bytes) -> Any:
        """Load what `dumps` returned."""
        if self._library is None and not data.startswith(MAGIC):
            return _Loading(BytesIO(data)).load()
        return self.load(BytesIO(data))

    def dump(self, value: Any) -> list[Buffer]:
        """Return the pickle in pieces; buffers of 16 KiB and more are views of the value's memory. Raises `SerializationError`."""
        try:
            return self.attempt(value)
        except Exception as failure:
            raise SerializationError(describe_unserializable(self, value, failure)) from failure

    def attempt(self, value: Any) -> list[Buffer]:
        """Do the work of `dump`, raising whatever pickling a part raises."""
        if self._library is not None:
            return [self._library.dumps(value)]
        if _is_plain(value):
            return [pickle.dumps(value, 5)]
        pieces: list[Buffer] = []
        buffers: list[pickle.PickleBuffer] = []
        _Stored(_Pieces(pieces), buffers).dump(value)
        is_small = not buffers and len(pieces) == 1
        return pieces if is_small else _framed(pieces, [buffer.raw() for buffer in buffers])

    def load(self, source: Source) -> Any:
        """Read all there is and then load it. Raises whatever loading a part raises, `SerializationError` if it is no such pickle."""
        if self._library is not None:
            return self._library.loads(source.read())
        head = _up_to(source, len(MAGIC))
        if head != MAGIC:
            return _Loading(BytesIO(head + source.read())).load()
        pickled, buffers = self._parts(source)
        return _Loading(BytesIO(pickled), buffers=buffers).load()

    def _parts(self, source: Source) -> tuple[bytes, list[memoryview]]:
        length, count = _HEAD.unpack(_exactly(source, _HEAD.size))
        entries = [_ENTRY.unpack(_exactly(source, _ENTRY.size)) for _ in range(count)]
        pickled = _exactly(source, length)
        position = len(MAGIC) + _HEAD.size + count * _ENTRY.size + length
        buffers: list[memoryview] = []
        for size, is_read_only in entries:
            _exactly(source, -position % ALIGNMENT)
            position += -position % ALIGNMENT + size
            memory = _memory(source, size)
            buffers.append(memory.toreadonly() if is_read_only else memory)
        # This reaches the end of the stream too, where a checksum is compared before anything is interpreted.
        if source.read(1):
            raise SerializationError("This is no pickle of ours: there are bytes behind its end.")
        return pickled, buffers


class _Pieces:
    """A file for the pickler that keeps what is written as it comes: large bytes objects are not copied."""

    def __init__(self, pieces: list[Buffer]) -> None:
        self.write = pieces.append


class _Stored(Pickler):
    """Pickles for storage: large buffers out of band, objects of the main script by a name that a later process finds."""

    def __init__(self, file: Any, buffers: list[pickle.PickleBuffer]) -> None:
        self._buffers = buffers
        super().__init__(file, protocol=5, buffer_callback=self._keep)

    def _keep(self, buffer: pickle.PickleBuffer) -> bool:
        # The answer is whether the buffer goes into the pickle after all.
        if buffer.raw().nbytes < LEAST_OUT_OF_BAND:
            return True
        self._buffers.append(buffer)
        return False

    def reducer_override(self, obj: Any) -> Any:
        reference = reference_of(obj)
        return super().reducer_override(obj) if reference is None else reference


class _Loading(pickle.Unpickler):
    """Finds what a process called by its fixed name in the main script too, if that is the same file."""

    def find_class(self, module_name: str, name: str, /) -> Any:
        return find_class(module_name, name, super().find_class)


def _is_plain(value: Any) -> bool:
    """Tell whether the value is plain data at a glance, which needs no pickler of ours."""
    kind = type(value)
    if kind in _PLAIN:
        return kind is not bytes or len(value) <= LEAST_OUT_OF_BAND
    if kind is list or kind is tuple:
        return len(value) <= _MOST_PLAIN_ITEMS and _PLAIN.issuperset(map(type, value))
    if kind is dict:
        return (
            len(value) <= _MOST_PLAIN_ITEMS
            and _PLAIN.issuperset(map(type, value))
            and _PLAIN.issuperset(map(type, value.values()))
        )
    return False


def _framed(pieces: list[Buffer], buffers: list[memoryview]) -> list[Buffer]:
    length = sum(map(len, pieces))
    head = bytearray(MAGIC + _HEAD.pack(length, len(buffers)))
    for view in buffers:
        head += _ENTRY.pack(view.nbytes, view.readonly)
    position = len(head) + length
    framed: list[Buffer] = [head, *pieces]
    for view in buffers:
        gap = -position % ALIGNMENT
        framed += [bytes(gap), view] if gap else [view]
        position += gap + view.nbytes
    return framed


def _up_to(source: Source, size: int) -> bytes:
    """Read so many bytes, however many the source gives at once; fewer only at its end."""
    data = source.read(size)
    while len(data) < size and (more := source.read(size - len(data))):
        data += more
    return data


def _exactly(source: Source, size: int) -> bytes:
    try:
        data = _up_to(source, size)
    except (MemoryError, OverflowError) as error:
        raise SerializationError(f"This is no pickle of ours: {size} bytes can't be read.") from error
    if len(data) < size:
        raise SerializationError(f"This is no whole pickle: of {size} bytes {len(data)} are there.")
    return data


def _memory(source: Source, size: int) -> memoryview:
    try:
        if size >= _LEAST_MAPPED:
            memory = memoryview(_mapped(size))
        else:
            memory = memoryview(bytearray(size))
    except (MemoryError, OverflowError, OSError) as error:
        raise SerializationError(f"There is no memory for {size} bytes, a buffer of this pickle.") from error
    if fill(source, memory) < size:
        raise SerializationError(f"This is no whole pickle: a buffer of {size} bytes ends early.")
    return memory


def _mapped(size: int) -> mmap.mmap:
    """Return memory that is not filled with zeros before it is read into, as a bytearray is."""
    # Private: after a fork each process has its own.
    mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # Large pages, as NumPy asks for: with small ones, the page faults cost as much as reading. Not every kernel has them.
    with suppress(AttributeError, OSError):
        mapped.madvise(mmap.MADV_HUGEPAGE)
    return mapped
