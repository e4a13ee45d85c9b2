"""Where a picture is looked at, the way back into it, and what is joined of many looks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.faces.search import Search, Sighting, View, detect_in, search, tiles, whole
from imaging.geometry.boxes import Box, Face
from imaging.geometry.nms import containment, iou
from resources.detectors import haar, yunet

HOW = Search(
    long_sides=(64, 32),
    large_from=100,
    large_to=150,
    confidence=0.6,
    candidates=0.4,
    sure=0.9,
    tile=40,
    overlap=12,
    enlarge=2.0,
    tile_confidence=0.8,
)
sizes = st.tuples(st.integers(1, 200), st.integers(1, 200))
scores = st.floats(0, 1)


@st.composite
def views(draw):
    """A look at any part of a picture, at any size and turn; the picture's size with it."""
    width, height = draw(sizes)
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    window = Box(left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height)))
    return View(window, draw(st.tuples(st.integers(1, 90), st.integers(1, 90))), draw(st.integers(0, 3))), (
        width,
        height,
    )


@st.composite
def sightings(draw):
    left, top = draw(st.floats(-50, 200)), draw(st.floats(-50, 200))
    corners = (left, top, left + draw(st.floats(0.1, 80)), top + draw(st.floats(0.1, 80)))
    points = draw(st.none() | st.lists(st.tuples(st.floats(-50, 250), st.floats(-50, 250)), min_size=5, max_size=5))
    return Sighting(
        corners, draw(st.sampled_from([0.3, 0.5, 0.7, 0.85, 0.95])), None if points is None else tuple(points)
    )


class Seen:
    """A detector of one face that knows sizes of 8 to 30 pixels, upright only.

    A face is a square with a red upper and a blue lower half, on black.
    """

    def __init__(self, least=8, most=30):
        self.least, self.most = least, most
        self.sizes = []

    def __call__(self, image):
        self.sizes.append((image.shape[1], image.shape[0]))
        red, blue = image[..., 0] > 127, image[..., 2] > 127
        rows, columns = np.nonzero(red | blue)
        if not rows.size:
            return
        left, right, top, bottom = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
        if not self.least <= right - left <= self.most:
            return
        middle = (top + bottom) // 2
        if red[top:middle, left:right].mean() > 0.8 and blue[middle + 1 : bottom, left:right].mean() > 0.8:
            yield Sighting((left, top, right, bottom), 0.95, ((left, top),) * 5)


