"""Hearing what is asked of a run, and hearing what came of it: with a history in memory and one in a file."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

from prefect_core import history
from prefect_core.control import asking, steward
from prefect_core.control.watches import Delivery
from prefect_core.errors import NotAnswering
from prefect_core.history import HistoryStore
from prefect_core.history.memory import MemoryStore
from prefect_core.history.recorder import StoreRecorder
from prefect_core.history.requests import ENDED, LOST, RequestRow
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.runs import FlowRun
from prefect_core.settings import temporary_settings
from prefect_core.state_kinds import COMPLETED, RUNNING
from tests.contract.history_runs import begin_flow_run, begin_task_run, enter

LONG_SECONDS = 60.0


class Owner:
    """A process with a run that is under way, and who looks at its history."""

    def __init__(self, recorder: StoreRecorder, outside: HistoryStore) -> None:
        self.recorder = recorder
        self.outside = outside
        self.run: FlowRun = begin_flow_run(recorder)
        enter(recorder, self.run, RUNNING)
        recorder.flush()

    @property
    def key(self) -> int:
        return self.run.key

    def ask(self, kind: str = "pause", **detail: object) -> RequestRow:
        return asking.ask(self.outside, self.key, kind, detail)

    def awaited(self, request: RequestRow) -> asking.Answer | None:
        return asking.await_answer(self.outside, request, LONG_SECONDS)


@pytest.fixture(params=["memory", "sqlite"])
def owner(request: pytest.FixtureRequest, home: Path) -> Iterator[Owner]:
    if request.param == "memory":
        store = MemoryStore()
        recorder = StoreRecorder(store)
        before = history.install(recorder)
        yield Owner(recorder, store)
        history.install(before)
        recorder.close()
    else:
        opened = history.current()
        assert isinstance(opened, StoreRecorder)
        outside = SqliteStore(home)
        yield Owner(opened, outside)
        outside.close()


def test_who_was_taken_for_dead_hears_nothing_more(owner: Owner) -> None:
    heard: Queue[Delivery] = Queue()
    watch = steward.watch(owner.key, heard.put)
    control = owner.outside.control()
    lease = control.lease(owner.recorder.process)
    assert lease is not None
    control.take_lease(lease, "a test")
    # By somebody who knows who has the run now.
    request = control.ask(owner.key, "pause", {}, "ada")
    watch.tell(request, control)
    watch.close()
    assert heard.empty()
    assert control.unanswered() == [request]


def test_the_owner_hears_a_request_and_answers(owner: Owner) -> None:
    heard: Queue[tuple[str, dict[str, object], str]] = Queue()

    def deliver(delivery: Delivery) -> None:
        heard.put((delivery.kind, delivery.detail, threading.current_thread().name))
        delivery.answer({"paused": True})

    watch = steward.watch(owner.key, deliver)
    request = owner.ask("pause", key="a")
    assert owner.awaited(request) == asking.Answer({"paused": True}, None)
    assert heard.get(timeout=LONG_SECONDS) == ("pause", {"key": "a"}, "prefect_core-steward")
    watch.close()


def test_who_hears_a_request_can_see_whether_it_was_withdrawn(owner: Owner) -> None:
    heard: Queue[Delivery] = Queue()
    watch = steward.watch(owner.key, heard.put)
    request = owner.ask(run=owner.key)
    delivery = heard.get(timeout=LONG_SECONDS)
    assert delivery.is_awaited()
    with temporary_settings(cancel_grace_seconds=0), pytest.raises(NotAnswering, match="What was asked is withdrawn"):
        asking.await_answer_or_withdraw(owner.outside, request)
    assert not delivery.is_awaited()
    assert not delivery.answer({"paused": True})
    watch.close()


def test_a_request_from_another_process_is_found_without_being_told(owner: Owner) -> None:
    with_answer: Queue[Delivery] = Queue()
    watch = steward.watch(owner.key, with_answer.put)
    request = owner.outside.control().ask(owner.key, "cancel", {}, "ada")
    delivery = with_answer.get(timeout=LONG_SECONDS)
    assert delivery.request == request
    assert delivery.answer({"done": 1})
    assert not delivery.answer({"done": 2})
    assert owner.awaited(request) == asking.Answer({"done": 1}, None)
    watch.close()


def test_what_was_asked_before_anybody_listened_is_heard(owner: Owner) -> None:
    request = owner.ask()
    watch = steward.watch(owner.key, lambda delivery: delivery.answer({"heard": True}))
    assert owner.awaited(request) == asking.Answer({"heard": True}, None)
    watch.close()


def test_a_request_is_told_once_while_its_answer_takes_time(owner: Owner) -> None:
    heard: Queue[Delivery] = Queue()
    watch = steward.watch(owner.key, heard.put)
    first = owner.ask("pause")
    delivery = heard.get(timeout=LONG_SECONDS)
    # Each of these has the steward look again.
    for kind in ("cancel", "resume"):
        owner.ask(kind)
        assert heard.get(timeout=LONG_SECONDS).kind == kind
    assert heard.empty()
    delivery.answer({"at last": True})
    assert owner.awaited(first) == asking.Answer({"at last": True}, None)
    watch.close()


def test_requests_to_other_runs_are_not_heard(owner: Owner) -> None:
    other = begin_flow_run(owner.recorder, "late-newt")
    owner.recorder.flush()
    heard: Queue[Delivery] = Queue()
    watches = [steward.watch(owner.key, heard.put), steward.watch(other.key, lambda delivery: delivery.answer({}))]
    request = asking.ask(owner.outside, other.key, "pause")
    assert owner.awaited(request) == asking.Answer({}, None)
    assert heard.empty()
    for watch in watches:
        watch.close()


def test_who_fails_to_hear_answers_with_the_error(owner: Owner) -> None:
    def deliver(_: Delivery) -> None:
        raise ValueError("not like that")

    watch = steward.watch(owner.key, deliver)
    assert owner.awaited(owner.ask()) == asking.Answer({"error": "ValueError: not like that"}, None)
    watch.close()


def test_what_is_not_answered_when_the_watch_ends_is_over(owner: Owner) -> None:
    heard: Queue[Delivery] = Queue()
    watch = steward.watch(owner.key, heard.put)
    request = owner.ask()
    heard.get(timeout=LONG_SECONDS)
    watch.close()
    watch.close()
    assert owner.awaited(request) == asking.Answer({}, ENDED)


def test_who_asks_a_run_that_has_ended_learns_that(owner: Owner) -> None:
    enter(owner.recorder, owner.run, COMPLETED)
    owner.recorder.flush()
    assert owner.awaited(owner.ask()) == asking.Answer({}, ENDED)


def test_who_asks_a_process_that_ended_learns_that(owner: Owner) -> None:
    request = owner.ask()
    owner.recorder.close()
    # It ended with a run under way, which whoever asks finds out.
    assert owner.awaited(request) == asking.Answer({}, LOST)
    assert owner.outside.flow_run(owner.key).state_name == "Crashed"


def test_who_asks_nobody_in_particular_gives_up_in_time(owner: Owner) -> None:
    assert asking.await_answer(owner.outside, owner.ask(), timeout_seconds=0.0) is None


def test_a_task_run_is_asked_for_by_its_flow_run_or_its_process(owner: Owner) -> None:
    inside, alone = begin_task_run(owner.recorder, owner.run), begin_task_run(owner.recorder, None, "ping")
    owner.recorder.flush()
    assert asking.addressee(owner.outside.task_run(inside.key)) == owner.key
    assert asking.addressee(owner.outside.task_run(alone.key)) == owner.recorder.process << 32
    watch = steward.watch(owner.recorder.process << 32, lambda delivery: delivery.answer(delivery.detail))
    request = asking.ask(owner.outside, owner.recorder.process << 32, "cancel", {"task_run": alone.key})
    assert owner.awaited(request) == asking.Answer({"task_run": alone.key}, None)
    watch.close()


def test_a_watch_sleeps_while_nothing_needs_it(owner: Owner) -> None:
    needs: list[int] = []
    watch = steward.watch(owner.key, lambda delivery: delivery.answer({"heard": True}), lambda: bool(needs))
    others = steward.watch(owner.key, lambda _: None)
    until = time.monotonic() + LONG_SECONDS
    while not watch.is_asleep:
        assert time.monotonic() < until
        time.sleep(0.01)
    request = owner.ask()
    assert asking.await_answer(owner.outside, request, 0.3) is None
    needs.append(1)
    watch.wake()
    assert owner.awaited(request) == asking.Answer({"heard": True}, None)
    assert not watch.is_asleep
    watch.close()
    others.close()


def test_who_finds_a_run_over_answers_for_it(owner: Owner) -> None:
    request = owner.ask("cancel")
    enter(owner.recorder, owner.run, COMPLETED)
    owner.recorder.flush()
    assert owner.awaited(request) == asking.Answer({}, ENDED)
    assert owner.outside.control().unanswered() == []


def test_a_closed_watch_keeps_nothing_alive(owner: Owner) -> None:
    class Deliverer:
        def __call__(self, delivery: Delivery) -> None:
            delivery.answer({})

    deliverer = Deliverer()
    known = weakref.ref(deliverer)
    watch = steward.watch(owner.key, deliverer)
    owner.awaited(owner.ask())
    watch.close()
    del watch, deliverer
    # The steward's own thread may be on its way through its list for a moment more.
    while known() is not None:
        gc.collect()


def test_a_child_made_by_fork_lets_its_parents_watches_alone(owner: Owner) -> None:
    heard: Queue[Delivery] = Queue()
    watch = steward.watch(owner.key, heard.put)
    request = owner.ask()
    heard.get(timeout=LONG_SECONDS)
    child = os.fork()
    if not child:
        # What it inherited may be in whatever condition, and is not for it to answer.
        watch.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    row = owner.outside.control().request(request.key)
    assert row is not None
    assert row.answer is None
    watch.close()
    assert owner.awaited(request) == asking.Answer({}, ENDED)


WATCHING = """
from prefect_core import flow, history
from prefect_core.control import asking, steward

