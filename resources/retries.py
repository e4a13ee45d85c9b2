"""Asking a server again: one policy for all of them, and the `Retry-After` header."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

import tenacity

from imaging.errors import FaceChangerError

LONGEST_RETRY_AFTER: Final = 60.0  # a server that asks for more patience gets the job again later, by the queue

T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """A request without an answer.

    Attributes:
        error: what to raise when it is not sent again.
        may_pass: whether another try may help, and does no harm.
        retry_after: seconds that the server asks to wait, at least 0; None when it does not say.
    """

    error: FaceChangerError
    may_pass: bool
    retry_after: float | None = None


def ask_again(
    attempt: Callable[[], T | Failure],
    *,
    tries: int,
    wait: Callable[[tenacity.RetryCallState], float],
    notify: Callable[[str], None],
    deadline: float = math.inf,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """The first answer of a server that is asked until it gives one.

    A failure is a value and no exception, so that the error that is raised in the end is chained to none.

    Args:
        attempt: sends the request once.
        tries: how often it is sent, at least once.
        wait: before the next try, when the server does not say how long.
        notify: is given a line about each further try, before the wait for it.
        deadline: a time of the monotonic clock; no wait starts that would not end before it.
        sleep: how to wait, in seconds.

    Raises:
        FaceChangerError: the error of the last failure: it would not pass, the tries are used up, or the server asks
            for more than `LONGEST_RETRY_AFTER` seconds or for more than the deadline leaves.
    """

    def seconds(state: tenacity.RetryCallState) -> float:
        asked = _failure(state).retry_after
        return wait(state) if asked is None else asked

    def enough(state: tenacity.RetryCallState) -> bool:
        too_long = state.upcoming_sleep > LONGEST_RETRY_AFTER or time.monotonic() + state.upcoming_sleep >= deadline
        return too_long or state.attempt_number >= tries

    asking = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda outcome: isinstance(outcome, Failure) and outcome.may_pass),
        wait=seconds,
        stop=enough,
        sleep=sleep,
        before_sleep=lambda state: notify(
            f"{_failure(state).error.what} Trying again in {state.upcoming_sleep:.1f} s."
        ),
        retry_error_callback=_failure,
    )
    outcome = asking(attempt)
    if isinstance(outcome, Failure):
        raise outcome.error
    return outcome


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a `retry-after` header asks for, as a number or as a date (RFC 9110, section 10.2.3).

    Args:
        headers: those of an answer; their names are found in any case, or in lower case.

    Returns:
        At least 0, and it may be infinite; None when there is no such header, or it says nothing.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # not a date either; TypeError: a date without a zone
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)


def _failure(state: tenacity.RetryCallState) -> Failure:
    outcome = state.outcome.result() if state.outcome is not None else None
    assert isinstance(outcome, Failure)  # noqa: S101 - only a failure is asked about
    return outcome
