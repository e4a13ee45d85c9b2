"""The square around a face, and resizing there and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.geometry.boxes import Box
from imaging.geometry.crop import clamp, crop, fit_within, portrait_box, resize

sides = st.integers(1, 400)


@st.composite
def sizes_and_faces(draw):
    """An image size, and a face of which at least one pixel lies in the image."""
    width, height = draw(sides), draw(sides)
    left, top = draw(st.integers(-60, width - 1)), draw(st.integers(-60, height - 1))
    right = draw(st.integers(max(left, 0) + 1, width + 60))
    bottom = draw(st.integers(max(top, 0) + 1, height + 60))
    return (width, height), Box(left, top, right, bottom)


def contains(outer: Box, inner: Box) -> bool:
    return (
        outer.left <= inner.left
        and outer.top <= inner.top
        and inner.right <= outer.right
        and inner.bottom <= outer.bottom
    )


@pytest.mark.parametrize(
    ("face", "size", "padding", "expected"),
    [
        (Box(40, 40, 60, 60), (100, 100), 0.5, Box(30, 30, 70, 70)),  # room on all sides
        (Box(40, 40, 60, 60), (100, 100), 0.0, Box(40, 40, 60, 60)),  # no padding
        (Box(45, 40, 55, 60), (100, 100), 0.5, Box(30, 30, 70, 70)),  # the longer side counts
        (Box(0, 40, 20, 60), (100, 100), 0.5, Box(0, 30, 40, 70)),  # moved inwards from the left
        (Box(80, 80, 100, 100), (100, 100), 0.5, Box(60, 60, 100, 100)),  # and from the lower right corner
        (Box(10, 10, 30, 30), (100, 32), 0.5, Box(0, 0, 40, 32)),  # the image is too low: cut, no longer square
        (Box(-10, 40, 20, 60), (100, 100), 0.0, Box(0, 40, 20, 60)),  # only what lies in the image counts
    ],
)
def test_portrait_box_by_hand(face, size, padding, expected):
    assert portrait_box(face, size, padding) == expected


@given(sizes_and_faces(), st.floats(0, 3))
def test_a_portrait_lies_in_the_image_holds_the_face_and_is_as_square_as_the_image_allows(case, padding):
    size, face = case
    inside = clamp(face, size)
    box = portrait_box(face, size, padding)
    assert contains(Box(0, 0, *size), box)
    assert contains(box, inside)
    side = round(max(inside.width, inside.height) * (1 + 2 * padding))
    assert (box.width, box.height) == (min(side, size[0]), min(side, size[1]))


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match="padding must be 0 or more"):
        portrait_box(Box(0, 0, 5, 5), (10, 10), -0.1)
    with pytest.raises(ValueError, match="must have an area"):
        portrait_box(Box(20, 20, 30, 30), (10, 10), 0.5)
    for box in (Box(-1, 0, 5, 5), Box(0, -1, 5, 5), Box(0, 0, 11, 5), Box(0, 0, 5, 9)):
        with pytest.raises(ValueError, match="reaches out of an image of 10x8"):
            crop(np.zeros((8, 10, 3), np.uint8), box)


def test_a_crop_is_a_copy_of_its_pixels():
    image = np.arange(6 * 5, dtype=np.uint8).reshape(6, 5)
    piece = crop(image, Box(1, 2, 4, 4))
    assert piece.tolist() == [[11, 12, 13], [16, 17, 18]]
    piece[...] = 0
    assert image[2, 1] == 11


def test_shrinking_averages_areas():
    mask = np.array([[0, 4, 100, 100], [8, 12, 100, 100]], np.uint8)
    assert resize(mask, (2, 1)).tolist() == [[6, 100]]


def test_the_same_size_is_the_same_pixels_in_a_new_array():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    same = resize(image, (2, 2))
    assert np.array_equal(same, image)
    assert not np.shares_memory(same, image)


@pytest.mark.parametrize("shape", [(4, 64), (4, 64, 3)])
def test_a_side_that_shrinks_is_averaged_although_the_other_one_grows(shape):
    """Stripes of one pixel that shrink by 13 are grey; a filter for enlarging would pick some of them."""
    stripes = np.zeros(shape, np.uint8)
    stripes[:, ::2] = 255
    small = resize(stripes, (5, 8))
    assert small.shape[:2] == (8, 5)
    assert small.min() >= 115
    assert small.max() <= 140


def test_an_enlarged_mask_does_not_ring():
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 200
    large = resize(mask, (64, 64)).astype(int)
    assert large.max() == 200
    assert (np.diff(large, axis=1) >= 0).all()


@given(sizes_and_faces(), st.floats(0, 2), st.integers(1, 96))
def test_the_way_to_the_native_square_and_back_keeps_the_size(case, padding, native):
    size, face = case
    box = portrait_box(face, size, padding)
    for image in (np.full((size[1], size[0], 3), 77, np.uint8), np.full((size[1], size[0]), 77, np.uint8)):
        piece = crop(image, box)
        there = resize(piece, (native, native))
        back = resize(there, (box.width, box.height))
        assert there.shape[:2] == (native, native)
        assert back.shape == piece.shape
        assert np.abs(back.astype(int) - 77).max() <= 1  # no filter darkens a plain surface


@given(st.tuples(sides, sides), st.integers(1, 2000))
def test_fit_within_sets_the_longer_side_and_keeps_the_proportions(size, longest):
    width, height = fit_within(size, longest)
    assert max(width, height) == longest
    assert min(width, height) >= 1
    exact = min(size) * longest / max(size)
    assert abs(min(width, height) - exact) <= max(0.5, 1 - exact)
