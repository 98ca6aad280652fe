"""Asking on a thread beside what may never answer."""

from __future__ import annotations

import threading

from prefect_runners.in_time import is_over_in


def test_what_answers_is_over() -> None:
    told: list[int] = []
    assert is_over_in(10, lambda: told.append(1))
    assert told == [1]


def test_what_never_answers_is_left_alone() -> None:
    answer = threading.Event()
    assert not is_over_in(0.01, answer.wait)
    answer.set()


def test_what_fails_is_over() -> None:
    assert is_over_in(10, lambda: 1 / 0)
