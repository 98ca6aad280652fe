"""What travels between the process of a flow and the far end: payloads on their way there (`Parcel`), and what comes back (`Reply`)."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from prefect_core.settings import Settings


PlainCall = tuple[tuple[Any, ...], int, bool, tuple[Any, ...], dict[str, Any]]
"""A plain outline, depth, `log_prints` and arguments: of a call that has nothing else particular to it, as most."""


class Parcel(NamedTuple):
    """A payload as bytes. Surroundings and task are the same for many payloads: a worker that has them by number needs no bytes again."""

    surroundings: int
    surroundings_bytes: bytes | None
    task: int
    task_bytes: bytes | None
    call: bytes | PlainCall
    """As it is where it is pickled with those of others."""
    links: tuple[int, ...] = ()
    """In a chunk: the places in it of the attempts whose values its references stand for, negative for what is not made in it."""


class Surroundings(NamedTuple):
    """What holds for all payloads of one runner: the process they come from, its settings, and the flow run."""

    origin: str
    settings: Settings
    level: int
    lineage: list[Any]
    flow: tuple[str | None, str | None, bool] | None


class FlowOutline(NamedTuple):
    """What a worker knows of the flow around a task, as `FlowRunContext.flow`."""

    name: str
    version: str | None


class Call(NamedTuple):
    """What is particular to one payload."""

    lineage: list[Any]
    depth: int
    log_prints: bool
    tags: frozenset[str]
    timeout_seconds: float | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    order: tuple[Any, ...] | None = None
    """Where a large value is to be stored (`storing_afar.Order`)."""
    blocks: frozenset[int] = frozenset()


PLAIN_CALL_FIELDS = 5


def opened_call(dumped: bytes | PlainCall) -> Call:
    """Return the call in a parcel. Raises what unpickling raises."""
    fields = dumped if isinstance(dumped, tuple) else pickle.loads(dumped)
    if len(fields) == PLAIN_CALL_FIELDS:
        outline, depth, log_prints, args, kwargs = fields
        return Call([outline], depth, log_prints, frozenset(), None, args, kwargs)
    return Call._make(fields)


class Reply(NamedTuple):
    """A receipt but for its value, and what happened. `unloadable` says why the payload could not even be unpickled."""

    started_us: int
    ended_us: int
    timed_out: bool
    worker: str
    error: bytes | None
    events: list[Any]
    unloadable: str | None = None
    is_kept: bool = False
    """The value stays where it was made (see `in_place`)."""
    is_unready: bool = False
    """A value that the payload refers to was never made."""
    unreached: tuple[str, str] | None = None
    """A storage that a value of the payload can't be had from, and why; it then is unready."""
    stored: Any = None
    """What was stored of a value that is kept (`storing_afar.Made`)."""


PlainReply = tuple[str, int, int, Any]
"""Where a body ran that returned a plain value, when it began and ended, and the value: what most have to reply."""

_REPLY_FIELDS = len(Reply._fields)
PLAIN_REPLY_FIELDS = 4


def opened(fields: tuple[Any, ...]) -> tuple[Reply, tuple[Any, ...]]:
    """Return a reply that travelled as a tuple, and its value in another if that stood in it."""
    if len(fields) == PLAIN_REPLY_FIELDS:
        worker, started_us, ended_us, value = fields
        return Reply(started_us, ended_us, False, worker, None, []), (value,)
    return (
        (Reply._make(fields), ())
        if len(fields) == _REPLY_FIELDS
        else (Reply._make(fields[:-1]), fields[_REPLY_FIELDS:])
    )
