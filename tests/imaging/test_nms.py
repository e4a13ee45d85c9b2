"""Overlap of boxes, and the choice of one box per face."""

from hypothesis import given
from hypothesis import strategies as st

from imaging.geometry.boxes import Box, Face
from imaging.geometry.nms import containment, iou, nms


@st.composite
def boxes(draw):
    left, top = draw(st.integers(0, 60)), draw(st.integers(0, 60))
    return Box(left, top, left + draw(st.integers(1, 40)), top + draw(st.integers(1, 40)))


faces = st.builds(Face, boxes(), st.sampled_from([0.5, 0.7, 0.9]))


def test_iou_by_hand():
    assert iou(Box(0, 0, 4, 4), Box(2, 0, 6, 4)) == 8 / 24
    assert iou(Box(0, 0, 4, 4), Box(4, 0, 8, 4)) == 0.0  # they touch
    assert iou(Box(0, 0, 4, 4), Box(1, 1, 3, 3)) == 4 / 16


@given(boxes(), boxes())
def test_iou_is_symmetric_and_bounded(first, second):
    assert iou(first, first) == 1.0
    assert iou(first, second) == iou(second, first)
    assert 0.0 <= iou(first, second) <= 1.0


def test_the_better_of_two_views_of_one_face_is_kept():
    weak, strong = Face(Box(0, 0, 10, 10), 0.7), Face(Box(1, 1, 11, 11), 0.9)
    apart = Face(Box(40, 0, 50, 10), 0.6)
    assert nms([weak, apart, strong]) == [strong, apart]
    assert nms([]) == []


def test_the_half_of_a_face_that_a_tile_saw_is_part_of_it():
    whole, half, beside = Face(Box(0, 0, 20, 20), 0.9), Face(Box(10, 0, 20, 20), 0.8), Face(Box(16, 0, 36, 20), 0.7)
    assert containment(whole.box, half.box) == 1.0
    assert containment(whole.box, beside.box) == 80 / 400
    assert nms([half, beside, whole]) == [whole, beside]


@given(st.lists(faces, max_size=12), st.randoms())
def test_what_is_kept_is_apart_and_the_rest_is_not(found, random):
    def one(a, b):
        return iou(a.box, b.box) > 0.35 or containment(a.box, b.box) > 0.7

    kept = nms(found, 0.35, 0.7)
    assert not any(one(a, b) for a in kept for b in kept if a is not b)
    for face in found:
        assert any(face == other or one(face, other) for other in kept)
    shuffled = list(found)
    random.shuffle(shuffled)
    assert nms(shuffled, 0.35, 0.7) == kept
