"""Which faces are kept, in which order, and why the others are not."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.faces.selection import FaceOptions, FaceOrder, select
from imaging.geometry.boxes import Box, Face

SIZE = (200, 100)
LARGE = Face(Box(100, 20, 140, 60), 0.7)
LEFT = Face(Box(10, 60, 30, 80), 0.8)
TOP = Face(Box(60, 0, 90, 30), 0.95)
THREE = [LEFT, LARGE, TOP]


@st.composite
def faces(draw):
    left, top = draw(st.integers(0, 190)), draw(st.integers(0, 90))
    box = Box(left, top, draw(st.integers(left + 1, 200)), draw(st.integers(top + 1, 100)))
    return Face(box, draw(st.sampled_from([0.3, 0.6, 0.9])))


options = st.builds(
    FaceOptions,
    confidence=st.sampled_from([0.2, 0.6]),
    most=st.integers(1, 5),
    order=st.sampled_from(get_args(FaceOrder)),
    min_pixels=st.integers(0, 40),
    min_share=st.floats(0, 5),
    max_share=st.floats(6, 100),
)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("largest", [LARGE, TOP, LEFT]),
        ("left-right", [LEFT, TOP, LARGE]),
        ("right-left", [LARGE, TOP, LEFT]),
        ("top-down", [TOP, LARGE, LEFT]),
        ("bottom-up", [LEFT, LARGE, TOP]),
        ("center", [LARGE, TOP, LEFT]),
        ("confidence", [TOP, LEFT, LARGE]),
    ],
)
def test_orders(order, expected):
    assert list(select(THREE, SIZE, FaceOptions(order=order)).kept) == expected


def test_each_dropped_face_has_its_reason():
    faces = {
        Face(Box(0, 0, 20, 20), 0.419): "confidence 0.41 under 0.60",
        Face(Box(0, 0, 20, 20), 0.5999): "confidence 0.59 under 0.60",
        Face(Box(40, 0, 49, 40), 0.9): "smaller than 10 pixels: 9x40",
        Face(Box(50, 0, 60, 10), 0.9): "smaller than 1 % of the picture",
        Face(Box(0, 0, 200, 60), 0.9): "larger than 50 % of the picture",
        LEFT: "not among the 2 largest",
    }
    chosen = select(
        [*faces, LARGE, TOP], SIZE, FaceOptions(most=2, min_pixels=10, min_share=1, max_share=50, order="left-right")
    )
    assert chosen.kept == (TOP, LARGE)
    assert {dropped.face: dropped.reason for dropped in chosen.dropped} == faces
    assert select(THREE, SIZE, FaceOptions(most=1)).dropped[0].reason == "not the largest"


@given(st.lists(faces(), max_size=12, unique=True), options, st.randoms())
def test_every_face_is_kept_or_dropped_and_the_order_they_come_in_is_no_matter(found, chosen, random):
    selection = select(found, SIZE, chosen)
    assert sorted([*selection.kept, *(one.face for one in selection.dropped)], key=repr) == sorted(found, key=repr)
    assert len(selection.kept) <= chosen.most
    for face in selection.kept:
        assert face.score >= chosen.confidence
        assert min(face.box.width, face.box.height) >= chosen.min_pixels
        assert chosen.min_share <= face.box.area / 200 <= chosen.max_share
    full = [one.face.box.area for one in selection.dropped if one.reason.startswith("not ")]
    assert max(full, default=0) <= min((face.box.area for face in selection.kept), default=0) or not full
    random.shuffle(found)
    assert select(found, SIZE, chosen) == selection


@pytest.mark.parametrize(
    "wrong",
    [
        {"confidence": 0.0},
        {"confidence": 1.0},
        {"most": 0},
        {"most": 65},
        {"order": "best"},
        {"min_pixels": -1},
        {"min_share": -1.0},
        {"min_share": 50.0, "max_share": 50.0},
        {"max_share": 101.0},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FaceOptions(**wrong)
