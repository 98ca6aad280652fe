"""Every reason why a run is not running, not finished, or ended as it did: one small class each, with the facts and no words.

`kind` names a reason in JSON, beside its fields; `reasons.wording` says it in a sentence. Moments are in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run, and what it showed. `kind` is "flow_run" or "task_run"."""

    kind: str
    id: str
    name: str
    state: str


@dataclass(frozen=True, slots=True)
class Process:
    """A process that has runs."""

    host: str
    pid: int
    silent_seconds: float | None = None
    """For how long it has not said that it lives; None where its clock can't be compared. It says so every few seconds."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Somebody who asked for something, as "cancel" or "pause": for a person to read, and when."""

    what: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that did not end well, and its message."""

    run: RunRef
    message: str | None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds slots of a limit: a run, or a block of code that is in none (`run_id` is None)."""

    name: str
    run_id: str | None
    process: Process | None
    slots: int
    since: datetime


@dataclass(frozen=True, slots=True)
class FullLimit:
    """A limit that a run waits for. `ahead` wait before it; slots with a decay come back by that, whoever took them."""

    name: str
    slots: int
    decay_per_second: float
    wanted: int
    holders: tuple[Holder, ...]
    """The first of `holder_count`."""
    holder_count: int
    ahead: int


@dataclass(frozen=True, slots=True)
class Reason:
    """What keeps a run from running or from ending, or how it ended."""

    kind: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Followed(Reason):
    """A reason that lies in another run, which has one of its own, and so on."""

    chain: tuple[RunRef, ...] = field(default=(), kw_only=True)
    """The runs that were followed, each the one that the one before it waits for."""
    root: Reason | None = field(default=None, kw_only=True)
    """The reason of the last one in the chain; None if there is no chain. If it lies in another run once more, that is one of the chain
    itself, or the chain is too long to be followed to its end."""


@dataclass(frozen=True, slots=True)
class Ended(Reason):
    """It is final."""

    kind: ClassVar[str] = "ended"
    at: datetime
    seconds: float | None
    """From its first start to its end; None if it never started."""
    attempts: int
    message: str | None
    first_failure: Failure | None
    """The first run in it that failed or crashed, down to one that has none in it."""
    asked: Asker | None
    """Who asked for it to be cancelled, if it was."""


@dataclass(frozen=True, slots=True)
class ProcessLost(Reason):
    """Its process ended without a word."""

    kind: ClassVar[str] = "process_lost"
    process: Process | None
    last_heard: datetime | None
    found: datetime
    found_by: str | None
    is_left_alone: bool = False
    """Whether that happened so often in a row, and without progress, that `recover` does not run it again."""


@dataclass(frozen=True, slots=True)
class UpstreamFailed(Reason):
    """A run that it was to get its input from did not complete, so it never starts."""

    kind: ClassVar[str] = "upstream_failed"
    upstream: RunRef | None
    """The input; None if it is not in the history any more."""
    failure: Failure | None
    """The run where it began: the input, or what that was waiting for in turn."""


@dataclass(frozen=True, slots=True)
class WaitingForRuns(Followed):
    """Its inputs are still under way."""

    kind: ClassVar[str] = "waiting_for_runs"
    runs: tuple[RunRef, ...]
    """The first of `count`."""
    count: int


@dataclass(frozen=True, slots=True)
class StandsForSubflow(Followed):
    """It is what stands for a subflow run in its parent, and shows what that does."""

    kind: ClassVar[str] = "subflow"
    run: RunRef


@dataclass(frozen=True, slots=True)
class WaitingForLimit(Followed):
    """It wants slots of concurrency limits: a task run by its tags, or the code in a run by a block. The first holder is followed."""

    kind: ClassVar[str] = "limit_full"
    limits: tuple[FullLimit, ...]
    since: datetime


@dataclass(frozen=True, slots=True)
class WaitingForLock(Followed):
    """Another run computes the value of its cache key, and it will have that."""

    kind: ClassVar[str] = "lock_held"
    key: str
    holder: RunRef | None
    """None if it is in another process, or a block of code."""


