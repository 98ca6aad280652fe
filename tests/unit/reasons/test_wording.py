"""What the sentences say, for each kind of reason."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from prefect_core import clock, reasons
from prefect_core.reasons import (
    Asker,
    Ended,
    Failure,
    FullLimit,
    Holder,
    InChunk,
    IsCancelling,
    IsPaused,
    IsRunning,
    IsScheduled,
    LateBody,
    NoPlace,
    NotBegun,
    Process,
    ProcessLost,
    Reason,
    Retry,
    RunRef,
    StandsForSubflow,
    UpstreamFailed,
    WaitingForInput,
    WaitingForLimit,
    WaitingForLock,
    WaitingForRuns,
    Why,
)
from prefect_core.reasons.kinds import Followed
from prefect_core.reasons.wording import span

NOW = clock.to_datetime(clock.now_us())
AGO = NOW - timedelta(minutes=3)
SHOWN = AGO.astimezone().strftime("%Y-%m-%d %H:%M:%S")
PROCESS = Process("laptop", 17, 0.5)


class StandingClock(clock.SystemClock):
    """The moment at which the reasons were made."""

    def now_us(self) -> int:
        return clock.from_datetime(NOW)


@pytest.fixture(autouse=True)
def standing() -> Iterator[None]:
    before = clock.install(StandingClock())
    yield
    clock.install(before)


def run(name: str, state: str = "Running") -> RunRef:
    return RunRef("task_run", "01a2", name, state)


def running(**fields: Any) -> IsRunning:
    known: dict[str, Any] = {"attempt": 1, "process": PROCESS, "runner": "ConcurrentTaskRunner", "has_returned": None}
    return IsRunning(since=AGO, seconds=180, **(known | {"children": {}} | fields))


SUBFLOW = RunRef("flow_run", "01a5", "f", "Running")


def limit(*holders: str, **fields: Any) -> FullLimit:
    held = tuple(Holder(name, None, PROCESS, 1, AGO) for name in holders)
    known: dict[str, Any] = {"slots": 1, "decay_per_second": 0.0, "wanted": 1, "holder_count": len(held), "ahead": 0}
    return FullLimit(name="db", holders=held, **(known | fields))


REASONS: list[tuple[Reason, str]] = [
    (Ended(AGO, 12, 1, None, None, None), f"x ended Running at {SHOWN} after 12 s"),
    (Ended(AGO, None, 0, None, None, Asker("cancel", "ada", AGO)), f"x ended Running at {SHOWN}, as ada asked"),
    (
        Ended(AGO, 12, 2, "It broke.\nBadly.", Failure(run("y", "Failed"), "No."), None),
        f"x ended Running at {SHOWN} after 12 s and 2 attempts: It broke. Badly; the first failure in it is that of y, Failed: No",
    ),
    (
        ProcessLost(None, None, AGO, None),
        f"x ended Running since its process ended without a word; that was found at {SHOWN}",
    ),
    (
        ProcessLost(PROCESS, AGO, AGO, "ada"),
        f"x ended Running since its process laptop:17 ended without a word, last heard of at {SHOWN}; that was found at {SHOWN}",
    ),
    (
        ProcessLost(PROCESS, AGO, AGO, "ada", is_left_alone=True),
        (
            f"x ended Running since its process laptop:17 ended without a word, last heard of at {SHOWN}; that was found at {SHOWN}. "
            "That came again and again without progress in between, so it is left alone: only `prefect-core flow-run retry` runs it again"
        ),
    ),
    (UpstreamFailed(None, None), "x will not run, since an input did not complete"),
    (
        UpstreamFailed(run("y", "Failed"), Failure(run("y", "Failed"), "No.")),
        "x will not run, since its input y did not complete (Failed: No)",
    ),
    (
        UpstreamFailed(run("y", "NotReady"), Failure(RunRef("task_run", "01a3", "z", "Failed"), "No.")),
        "x will not run, since its input y did not complete, which goes back to z, Failed: No",
    ),
    (
        WaitingForRuns((run("y"),), 1, chain=(run("y"),), root=Retry(NOW, 65, 1, None)),
        "x waits for y, which will be tried again in 1 min 5 s, after attempt 1 failed",
    ),
    (
        WaitingForRuns((run("y"), run("z")), 3, chain=(run("z"), run("a")), root=NotBegun(AGO)),
        (
            "x waits for z (and for 2 others), which waits for a, which has not begun since it was made 3 min ago, and nothing is known "
            "that keeps it"
        ),
    ),
    (
        StandsForSubflow(SUBFLOW, chain=(SUBFLOW,), root=running()),
        "x stands for the subflow run f, which has been running for 3 min in process laptop:17, with its tasks on ConcurrentTaskRunner",
    ),
    (
        WaitingForLimit((limit("y"),), AGO),
        "x waits for 1 slot of the limit 'db', which has 1, held by y (laptop:17, for 3 min)",
    ),
    (
        WaitingForLimit((limit("y"),), AGO, chain=(run("y"),), root=LateBody(AGO)),
        (
            "x waits for 1 slot of the limit 'db', which has 1, held by y (laptop:17, for 3 min), which has waited for 3 min for the "
            "body of an attempt that timed out, and still runs"
        ),
    ),
    (
        WaitingForLimit(
            (limit("y", "z", holder_count=5, ahead=2, slots=5),), AGO, chain=(run("y"),), root=NoPlace("R", (), 0, {})
        ),
        (
            "x waits for 1 slot of the limit 'db', which has 5, held by y (laptop:17, for 3 min), z (laptop:17, for 3 min) and 3 more, "
            "behind 2 others; y waits for a place in R, which runs nothing else of this flow run"
        ),
    ),
    (
        WaitingForLimit((limit(decay_per_second=0.5, wanted=2),), AGO),
        "x waits for 2 slots of the limit 'db', which has 1 (and 0.5 a second come back)",
    ),
    (
        WaitingForLock("k", None),
        "x waits for the value of its cache key that is computed by somebody in another process, or a block of code,",
    ),
    (WaitingForLock("k", run("y")), "x waits for the value of its cache key that is computed by y"),
    (
        IsPaused(RunRef("flow_run", "01a4", "f", "Paused"), AGO, "approval", AGO, False, "Waiting for Ada."),
        f"x is paused with f since {SHOWN} by the pause 'approval', and can be resumed until {SHOWN}: Waiting for Ada",
    ),
    (IsPaused(run("x", "Suspended"), AGO, None, None, True, None), f"x is suspended since {SHOWN}"),
    (WaitingForInput("x", ("str-auto",), AGO, None), "x has waited for 3 min for an input with the key str-auto"),
    (
        WaitingForInput("f", ("int-auto", "str-auto"), AGO, AGO),
        f"x has waited for 3 min for an input to f with the key int-auto or str-auto, until {SHOWN}",
    ),
    (Retry(NOW, 3, 2, "No."), "x will be tried again in 3.0 s, after attempt 2 failed: No"),
    (Retry(NOW, 0, 2, "No."), "x will be tried again at once, after attempt 2 failed: No"),
    (LateBody(AGO), "x has waited for 3 min for the body of an attempt that timed out, and still runs"),
    (NotBegun(AGO), "x has not begun since it was made 3 min ago, and nothing is known that keeps it"),
    (IsScheduled(AGO), f"x is not to start before {SHOWN}"),
    (IsScheduled(None), "x is scheduled"),
    (
        NoPlace("ProcessPoolTaskRunner", (run("a"), run("b"), run("c"), run("d")), 4, {"gpu": 1}),
        "x waits for a place with 1 gpu in ProcessPoolTaskRunner, which runs a, b, c and 1 more",
    ),
    (InChunk(None, 0, None), "x is about to go to its task runner in a chunk, which is being gathered"),
    (InChunk("RayTaskRunner", 2, run("a")), "x waits in a chunk of RayTaskRunner behind 2 others, of which a runs"),
    (InChunk("RayTaskRunner", 1, None), "x waits in a chunk of RayTaskRunner behind 1 other"),
    (
        running(attempt=2, process=None, runner=None, has_returned=True, children={"Running": 1_200, "Pending": 2}),
        "x has been running for 3 min, in attempt 2; its body has ended; of the runs in it, 2 Pending, 1,200 Running",
    ),
    (
        running(children={"Running": 1}, chain=(run("y"),), root=running(runner=None)),
        (
            "x has been running for 3 min in process laptop:17, on ConcurrentTaskRunner; of the runs in it, 1 Running: "
            "y has been running for 3 min in process laptop:17"
        ),
    ),
    (
        running(children={"Pending": 1}, chain=(run("y"), run("z")), root=IsScheduled(None)),
        (
            "x has been running for 3 min in process laptop:17, on ConcurrentTaskRunner; of the runs in it, 1 Pending: "
            "y waits for z, which is scheduled"
        ),
    ),
    (IsCancelling(AGO, 180, None, {}), "x has been cancelling for 3 min"),
    (
        IsCancelling(AGO, 180, Asker("cancel", "ada", AGO), {"Cancelling": 1}),
        "x has been cancelling for 3 min, as ada asked 3 min ago; of the runs in it, 1 Cancelling",
    ),
]


# Not the sentences: moments in them are other ones in each process of a test run.
IDS = [f"{reason.kind}-{number}" for number, (reason, _) in enumerate(REASONS)]


def why(reason: Reason, process: Process | None = None, has_answered: bool | None = None, *requests: Asker) -> Why:
    return Why(run("x"), "RUNNING", None, AGO, reason, process, has_answered, requests)


@pytest.mark.parametrize(("reason", "told"), REASONS, ids=IDS)
def test_each_reason_has_its_sentence(reason: Reason, told: str) -> None:
    assert str(why(reason)) == f"{told}."


def test_every_kind_of_reason_is_among_these() -> None:
    kinds = {kind for kind in vars(reasons).values() if isinstance(kind, type) and issubclass(kind, Reason)}
    assert kinds - {Reason, Followed} == {type(reason) for reason, _ in REASONS}
    assert len({kind.kind for kind in kinds - {Reason, Followed}}) == len(kinds) - 2


@pytest.mark.parametrize("reason", [reason for reason, _ in REASONS], ids=IDS)
def test_each_reason_is_json_that_tells_its_kind(reason: Reason) -> None:
    told = why(reason, PROCESS).as_json()
    assert told["reason"]["kind"] == reason.kind
    assert set(told["reason"]) == {"kind", *reason.__dataclass_fields__}
    assert told["process"] == {"host": "laptop", "pid": 17, "silent_seconds": 0.5}


@pytest.mark.parametrize(
    ("state", "verb"), [("Completed", "completed"), ("Failed", "failed"), ("Cancelled", "was cancelled")]
)
def test_a_usual_end_has_its_verb(state: str, verb: str) -> None:
    ended = Why(run("x", state), "FAILED", None, AGO, Ended(AGO, None, 0, None, None, None), None, None, ())
    assert str(ended) == f"x {verb} at {SHOWN}."


def test_a_long_chain_is_shown_by_its_ends() -> None:
    chain = tuple(run(f"r{number}") for number in range(9))
    told = str(why(WaitingForRuns(chain[:1], 1, chain=chain, root=IsScheduled(None))))
    assert told == (
        "x waits for r0, which waits for r1, which waits for ... 6 more ..., which waits for r8, which is scheduled."
    )


def test_what_has_no_answer_and_who_is_silent_is_told_behind_it() -> None:
    silent = Process("laptop", 17, 240.0)
    asker = Asker("cancel", "ada", AGO)
    assert str(why(IsScheduled(None), silent, False, asker)) == (
        "x is scheduled; ada asked to cancel it 3 min ago and has no answer yet; its process laptop:17 gave no answer and was last heard "
        "of 4 min ago."
    )
    assert str(why(IsScheduled(None), PROCESS, True)) == "x is scheduled."


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.6, "1 min"), (3_601, "1 h"), (7_260, "2 h 1 min"), (90_000, "1 d 1 h")],
)
def test_spans_have_their_two_greatest_units(seconds: float, told: str) -> None:
    assert span(seconds) == told
