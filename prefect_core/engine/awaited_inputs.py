"""Which bodies of this process wait for an input that is sent to a flow run, for those who ask why a run gets no further."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from prefect_core import clock

if TYPE_CHECKING:
    from prefect_core.context import RunContext


class _Awaited(NamedTuple):
    run: int
    flow_run: str
    channels: tuple[str, ...]
    since_us: int
    until_us: int | None


_awaited: list[_Awaited] = []


@contextmanager
def awaiting(
    around: RunContext | None, flow_run: str, channels: Collection[str], seconds: float | None
) -> Iterator[None]:
    """Say that the body of a run waits in the block for an input to `flow_run` on one of some channels; None for code in no run."""
    if around is None:
        yield
        return
    now = clock.now_us()
    until = None if seconds is None else now + int(seconds * 1_000_000)
    one = _Awaited(around.run.uid, flow_run, tuple(sorted(channels)), now, until)
    _awaited.append(one)
    try:
        yield
    finally:
        _awaited.remove(one)


def account_of(uid: int) -> dict[str, Any]:
    """Return what the body of a run waits for, under "input"; nothing if it does not."""
    for one in tuple(_awaited):
        if one.run == uid:
            told = {"flow_run": one.flow_run, "channels": one.channels, "since": one.since_us, "until": one.until_us}
            return {"input": told}
    return {}
