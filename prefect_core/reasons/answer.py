"""The answer to the question why a run is as it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prefect_core.reasons import wording
from prefect_core.reasons.kinds import Asker, Process, Reason, RunRef, as_json, iso


@dataclass(frozen=True, slots=True)
class Why:
    """Why a run is as it is."""

    run: RunRef
    state_type: str
    message: str | None
    since: datetime
    """When it entered its state."""
    reason: Reason
    process: Process | None
    """The process that it belongs to; None once it has ended, or if none has it."""
    has_answered: bool | None
    """Whether that process said what only it knows; None if it was not asked."""
    requests: tuple[Asker, ...]
    """What was asked of the run, and has no answer yet."""

    @property
    def sentence(self) -> str:
        """The reason in one sentence."""
        told = wording.told(self.run, self.reason)
        for one in self.requests:
            told += wording.requested(one)
        if self.process is not None:
            told += wording.silence(self.process, has_answered=self.has_answered)
        return f"{told}."

    def __str__(self) -> str:
        return self.sentence

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON holds it; moments in ISO 8601, reasons with their `kind`."""
        run = as_json(self.run)
        state = {
            "type": self.state_type,
            "name": self.run.state,
            "message": self.message,
            "timestamp": iso(self.since),
        }
        return {
            "id": run["id"],
            "name": run["name"],
            "kind": run["kind"],
            "state": state,
            "sentence": self.sentence,
            "reason": as_json(self.reason),
            "process": as_json(self.process),
            "has_answered": self.has_answered,
            "requests": as_json(self.requests),
        }
