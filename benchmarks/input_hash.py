"""What does it cost to tell calls apart by their inputs? Large ones against the hash function or pandas' own hashes, small ones against
their pickle, hashed, which is what they would otherwise be told apart by.

The figures of arrays and frames are milliseconds, those of small values microseconds.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Figure, compare

ARRAY_BYTES = 256 << 20
ROWS = 800_000
SMALL: dict[str, Any] = {
    "5": 5,
    '("a", 1)': ("a", 1),
    "a dict of ten entries": {f"key{number}": number for number in range(10)},
    "a list of 10,000 ints": list(range(10_000)),
    "a list of 10,000 strings": [f"name {number}" for number in range(10_000)],
    "a list of 10,000 pairs": [(number, f"name {number}") for number in range(10_000)],
}
COUNT = 2_000_000


def _in(unit: str, figure: Figure) -> Figure:
    return Figure(figure.what, figure.ours, figure.bare, figure.ratio, figure.spread, figure.limit, unit)


def _milliseconds(
    what: str, ours: Callable[[], object], bare: Callable[[], object], limit: float | None = None
) -> Figure:
    return _in("ms", compare(what, ours, bare, 1000, limit, repeats=7))


def _arrays() -> list[Figure]:
    import numpy as np

    from prefect_core.encoding import digest

    array = np.random.default_rng(1).random(ARRAY_BYTES // 8)
    fortran = array.reshape(1 << 10, -1).T

    def bare() -> bytes:
        return hashlib.sha256(array).digest()

    return [
        _milliseconds("digest of 256 MB of float64, against sha256", lambda: digest(array), bare, 1.5),
        _milliseconds("the same, transposed, against sha256 of its bytes", lambda: digest(fortran), bare),
    ]


def _frames() -> list[Figure]:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from prefect_core.encoding import digest

    random = np.random.default_rng(1)
    numbers = {f"x{number}": random.random(ROWS) for number in range(8)}
    names = np.array([f"customer {number}" for number in range(5_000)], dtype=object)[random.integers(0, 5_000, ROWS)]
    frame = pd.DataFrame(numbers | {"n": random.integers(0, 9, ROWS), "name": pd.Series(names, dtype=object)})
    megabytes = int(frame.memory_usage(deep=True).sum()) >> 20
    in_arrow = frame.astype({"name": "string[pyarrow]"})
    table = pa.Table.from_pandas(frame, preserve_index=False)

    def bare() -> bytes:
        return hashlib.sha256(pd.util.hash_pandas_object(frame).to_numpy()).digest()

    def bare_in_arrow() -> bytes:
        return hashlib.sha256(pd.util.hash_pandas_object(in_arrow).to_numpy()).digest()

    where = "against hash_pandas_object"
    return [
        _milliseconds(f"digest of a DataFrame of {megabytes} MB, {where}", lambda: digest(frame), bare),
        _milliseconds(f"the same, text in Arrow, {where}", lambda: digest(in_arrow), bare_in_arrow),
        _milliseconds(
            "the same as an Arrow table, against the DataFrame's", lambda: digest(table), lambda: digest(frame)
        ),
    ]


def _small(name: str, value: Any) -> Figure:
    from prefect_core.encoding import digest

    count = COUNT // (10 + 10 * len(value) if isinstance(value, list | dict) else 10)

    def ours() -> None:
        for _ in range(count):
            digest(value)

    def bare() -> None:
        for _ in range(count):
            hashlib.sha256(pickle.dumps(value)).digest()

    return _in("µs", compare(f"digest of {name}, against pickle and sha256", ours, bare, count, None))


def measure() -> list[Figure]:
    figures = _arrays() + [_small(name, value) for name, value in SMALL.items()]
    try:
        return figures + _frames()
    except ModuleNotFoundError as error:
        print(f"{error}, so no frame was measured.", file=sys.stderr)
        return figures