@dataclass(frozen=True, slots=True)
class IsPaused(Reason):
    """A flow run is paused: it itself, or the one that it is in."""

    kind: ClassVar[str] = "paused"
    run: RunRef
    since: datetime
    key: str | None
    until: datetime | None
    """When it can no longer be resumed."""
    is_suspended: bool
    """Whether it has no process meanwhile."""
    message: str | None


@dataclass(frozen=True, slots=True)
class Retry(Reason):
    """Its last attempt failed, and there will be another."""

    kind: ClassVar[str] = "retry"
    due: datetime
    seconds: float
    """Until then; 0 if the moment has passed."""
    attempts: int
    """How many there were."""
    message: str | None
    """How the last one ended."""


@dataclass(frozen=True, slots=True)
class IsScheduled(Reason):
    """It is not to start before a moment."""

    kind: ClassVar[str] = "scheduled"
    due: datetime | None


@dataclass(frozen=True, slots=True)
class NoPlace(Reason):
    """Its task runner has it, and has not begun it."""

    kind: ClassVar[str] = "no_slot"
    runner: str
    running: tuple[RunRef, ...]
    """The first of `running_count` bodies of this flow run that the runner runs."""
    running_count: int
    resources: dict[str, float]
    """What it asks for."""


@dataclass(frozen=True, slots=True)
class InChunk(Reason):
    """It goes to its runner together with others, which run one after the other."""

    kind: ClassVar[str] = "in_chunk"
    runner: str | None
    """None while the chunk is being gathered."""
    ahead: int
    running: RunRef | None
    """The one whose turn it is."""


@dataclass(frozen=True, slots=True)
class LateBody(Reason):
    """The body of an attempt that timed out still runs, and two of one run never do."""

    kind: ClassVar[str] = "late_body"
    since: datetime


@dataclass(frozen=True, slots=True)
class NotBegun(Reason):
    """It has not begun, and nothing is known that keeps it."""

    kind: ClassVar[str] = "not_begun"
    since: datetime


@dataclass(frozen=True, slots=True)
class IsRunning(Followed):
    """Its body runs, or what that has started."""

    kind: ClassVar[str] = "running"
    since: datetime
    seconds: float
    attempt: int
    process: Process | None
    """The one that it belongs to; bodies may run elsewhere."""
    runner: str | None
    """Where its body runs, or, of a flow run, those of its tasks."""
    has_returned: bool | None
    """Whether the body has ended, so that only what it started is waited for; None if that is not known."""
    children: dict[str, int]
    """How many of the task runs in it (subflow runs among them) are in which state."""


@dataclass(frozen=True, slots=True)
class WaitingForInput(Reason):
    """Its body waits for an input that somebody sends (`receive_input`)."""

    kind: ClassVar[str] = "waiting_for_input"
    flow_run: str
    """To which it is sent: the id, or the name that was asked for."""
    channels: tuple[str, ...]
    """The keys of what is wanted, up to their numbers."""
    since: datetime
    until: datetime | None
    """How long it waits."""


@dataclass(frozen=True, slots=True)
class IsCancelling(Followed):
    """It is being cancelled."""

    kind: ClassVar[str] = "cancelling"
    since: datetime
    seconds: float
    asked: Asker | None
    children: dict[str, int]


def as_json(value: Any) -> Any:
    """Return one of these records, or a value in them, as JSON holds it."""
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, tuple):
        return [as_json(one) for one in value]
    if not isinstance(value, Reason | RunRef | Process | Asker | Failure | Holder | FullLimit):
        return value
    named = {one.name: as_json(getattr(value, one.name)) for one in fields(value)}
    return {"kind": value.kind, **named} if isinstance(value, Reason) else named


def iso(moment: datetime) -> str:
    """Return a moment as JSON has it, with microseconds and zone."""
    return moment.isoformat(timespec="microseconds")
