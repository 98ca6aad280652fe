"""Frames and tables of pandas and Arrow: written from their own memory, read into memory of their own."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from prefect_core.serializers import PickleSerializer, Serializer, resolve_serializer

ROWS = 50_000
FRAME = pd.DataFrame(
    {
        "number": np.arange(ROWS),
        "half": np.arange(ROWS) / 2,
        "when": pd.date_range("2026-01-01", periods=ROWS, freq="s", tz="Europe/Berlin"),
        "word": [f"word {number % 7}" for number in range(ROWS)],
        "kind": pd.Categorical([f"kind {number % 3}" for number in range(ROWS)]),
    }
)
TABLE = pa.table({"number": pa.array(range(ROWS)), "word": pa.array([f"word {number}" for number in range(ROWS)])})


def there_and_back(serializer: Serializer, value: Any) -> Any:
    return serializer.load(BytesIO(b"".join(serializer.dump(value))))


@pytest.mark.parametrize("name", ["pickle", "compressed/pickle"])
def test_a_frame_comes_back_equal_and_can_be_changed(name: str) -> None:
    back = there_and_back(resolve_serializer(name), FRAME)
    pd.testing.assert_frame_equal(back, FRAME)
    back.loc[0, "number"] = -1
    back["half"] += 1
    assert FRAME.loc[0, "number"] == 0


def test_a_table_comes_back_equal() -> None:
    assert there_and_back(PickleSerializer(), TABLE).equals(TABLE)
    assert there_and_back(PickleSerializer(), {"a": [TABLE.column("number")]})["a"][0].equals(TABLE.column("number"))


@pytest.mark.parametrize("value", [FRAME[["number", "half"]], TABLE], ids=["frame", "table"])
def test_large_columns_are_not_copied(value: Any) -> None:
    pieces = PickleSerializer().dump(value)
    views = sum(piece.nbytes for piece in pieces if isinstance(piece, memoryview))
    assert views >= 16 * ROWS
    assert sum(len(piece) for piece in pieces) - views < 10_000
