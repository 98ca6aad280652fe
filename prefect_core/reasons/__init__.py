"""Why a run is not running, not finished, or ended as it did: decided as data (`kinds`, `finding`) and said in a sentence (`wording`).

>>> print(prefect_core.why("golden-magpie"))
golden-magpie has been running for 12 s ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect_core import history
from prefect_core.reasons import finding
from prefect_core.reasons.answer import Why
from prefect_core.reasons.kinds import (
    Asker,
    Ended,
    Failure,
    Followed,
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
)

if TYPE_CHECKING:
    from uuid import UUID

__all__ = [
    "Asker",
    "Ended",
    "Failure",
    "Followed",
    "FullLimit",
    "Holder",
    "InChunk",
    "IsCancelling",
    "IsPaused",
    "IsRunning",
    "IsScheduled",
    "LateBody",
    "NoPlace",
    "NotBegun",
    "Process",
    "ProcessLost",
    "Reason",
    "Retry",
    "RunRef",
    "StandsForSubflow",
    "UpstreamFailed",
    "WaitingForInput",
    "WaitingForLimit",
    "WaitingForLock",
    "WaitingForRuns",
    "Why",
    "why",
]


def why(run: str | UUID) -> Why:
    """Say why a flow run or task run is not running, not finished, or ended as it did.

    `run` is its id, the unique start of one, or its name. `str()` of the answer is a sentence, `reason` has the facts. Works for runs of
    any process that records here; may block for two seconds, should that process not answer. Raises `ObjectNotFound`, `HistoryError`.
    """
    with history.reading() as store:
        return finding.why(store, str(run))
