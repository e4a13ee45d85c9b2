"""Moments and intervals as people write them; cron expressions against Dagster's own reading of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from dagster._utils.schedules import cron_string_iterator
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.errors import RejectedError
from jobs.model.times import next_time, read_moment

NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-12-01T09:00", "2026-12-01T08:00"),
        ("2026-07-01 09:00:30", "2026-07-01T07:00:30"),
        ("2026-12-01T09:00+05:00", "2026-12-01T04:00"),
        ("2026-12-01T09:00Z", "2026-12-01T09:00"),
        ("2026-12-01", "2026-11-30T23:00"),
        ("12:00", "2026-11-21T11:00"),
        ("11:30", "2026-11-22T10:30"),
        ("9:05", "2026-11-22T08:05"),
        ("+2h", "2026-11-21T12:30"),
        ("+90m", "2026-11-21T12:00"),
        (" +1d ", "2026-11-22T10:30"),
        ("+2w", "2026-12-05T10:30"),
    ],
)
def test_moments(written: str, meant: str) -> None:
    assert read_moment(written, now=NOW) == utc(meant)


def test_a_time_that_yaml_has_read() -> None:
    assert read_moment(datetime(2026, 12, 1, 9, 0)) == utc("2026-12-01T08:00")  # noqa: DTZ001 - as YAML gives it


@pytest.mark.parametrize("written", ["", "soon", "25:00", "9", "+2", "+2y", "-2h", "+999999w", "2026-13-01"])
def test_what_is_no_moment(written: str) -> None:
    with pytest.raises(ValueError, match="is no time; write"):
        read_moment(written, now=NOW)


def test_an_interval_keeps_its_beat_and_leaves_out_what_was_missed() -> None:
    assert next_time("1h", NOW) == NOW + timedelta(hours=1)
    last = NOW - timedelta(days=3, minutes=10)
    assert next_time("1h", NOW, last=last) == NOW + timedelta(minutes=50)
    assert next_time("1d", NOW, last=NOW) == NOW + timedelta(days=1)


def test_nine_o_clock_stays_nine_o_clock() -> None:
    assert next_time("0 9 * * *", utc("2026-03-28T09:00")) == utc("2026-03-29T07:00")


def test_a_time_that_the_clocks_leave_out_is_left_out() -> None:
    assert next_time("30 2 * * *", utc("2026-03-28T12:00")) == utc("2026-03-30T00:30")


def test_a_time_that_comes_twice_when_the_clocks_go_back_comes_once() -> None:
    first = next_time("30 2 * * *", utc("2026-10-24T12:00"))
    assert first == utc("2026-10-25T00:30")
    for after in (first, utc("2026-10-25T01:10"), utc("2026-10-25T01:30")):
        assert next_time("30 2 * * *", after) == utc("2026-10-26T01:30")


def test_names_lists_and_both_kinds_of_day() -> None:
    assert next_time("0 9 * * MON-fri", NOW) == utc("2026-11-23T08:00")
    assert next_time("0 0 13 * fri", NOW) == utc("2026-11-26T23:00"), "the 13th, or a Friday"
    assert next_time("0 0 * * 7", NOW) == utc("2026-11-21T23:00")
    assert next_time("0 0 29 2 *", NOW) == utc("2028-02-28T23:00")


def test_the_last_day_the_last_weekday_and_the_second_friday() -> None:
    assert next_time("0 9 L * *", NOW) == utc("2026-11-30T08:00")
    assert next_time("0 9 LW 1 *", NOW) == utc("2027-01-29T08:00")
    assert next_time("0 9 * * fri#2", NOW) == utc("2026-12-11T08:00")


@pytest.mark.parametrize(
    "text",
    ["", "0h", "1y", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *",
     "*/0 * * * *", "1/ * * * *", "a * * * *", "* * * foo *", "*-3 * * * *", "1, * * * *", "0 0 30 2 *", "-1 * * * *"],
)  # fmt: skip
def test_what_says_not_how_often(text: str) -> None:
    with pytest.raises(RejectedError, match="--every"):
        next_time(text, datetime.now(UTC))


def test_the_field_that_is_wrong_is_named() -> None:
    with pytest.raises(RejectedError, match=r"'\* 24 \* \* \*' is no cron expression: bad hour"):
        next_time("* 24 * * *", datetime.now(UTC))


@st.composite
def fields(draw: st.DrawFn, low: int, high: int) -> str:
    first = draw(st.integers(low, high - 1))
    last = draw(st.integers(first + 1, high))
    step = draw(st.integers(1, 5))
    return draw(st.sampled_from([str(first), f"{first}-{last}", f"{first}-{last}/{step}"]))


def or_any(field: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.just("*") | field


@settings(max_examples=100)
@given(
    minute=or_any(fields(0, 59)),
    hour=fields(4, 23),
    days=st.tuples(or_any(fields(1, 28)), st.just("*")) | st.tuples(st.just("*"), or_any(fields(0, 6))),
    month=or_any(fields(1, 12)),
    start=st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)),  # noqa: DTZ001 - made UTC below
)
def test_the_next_times_are_those_that_dagster_finds(
    minute: str, hour: str, days: tuple[str, str], month: str, start: datetime
) -> None:
    """From 4 o'clock on, for in the hours in which the clocks change Dagster has rules of its own."""
    text = f"{minute} {hour} {days[0]} {month} {days[1]}"
    moment = start.replace(tzinfo=UTC)
    for expected in islice(cron_string_iterator(moment.timestamp() + 1e-6, text, "Europe/Berlin"), 4):
        moment = next_time(text, moment)
        assert moment == expected
