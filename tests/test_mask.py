"""Face masks: zero outside, one owner per pixel, turned with the face."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imaging.boxes import Box, Face
from imaging.mask import combine, face_ellipse, face_masks, mask_bounds, split_by_face

SHAPE = (90, 120)


def turned(box: Box, degrees: float) -> Face:
    """A face whose eyes are turned clockwise by so much."""
    (x, y), reach = box.center, box.width / 4
    dx, dy = reach * math.cos(math.radians(degrees)), reach * math.sin(math.radians(degrees))
    return Face(box, 0.9, ((x - dx, y - dy), (x + dx, y + dy), (x, y), (x - dx, y + dy), (x + dx, y + dy)))


@st.composite
def a_face(draw):
    """A face that may reach out of the image, or lie outside it."""
    left, top = draw(st.integers(-40, 130)), draw(st.integers(-40, 100))
    box = Box(left, top, left + draw(st.integers(1, 80)), top + draw(st.integers(1, 80)))
    angle = draw(st.none() | st.floats(-180, 180))
    return Face(box, 0.9) if angle is None else turned(box, angle)


some_faces = st.lists(a_face(), min_size=1, max_size=4)
whole = Box(0, 0, SHAPE[1], SHAPE[0])


def test_a_small_mask_by_hand():
    """A face of 10x10 whose ellipse is 10 x 11.6 long: smaller than two feathers, so it fades from its middle on."""
    face = Face(Box(0, 0, 10, 10), 0.9)
    ellipse = face_ellipse(face)
    assert (ellipse.x, ellipse.y, ellipse.angle) == (5.0, 5.0, 0.0)
    mask = face_masks([face], (10, 10))[0]
    for y in range(10):
        for x in range(10):
            distance = math.hypot((x + 0.5 - 5) / ellipse.across, (y + 0.5 - 5) / ellipse.along)
            depth = min(1.0, max(0.0, 1 - distance))
            assert abs(int(mask[y, x]) - 255 * depth * depth * (3 - 2 * depth)) <= 0.501


def test_a_large_face_is_replaced_whole_in_its_middle_and_fades_over_at_least_eight_pixels():
    mask = face_masks([Face(Box(50, 50, 150, 170), 0.9)], (220, 200))[0]
    row = mask[110].astype(int)
    fading = np.flatnonzero((row > 0) & (row < 255))
    assert mask[110, 100] == 255
    assert np.count_nonzero(fading < 100) >= 7  # the outermost level rounds to 0
    assert (np.diff(row[:100]) >= 0).all()
    assert (np.diff(row[100:]) <= 0).all()
    assert np.abs(np.diff(row)).max() <= 255 * 1.5 / 8 + 1  # nowhere steeper than a smoothstep over 8 pixels


@given(a_face())
def test_nothing_outside_the_ellipse_is_touched(face):
    mask = face_masks([face], SHAPE)[0]
    assert mask.dtype == np.uint8
    assert mask.shape == SHAPE
    assert not mask[face_ellipse(face).distance(whole) >= 1].any()
    assert (mask[face_ellipse(face).distance(whole) <= 0.01] > 0).all()


@given(some_faces)
def test_each_pixel_belongs_to_the_face_it_lies_deepest_in(faces):
    masks = face_masks(faces, SHAPE)
    assert len(masks) == len(faces)
    assert (np.count_nonzero(masks, axis=0) <= 1).all()
    owner = np.argmin([face_ellipse(face).distance(whole) for face in faces], axis=0)
    for number, mask in enumerate(masks):
        assert not mask[owner != number].any()


@given(some_faces)
def test_the_combined_mask_splits_into_the_masks_it_was_made_of(faces):
    masks = face_masks(faces, SHAPE)
    for part, mask in zip(split_by_face(combine(masks), faces), masks, strict=True):
        assert np.array_equal(part, mask)


@given(some_faces, arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 0, 0, 1, 128, 255])))
def test_the_parts_of_any_mask_are_the_mask(faces, drawn):
    before = drawn.copy()
    parts = split_by_face(drawn, faces)
    assert len(parts) == len(faces)
    assert np.array_equal(combine(parts), drawn)
    assert np.array_equal(np.sum(parts, axis=0, dtype=np.int64), drawn)
    assert np.array_equal(drawn, before)


def test_what_a_user_drew_beside_the_faces_goes_to_the_nearer_face():
    faces = [Face(Box(10, 30, 30, 60), 0.9), Face(Box(90, 30, 110, 60), 0.9)]
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[0, 5] = drawn[89, 119] = 255
    left, right = split_by_face(drawn, faces)
    assert np.argwhere(left).tolist() == [[0, 5]]
    assert np.argwhere(right).tolist() == [[89, 119]]


def test_an_empty_mask_has_no_bounds_and_empty_parts():
    empty = np.zeros(SHAPE, np.uint8)
    assert mask_bounds(empty) is None
    assert [part.any() for part in split_by_face(empty, [Face(whole, 0.9)] * 2)] == [False, False]


@given(st.integers(0, 80), st.integers(0, 60), st.integers(1, 30), st.integers(1, 20))
def test_the_bounds_are_those_of_what_is_set(left, top, width, height):
    mask = np.zeros(SHAPE, np.uint8)
    mask[top, left] = mask[top + height - 1, left + width - 1] = 1
    assert mask_bounds(mask) == Box(left, top, left + width, top + height)


@given(a_face())
def test_a_mask_lies_in_the_window_of_its_ellipse(face):
    window, bounds = face_ellipse(face).window(SHAPE), mask_bounds(face_masks([face], SHAPE)[0])
    if bounds is not None:
        assert window is not None
        assert window.left <= bounds.left < bounds.right <= window.right
        assert window.top <= bounds.top < bounds.bottom <= window.bottom


def test_the_ellipse_turns_with_the_eyes():
    box = Box(30, 20, 70, 70)
    upright, tilted = face_ellipse(Face(box, 0.9)), face_ellipse(turned(box, 20))
    assert tilted == replace(upright, angle=pytest.approx(20))


@pytest.mark.parametrize("degrees", [0, 25, -40])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_picture_on_its_side_has_the_same_mask_on_its_side(degrees, quarters):
    """A detector that finds a face in the turned picture gives the turned box: the sides change places."""
    image = np.zeros((120, 120), np.uint8)
    upright, lying = Box(30, 20, 70, 76), Box(30, 20, 70, 76)
    for _ in range(quarters):  # np.rot90 turns counter-clockwise: (x, y) -> (y, 120 - x)
        lying = Box(lying.top, 120 - lying.right, lying.bottom, 120 - lying.left)
    mask = face_masks([turned(upright, degrees)], image.shape)[0]
    on_its_side = face_masks([turned(lying, degrees - 90 * quarters)], image.shape)[0]
    assert np.abs(np.rot90(mask, quarters).astype(int) - on_its_side).max() <= 1
