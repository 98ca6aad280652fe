"""Cached tasks, alone and in transactions, under the third driver: whatever hits them, each ends once, and no lock stays behind."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from prefect_core import history
from prefect_core.cache_policies import CacheKeyFnPolicy, IsolationLevel
from prefect_core.context import TaskRunContext
from prefect_core.engine.steps import Wait
from prefect_core.engine.task_run import task_life
from prefect_core.history.memory import MemoryStore
from prefect_core.locking import turns
from prefect_core.runs import Run, TaskRun
from prefect_core.state_kinds import COMPLETED
from prefect_core.states import Pending, State
from prefect_core.testing import ListRecorder
from prefect_core.testing.drive import Driven, drive
from prefect_core.transactions import Transaction, transaction
from tests.lifecycle import test_task_life as tasks
from tests.lifecycle.invariants import check_over
from tests.lifecycle.test_task_life import FAULTS, Scene, faults, lets_start

KEY = "life"
STORED = 41


class Recorder(ListRecorder):
    """A list of what was said, whose stored results can be asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()

    def noted(self, rows: Sequence[tuple[str, Any]]) -> None:
        super().noted(rows)
        for table, row in rows:
            self.store._take_of_results({table: [row]})

    def entered(self, run: Run, state: State) -> None:
        super().entered(run, state)
        if state.kept is not None:
            self.noted(state.kept.rows(run.key, run.attempt))

    def stored(self) -> MemoryStore:
        return self.store


@dataclass
class Place:
    """What is found under the key, whether others wait, where the task is called, and what its transaction's hooks do."""

    found: str = "nothing"
    is_serializable: bool = True
    is_in_block: bool = False
    commit_hooks: tuple[str, ...] = ()
    block: str = "is left well"


places = st.builds(
    Place,
    st.sampled_from(["nothing", "a result", "an expired one", "a damaged one", "a result to refresh", "no key"]),
    st.booleans(),
    st.booleans(),
    st.lists(st.sampled_from(["fine", "failing"]), max_size=2).map(tuple),
    st.sampled_from(["is left well", "is left by an exception"]),
)


class Stage(tasks.Stage):
    """A scene with a cached task."""

    def __init__(self, scene: Scene, place: Place, recorder: Recorder) -> None:
        self.place = place
        self.recorder = recorder
        self.txn_calls: list[str] = []
        super().__init__(scene)

    def _task(self) -> Any:
        place = self.place
        policy = CacheKeyFnPolicy(lambda *_: None if place.found == "no key" else KEY)
        if place.is_serializable:
            policy = policy.configure(isolation_level=IsolationLevel.SERIALIZABLE)
        return (
            super()
            ._task()
            .with_options(
                cache_policy=policy,
                refresh_cache=place.found == "a result to refresh",
                on_commit=[self._hook("commit", name) for name in place.commit_hooks],
                on_rollback=[self._hook("rollback", "fine")],
            )
        )

    def _hook(self, kind: str, name: str) -> Any:
        def told(txn: Any) -> None:
            self.txn_calls.append(kind)
            if name == "failing":
                raise ZeroDivisionError

        return told


@contextmanager
def recorded(place: Place) -> Iterator[Recorder]:
    recorder = Recorder()
    if place.found not in ("nothing", "no key"):
        value = pickle.dumps(STORED)
        digest = sha256(value + b"!" * (place.found == "a damaged one")).digest()
        recorder.noted([("result", (9_000, "pickle", None, None, value, len(value), digest, None, 1))])
        recorder.noted([("cache", (KEY, 9_000, 7_000, 1 if place.found == "an expired one" else None, 1))])
    before = history.install(recorder)
    try:
        yield recorder
    finally:
        history.install(before)


def play(scene: Scene, place: Place, recorder: Recorder) -> tuple[Stage, Driven[State], Transaction | None]:
    if not place.is_in_block:
        stage = Stage(scene, place, recorder)
        return stage, stage.play(), None
    txn = transaction()
    try:
        with txn:
            stage = Stage(scene, place, recorder)
            driven = stage.play()
            # Until now nobody is told of anything.
            assert not [table for table, row in recorder.rows if table == "kept" and row[0] == stage.call.run.key]
            if place.block == "is left by an exception":
                raise LookupError
    except LookupError:
        pass
    return stage, driven, txn


def check_nothing_stays(recorder: Recorder) -> None:
    assert turns._turns == {}
    assert recorder.store.locks().find(KEY) is None


@given(tasks.scenes, places)
@example(Scene(["a value"]), Place())
@example(Scene(["a value"]), Place("a result", is_in_block=True))
def test_a_cached_task_ends_as_its_cache_or_its_body_says(scene: Scene, place: Place) -> None:
    with recorded(place) as recorder:
        stage, driven, txn = play(scene, place, recorder)
        run = stage.call.run
        check_over(recorder, run)
        check_nothing_stays(recorder)
        assert driven.error is None
        if place.found == "a result" and lets_start(scene) and scene.run_name != "bad":
            assert (run.state.name, run.state.data) == ("Cached", STORED)
            assert stage.began + stage.refused == 0
            assert [kind for kind, _ in stage.hook_calls] == ["completion"] * len(scene.hooks)
            assert stage.txn_calls == []
        elif lets_start(scene) and scene.run_name != "bad":
            assert stage.began + stage.refused >= 1
        check_what_is_found(stage, recorder, txn)


