"""Face masks: zero outside, one owner per pixel, turned with the face."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imaging.faces.mask import draw_mask, face_outline, mask_bounds, part_of_face
from imaging.faces.mask_options import MaskOptions
from imaging.faces.shapes import Hull, face_ellipse, face_hull
from imaging.geometry.boxes import Box, Face

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


def face_masks(faces, shape):
    """Each face's part of the whole mask."""
    mask = draw_mask(faces, shape)
    return [part_of_face(mask, faces, number) for number in range(len(faces))]


some_faces = st.lists(a_face(), min_size=1, max_size=4)
whole = Box(0, 0, SHAPE[1], SHAPE[0])


def test_a_small_mask_by_hand():
    """A face of 10x10 whose ellipse is 10 x 11.6 long: smaller than two feathers, so it fades from its middle on."""
    face = Face(Box(0, 0, 10, 10), 0.9)
    ellipse = face_ellipse(face)
    assert (ellipse.x, ellipse.y, ellipse.angle) == (5.0, 5.0, 0.0)
    mask = draw_mask([face], (10, 10))
    for y in range(10):
        for x in range(10):
            distance = math.hypot((x + 0.5 - 5) / ellipse.across, (y + 0.5 - 5) / ellipse.along)
            depth = min(1.0, max(0.0, 1 - distance))
            assert abs(int(mask[y, x]) - 255 * depth * depth * (3 - 2 * depth)) <= 0.501


def test_a_large_face_is_replaced_whole_in_its_middle_and_fades_over_at_least_eight_pixels():
    mask = draw_mask([Face(Box(50, 50, 150, 170), 0.9)], (220, 200))
    row = mask[110].astype(int)
    fading = np.flatnonzero((row > 0) & (row < 255))
    assert mask[110, 100] == 255
    assert np.count_nonzero(fading < 100) >= 7  # the outermost level rounds to 0
    assert (np.diff(row[:100]) >= 0).all()
    assert (np.diff(row[100:]) <= 0).all()
    assert np.abs(np.diff(row)).max() <= 255 * 1.5 / 8 + 1  # nowhere steeper than a smoothstep over 8 pixels


@given(a_face())
@example(turned(Box(0, 0, 2, 1), 27.0))
@example(Face(Box(0, 0, 2, 1), 0.9))
def test_nothing_outside_the_ellipse_is_touched(face):
    mask = draw_mask([face], SHAPE)
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


@given(some_faces, arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 0, 0, 1, 128, 255])))
def test_the_parts_of_any_mask_are_the_mask(faces, drawn):
    before = drawn.copy()
    parts = [part_of_face(drawn, faces, number) for number in range(len(faces))]
    assert np.array_equal(np.sum(parts, axis=0, dtype=np.int64), drawn)
    assert np.array_equal(drawn, before)


def test_what_a_user_drew_beside_the_faces_goes_to_the_nearer_face():
    faces = [Face(Box(10, 30, 30, 60), 0.9), Face(Box(90, 30, 110, 60), 0.9)]
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[0, 5] = drawn[89, 119] = 255
    left, right = (part_of_face(drawn, faces, number) for number in range(2))
    assert np.argwhere(left).tolist() == [[0, 5]]
    assert np.argwhere(right).tolist() == [[89, 119]]


def test_a_part_of_a_box_is_cut_from_the_whole_part():
    faces = [Face(Box(10, 20, 60, 80), 0.9), Face(Box(50, 20, 100, 80), 0.9)]
    mask, box = draw_mask(faces, SHAPE), Box(30, 25, 80, 70)
    for number in range(2):
        whole_part = part_of_face(mask, faces, number)
        assert np.array_equal(part_of_face(mask, faces, number, box), whole_part[25:70, 30:80])


def test_an_empty_mask_has_empty_parts():
    faces = [Face(whole, 0.9)] * 2
    assert not any(part_of_face(np.zeros(SHAPE, np.uint8), faces, number).any() for number in range(2))


