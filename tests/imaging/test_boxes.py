"""Faces brought from one size of a picture to another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imaging.geometry.boxes import Box, Face

SIDES = st.integers(1, 3000)


def test_a_face_in_a_picture_of_half_the_size_by_hand() -> None:
    face = Face(Box(3, 4, 8, 9), 0.7, ((4.0, 6.0),) * 5)
    assert face.resized((10, 10), (5, 5)) == Face(Box(1, 2, 4, 5), 0.7, ((2.0, 3.0),) * 5)


@given(st.data(), SIDES, SIDES, SIDES, SIDES)
def test_a_resized_face_lies_in_its_picture_and_holds_all_that_it_held(
    data: st.DataObject, width: int, height: int, new_width: int, new_height: int
) -> None:
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    box = Face(Box(left, top, right, bottom), 0.5).resized((width, height), (new_width, new_height)).box
    assert 0 <= box.left <= left * new_width / width
    assert 0 <= box.top <= top * new_height / height
    assert right * new_width / width <= box.right + 1e-6 <= new_width + 1e-6
    assert bottom * new_height / height <= box.bottom + 1e-6 <= new_height + 1e-6


def test_a_face_stays_as_it_is_in_a_picture_of_the_same_size() -> None:
    face = Face(Box(3, 4, 8, 9), 0.7)
    assert face.resized((99, 77), (99, 77)) == face
