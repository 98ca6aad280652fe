"""What readers of the history get about stored results: frozen records, one class per table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from prefect_core import clock

if TYPE_CHECKING:
    from datetime import datetime

    from prefect_core.history.rows import FlowRunRow


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One stored value: inside the history (`value`), or an object of a storage."""

    key: int
    serializer: str
    storage: str | None
    object: str | None
    value: bytes | None
    size: int
    sha256: bytes
    run: int | None
    """The run that it was made as the value of."""
    created_us: int

    @property
    def created(self) -> datetime:
        return clock.to_datetime(self.created_us)


@dataclass(frozen=True, slots=True)
class KeptRow:
    """That a run's value is a stored result, made from the results `inputs`."""

    run: int
    attempt: int
    result: ResultRow
    inputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class IdentityRow:
    """By what a call is known again. `identity` is None where it can't be; `problem` says why."""

    run: int
    identity: bytes | None
    site: bytes
    arguments_text: str
    occurrence: int
    given_key: str | None
    code: bytes | None
    problem: str | None

    @property
    def arguments(self) -> dict[str, str]:
        """Short digests by parameter."""
        decoded: dict[str, str] = json.loads(self.arguments_text)
        return decoded


class EarlierCall(NamedTuple):
    """A task run of an earlier execution, flat, since there may be very many: its identity, its run, and what was kept (or nulls)."""

    identity: bytes | None
    code: bytes | None
    key: int
    uid: bytes
    task_name: str
    task_key: str
    number: int
    name: str | None
    tags: str | None
    inputs: str | None
    created_us: int
    started_us: int | None
    ended_us: int | None
    run_count: int
    state_type: str
    state_name: str
    state_message: str | None
    state_us: int
    worker: str
    attempts: int | None
    kept_attempt: int | None
    kept_inputs: str | None
    result: int | None
    serializer: str
    storage: str | None
    object: str | None
    value: bytes | None
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class CacheRow:
    """A result by its cache key."""

    key: str
    result: ResultRow
    run: int
    expires_us: int | None
    created_us: int


@dataclass(frozen=True, slots=True)
class UnheldRow:
    """The parameters of a flow run that JSON can't hold, and the result that holds them in a dict, if they were stored."""

    run: int
    names: tuple[str, ...]
    result: int | None


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """Whether a call took an earlier result, or what became of its own, and why."""

    run: int
    at_us: int
    verdict: str
    reason: str

    @property
    def at(self) -> datetime:
        return clock.to_datetime(self.at_us)


class Reopened(NamedTuple):
    """A flow run that may go on: as it stands now, with the number of attempts that it had."""

    run: FlowRunRow
    attempts: int


@dataclass(frozen=True, slots=True)
class ReopeningRow:
    """That a process was let run a flow run again, from this attempt on."""

    run: int
    at_us: int
    attempt: int
    process: int
    asked_by: str

    @property
    def at(self) -> datetime:
        return clock.to_datetime(self.at_us)


class DoomedRow(NamedTuple):
    """An object whose result is gone. What was written under its name after `written_us` is another one."""

    storage: str
    object: str
    written_us: int


class Holders(NamedTuple):
    """Who refers to a result: runs whose value it is, flow runs whose parameters it holds, cache keys."""

    runs: tuple[int, ...]
    parameters_of: tuple[int, ...]
    cache_keys: tuple[str, ...]
