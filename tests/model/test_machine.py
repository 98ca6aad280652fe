"""What the model says of who asks, and of the end of every run, fails when it is not so: a real run, and somebody who lies about it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tests.model import machine, story
from tests.model.machine import Model
from tests.model.test_threads import InMemory
from tests.model.worlds import REFUSED

PLAN = {"retries": 0, "stored": False, "late": None}
REAL_PAUSE = machine.pause_flow_run


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """A run of the model, with one body that waits to be told how to go on."""
    monkeypatch.setenv(story.STAGE, "set by the model")
    # Hypothesis takes notes only in a test of its own.
    monkeypatch.setattr(machine, "note", lambda _: None)
    made = InMemory()
    made.start(plan=PLAN)
    yield made
    made.teardown()


@contextmanager
def hurried() -> Iterator[pytest.MonkeyPatch]:
    """Have the model wait a moment only, for what does not come."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "LONG_SECONDS", 0.2)
        yield patch


def accept(*_: object, **__: object) -> None:
    """Say that something was done."""


def test_what_the_model_does_passes(model: Model) -> None:
    model.pause(times=2, is_suspended=False, is_short=False)
    model.resume(times=2)
    model.settle()
    model.what_was_said_holds()


def test_a_pause_that_was_accepted_and_not_made_is_seen(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "pause_flow_run", accept)
    with pytest.raises(AssertionError, match="0 pauses were made, told was"):
        model.pause(times=1, is_suspended=False, is_short=False)


def test_a_pause_that_two_were_told_they_made_is_seen(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    once = threading.Lock()

    def pause(**asked: Any) -> None:
        if once.acquire(blocking=False):
            REAL_PAUSE(**asked)

    monkeypatch.setattr(machine, "pause_flow_run", pause)
    with pytest.raises(AssertionError, match="1 pauses were made, told was"):
        model.pause(times=2, is_suspended=False, is_short=False)


def test_two_pauses_that_were_made_at_once_are_seen(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[None] = []
    control = model.store.control()
    with monkeypatch.context() as lying:
        lying.setattr(machine, "pause_flow_run", lambda **_: pauses.append(None))
        lying.setattr(control, "pauses", lambda _: list(pauses))
        with pytest.raises(AssertionError, match="2 pauses were made at once"):
            model.pause(times=2, is_suspended=False, is_short=False)


@pytest.mark.parametrize(("is_paused", "times"), [(True, 2), (False, 1)])
def test_a_resume_too_many_is_seen(model: Model, monkeypatch: pytest.MonkeyPatch, is_paused: bool, times: int) -> None:
    if is_paused:
        model.pause(times=1, is_suspended=False, is_short=False)
    with monkeypatch.context() as lying:
        lying.setattr(machine, "resume_flow_run", accept)
        with pytest.raises(AssertionError, match="more resumes than pauses"):
            model.resume(times=times)


class Said:
    """A player that has come to an end, or never does."""

    def __init__(self, outcome: str | None) -> None:
        self._outcome = outcome

    def outcome(self) -> str | None:
        return self._outcome


@pytest.mark.parametrize(
    ("claims", "outcomes", "message"),
    [
        (0, ["Completed", f"{REFUSED}: NotRunnableAgain"], "nobody got it"),
        (1, ["Completed", "Completed"], "one who did not get it does not say so"),
        (2, ["Completed", f"{REFUSED}: NotRunnableAgain"], "one who did not get it does not say so"),
    ],
)
@pytest.mark.parametrize("mode", ["retry", "resume"])
def test_a_run_that_two_or_none_were_let_run_again_is_seen(
    model: Model, mode: str, claims: int, outcomes: list[str], message: str
) -> None:
    if mode == "resume":
        model.pause(times=1, is_suspended=True, is_short=False)
    players = [Said(outcome) for outcome in outcomes]
    reopenings: list[None] = []

    def play(*_: object) -> Said:
        reopenings.extend([None] * (claims if len(players) == 2 else 0))
        return players.pop()

    with hurried() as lying:
        lying.setattr(model.world, "play", play)
        lying.setattr(model.store, "reopenings", lambda _: reopenings)
        with pytest.raises(AssertionError, match=message):
            getattr(model, mode)(times=2)
    # They are none that the end of the model would have to wait for.
    del model.players[1:]


def test_who_is_left_waiting_is_seen() -> None:
    answered = threading.Event()
    with hurried(), pytest.raises(AssertionError, match="who asks is left waiting"):
        machine.outcomes([lambda: answered.wait(50)])
    answered.set()


def test_a_run_that_does_not_go_on_is_seen(model: Model) -> None:
    with hurried() as deaf:
        # As if no body had begun.
        deaf.setattr(model.stage, "held", list)
        with pytest.raises(AssertionError, match="the run does not go on"):
            model.settle()


def test_a_run_that_does_not_end_is_seen(model: Model) -> None:
    with hurried() as deaf:
        # Its body is never told to return.
        deaf.setattr(model, "_let_all_return", lambda: False)
        with pytest.raises(AssertionError, match="the run does not end"):
            model._bring_to_an_end()


@pytest.mark.parametrize(("outcome", "message"), [(None, "a player does not end"), ("raised X()", "a player raised")])
def test_who_runs_a_run_and_does_not_end_or_raises_is_seen(model: Model, outcome: str | None, message: str) -> None:
    model._bring_to_an_end()
    model.players.append(Said(outcome))
    with hurried(), pytest.raises(AssertionError, match=message):
        model._bring_to_an_end()
    model.players.pop()


def test_a_run_inside_that_is_left_open_is_seen(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model._bring_to_an_end()
    key = model.store.task_runs()[0].key
    left = SimpleNamespace(name="step-0", key=key, state_type="RUNNING", state_name="Running")
    with monkeypatch.context() as lying:
        lying.setattr(machine.invariants, "runs_of", lambda _: [left])
        lying.setattr(model, "what_was_said_holds", accept)
        with pytest.raises(AssertionError, match="step-0 is left open"):
            model._bring_to_an_end()
