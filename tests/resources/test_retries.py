"""Asking a server again: how often, how long between, and what ends it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import tenacity

from imaging.errors import TransientError
from resources.retries import LONGEST_RETRY_AFTER, Failure, ask_again


def busy(asks: float | None = None, *, may_pass: bool = True) -> Failure:
    return Failure(TransientError("It is busy.", "Wait."), may_pass=may_pass, retry_after=asks)


def asked(
    *outcomes: str | Failure, tries: int = 5, deadline: float = float("inf")
) -> tuple[Callable[[], str], list[float], list[str]]:
    """A question to a server that answers so, one after the other; the waits; the lines about them."""
    script, waits, lines = list(outcomes), list[float](), list[str]()

    def ask() -> str:
        return ask_again(
            lambda: script.pop(0),
            tries=tries,
            wait=tenacity.wait_exponential(multiplier=0.5, max=8),
            notify=lines.append,
            deadline=deadline,
            sleep=waits.append,
        )

    return ask, waits, lines


def test_a_failure_that_passes_is_waited_out_and_told() -> None:
    ask, waits, lines = asked(busy(), busy(7), busy(), "well")
    assert ask() == "well"
    assert waits == [0.5, 7.0, 2.0], "as the server asks, and else longer and longer"
    assert lines[1] == "It is busy. Trying again in 7.0 s."


@pytest.mark.parametrize(
    ("outcomes", "tries", "waited"),
    [
        ((busy(may_pass=False), "never"), 5, 0),
        ((busy(), busy(), "never"), 2, 1),
        ((busy(LONGEST_RETRY_AFTER + 1), "never"), 5, 0),
        ((busy(float("inf")), "never"), 5, 0),
    ],
)
def test_what_ends_it(outcomes: tuple[str | Failure, ...], tries: int, waited: int) -> None:
    ask, waits, _ = asked(*outcomes, tries=tries)
    with pytest.raises(TransientError, match="busy") as found:
        ask()
    assert len(waits) == waited
    assert found.value.__cause__ is found.value.__context__ is None


def test_no_wait_starts_that_would_not_end_in_time() -> None:
    ask, waits, _ = asked(busy(20), "never", deadline=time.monotonic() + 10)
    with pytest.raises(TransientError):
        ask()
    assert waits == []


def test_an_exception_is_not_tried_again() -> None:
    tried: list[int] = []

    def attempt() -> str:
        tried.append(1)
        raise KeyError("no")

    with pytest.raises(KeyError):
        ask_again(attempt, tries=5, wait=tenacity.wait_none(), notify=print)
    assert tried == [1]