@given(st.integers(0, 80), st.integers(0, 60), st.integers(1, 30), st.integers(1, 20))
def test_the_bounds_are_those_of_what_is_set(left, top, width, height):
    mask = np.zeros(SHAPE, np.uint8)
    assert mask_bounds(mask) is None
    mask[top, left] = mask[top + height - 1, left + width - 1] = 1
    right, bottom = left + width, top + height
    assert mask_bounds(mask) == Box(left, top, right, bottom)
    assert mask_bounds(mask, 20) == Box(max(0, left - 20), max(0, top - 20), min(120, right + 20), min(90, bottom + 20))


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
    mask = draw_mask([turned(upright, degrees)], image.shape)
    on_its_side = draw_mask([turned(lying, degrees - 90 * quarters)], image.shape)
    assert np.abs(np.rot90(mask, quarters).astype(int) - on_its_side).max() <= 1


# --- Options --------------------------------------------------------------------------------------------------------

LANDMARKS = ((45, 40), (75, 40), (60, 55), (48, 70), (72, 70))
FACE = Face(Box(35, 20, 85, 86), 0.9, LANDMARKS)
kinds = st.sampled_from(["ellipse", "box", "hull"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "circle"}, "kind must be one of ellipse, box, hull, none"),
        ({"grow": 101}, "grow must be -40 to 100; got 101"),
        ({"feather": -1}, "feather must be 0 to 50"),
        ({"feather": math.nan}, "feather must be 0 to 50; got nan"),
        ({"offset_x": 100.5}, "offset_x must be"),
        ({"offset_y": -101}, "offset_y must be"),
    ],
)
def test_an_option_out_of_its_range_is_refused_by_name(wrong, said):
    with pytest.raises(ValueError, match=said):
        MaskOptions(**wrong)


@given(some_faces, kinds, st.floats(-40, 100), st.floats(0, 50), st.floats(-100, 100), st.floats(-100, 100))
def test_any_mask_lies_in_its_outlines_and_is_shared_out_without_gap_or_overlap(faces, kind, grow, feather, x, y):
    options = MaskOptions(kind, grow, feather, x, y)
    mask = draw_mask(faces, SHAPE, options)
    assert (mask.dtype, mask.shape) == (np.uint8, SHAPE)
    parts = [part_of_face(mask, faces, number) for number in range(len(faces))]
    assert np.array_equal(np.sum(parts, axis=0), mask)
    for face, part in zip(faces, parts, strict=True):
        outline = face_outline(face, options)
        assert not part[outline.depth(whole) <= 0].any()
        window = outline.window(SHAPE)
        if window is None:
            assert not part.any()
        else:
            part[window.top : window.bottom, window.left : window.right] = 0
            assert not part.any()


def test_faces_that_touch_have_no_gap_between_them():
    """In the middle of both, where either alone would be replaced whole, so is every pixel of the two together."""
    faces = [Face(Box(10, 10, 65, 80), 0.9), Face(Box(50, 10, 105, 80), 0.9)]
    alone = [draw_mask([face], SHAPE) for face in faces]
    together = draw_mask(faces, SHAPE)
    assert np.array_equal(together[45, 20:95] == 255, np.maximum(*alone)[45, 20:95] == 255)
    assert (together[45, 30:85] == 255).all()


@pytest.mark.parametrize("kind", ["ellipse", "box", "hull"])
def test_to_grow_makes_a_mask_larger_on_every_side_and_an_offset_moves_it(kind):
    width = 2 * face_ellipse(FACE).across  # pixels
    small, large = (draw_mask([FACE], (200, 200), MaskOptions(kind, grow, feather=0)) for grow in (0, 20))
    assert (large >= small).all()
    for axis in (0, 1):
        first, second = (np.flatnonzero(mask.any(axis=axis)) for mask in (small, large))
        assert first[0] - second[0] == pytest.approx(0.2 * width, abs=1.5 if kind != "hull" else 4)
        assert second[-1] - first[-1] == pytest.approx(0.2 * width, abs=1.5 if kind != "hull" else 4)
    percent = 100 / width  # one pixel
    moved = draw_mask([FACE], (200, 200), MaskOptions(kind, 0, 0, 7 * percent, 5 * percent))
    assert np.array_equal(moved[5:, 7:], small[:-5, :-7])


def test_no_kind_changes_nothing_and_no_feather_is_a_hard_edge():
    assert not draw_mask([FACE], SHAPE, MaskOptions("none")).any()
    assert set(np.unique(draw_mask([FACE], SHAPE, MaskOptions(feather=0)))) == {0, 255}


