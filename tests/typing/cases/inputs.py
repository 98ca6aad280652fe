"""What a type checker knows of inputs that are received. Read by mypy and pyright, never run."""

from __future__ import annotations

from typing import assert_type

from prefect_core.input import AutomaticRunInput, InputReceiver, RunInput, receive_input


class Question(RunInput):
    name: str


def received() -> None:
    for question in Question.receive(timeout=None):
        assert_type(question, Question)
    assert_type(receive_input(Question), InputReceiver[Question])
    assert_type(next(receive_input(int, timeout=1)), int)
    assert_type(next(receive_input(list[int])), list[int])
    for one in receive_input(str, with_metadata=True):
        assert_type(one, AutomaticRunInput[str])
        assert_type(one.value, str)


async def awaited() -> None:
    async for number in receive_input(float):
        assert_type(number, float)
