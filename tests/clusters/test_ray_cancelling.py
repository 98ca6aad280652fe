"""Ray's tasks are cancelled without an end of the process that does so."""

from __future__ import annotations

import time

import pytest
import ray

from prefect_runners.ray_cancelling import Cancelling

pytestmark = pytest.mark.usefixtures("borrowed")
TASKS = 8
ROUNDS = 400


def test_a_task_may_be_cancelled_at_its_very_end() -> None:
    quick = ray.remote(max_retries=0)(lambda: None)
    cancelling = Cancelling(ray)
    ray.get([quick.remote() for _ in range(TASKS)])
    # From another thread, `ray.cancel` itself ends this process within some dozens of rounds.
    for number in range(ROUNDS):
        replies = [quick.remote() for _ in range(TASKS)]
        time.sleep(number % 16 / 4000)
        cancelling.cancel(replies)
        ended, _ = ray.wait(replies, num_returns=TASKS, timeout=20, fetch_local=False)
        assert len(ended) == TASKS


def test_what_ray_says_of_it_is_raised() -> None:
    with pytest.raises(TypeError):
        Cancelling(ray).cancel(["no reference"])
