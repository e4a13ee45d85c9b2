"""Portraits side by side: where each stands, and that it is told from the others."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.files.debug_picture import DROPPED, KEPT
from imaging.files.montage import GAP, montage

PAPER = (250, 249, 246)


def solid(value: int, side: int = 50) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


def test_one_portrait_fills_the_square() -> None:
    page = montage([solid(90, 300)], [True], 100, PAPER)
    assert (page.shape, page.dtype) == ((100, 100, 3), np.uint8)
    assert np.all(page[30:, 30:] == 90)
    assert np.all(page == KEPT, axis=2).any()


@pytest.mark.parametrize(("count", "columns", "rows"), [(2, 2, 1), (4, 2, 2), (5, 3, 2), (7, 3, 3), (64, 8, 8)])
def test_portraits_stand_in_rows_in_their_order(count: int, columns: int, rows: int) -> None:
    side = 320
    page = montage([solid(100 + number) for number in range(count)], [True] * count, side, PAPER)
    small = (side - (columns - 1) * GAP) // columns
    assert page.shape == (rows * small + (rows - 1) * GAP, side, 3)
    for number in range(count):
        left, top = number % columns * (small + GAP), number // columns * (small + GAP)
        lower = page[top + small // 2 : top + small, left + small * 2 // 3 : left + small]
        assert np.all(lower == 100 + number)
        assert np.all(page[top : top + small, left + small : left + small + GAP] == PAPER)


def test_the_number_says_by_its_colour_whether_it_passed() -> None:
    page = montage([solid(90), solid(90)], [True, False], 204, PAPER)
    colours = [np.all(page == colour, axis=2).any(axis=0) for colour in (KEPT, DROPPED)]
    assert colours[0].any()
    assert not colours[0][104:].any()
    assert colours[1].any()
    assert not colours[1][:100].any()


@pytest.mark.parametrize(("count", "judged", "side"), [(0, 0, 100), (2, 1, 100), (64, 64, 100)])
def test_what_does_not_fit_is_refused(count: int, judged: int, side: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        montage([solid(9)] * count, [True] * judged, side, PAPER)