def test_a_wider_feather_fades_over_more_pixels():
    face = Face(Box(100, 50, 300, 300), 0.9)  # its width is that of its height: 220
    for percent in (8, 20):
        row = draw_mask([face], (350, 400), MaskOptions(feather=percent))[175, :200].astype(int)
        fading = np.count_nonzero((row > 0) & (row < 255))
        assert fading == pytest.approx(percent / 100 * 2 * face_ellipse(face).across, rel=0.15)


def test_a_rounded_box_holds_the_ellipse_and_cuts_its_corners():
    box, ellipse = (draw_mask([FACE], SHAPE, MaskOptions(kind, feather=0)) for kind in ("box", "ellipse"))
    assert (box >= ellipse).all()
    rows, columns = np.flatnonzero(box.any(axis=1)), np.flatnonzero(box.any(axis=0))
    corner = box[rows[0] : rows[0] + 3, columns[0] : columns[0] + 3]
    assert not corner.any()
    assert box[rows[0], columns.mean().astype(int)] == 255


def test_a_hull_holds_the_landmarks_and_turns_and_leans_with_them():
    upright = face_hull(FACE)
    assert isinstance(upright, Hull)
    depth = upright.depth(whole)
    for x, y in LANDMARKS:
        assert depth[round(y), round(x)] > 8
    assert max(y for _, y in upright.corners) > 70 + 10  # below the mouth
    assert min(y for _, y in upright.corners) < 40 - 15  # above the eyes
    quarter = replace(FACE, landmarks=tuple((120 - y, x) for x, y in LANDMARKS))  # clockwise
    mask = draw_mask([FACE], (120, 120), MaskOptions("hull"))
    turned_mask = draw_mask([quarter], (120, 120), MaskOptions("hull"))
    assert np.abs(np.rot90(mask, -1).astype(int) - turned_mask).max() <= 2


def test_without_landmarks_or_with_useless_ones_the_hull_is_the_ellipse():
    for face in (replace(FACE, landmarks=None), replace(FACE, landmarks=((50, 50),) * 5)):
        assert face_hull(face) is None
        assert np.array_equal(
            draw_mask([face], SHAPE, MaskOptions("hull")), draw_mask([face], SHAPE, MaskOptions("ellipse"))
        )


# --- Skin -----------------------------------------------------------------------------------------------------------


def head(hair_to: int) -> np.ndarray:
    """A picture of skin with dark eyes and mouth, and dark hair down to a row."""
    picture = np.full((*SHAPE, 3), (205, 160, 140), np.uint8)
    picture += np.random.default_rng(1).integers(0, 6, picture.shape, dtype=np.uint8)
    for x, y in LANDMARKS:
        picture[y - 2 : y + 2, x - 4 : x + 4] = (50, 35, 30)
    picture[:hair_to] = (45, 30, 25)
    return picture


def test_a_mask_ends_before_the_hair_and_keeps_eyes_and_mouth():
    options = MaskOptions(skin=True)
    plain, skin = draw_mask([FACE], SHAPE), draw_mask([FACE], SHAPE, options, head(hair_to=30))
    assert plain[26:29, 50:70].any()
    assert not skin[:29].any()
    assert (skin <= plain).all()  # only ever smaller
    for x, y in LANDMARKS[:3]:
        assert skin[y, x] == plain[y, x] == 255
    assert (skin[50:60, 50:70] == 255).all()


def test_where_all_is_skin_or_its_color_says_nothing_the_mask_stays():
    options = MaskOptions(skin=True)
    checks = np.indices(SHAPE).sum(axis=0) % 2 * 255
    noise = np.random.default_rng(2).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    for picture in (head(hair_to=0), np.repeat(checks[..., None], 3, axis=2).astype(np.uint8), noise):
        skin = draw_mask([FACE], SHAPE, options, picture)
        inner = face_ellipse(FACE).distance(whole) < 0.7
        assert (skin[inner] == 255).mean() > 0.9
    with pytest.raises(ValueError, match="needs the pixels"):
        draw_mask([FACE], SHAPE, options)
