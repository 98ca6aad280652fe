"""What do storing and loading a large array cost? Against numpy.save with fsync and numpy.load, each with SHA-256 over the bytes.

Memory is the growth of a process of its own; storing begins with the array in memory.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, compare, throwaway_home

MEGABYTES = 256
LIMIT = 1.3
LIMIT_STORING = 0.2
LIMIT_LOADING = 1.2
SMALL_COUNT = 20_000


def _array() -> Any:
    import numpy as np

    return np.random.default_rng(1).random(MEGABYTES * 2**20 // 8)


def _ours(folder: Path) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    from prefect_core.serializers import PickleSerializer
    from prefect_core.storage import read_checked, resolve_storage

    storage, serializer = resolve_storage(folder), PickleSerializer()
    return (
        lambda array: storage.write("run/array", serializer.dump(array)),
        lambda written: read_checked(storage, "run/array", written, serializer.load),
    )


def _numpy(folder: Path) -> tuple[Callable[[Any], object], Callable[[], object]]:
    import numpy as np

    path = folder / "array.npy"

    def store(array: Any) -> bytes:
        with path.open("wb") as file:
            np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def load() -> bytes:
        return hashlib.sha256(np.load(path)).digest()

    return store, load


def _growth(work: Callable[[], object]) -> int:
    """Return by how many bytes this process grew at most while it worked. `ru_maxrss` would count its parent's size too."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def print_growth(folder: str) -> None:
    """Print by how much the process grows while it stores an array that it has, and while it loads it again."""
    import numpy as np

    store, load = _ours(Path(folder))
    load(store(np.arange(100_000)))
    kept: list[Any] = [_array()]
    storing = _growth(lambda: kept.append(store(kept[0])))
    written = kept.pop()
    kept.clear()
    loading = _growth(lambda: kept.append(load(written)))
    assert kept[0].flags.writeable
    print(storing, loading)


def _memory(folder: Path) -> list[Figure]:
    code = f"from benchmarks import stored_arrays; stored_arrays.print_growth({str(folder)!r})"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    figures = []
    for number, what, limit in zip(
        run.stdout.split(), ("storing", "loading"), (LIMIT_STORING, LIMIT_LOADING), strict=True
    ):
        megabytes = int(number) / 2**20
        ratio = megabytes / MEGABYTES
        figures.append(
            Figure(
                f"peak growth while {what} it; bare: its own size",
                megabytes,
                MEGABYTES,
                ratio,
                (ratio, ratio),
                limit,
                "MB",
            )
        )
    return figures


def _seconds(figure: Figure) -> Figure:
    return Figure(figure.what, figure.ours, figure.bare, figure.ratio, figure.spread, figure.limit, "ms")


def _small() -> Figure:
    import pickle

    from prefect_core.serializers import PickleSerializer

    serializer = PickleSerializer()
    return compare(
        f"pickling {SMALL_COUNT:,} integers for storage; bare: pickle.dumps",
        lambda: [serializer.dump(number) for number in range(SMALL_COUNT)],
        lambda: [pickle.dumps(number, 5) for number in range(SMALL_COUNT)],
        SMALL_COUNT,
        None,
    )


def measure() -> list[Figure]:
    with throwaway_home() as home:
        array = _array()
        store, load = _ours(home / "storage")
        bare_store, bare_load = _numpy(home)
        storing = compare(
            f"storing a {MEGABYTES} MB array", lambda: store(array), lambda: bare_store(array), 1000, LIMIT
        )
        written = store(array)
        loading = compare(f"loading a {MEGABYTES} MB array", lambda: load(written), bare_load, 1000, LIMIT, repeats=9)
        return [
            _seconds(storing),
            _seconds(loading),
            *_memory(home / "memory"),
            _small(),
        ]
