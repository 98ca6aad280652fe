"""What another serializer makes, compressed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Protocol, Self, cast

from prefect_core.buffers import Buffer, Source
from prefect_core.errors import ConfigurationError
from prefect_core.serializers import Serializer, SerializerSpec, resolve_serializer

_STEP = 1 << 20


class _Compressor(Protocol):
    def compress(self, data: Buffer, /) -> bytes: ...

    def flush(self) -> bytes: ...


_GZIP_HEADER = 16 + zlib.MAX_WBITS
_COMPRESSORS: dict[str, Callable[[], _Compressor]] = {
    "lzma": lzma.LZMACompressor,
    "bz2": bz2.BZ2Compressor,
    "gzip": lambda: zlib.compressobj(wbits=_GZIP_HEADER),
    "zlib": zlib.compressobj,
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "lzma": lzma.LZMAFile,
    "bz2": bz2.BZ2File,
    "gzip": lambda source: gzip.GzipFile(fileobj=source, mode="rb"),
    "zlib": lambda source: io.BytesIO(zlib.decompress(source.read())),
}


class CompressedSerializer(Serializer):
    """Compresses what `serializer` makes with lzma, bz2, gzip or zlib, piece by piece; by name: "compressed/json"."""

    def __init__(self, serializer: SerializerSpec, compressionlib: str = "lzma") -> None:
        if compressionlib not in _COMPRESSORS:
            raise ValueError(f"compressionlib must be one of {', '.join(_COMPRESSORS)}; got {compressionlib!r}.")
        self.serializer = resolve_serializer(serializer)
        self.compressionlib = compressionlib
        self.name = f"compressed/{self.serializer.name}"
        self.executes_code = self.serializer.executes_code
        self.advice = self.serializer.advice

    @classmethod
    def from_spec(cls, argument: str, options: dict[str, Any]) -> Self:
        """Make one; what it compresses stands behind the slash, or among the options where it has some itself."""
        inner = options.get("serializer", argument)
        if not inner:
            raise ConfigurationError(
                "'compressed' needs to know what to compress: compressed/pickle or compressed/json."
            )
        return cls(**{**options, "serializer": inner})

    def options(self) -> dict[str, Any]:
        """Return the library, and the inner serializer where its name does not tell all."""
        inner = self.serializer.spec()
        given = {} if self.compressionlib == "lzma" else {"compressionlib": self.compressionlib}
        return given if inner == self.serializer.name else {**given, "serializer": inner}

    def dumps(self, value: Any) -> bytes:
        """Return the compressed bytes."""
        return b"".join(self.dump(value))

    def loads(self, data: bytes) -> Any:
        """Load what `dumps` returned."""
        return self.load(io.BytesIO(data))

    def dump(self, value: Any) -> list[Buffer]:
        """Return compressed pieces. Raises what the inner serializer raises."""
        return self._compress(self.serializer.dump(value))

    def attempt(self, value: Any) -> object:
        """Let the inner serializer try."""
        return self.serializer.attempt(value)

    def _compress(self, pieces: list[Buffer]) -> list[Buffer]:
        compressor = _COMPRESSORS[self.compressionlib]()
        steps = (memoryview(piece)[start : start + _STEP] for piece in pieces for start in range(0, len(piece), _STEP))
        packed = [compressor.compress(step) for step in steps]
        packed.append(compressor.flush())
        return [part for part in packed if part]

    def load(self, source: Source) -> Any:
        """Decompress as the inner serializer reads."""
        return self.serializer.load(cast("Source", _READERS[self.compressionlib](source)))


class CompressedPickleSerializer(CompressedSerializer):
    """`CompressedSerializer("pickle")`."""

    def __init__(self, serializer: SerializerSpec = "pickle", compressionlib: str = "lzma") -> None:
        super().__init__(serializer, compressionlib)


class CompressedJSONSerializer(CompressedSerializer):
    """`CompressedSerializer("json")`."""

    def __init__(self, serializer: SerializerSpec = "json", compressionlib: str = "lzma") -> None:
        super().__init__(serializer, compressionlib)