@flow
def once():
    pass

once()
process = history.current().process << 32
steward.watch(process, lambda delivery: delivery.answer({}))
with history.reading() as store:
    assert asking.await_answer(store, asking.ask(store, process, "pause"), 50).answer == {}
"""


def test_a_watch_that_was_forgotten_keeps_no_process_from_ending(home: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", WATCHING], capture_output=True, text=True, timeout=50, check=True
    )
    assert "Error" not in ended.stderr
    assert "Exception" not in ended.stderr
    store = SqliteStore(home)
    assert store.control().leases() == []
    store.close()


class Waiter:
    """Somebody who waits for a run to be asked for something, on a history of their own."""

    def __init__(self, owner: Owner, until: float | None = None) -> None:
        self.control = owner.outside.control()
        self.run = owner.key
        self.looks = 0
        self.came = threading.Event()
        self.expectation = steward.expect(self.control, self._is_met, until)
        self.expectation.add_done_callback(lambda _: self.came.set())

    def _is_met(self) -> bool:
        self.looks += 1
        return bool(self.control.requests(self.run))


def test_who_waits_for_something_is_told_when_it_is_there(owner: Owner) -> None:
    waiters = [Waiter(owner), Waiter(owner)]
    owner.outside.control().ask(owner.key, "pause", {}, "ada")
    for waiter in waiters:
        assert waiter.came.wait(LONG_SECONDS)
        waiter.expectation.close()
    late = Waiter(owner)
    assert late.came.wait(LONG_SECONDS)


def test_who_waits_is_told_when_the_time_is_up(owner: Owner) -> None:
    patient, waiter = Waiter(owner), Waiter(owner, time.monotonic() + 0.01)
    assert waiter.came.wait(LONG_SECONDS)
    assert not patient.came.is_set()
    patient.expectation.close()


def test_nothing_is_looked_at_while_nobody_writes(owner: Owner) -> None:
    idle, waiter = Waiter(owner), Waiter(owner, time.monotonic() + 5 * steward.POLL_SECONDS)
    assert waiter.came.wait(LONG_SECONDS)
    # Once for each of the two that began, and once for what was written before they did.
    assert idle.looks <= 3
    idle.expectation.close()


def test_a_look_that_fails_is_made_again(owner: Owner) -> None:
    looks: Queue[None] = Queue()
    came = threading.Event()

    def is_met() -> bool:
        looks.put(None)
        if looks.qsize() < 3:
            raise OSError("the disk")
        return True

    expectation = steward.expect(owner.outside.control(), is_met)
    expectation.add_done_callback(lambda _: came.set())
    assert came.wait(LONG_SECONDS)
    assert looks.qsize() == 3


def test_who_waits_no_longer_is_told_nothing(owner: Owner) -> None:
    waiter = Waiter(owner)
    waiter.expectation.close()
    waiter.expectation.close()
    owner.outside.control().ask(owner.key, "pause", {}, "ada")
    later = Waiter(owner)
    assert later.came.wait(LONG_SECONDS)
    assert not waiter.came.is_set()


def test_the_end_of_a_history_is_no_news(owner: Owner) -> None:
    expectation = steward.expect(owner.recorder.stored().control(), lambda: False)
    steward.begin(owner.recorder)
    owner.recorder.close()
    assert not expectation.done()
    expectation.close()
