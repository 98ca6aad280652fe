"""The model: a flow run, all that may be done to it at any moment, and what must hold after each of these."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from prefect_core import cancel_flow_run, cancel_task_run, clock, pause_flow_run, resume_flow_run, settings
from prefect_core.control.reaping import reap
from prefect_core.errors import FlowPauseTimeout, NotCancellable, NotPausedError, NotRunnableAgain
from prefect_core.history.pauses import PauseRow
from prefect_core.history.rows import FlowRunRow
from prefect_core.history.store import HistoryStore, RunFilter
from prefect_core.state_kinds import FINAL, StateType
from tests.model import invariants, story
from tests.model.stage import Body, Stage
from tests.model.worlds import LONG_SECONDS, REFUSED, Player

PLANS = st.fixed_dictionaries(
    {
        "retries": st.integers(0, 1),
        "stored": st.booleans(),
        "late": st.sampled_from([None, None, "a", "c"]),
    }
)
TIMES = st.integers(1, 2)
"""How often a thing is asked for, at the same moment."""
SHORT_SECONDS = 0.01
STEPS_BETWEEN_LOSSES = 5
"""More often, a run would seldom come as far as to be paused."""
REFUSALS = (RuntimeError, NotPausedError, FlowPauseTimeout, NotRunnableAgain, NotCancellable)


def outcomes(works: list[Callable[[], Any]]) -> list[Any]:
    """Do several things at once; returns what each returned, or was refused with."""
    came: list[Any] = [None] * len(works)

    def do(number: int) -> None:
        try:
            came[number] = works[number]()
        except BaseException as error:
            came[number] = error

    threads = [threading.Thread(target=do, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_SECONDS)
        assert not thread.is_alive(), "who asks is left waiting"
    for one in came:
        if isinstance(one, BaseException) and not isinstance(one, REFUSALS):
            raise one
    return came


def accepted(came: list[Any]) -> int:
    return sum(not isinstance(one, BaseException) for one in came)


class Model(RuleBasedStateMachine):
    """One flow run under all that may happen to it. Subclasses say in which world."""

    make_world: Callable[[Stage, Path], Any]

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="model")
        home = Path(self._folder.name)
        os.environ["PREFECT_CORE_HOME"] = str(home)
        settings.forget()
        self.stage = Stage()
        os.environ[story.STAGE] = self.stage.address
        self.world = type(self).make_world(self.stage, home)
        self.witness = invariants.Witness()
        self.players: list[Player] = []
        self.lost: dict[int, int] = {}
        """Processes that were lost, with the moments in wall microseconds."""
        self.key = 0
        self.steps_since_loss = 0

    # What the model sees

    @property
    def store(self) -> HistoryStore:
        return self.world.history()

    def row(self) -> FlowRunRow:
        return self.store.flow_run(self.key)

    @property
    def id(self) -> str:
        return str(self.row().id)

    def is_over(self) -> bool:
        return StateType(self.row().state_type) in FINAL

    def open_pause(self) -> PauseRow | None:
        pauses = self.store.control().pauses(self.key)
        is_paused = self.row().state_type == "PAUSED"
        return pauses[-1] if is_paused and pauses and pauses[-1].is_open else None

    def held(self) -> list[Body]:
        """Return the bodies that wait, of processes that live."""
        return self.stage.held()

    def until(self, holds: Callable[[], Any], what: str) -> None:
        """Wait for something to come true."""
        give_up = time.monotonic() + LONG_SECONDS
        while not holds():
            assert time.monotonic() < give_up, f"{what}: {self.described()}"
            time.sleep(0.002)

    def described(self) -> str:
        runs = [(run.name, [one.name for one in self.store.states(run.key)]) for run in invariants.runs_of(self.store)]
        return f"{runs}, held: {self.held()}, players: {[player.outcome() for player in self.players]}"

    def settle(self) -> None:
        """Wait until the run is at rest: over, paused, or with bodies that wait to be told how to go on."""
        self.until(lambda: self.held() or self.is_over() or self.open_pause() is not None, "the run does not go on")

    def note(self, what: str, came: Any = "") -> None:
        note(f"{what} {came}: {[one.name for one in self.store.states(self.key)]}, held {self.held()}")

    # What is done to it

    @initialize(plan=PLANS)
    def start(self, plan: dict[str, Any]) -> None:
        self.players.append(self.world.play("start", plan))
        self.until(self.held, "nothing began")
        [body] = self.held()
        self.key = body.run
        self.until(lambda: self.store.flow_runs(RunFilter(root_only=True)), "it is not recorded")

    @rule(which=st.integers(0, 3), verdict=st.sampled_from([story.RETURN, story.RETURN, story.RAISE]))
    def let_one_go_on(self, which: int, verdict: bytes) -> None:
        held = self.held()
        if held:
            self.stage.tell(held[which % len(held)], verdict)
        self.settle()

    @rule()
    def let_all_go_on(self) -> None:
        for body in self.held():
            self.stage.tell(body)
        self.settle()

    @rule(times=TIMES, is_suspended=st.booleans(), is_short=st.sampled_from([False, False, True]))
    def pause(self, times: int, is_suspended: bool, is_short: bool) -> None:
        before = len(self.store.control().pauses(self.key))
        timeout = SHORT_SECONDS if is_short else LONG_SECONDS * 10
        ask = partial(pause_flow_run, timeout=timeout, reschedule=is_suspended, flow_run_id=self.id)
        came = outcomes([ask] * times)
        self.note(f"pause, suspended {is_suspended}, short {is_short}", came)
        # A short one may have ended by the time that another is asked for.
        most = times if is_short else 1
        made = len(self.store.control().pauses(self.key)) - before
        assert made == accepted(came), f"{made} pauses were made, told was {came}; {self.described()}"
        assert made <= most, f"{made} pauses were made at once; {self.described()}"
        if is_short and not is_suspended and accepted(came):
            self.until(lambda: self.open_pause() is None or self.is_over(), "the pause does not end")

    @rule(times=TIMES)
    def resume(self, times: int) -> None:
        pause = self.open_pause()
        if pause is None or not pause.is_suspended:
            came = outcomes([partial(resume_flow_run, self.id)] * times)
            self.note("resume", came)
            assert accepted(came) <= (pause is not None), f"more resumes than pauses: {came}; {self.described()}"
            self.settle()
        else:
            self._go_on_elsewhere("resume", times)

    @rule(times=TIMES)
    def retry(self, times: int) -> None:
        self._go_on_elsewhere("retry", times)

    def _go_on_elsewhere(self, mode: str, times: int) -> None:
        """Have several try at once to run the run again; one of them gets it, or none."""
        before = len(self.store.reopenings(self.key))
        players = [self.world.play(mode, self.id) for _ in range(times)]
        self.players += players

        def is_decided() -> bool:
            refused = [player for player in players if (player.outcome() or "").startswith(REFUSED)]
            return len(refused) == times or len(self.store.reopenings(self.key)) > before

        self.until(is_decided, f"nobody got it to {mode}")
        refused = times - (len(self.store.reopenings(self.key)) - before)
        self.until(
            lambda: sum((player.outcome() or "").startswith(REFUSED) for player in players) == refused,
            "one who did not get it does not say so",
        )
        self.note(mode, [player.outcome() for player in players])
        self.settle()

    @rule(times=TIMES, grace_seconds=st.sampled_from([SHORT_SECONDS, LONG_SECONDS]))
    def cancel(self, times: int, grace_seconds: float) -> None:
        was_over, pause = self.is_over(), self.open_pause()
        came = outcomes([partial(cancel_flow_run, self.id, grace_seconds)] * times)
        self.note(f"cancel in {grace_seconds}", came)
        if was_over:
            assert accepted(came) == 0
        elif pause is not None and pause.is_left:
            # Its time may have been up by then, and both may have been heard by the process that was just about to let go.
            told = f"{came}, before: {pause}; {self.described()}"
            assert self.row().state_type == ("CANCELLED" if accepted(came) else "FAILED"), told
        elif accepted(came):
            assert self.row().state_type in {"CANCELLING", "CANCELLED"}, f"{came}, before: {pause}; {self.described()}"

    @rule(times=TIMES, which=st.integers(0, 3))
    def cancel_a_task(self, times: int, which: int) -> None:
        tasks = [run for run in self.store.task_runs() if StateType(run.state_type) not in FINAL]
        if tasks:
            task = sorted(tasks, key=lambda run: run.name)[which % len(tasks)]
            came = outcomes([partial(cancel_task_run, str(task.id), SHORT_SECONDS)] * times)
            self.note(f"cancel {task.name}", came)
        self.settle()

    @precondition(lambda self: self.steps_since_loss >= STEPS_BETWEEN_LOSSES)
    @rule(is_told=st.booleans())
    def lose_the_process(self, is_told: bool) -> None:
        self.steps_since_loss = 0
        before = self.open_pause()
        owner = self.store.control().owner(self.key)
        self.world.lose(self.key, is_told)
        self.lost[owner] = clock.now_us()
        self.note("lost")
        pause = self.open_pause()
        # It may have come to its end, or to the end of a pause, at the last moment.
        assert self.is_over() or (pause is not None and pause.is_suspended)
        if before is not None and before.is_suspended and pause is None:
            assert before.until_us is not None
            assert before.until_us <= clock.now_us()

    @rule()
    def look(self) -> None:
        """Somebody looks for dead processes, and for pauses whose time is up."""
        pause = self.open_pause()
        ended = reap(self.store.control())
        assert ended in ([], [self.key])
        if ended:
            assert pause is not None
            assert pause.is_suspended
            assert self.row().state_type == "FAILED"

    # What must hold

    @invariant()
    def what_was_said_holds(self) -> None:
        self.steps_since_loss += 1
        if self.key:
            store = self.store
            self.witness.look(store, self.key)
            invariants.check_bodies(self.stage.journal, store, self.key, self.lost)

    def teardown(self) -> None:
        try:
            if self.key:
                self._bring_to_an_end()
        finally:
            self.world.close()
            self.stage.close()
            self._folder.cleanup()

    def _bring_to_an_end(self) -> None:
        """Do all that may be done for the run to end, and see that it does."""
        give_up = time.monotonic() + LONG_SECONDS
        while not self.is_over():
            assert time.monotonic() < give_up, f"the run does not end: {self.described()}"
            self._help_along()
        self.until(lambda: not self.held() or self._let_all_return(), "bodies are left")
        self.until(self._all_have_ended, "a player does not end")
        raised = [player.outcome() for player in self.players if (player.outcome() or "").startswith("raised")]
        assert not raised, f"a player raised: {raised}"
        self.what_was_said_holds()
        for run in invariants.runs_of(self.store):
            is_over = StateType(run.state_type) in FINAL or run.state_name == "NotReady"
            assert is_over, f"{run.name} is left open: {self.described()}"
        invariants.check_attempts(self.stage.journal, self.store, self.lost)

    def _all_have_ended(self) -> bool:
        # The body of a flow that was cancelled may still come to its own end, on a thread that nothing stops.
        self._let_all_return()
        return all(player.outcome() for player in self.players)

    def _help_along(self) -> None:
        reap(self.store.control())
        pause = self.open_pause()
        if pause is None:
            self._let_all_return()
        elif pause.is_suspended and not self.world.can_run_again:
            self._let_all_return()
            outcomes([partial(cancel_flow_run, self.id, SHORT_SECONDS)])
        else:
            self._let_all_return()
            self.resume(1)

    def _let_all_return(self) -> bool:
        for body in self.held():
            self.stage.tell(body)
        return not self.held()
