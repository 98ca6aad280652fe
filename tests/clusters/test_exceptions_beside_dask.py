"""Exceptions keep their fields in a process that has imported Dask, which has its own way to pickle them."""

from __future__ import annotations

import copyreg
import pickle

import distributed
import pytest

from prefect_core import pickling


@pytest.mark.parametrize("error", [StopIteration(3), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")])
def test_an_exception_comes_back_with_its_fields(error: BaseException) -> None:
    assert distributed.__version__
    assert type(error) in copyreg.dispatch_table  # or there is nothing to be tested
    back = pickle.loads(pickling.dumps(error))
    assert type(back) is type(error)
    assert (str(back), getattr(back, "value", None)) == (str(error), getattr(error, "value", None))
