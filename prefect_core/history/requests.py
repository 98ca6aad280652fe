"""Requests: what somebody asks of the process that runs a flow run, and what that answers.

Only the owner of a run writes its states, so who wants a run paused or cancelled leaves a request in the history. The owner is told of it
(`control.steward`), does what is asked, and answers once; a request whose run has ended is answered by whoever notices.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from prefect_core import clock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

OVER = "over"
"""Key of an answer that nobody gave who was asked: its text says why no other will come."""
ENDED = "The run has ended."
LOST = "The process that ran this ended without a word."
"""The message of runs whose process was found dead, too."""


class RequestRow(NamedTuple):
    """One request."""

    key: int
    run: int
    """Whom it is for: a flow run, or all of a process by the key that is 2**32 times its number, which no run has."""
    kind: str
    """What is asked: "pause", "cancel", ..."""
    detail_text: str
    asked_by: str
    asked_us: int
    answered_us: int | None = None
    answer_text: str | None = None

    @property
    def detail(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.detail_text)
        return decoded

    @property
    def answer(self) -> dict[str, Any] | None:
        """What the owner answered; None while it has not."""
        if self.answer_text is None:
            return None
        decoded: dict[str, Any] = json.loads(self.answer_text)
        return decoded

    @property
    def asked(self) -> datetime:
        return clock.to_datetime(self.asked_us)


class Requests(Protocol):
    """The requests of one history, from any thread. Every method may raise `HistoryError`."""

    def ask(self, run: int, kind: str, detail: Mapping[str, Any], asked_by: str) -> RequestRow:
        """Leave a request; it is durable when this returns."""
        ...

    def request(self, key: int) -> RequestRow | None:
        """Return a request, or None if it went with its run."""
        ...

    def requests(self, run: int) -> list[RequestRow]:
        """Return what was asked of a run, first to last."""
        ...

    def unanswered(self) -> list[RequestRow]:
        """Return the requests, of all runs, that have no answer, first to last."""
        ...

    def answer(self, key: int, answer: Mapping[str, Any]) -> bool:
        """Answer a request; it is durable when this returns. False if it has an answer, which stays, or is gone."""
        ...

    def retract(self, key: int) -> None:
        """Delete a request, answered or not: for who asked, and alone wanted to know; harmless to say twice."""
        ...

    def changes(self) -> int:
        """Return a number that is another one after anybody asked, answered or sent an input, and perhaps after any other write.

        Cheap to ask often.
        """
        ...