def check_what_is_found(stage: Stage, recorder: Recorder, txn: Transaction | None) -> None:
    run, place = stage.call.run, stage.place
    entry = recorder.store.cached(KEY)
    node = stage.call.context.transaction
    is_new = entry is not None and entry.run == run.key
    if is_new:
        assert run.state.type is COMPLETED
        assert run.state.name != "Cached"
        assert node.is_committed()
        assert "rollback" not in stage.txn_calls
    has_returned = stage.call.has_returned and run.state.type is COMPLETED
    if has_returned and place.found != "no key" and run.state.kept is not None:
        is_left_well = txn is None or place.block == "is left well"
        assert is_new == (is_left_well and "failing" not in place.commit_hooks)
    if txn is not None and place.block == "is left by an exception":
        assert txn.is_rolled_back()
        assert recorder.store.kept(run.key) is None
    assert stage.txn_calls.count("rollback") <= 1


@given(tasks.scenes, places, st.lists(faults, min_size=1, max_size=3))
@example(Scene(["a value"], faults=[]), Place(), [(0, "ctrl-c", True)])
@example(Scene(["a value"], faults=[]), Place(is_in_block=True), [(2, "cancellation", True)])
@example(Scene(["a value"], faults=[]), Place(commit_hooks=("fine",)), [(5, "ctrl-c", False)])
@example(Scene(["a value"], faults=[]), Place(), [(5, "an error", True)])
@example(Scene(["a value"], faults=[]), Place(), [(6, "an error", True)])
@example(Scene(["a value"], faults=[]), Place(), [(7, "an error", False)])
@example(Scene(["a value"]), Place("a result to refresh", is_serializable=True), [(6, "cancellation", False)])
def test_a_cached_task_that_is_hit_at_any_step_ends_once_and_lets_go(
    scene: Scene, place: Place, hits: list[tuple[int, str, bool]]
) -> None:
    scene.faults = hits
    with recorded(place) as recorder:
        stage, driven, txn = play(scene, place, recorder)
        run = stage.call.run
        check_over(recorder, run)
        check_nothing_stays(recorder)
        assert run.run_count == stage.began
        if driven.error is not None:
            assert run.state.is_final()
            assert type(driven.error) in {type(make()) for make in FAULTS.values()}
        entry = recorder.store.cached(KEY)
        if entry is not None and entry.run == run.key:
            assert run.state.type is COMPLETED
            assert "rollback" not in stage.txn_calls
        if txn is not None and place.block == "is left by an exception":
            assert recorder.store.kept(run.key) is None


class Waiting:
    """A lifecycle that stands where it waits for the turn of another."""

    def __init__(self, recorder: Recorder, place: Place) -> None:
        self.holder = Stage(Scene(["a value"]), place, recorder)
        self.first = task_life(self.holder.call)
        step = next(self.first)
        while not hasattr(step, "payload"):
            step = self.first.send(step.work() if hasattr(step, "work") else None)
        self.holder_step = step
        self.stage = Stage(Scene(["a value"]), place, recorder)
        self.life = task_life(self.stage.call)
        step = next(self.life)
        while not isinstance(step, Wait):
            step = self.life.send(step.work())
        self.step = step

    def end_holder(self) -> None:
        step = self.first.send(self.holder._attempt(self.holder_step.payload))
        try:
            while True:
                step = self.first.send(step.work() if hasattr(step, "work") else True)
        except StopIteration:
            pass


def test_who_waits_for_a_key_waits_for_a_signal_and_then_finds_the_value() -> None:
    with recorded(Place()) as recorder:
        waiting = Waiting(recorder, Place())
        (signal,) = waiting.step.signals
        assert signal.run_uid() == waiting.holder.call.run.uid
        assert not signal.done()
        waiting.end_holder()
        assert signal.done()
        assert drive(_from(waiting.life)).error is None
        assert waiting.stage.call.run.state.name == "Cached"
        check_nothing_stays(recorder)


def test_a_run_that_was_cancelled_while_it_waited_takes_no_turn() -> None:
    with recorded(Place()) as recorder:
        waiting = Waiting(recorder, Place())
        waiting.stage.call.let_go("enough")
        waiting.end_holder()
        assert drive(_from(waiting.life)).error is None
        assert waiting.stage.began == 0
        check_nothing_stays(recorder)


def test_a_lifecycle_that_is_thrown_away_lets_its_turn_go() -> None:
    with recorded(Place()) as recorder:
        waiting = Waiting(recorder, Place())
        waiting.first.close()
        assert drive(_from(waiting.life)).error is None
        assert waiting.stage.call.run.state.type is COMPLETED
        check_nothing_stays(recorder)


def _from(life: Any) -> Any:
    """Go on with a lifecycle that stands at a step."""
    try:
        step = life.send(True)
        while True:
            step = life.send((yield step))
    except StopIteration as stop:
        return stop.value


def test_a_claimant_inside_the_holder_waits_for_nothing() -> None:
    run = TaskRun(Pending(), "t", "t", None, 0, frozenset())
    outer = turns.take(KEY, turns.Claimant(run.uid, (), None))
    assert outer is not None
    context = TaskRunContext(None, run, {}, False, None)
    assert turns.take(KEY, turns.Claimant(1, {context.run.uid}, None)) is None
    assert turns.take(KEY, turns.Claimant(2, (), None)) is outer
    turns.end(outer)
    assert turns._turns == {}
