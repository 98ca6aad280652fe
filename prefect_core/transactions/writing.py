"""Writing what a transaction held back: objects first, then all rows in one transaction of the history."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from prefect_core import history
from prefect_core.crash_points import crash_point
from prefect_core.moments import Moments, Work
from prefect_core.waiting import block_until_done

if TYPE_CHECKING:
    from prefect_core.history import Durable
    from prefect_core.results.kept import KeptValue
    from prefect_core.transactions.node import BaseTransaction


def writing(nodes: Sequence[BaseTransaction]) -> Moments[Durable | None]:
    """Hand everything over to be written, and return what fires when it is durable; None if there is nothing.

    Whatever it raises, nothing is told of any value, and no object is left.
    """
    written: list[KeptValue] = []
    try:
        yield Work(partial(_write_objects, nodes, written))
        crash_point("transaction.before_rows")
        rows = [row for node in nodes for kept in node.held for row in kept.release()]
        if not rows:
            return None
        recorder = history.current()
        recorder.noted(rows)
        return recorder.durable()
    except GeneratorExit:
        raise
    except BaseException:
        for kept in written:
            delete_quietly(kept)
        raise


def _write_objects(nodes: Sequence[BaseTransaction], written: list[KeptValue]) -> None:
    for node in nodes:
        node.take_value()
        written.extend(kept for kept in node.held if kept.write_object())


def delete_quietly(kept: KeptValue) -> None:
    """Delete the object of a value that nobody was told of."""
    try:
        kept.delete_object()
    except Exception:
        # Housekeeping finds what no result refers to; the failure that led here is what counts.
        return


def wait_until(done: Durable) -> None:
    """Block until it is durable. Raises `HistoryError` if it can't be made so."""
    done.hasten()
    block_until_done([done])
    if done.error is not None:
        raise done.error
    crash_point("transaction.after_rows")