def picture(size, box, turns=0):
    image = np.zeros((size[1], size[0], 3), np.uint8)
    face = np.zeros((box.height, box.width, 3), np.uint8)
    face[: box.height // 2, :, 0] = 255
    face[box.height // 2 :, :, 2] = 255
    image[box.top : box.bottom, box.left : box.right] = np.rot90(face, turns)
    return image


@given(views(), st.data())
def test_each_pixel_of_a_look_comes_back_to_the_pixel_that_it_shows(view_and_size, data):
    """The picture's pixels carry their own coordinates; a look at full size must give back exactly those."""
    view, (width, height) = view_and_size
    view = replace(view, size=(view.window.width, view.window.height))
    y, x = np.mgrid[0:height, 0:width]
    seen = view.pixels(np.dstack([x, y, x * 0]).astype(np.uint8))
    row, column = data.draw(st.integers(0, seen.shape[0] - 1)), data.draw(st.integers(0, seen.shape[1] - 1))
    back = view.to_picture(np.array([[column + 0.5, row + 0.5]]))
    assert back.tolist() == [[seen[row, column, 0] + 0.5, seen[row, column, 1] + 0.5]]
    face = view.face(Sighting((column, row, column + 1, row + 1), 0.9), (width, height))
    assert face.box == Box(*seen[row, column, :2].tolist(), *(seen[row, column, :2] + 1).tolist())


@given(views(), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1))
def test_a_scaled_look_comes_back_to_its_window(view_and_size, points):
    view, _size = view_and_size
    turned = view.size[::-1] if view.turns % 2 else view.size
    back = view.to_picture(np.array(points) * turned)
    window = view.window
    shares = (back - (window.left, window.top)) / (window.width, window.height)
    # Turned counter-clockwise by quarters about the middle of the unit square.
    expected = np.array(points) - 0.5
    for _ in range(view.turns):
        expected = np.stack([-expected[:, 1], expected[:, 0]], axis=1)
    assert np.allclose(shares, expected + 0.5, atol=1e-9)


@given(views(), sightings())
def test_faces_lie_inside_the_picture(view_and_size, seen):
    view, size = view_and_size
    face = view.face(seen, size)
    if face is not None:
        assert 0 <= face.box.left < face.box.right <= size[0]
        assert 0 <= face.box.top < face.box.bottom <= size[1]
        assert face.score == seen.score
        assert (face.landmarks is None) == (seen.landmarks is None)


@given(sizes, st.lists(st.lists(sightings(), max_size=3), min_size=1, max_size=8), st.randoms())
def test_the_order_of_looks_is_no_matter(size, seen, random):
    image = np.zeros((size[1], size[0], 3), np.uint8)
    found = dict(zip(whole(size, HOW, range(4)), seen, strict=False))
    order = list(found)

    def faces():
        by_order = iter([found[view] for view in order])
        return detect_in(image, order, lambda _pixels: next(by_order), 0.4)

    first = faces()
    random.shuffle(order)
    assert faces() == first
    assert all(face.score >= 0.4 for face in first)
    assert not any(
        iou(a.box, b.box) > 0.35 or containment(a.box, b.box) > 0.7 for a in first for b in first if a is not b
    )


@given(sizes, st.data())
def test_any_place_is_whole_in_a_tile(size, data):
    """A face up to the overlap lies in one tile, wherever it is."""
    width, height = (min(HOW.overlap, side) for side in size)
    left, top = data.draw(st.integers(0, size[0] - width)), data.draw(st.integers(0, size[1] - height))
    place = Box(left, top, left + width, top + height)
    windows = [view.window for view in tiles(size, HOW)]
    assert any(containment(place, window) == 1.0 for window in windows)
    assert all(window.right <= size[0] and window.bottom <= size[1] for window in windows)
    assert all(max(window.width, window.height) <= HOW.tile for window in windows)


def test_an_upright_face_needs_the_looks_at_the_whole_picture_alone():
    look = Seen()
    box = Box(20, 30, 40, 50)
    (face,) = search(picture((80, 80), box), look, HOW)
    assert iou(face.box, box) > 0.8
    assert look.sizes == [(64, 64), (32, 32)]


def test_a_megapixel_is_looked_at_once_or_twice_before_anything_else_is_tried():
    how = yunet.how_to_search(0.6, 0.4)
    assert [view.size for view in whole((1024, 1024), how)] == [(640, 640), (320, 320)]
    assert len(whole((3000, 2000), how)) == 3
    how = haar.how_to_search(0.6, 0.4)
    assert [view.size for view in whole((1024, 1024), how)] == [(640, 640)]
    assert len(whole((3000, 2000), how)) == 2


def test_without_a_tile_size_an_empty_picture_is_looked_at_whole_and_turned_alone():
    sizes = []

    def look(image):
        sizes.append(image.shape[1::-1])
        return []

    assert search(np.zeros((48, 64, 3), np.uint8), look, replace(HOW, tile=0, overlap=0)) == []
    assert sizes == [(64, 48), (32, 24), *[(48, 64), (24, 32)], *[(64, 48), (32, 24)], *[(48, 64), (24, 32)]]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_face_is_found_by_turning_the_picture_and_its_landmarks_come_back(turns):
    box = Box(20, 30, 40, 50)
    (face,) = search(picture((80, 60), box, turns), Seen(), HOW)
    assert iou(face.box, box) > 0.7
    corner = {1: (20, 50), 2: (40, 50), 3: (40, 30)}[turns]  # the face's own upper left one
    assert np.allclose(face.landmarks, [corner] * 5, atol=1.5)


def test_a_face_too_small_for_the_whole_picture_is_found_in_an_enlarged_tile():
    look = Seen(least=8)
    box = Box(161, 97, 167, 103)
    (face,) = search(picture((180, 120), box), look, HOW)
    assert iou(face.box, box) > 0.7
    assert max(max(size) for size in look.sizes) == 150, "large pictures are looked at as large as the detector can"
    assert (80, 80) in look.sizes


def test_candidates_come_from_the_first_looks_and_only_sure_hits_of_the_turned_ones_count():
    seen = iter([0.5, 0.3, *[0.89] * 6, *[0.79] * 99])

    def look(_image):
        return [Sighting((0, 0, 5, 5), next(seen))]

    (face,) = search(np.zeros((80, 80, 3), np.uint8), look, HOW)
    assert face.score == 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"long_sides": ()},
        {"long_sides": (0,)},
        {"candidates": 0.7},
        {"confidence": 1.1},
        {"overlap": 40},
        {"overlap": -1},
        {"enlarge": 0.0},
    ],
)
def test_a_search_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(HOW, **wrong)


def test_a_picture_of_one_pixel_is_searched():
    assert search(np.zeros((1, 1, 3), np.uint8), lambda _image: [], HOW) == []
    assert search(np.zeros((1, 1, 3), np.uint8), lambda _image: [Sighting((0, 0, 1, 1), 0.95)], HOW) == [
        Face(Box(0, 0, 1, 1), 0.95)
    ]
