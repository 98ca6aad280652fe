"""Stored results that were changed since, by whatever: it is noticed and said once, the task runs again, and no wrong value is returned."""

from __future__ import annotations

import logging
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefect_core import flow, task
from tests.integration.again.attempts import Attempts, begin, end_first, ran

COUNT = 10


def made(number: int) -> Any:
    """Return what a task of this number gives: of many kinds, some of them long, and no two equal."""
    kinds: list[Callable[[], Any]] = [
        lambda: number,
        lambda: f"number {number}",
        lambda: [number] * 50,
        lambda: {"number": number, "more": list(range(number))},
        lambda: bytes([number]) * 20_000,
    ]
    return kinds[number % len(kinds)]()


@task(persist_result=True)
def make(number: int) -> Any:
    ran(number)
    return made(number)


@flow
def make_all() -> list[Any]:
    values = make.map(range(COUNT)).result()
    end_first()
    return values


class Place:
    """The stored results of a home: objects as files, or rows of its history."""

    def __init__(self, home: Path, is_inside: bool) -> None:
        self.home = home
        self.is_inside = is_inside
        with sqlite3.connect(home / "history.db") as connection:
            rows = connection.execute("SELECT key, object FROM result ORDER BY key").fetchall()
        connection.close()
        self.names: list[Any] = [key if is_inside else name for key, name in rows]
        assert len(self.names) == COUNT
        assert is_inside == (rows[0][1] is None)

    def read(self, name: Any) -> bytes:
        if not self.is_inside:
            return self.path(name).read_bytes()
        [[value]] = self._execute("SELECT value FROM result WHERE key = ?", name)
        return bytes(value)

    def write(self, name: Any, content: bytes) -> None:
        if self.is_inside:
            self._execute("UPDATE result SET value = ? WHERE key = ?", content, name)
        else:
            self.path(name).write_bytes(content)

    def remove(self, name: Any) -> None:
        if self.is_inside:
            self._execute("DELETE FROM result WHERE key = ?", name)
        else:
            self.path(name).unlink()

    def path(self, name: str) -> Path:
        return self.home / "storage" / name

    def _execute(self, statement: str, *values: Any) -> list[Any]:
        connection = sqlite3.connect(self.home / "history.db")
        rows = connection.execute(statement, values).fetchall()
        connection.commit()
        connection.close()
        return rows


def flip(place: Place, names: list[Any], chance: random.Random) -> list[Any]:
    content = bytearray(place.read(names[0]))
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    place.write(names[0], bytes(content))
    return names[:1]


def cut(place: Place, names: list[Any], chance: random.Random) -> list[Any]:
    content = place.read(names[0])
    place.write(names[0], content[: chance.randrange(len(content))])
    return names[:1]


def lengthen(place: Place, names: list[Any], chance: random.Random) -> list[Any]:
    place.write(names[0], place.read(names[0]) + chance.randbytes(chance.randint(1, 20)))
    return names[:1]


def swap(place: Place, names: list[Any], chance: random.Random) -> list[Any]:
    first, second = map(place.read, names[:2])
    place.write(names[0], second)
    place.write(names[1], first)
    return names[:2]


def replace(place: Place, names: list[Any], chance: random.Random) -> list[Any]:
    place.write(names[0], place.read(names[1]))
    return names[:1]


def lose(place: Place, names: list[Any], chance: random.Random) -> list[Any]:
    place.remove(names[0])
    return names[:1]


def make_unreadable(place: Place, names: list[Any], chance: random.Random) -> list[Any]:
    """Put a folder in its place, which not even root reads."""
    if not place.is_inside:
        place.path(names[0]).unlink()
        place.path(names[0]).mkdir()
        return names[:1]
    return flip(place, names, chance)


def mistake(place: Place, names: list[Any], chance: random.Random) -> list[Any]:
    """Change what is known of the bytes instead of these."""
    column, value = chance.choice([("serializer", "json"), ("serializer", "nobody"), ("sha256", chance.randbytes(32))])
    place._execute(f"UPDATE result SET {column} = ? WHERE key = ?", value, place_key(place, names[0]))
    return names[:1]


def place_key(place: Place, name: Any) -> int:
    if place.is_inside:
        return int(name)
    return int(place._execute("SELECT key FROM result WHERE object = ?", name)[0][0])


DAMAGES = [flip, flip, flip, cut, cut, lengthen, swap, swap, replace, lose, make_unreadable, mistake]


def damage_and_judge(home: Path, chance: random.Random, caplog: pytest.LogCaptureFixture) -> str:
    """Store, damage one or two results, go on; return what was done. All that is wrong must be noticed, and nothing else."""
    is_inside = chance.random() < 0.4
    attempts = begin(Attempts(home, logging_level="WARNING", results_inline_bytes=100_000 if is_inside else 0))
    attempts.run(make_all)
    place = Place(home, is_inside)
    names = chance.sample(place.names, 2)
    damage = chance.choice(DAMAGES)
    hit = [place.names.index(name) for name in damage(place, names, chance)]
    numbers = _numbers_of(place, hit)
    caplog.clear()
    assert attempts.run(make_all).result() == [made(number) for number in range(COUNT)], damage.__name__
    assert sorted(attempts.bodies) == sorted(numbers), damage.__name__
    said = [
        record.getMessage() for record in caplog.records if "can't be used, so it runs again" in record.getMessage()
    ]
    if not (is_inside and damage is lose):
        # A row that is gone is no stored result any more.
        assert len(said) == len(numbers), (damage.__name__, said)
    return f"{damage.__name__} {'inside' if is_inside else 'outside'}"


def _numbers_of(place: Place, hit: list[int]) -> list[int]:
    """Return the numbers of the calls whose results are in these places: results are numbered in the order in which bodies ended."""
    rows = place._execute(
        "SELECT task_run.idx, result.key, result.object FROM kept JOIN task_run ON task_run.key = kept.run "
        "LEFT JOIN result ON result.key = kept.result"
    )
    lost = [index for index, key, _ in rows if key is None]
    by_name = {key if place.is_inside else name: index for index, key, name in rows if key is not None}
    return lost or [by_name[place.names[one]] for one in hit]


def test_damaged_results_are_noticed_and_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(2026)
    caplog.set_level(logging.WARNING)
    for number in range(30):
        damage_and_judge(tmp_path / str(number), chance, caplog)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_campaign_of_damages(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from collections import Counter

    chance = random.Random(1)
    caplog.set_level(logging.WARNING)
    done = Counter(damage_and_judge(tmp_path / str(number), chance, caplog) for number in range(1000))
    print(f"\ncampaign: 1000 damages, seed 1: {', '.join(f'{count} {what}' for what, count in sorted(done.items()))}")
