"""Sending to flow runs and receiving within one process: what arrives where, in which order, who waits how long, and what is refused."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any
from uuid import UUID, uuid4

import anyio
import pytest
from pydantic import BaseModel

from prefect_core import cancel_flow_run, flow, runtime, task
from prefect_core.control import steward
from prefect_core.engine import remote
from prefect_core.errors import BlockingWaitError, CancelledRun, HistoryError, NotReceiving, ObjectNotFound
from prefect_core.input import (
    AutomaticRunInput,
    InputReceiver,
    InvalidInput,
    RunInput,
    receive_input,
    run_input,
    send_input,
)
from tests.unit.recorded import Recorded

LONG_SECONDS = 60.0


class Greeting(RunInput):
    text: str
    mood: Any = None


class Card(BaseModel):
    text: str


def here() -> str:
    return str(runtime.flow_run.id)


@pytest.fixture
def beside() -> Iterator[Callable[..., Future[Any]]]:
    """Do something on a thread; the test waits for it in the end."""
    begun: list[tuple[threading.Thread, Future[Any]]] = []

    def begin(work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        outcome: Future[Any] = Future()

        def carry_out() -> None:
            try:
                outcome.set_result(work(*arguments))
            except BaseException as error:
                outcome.set_exception(error)

        thread = threading.Thread(target=carry_out)
        thread.start()
        begun.append((thread, outcome))
        return outcome

    yield begin
    for thread, _ in begun:
        thread.join(LONG_SECONDS)
        assert not thread.is_alive()


class Receiving:
    """A flow run on a thread that receives what the test sends it, until an end is sent."""

    def __init__(self, beside: Callable[..., Future[Any]], body: Callable[[], Any]) -> None:
        self.run: Future[str] = Future()

        @flow
        def receiving():
            self.run.set_result(here())
            return body()

        self.outcome = beside(receiving)

    @property
    def id(self) -> str:
        return self.run.result(LONG_SECONDS)

    def result(self) -> Any:
        return self.outcome.result(LONG_SECONDS)


def test_inputs_come_in_the_order_in_which_they_were_sent(recorded: Recorded, beside: Any) -> None:
    receiving = Receiving(beside, lambda: [next(one) for one in [receive_input(int, timeout=LONG_SECONDS)] * 3])
    for number in (3, 1, 2):
        send_input(number, receiving.id)
    assert receiving.result() == [3, 1, 2]


def test_what_came_before_is_received_too(recorded: Recorded) -> None:
    @flow
    def talking_to_itself():
        send_input("a", here())
        Greeting(text="b").send_to(here())
        send_input("c", here())
        return list(receive_input(str, timeout=0)), list(Greeting.receive(timeout=0))

    assert talking_to_itself() == (["a", "c"], [Greeting(text="b")])


def test_an_input_is_given_once_and_again_by_another_iterator(recorded: Recorded) -> None:
    @flow
    def receiving():
        for number in range(3):
            send_input(number, here())
        first = receive_input(int, timeout=0)
        assert [next(first), next(first)] == [0, 1]
        second = receive_input(int, timeout=0, exclude_keys=first.exclude_keys)
        assert list(first) == [2]
        assert list(first) == []
        send_input(3, here())
        assert list(first) == [3]
        return list(second), list(receive_input(int, timeout=0))

    assert receiving() == ([2, 3], [0, 1, 2, 3])


def test_many_inputs_are_received(recorded: Recorded) -> None:
    @flow
    def receiving():
        for number in range(250):
            send_input(number, here())
        return list(receive_input(int, timeout=0))

    assert receiving() == list(range(250))


def test_each_attempt_of_a_run_receives_from_the_first(recorded: Recorded) -> None:
    received = []

    @flow(retries=1)
    def receiving():
        if not received:
            send_input("a", here())
        received.append(receive_input(str, timeout=0).next())
        if len(received) == 1:
            raise ValueError("once")

    receiving()
    assert received == ["a", "a"]


def test_types_and_prefixes_keep_inputs_apart(recorded: Recorded) -> None:
    @flow
    def receiving():
        for value in (1, "a", True, Card(text="c"), [2]):
            send_input(value, here())
        send_input("prefixed", here(), key_prefix="mine")
        Greeting(text="hi").send_to(here(), key_prefix="mine-too")
        return [
            list(receive_input(int | str, timeout=0)),
            list(receive_input(bool, timeout=0)),
            list(receive_input(Card, timeout=0)),
            list(receive_input(list[int], timeout=0)),
            list(receive_input(Any, timeout=0, key_prefix="mine")),
            list(Greeting.receive(timeout=0, key_prefix="mine-too")),
            list(Greeting.receive(timeout=0)),
        ]

    assert receiving() == [[1, "a"], [True], [Card(text="c")], [[2]], ["prefixed"], [Greeting(text="hi")], []]


def test_metadata_say_who_sent_what_to_whom(recorded: Recorded) -> None:
    @flow
    def receiving():
        Greeting(text="a").send_to(here())
        send_input(Card(text="b"), here(), sender="the mail")
        greeting = Greeting.receive(timeout=0).next()
        [card] = receive_input(Card, timeout=0, with_metadata=True)
        return here(), greeting, card

    run, greeting, card = receiving()
    assert greeting.metadata.sender == f"prefect.flow-run.{run}"
    assert greeting.metadata.key.startswith("greeting-auto-")
    assert (card.value, card.metadata.sender, card.metadata.receiver) == (Card(text="b"), "the mail", UUID(run))
    assert isinstance(card, AutomaticRunInput)
    with pytest.raises(RuntimeError, match=r"^Cannot respond to an input that was not sent by a flow run\.$"):
        card.respond("?")
    with pytest.raises(RuntimeError, match="was not received"):
        Greeting(text="c").respond("?")


def test_flows_answer_each_other(recorded: Recorded, beside: Any) -> None:
    def greet() -> None:
        for name in receive_input(str, timeout=LONG_SECONDS, with_metadata=True):
            if not name.value:
                break
            name.respond(Greeting(text=f"Hello, {name.value}!"))

    greeter = Receiving(beside, greet)

    @flow
    def asker():
        answers = Greeting.receive(timeout=LONG_SECONDS)
        for name in ("Ada", "Grace"):
            send_input(name, greeter.id)
            yield next(answers).text
        send_input("", greeter.id)

    assert list(asker()) == ["Hello, Ada!", "Hello, Grace!"]
    greeter.result()


def test_an_automatic_input_can_be_sent_on(recorded: Recorded) -> None:
    @flow
    def receiving():
        send_input(1, here())
        [one] = receive_input(int, timeout=0, with_metadata=True)
        one.send_to(here())
        one.respond(one)
        return list(receive_input(int, timeout=0))

    assert receiving() == [1, 1, 1]


def test_an_input_is_sent_as_it_is_at_that_moment(recorded: Recorded) -> None:
    @flow
    def receiving():
        value = [1]
        send_input(value, here())
        value.append(2)
        return receive_input(list, timeout=0).next()

    assert receiving() == [1]


@pytest.mark.parametrize("raises", [False, True])
def test_the_time_for_an_input_is_up(recorded: Recorded, raises: bool) -> None:
    @flow
    def receiving():
        send_input(1, here())
        return list(receive_input(int, timeout=0.01, raise_timeout_error=raises))

    if raises:
        with pytest.raises(TimeoutError, match=r"No input came for flow run '.*' within 0.01 second\(s\)\."):
            receiving()
    else:
        assert receiving() == [1]


def test_next_raises_when_the_time_is_up(recorded: Recorded) -> None:
    @flow
    def receiving():
        with pytest.raises(TimeoutError):
            receive_input(int, timeout=0).next()

    receiving()


def test_a_time_that_is_up_is_noticed_at_once(recorded: Recorded) -> None:
    @flow
    def receiving():
        begun = time.monotonic()
        assert list(receive_input(int, timeout=0.01)) == []
        return time.monotonic() - begun

    assert min(receiving() for _ in range(20)) < 0.08


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_flows_receive_beside_other_work(recorded: Recorded, backend: str) -> None:
    @flow
    async def talking_to_itself():
        received = []

        async def receive():
            async for value in receive_input(int, timeout=LONG_SECONDS):
                received.append(value)
                if value == 2:
                    break

        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            for number in range(3):
                await send_input(number, here())
        await Greeting(text="a").send_to(here())
        greeting = await Greeting.receive(timeout=LONG_SECONDS).next()
        await greeting.respond("answer")
        [answer] = [one async for one in receive_input(str, timeout=0)]
        with pytest.raises(TimeoutError):
            await receive_input(list, timeout=0.01).next()
        with pytest.raises(TimeoutError):
            [one async for one in receive_input(list, timeout=0, raise_timeout_error=True)]
        return received, answer

    assert anyio.run(talking_to_itself, backend=backend) == ([0, 1, 2], "answer")


def test_a_wait_that_is_cancelled_takes_no_input(recorded: Recorded) -> None:
    @flow
    async def receiving():
        inputs = receive_input(int, timeout=None)
        with anyio.move_on_after(0.01):
            await inputs.next()
        await send_input(1, here())
        return await inputs.next()

    assert anyio.run(receiving) == 1


def test_async_code_outside_of_flows_awaits_too(recorded: Recorded, beside: Any) -> None:
    receiving = Receiving(beside, lambda: receive_input(int, timeout=LONG_SECONDS).next())

    async def main():
        await send_input(1, receiving.id)
        return await receive_input(int, timeout=0, flow_run_id=receiving.id).next()

    assert anyio.run(main) == 1
    assert receiving.result() == 1


def test_a_def_flow_that_an_event_loop_runs_sends_without_await(recorded: Recorded) -> None:
    @flow
    def inner(run):
        send_input(1, run)

    @flow
    async def outer():
        inner(here())
        return [one async for one in receive_input(int, timeout=0)]

    assert anyio.run(outer) == [1]


def test_tasks_send_and_receive_for_their_flow(recorded: Recorded) -> None:
    @task
    def send(value):
        send_input(value, here())

    @task
    async def asend(value):
        await send_input(value, here())

    @task
    def receive():
        return receive_input(int, timeout=LONG_SECONDS).next()

    @flow
    def working():
        received = receive.submit()
        send(1)
        asend.submit(2).wait()
        return received.result(), list(receive_input(int, timeout=0))

    assert working() == (1, [1, 2])


def test_a_thread_of_an_async_flow_sends_without_await(recorded: Recorded) -> None:
    @flow
    async def receiving():
        run = here()
        await anyio.to_thread.run_sync(lambda: send_input(1, run))
        return await receive_input(int, timeout=0).next()

    assert anyio.run(receiving) == 1


def test_waiting_on_the_thread_of_an_event_loop_is_refused(recorded: Recorded) -> None:
    @flow
    def inner():
        return list(receive_input(int, timeout=LONG_SECONDS))

    @flow
    async def outer():
        with pytest.raises(BlockingWaitError, match="Use `async for`"):
            list(receive_input(int))
        with pytest.raises(BlockingWaitError, match="Use `async for`"):
            inner()
        return True

    async def main():
        with pytest.raises(BlockingWaitError, match="Use `async for`"):
            next(receive_input(int, flow_run_id=uuid4()))
        assert await outer()

    anyio.run(main)


def test_a_flow_that_is_called_where_a_loop_runs_may_wait(recorded: Recorded) -> None:
    # As in a notebook.
    @flow
    def receiving():
        send_input(1, here())
        return list(receive_input(int, timeout=0.01))

    async def main():
        return receiving()

    assert anyio.run(main) == [1]


def test_threads_share_what_comes(recorded: Recorded, beside: Any) -> None:
    @flow
    def sharing(threads, inputs):
        receiver = receive_input(int, timeout=LONG_SECONDS)
        received = [beside(lambda: list(iter(receiver.next, -1))) for _ in range(threads)]
        while len(steward._steward._expectations) < threads:
            threading.Event().wait(0.001)
        with recorded.store._lock:
            # All of it is there when the first of them looks.
            for number in [*range(inputs), *[-1] * threads]:
                send_input(number, here())
        return sorted(number for each in received for number in each.result(LONG_SECONDS))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for inputs in range(10):
            assert sharing(8, inputs) == list(range(inputs))
    finally:
        sys.setswitchinterval(interval)


def test_a_run_that_was_cancelled_receives_nothing_more(recorded: Recorded, beside: Any) -> None:
    received = []
    begun, cancelled = threading.Event(), threading.Event()

    def body() -> None:
        for number in range(3):
            send_input(number, here())
        for number in receive_input(int, timeout=0):
            received.append(number)
            begun.set()
            assert cancelled.wait(LONG_SECONDS)

    receiving = Receiving(beside, body)
    assert begun.wait(LONG_SECONDS)
    cancel_flow_run(receiving.id, grace_seconds=LONG_SECONDS)
    cancelled.set()
    with pytest.raises(CancelledRun):
        receiving.result()
    assert received == [0]


def test_an_input_that_does_not_fit_is_named_and_passed_over(recorded: Recorded) -> None:
    @flow
    def receiving():
        for value in ("1", "x", "2"):
            send_input(value, here(), key_prefix="numbers")
        numbers = receive_input(int, timeout=0, key_prefix="numbers")
        assert next(numbers) == 1
        with pytest.raises(InvalidInput) as refused:
            next(numbers)
        assert list(numbers) == [2]
        # It is not lost.
        assert list(receive_input(str, timeout=0, key_prefix="numbers")) == ["1", "x", "2"]
        return str(refused.value)

    refusal = receiving()
    assert refusal.startswith("The input 'numbers-")
    assert "can't be received. Reason: value: Input should be a valid integer" in refusal


def test_nothing_is_sent_to_a_run_that_is_not_there(recorded: Recorded) -> None:
    unknown = uuid4()
    with pytest.raises(ObjectNotFound, match=f"^No input can be sent to flow run '{unknown}'. The history holds no"):
        send_input(1, unknown)


def test_nothing_is_sent_to_a_run_that_has_ended(recorded: Recorded) -> None:
    @flow
    def ended():
        return here()

    run = ended()
    with pytest.raises(
        NotReceiving, match=rf"^No input can be sent to flow run '{run}', .*: it has ended, Completed\.$"
    ):
        send_input(1, run)


def test_outside_of_flows_a_run_must_be_named(recorded: Recorded) -> None:
    with pytest.raises(RuntimeError, match=r"^Must either provide a flow run ID or be within a flow run\.$"):
        receive_input(int)
    with pytest.raises(ValueError, match="'timeout' must be a non-negative number, got -1"):
        receive_input(int, timeout=-1, flow_run_id=uuid4())
    with pytest.raises(ObjectNotFound):
        next(receive_input(int, timeout=0, flow_run_id=uuid4()))


def test_a_run_that_is_cancelled_waits_no_longer(recorded: Recorded, beside: Any) -> None:
    waits = threading.Event()

    @task
    def waiting():
        waits.set()
        receive_input(int, timeout=None).next()

    receiving = Receiving(beside, lambda: waiting.submit().result())
    assert waits.wait(LONG_SECONDS)
    cancel_flow_run(receiving.id, grace_seconds=LONG_SECONDS)
    with pytest.raises(CancelledRun):
        receiving.result()
    assert recorded.task_states("waiting") == [["Pending", "Running", "Cancelled"]]


def test_a_receiver_is_an_iterator_of_both_kinds(recorded: Recorded) -> None:
    receiver = receive_input(int, flow_run_id=uuid4())
    assert isinstance(receiver, InputReceiver)
    assert iter(receiver) is receiver
    assert aiter(receiver) is receiver
    assert run_input.send_input is send_input


@pytest.mark.parametrize("receives", [True, False], ids=["receive", "send"])
def test_a_worker_on_another_machine_says_whose_history_it_does_not_have(
    receives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "process_name", lambda: "elsewhere:17")

    @task
    def speak(flow_run: str) -> None:
        if receives:
            receive_input(str, flow_run_id=flow_run).next()
        else:
            send_input("hello", flow_run)

    @flow(task_runner="processes:1")
    def main() -> tuple[type, str]:
        state: Any = speak.submit(str(runtime.flow_run.id)).wait()
        return type(state.data), str(state.data)

    assert main() == (HistoryError, "The history is that of process elsewhere:17, on another machine.")
