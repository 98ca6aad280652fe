"""Does it stay the same for a hundred thousand submitted tasks?"""

from __future__ import annotations

from benchmarks import submitted
from benchmarks.measure import Figure


def measure() -> list[Figure]:
    return submitted.measure(100_000, repeats=3)
