"""Job ids: they sort by time, and nothing gets through that a path or a shell would read in its own way."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.errors import RejectedError
from jobs.model.ids import check_job_id, new_job_id


def test_form() -> None:
    moment = datetime(2026, 11, 21, 15, 45, 30, 42, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert re.fullmatch(r"261121-1015-g000[0-9a-hjkmnp-tv-z]{2}", new_job_id(moment))


def test_ids_are_in_the_order_of_time_within_a_second_and_behind_those_of_older_versions() -> None:
    start = datetime(2026, 11, 21, 23, 59, 59, 990_000, tzinfo=UTC)
    made = [new_job_id(start + timedelta(microseconds=58 * step)) for step in range(1000)]
    assert made == sorted(made), "over a minute, an hour and a day"
    assert len({job_id[:-2] for job_id in made}) == 1000
    assert made[0] > "20991231-235959-999999-zzzz"


def test_ids_are_unique_and_never_go_backwards() -> None:
    ids = [new_job_id() for _ in range(5000)]
    stamps = [job_id[:-2] for job_id in ids]
    assert stamps == sorted(stamps)
    assert len(set(stamps)) == 5000


def test_threads_never_share_an_id() -> None:
    with ThreadPoolExecutor(8) as pool:
        stamps = list(pool.map(lambda _: new_job_id()[:-2], range(2000)))
    assert len(set(stamps)) == 2000


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1000, 1, 1)))  # noqa: DTZ001
def test_a_new_id_can_be_used(moment: datetime) -> None:
    made = new_job_id(moment)
    assert check_job_id(made) == made


@pytest.mark.parametrize("text", ["a", "0", "a-b", "a--b", "x" * 63, "20261121-101530-123456-x7k2"])
def test_good(text: str) -> None:
    assert check_job_id(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "-", "-a", "a-", "x" * 64, "A", "a b", "a/b", "..", "a.b", "a_b", "a\n", "é", "٣", "a\0", None, 7, ["a"]],
)
def test_bad(text: object) -> None:
    with pytest.raises(RejectedError, match="job_id") as caught:
        check_job_id(text)
    assert "a-z" in caught.value.hint


@given(st.text())
def test_only_safe_text_passes(text: str) -> None:
    try:
        check_job_id(text)
    except RejectedError as error:
        assert len(str(error)) < 300  # noqa: PT017
    else:
        assert re.fullmatch(r"[a-z0-9-]{1,63}", text)
