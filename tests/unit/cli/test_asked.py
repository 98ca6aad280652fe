"""How moments and states are read, and how durations and sizes are written."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import pytest

from prefect_core import clock
from prefect_core.cli.asked import MOMENT, States, states
from prefect_core.cli.output import iso, local, size, span


class StoppedClock(clock.SystemClock):
    def now_us(self):
        return 1_000_000_000_000_000


@pytest.fixture
def stopped_clock():
    before = clock.install(StoppedClock())
    yield
    clock.install(before)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1_800), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600), ("1D12h", 129_600)],
)
def test_an_age_counts_back_from_now(stopped_clock, text, seconds):
    assert MOMENT.convert(text, None, None) == 1_000_000_000_000_000 - seconds * 1_000_000


def test_a_date_is_taken_in_the_time_zone_of_this_machine():
    assert MOMENT.convert("2026-01-31", None, None) == clock.from_datetime(datetime(2026, 1, 31).astimezone())


def test_a_time_with_a_zone_is_taken_in_that_zone():
    assert MOMENT.convert("2026-01-31T12:00:00+02:00", None, None) == clock.from_datetime(
        datetime(2026, 1, 31, 10, tzinfo=UTC)
    )


@pytest.mark.parametrize("text", ["", "soon", "5", "5y", "-5m", "2026-13-01"])
def test_anything_else_is_refused_with_examples(text):
    with pytest.raises(click.BadParameter, match="30m or 7d"):
        MOMENT.convert(text, None, None)


def test_states_are_sorted_into_kinds_and_names():
    assert states(["failed", "TIMEDOUT", "Skipped", "Completed"]) == States(
        ("FAILED", "COMPLETED"), ("TimedOut", "Skipped")
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0.00s"),
        (59.94, "59.94s"),
        (60, "1m 00s"),
        (3_599, "59m 59s"),
        (3_600, "1h 00m"),
        (90_000, "1d 01h"),
    ],
)
def test_durations_are_short(seconds, text):
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1_023, "1023 B"),
        (1_024, "1.0 KiB"),
        (1_536 * 1_024, "1.5 MiB"),
        (5 << 40, "5.0 TiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_sizes_have_a_fitting_unit(count, text):
    assert size(count) == text


def test_moments_are_local_for_people_and_whole_in_json():
    moment = datetime(2026, 1, 31, 10, 20, 30, 400_000, tzinfo=UTC)
    assert local(moment) == moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert local(None) == "-"
    assert iso(moment) == "2026-01-31T10:20:30.400000+00:00"
    assert iso(None) is None
