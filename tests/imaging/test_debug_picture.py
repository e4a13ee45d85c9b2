"""The picture that shows what was found: where it draws, that it can be read, and that it harms nothing."""

import numpy as np
import pytest

from imaging.faces.selection import Dropped
from imaging.files.debug_picture import DROPPED, KEPT, debug_picture
from imaging.geometry.boxes import Box, Face

POINTS = ((90.0, 100.0), (110.0, 100.0), (100.0, 112.0), (92.0, 124.0), (108.0, 124.0))
FACE = Face(Box(80, 80, 120, 140), 0.93, POINTS)
OTHER = Face(Box(200, 80, 220, 110), 0.41)


def grey(value, width=320, height=240):
    return np.full((height, width, 3), value, np.uint8)


def colour_at(picture, x, y):
    return tuple(picture[y, x].tolist())


@pytest.mark.parametrize("background", [0, 90, 255])
def test_boxes_landmarks_and_words_stand_out_on_any_background(background):
    image = grey(background)
    before = image.copy()
    picture = debug_picture(image, [FACE], [Dropped(OTHER, "not the largest")])
    assert np.array_equal(image, before)
    assert (picture.shape, picture.dtype) == (image.shape, np.uint8)
    assert colour_at(picture, 100, 80) == KEPT
    assert colour_at(picture, 119, 110) == KEPT
    assert colour_at(picture, 210, 80) == DROPPED
    assert colour_at(picture, 100, 112) == KEPT, "the nose"
    assert colour_at(picture, 99, 115) == (background,) * 3, "between the landmarks the picture is seen"
    for colour in (KEPT, DROPPED):
        above = picture[50:78]
        rows, columns = np.nonzero(np.abs(above.astype(int) - colour).max(axis=2) < 60)
        assert rows.size > 30, "words above the boxes"
        around = above[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (around.max(axis=2) < 60).mean() > 0.2, "on black"


def test_words_do_not_cover_each_other():
    image = grey(255)
    same = [Dropped(OTHER, "smaller than 2 % of the picture")] * 3
    one, three = (np.count_nonzero(debug_picture(image, [], same[:count]) == 0) for count in (1, 3))
    assert three > 2.5 * one


def test_numbers_follow_the_order_given():
    second = Face(Box(200, 80, 240, 140), 0.93)
    one, other = debug_picture(grey(90), [FACE, second]), debug_picture(grey(90), [second, FACE])
    assert not np.array_equal(one, other)
    assert np.array_equal(one[100:150], other[100:150]), "only the words differ"


def test_without_a_face_it_is_the_picture_itself():
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    assert np.array_equal(debug_picture(image, []), image)


def test_a_large_picture_is_shrunk_and_its_boxes_with_it():
    picture = debug_picture(grey(90, 3200, 2400), [Face(Box(800, 800, 1200, 1400), 0.9)], longest=320)
    assert picture.shape == (240, 320, 3)
    assert colour_at(picture, 100, 80) == KEPT


@pytest.mark.parametrize("size", [(1, 1), (8, 300), (300, 8)])
def test_faces_at_the_borders_of_tiny_pictures_are_drawn(size):
    width, height = size
    face = Face(Box(0, 0, width, height), 0.5)
    picture = debug_picture(grey(90, width, height), [face], [Dropped(face, "not the largest")])
    assert picture.shape == (height, width, 3)


def test_a_brief_picture_has_boxes_and_numbers_alone():
    bare = debug_picture(grey(90), [FACE], [Dropped(OTHER, "not the largest")], brief=True)
    assert colour_at(bare, 100, 80) == KEPT
    assert colour_at(bare, 200, 95) == DROPPED
    changed = (bare != 90).any(axis=2)
    assert not changed[85:135, 85:115].any()  # no landmarks
    assert not changed[:76, 190:].any()  # no reason
    assert changed[60:78, 80:90].any()  # the number
