"""Batches of calls: their order, the one made ahead, and what ends them early. No model is needed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.errors import BackendError
from resources.generators.base import Generated, Outcome
from resources.generators.diffusion import calls
from resources.generators.diffusion.calls import ImageTimeoutError, StoppedError, Watch, made_ahead, run_batches

SECONDS = 30  # that a test waits for another thread before it fails


def outcome(number: int) -> Generated:
    return Generated(np.full((1, 1, 3), number, np.uint8), {})


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(1, 5))
def test_outcomes_come_in_the_order_of_their_tasks(kinds: list[int], size: int) -> None:
    seen: list[list[int]] = []

    def make(batch: Sequence[int], _watch: Watch) -> list[Outcome]:
        seen.append([kinds[index] for index in batch])
        return [outcome(index) for index in batch]

    found = list(run_batches(range(len(kinds)), key=lambda index: kinds[index], size=size, make=make, seconds=1))
    assert [int(one.pixels[0, 0, 0]) for one in found if isinstance(one, Generated)] == list(range(len(kinds)))
    assert all(len(set(batch)) == 1 and len(batch) <= size for batch in seen)
    assert sum(map(len, seen)) == len(kinds)


def test_the_next_call_runs_while_the_reader_works_and_no_further_one() -> None:
    started = [threading.Event() for _ in range(3)]

    def call(number: int) -> int:
        started[number].set()
        return number

    results = made_ahead([lambda number=number: call(number) for number in range(3)], threading.Event())
    assert next(results) == 0
    assert started[1].wait(SECONDS)
    assert next(results) == 1
    assert started[2].wait(SECONDS)
    assert list(results) == [2]


def test_when_the_reader_goes_the_call_under_way_is_stopped_and_has_ended() -> None:
    stop, begun, ended = threading.Event(), threading.Event(), threading.Event()

    def endless() -> int:
        begun.set()
        assert stop.wait(SECONDS), "it is told to stop"
        ended.set()
        return 1

    results = made_ahead([lambda: 0, endless, pytest.fail], stop)
    assert next(results) == 0
    assert begun.wait(SECONDS)
    results.close()
    assert ended.is_set()


def test_an_exception_of_a_call_reaches_the_reader() -> None:
    def broken() -> int:
        raise BackendError("The device is gone.", "Plug it in.")

    results = made_ahead([lambda: 0, broken, pytest.fail], threading.Event())
    assert next(results) == 0
    with pytest.raises(BackendError, match="device is gone"):
        next(results)


def test_a_stopped_watch_ends_the_call_at_its_next_step_and_lets_no_other_begin() -> None:
    watch = Watch(60)
    watch.begin(1, 3)
    assert watch(None, 0, None, {"latents": 1}) == {"latents": 1}
    watch.stop.set()
    with pytest.raises(StoppedError):
        watch(None, 1, None, {})
    with pytest.raises(StoppedError):
        watch.begin(1, 3)


def test_progress_is_told_once_a_second_and_a_call_ends_after_its_images_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = 100.0
    monkeypatch.setattr(calls.time, "monotonic", lambda: clock)
    caplog.set_level(logging.INFO)
    watch = Watch(3)
    watch.begin(2, 30)
    for step in range(12):
        clock += 0.5
        watch(None, step, None, {})
    assert [record.getMessage() for record in caplog.records] == [
        f"Step {step} of 30, 2 images" for step in range(2, 13, 2)
    ]
    watch.begin(1, 30, first_step_counts=False)
    clock += 100
    watch(None, 0, None, {})
    clock += 3
    watch(None, 1, None, {})
    watch.begin(2, 30)
    clock += 6.25
    with pytest.raises(ImageTimeoutError, match=r"13 of 30 steps took 6 seconds, and an image may take 3 \(2 in"):
        watch(None, 12, None, {})
