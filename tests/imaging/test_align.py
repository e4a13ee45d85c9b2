"""The upright square around a face: points and pixels there and back."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from imaging.faces.blend import merge_into
from imaging.faces.mask import draw_mask
from imaging.faces.mask_options import MaskOptions
from imaging.geometry.align import LEFT_AS_IT_IS, Frame, coverage, cut, frame_around, put_back, upright_angle
from imaging.geometry.boxes import Box, Face
from imaging.geometry.crop import crop, portrait_box

UPRIGHT = np.array([(-20.0, -15.0), (20.0, -15.0), (0.0, 5.0), (-15.0, 25.0), (15.0, 25.0)])
angles = st.floats(-180, 180)
frames = st.builds(Frame, st.floats(-50, 300), st.floats(-50, 300), st.floats(1, 500), angles)
kinds = pytest.mark.parametrize("kind", ["rgb", "mask"])


def turned_face(angle: float, x: float = 100.0, y: float = 100.0) -> Face:
    """A face of 80 x 100 pixels around a point, turned clockwise."""
    turn = math.radians(angle)
    matrix = np.array([(math.cos(turn), -math.sin(turn)), (math.sin(turn), math.cos(turn))])
    points = UPRIGHT @ matrix.T + (x, y)
    box = Box(round(x) - 40, round(y) - 50, round(x) + 40, round(y) + 50)
    return Face(box, 0.9, tuple((float(x), float(y)) for x, y in points))


def picture(kind: str = "rgb") -> np.ndarray:
    photo = data.astronaut()
    return photo if kind == "rgb" else np.ascontiguousarray(photo[:, :, 1])


# Where the frame lies


@given(frames, st.integers(1, 1024), st.lists(st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=1))
def test_points_come_back(frame, size, points):
    there = np.array(points)
    assert np.abs(frame.to_picture(frame.to_cut(there, size), size) - there).max() < 1e-6


@given(angles, st.floats(-0.4, 2))
def test_in_the_cut_the_eyes_are_level_and_the_mouth_is_below(angle, padding):
    face = turned_face(angle)
    frame = frame_around(face, (200, 200), max(0, padding))
    left_eye, right_eye, _, *mouth = frame.to_cut(np.array(face.landmarks), 100)
    tilt = math.degrees(math.atan2(right_eye[1] - left_eye[1], right_eye[0] - left_eye[0]))
    assert abs(tilt) <= LEFT_AS_IT_IS + 1e-6
    assert left_eye[0] < right_eye[0]
    assert min(mouth[0][1], mouth[1][1]) > max(left_eye[1], right_eye[1])
    if frame.angle % 90:
        assert abs(tilt) < 1e-6


@given(angles)
def test_eyes_named_by_their_side_in_the_picture_make_no_difference(angle):
    face = turned_face(angle)
    swapped = Face(face.box, face.score, tuple(face.landmarks[i] for i in (1, 0, 2, 4, 3)))
    difference = upright_angle(swapped) - upright_angle(face)
    assert abs((difference + 180) % 360 - 180) < 1e-6


def test_a_face_without_landmarks_is_upright():
    assert upright_angle(Face(Box(0, 0, 9, 9), 0.5)) == 0.0


@pytest.mark.parametrize(
    ("roll", "angle"),
    [(0, 0), (4.9, 0), (-4.9, 0), (5.1, 5.1), (-30, -30), (86, 90), (-94, -90), (177, 180), (80, 80), (135, 135)],
)
def test_a_roll_near_a_quarter_turn_counts_as_that_turn(roll, angle):
    assert frame_around(turned_face(roll), (200, 200), 0.5).angle == pytest.approx(angle)


@given(st.integers(0, 250), st.integers(0, 250), st.sampled_from([0, 90, 180, -90]), st.floats(0, 1))
def test_an_upright_frame_is_the_portrait_box_where_that_is_square(x, y, roll, padding):
    face = turned_face(roll, x, y)
    box, frame = portrait_box(face.box, (300, 250), padding), frame_around(face, (300, 250), padding)
    assert frame.exact_box() is not None
    if box.width == box.height == frame.side:
        assert frame.exact_box() == box
    assert frame.bounds((300, 250)).area <= box.area


@given(frames)
def test_bounds_lie_in_the_picture_and_hold_all_that_is_covered(frame):
    size = (256, 256)
    whole = coverage(frame, Box(0, 0, *size))
    if not whole.any():
        return
    box = frame.bounds(size)
    assert 0 <= box.left < box.right <= 256
    assert 0 <= box.top < box.bottom <= 256
    assert np.count_nonzero(coverage(frame, box)) == np.count_nonzero(whole)
    assert np.array_equal(coverage(frame, box), crop(whole, box))


def test_coverage_is_the_turned_square():
    whole = coverage(Frame(100, 100, 80, 33), Box(0, 0, 200, 200))
    assert np.count_nonzero(whole) == pytest.approx(80 * 80, rel=0.01)
    assert np.array_equal(coverage(Frame(3, 2, 2), Box(1, 0, 5, 4)) > 0, np.pad(np.ones((2, 2), bool), 1))
    diamond = coverage(Frame(2.5, 2.5, 3, 45), Box(0, 0, 5, 5)) > 0
    assert ["".join(".#"[value] for value in row) for row in diamond.astype(int)] == [
        "..#..",
        ".###.",
        "#####",
        ".###.",
        "..#..",
    ]


@pytest.mark.parametrize("bad", [(0, 0, 0, 0), (0, 0, -1, 0), (math.nan, 0, 1, 0), (0, 0, math.inf, 0)])
def test_a_frame_without_a_size_is_refused(bad):
    with pytest.raises(ValueError, match="side over 0"):
        Frame(*bad)


def test_a_frame_outside_the_picture_has_no_bounds():
    with pytest.raises(ValueError, match="must have an area"):
        Frame(-50, -50, 20).bounds((100, 100))


# Pixels


@kinds
def test_an_upright_frame_gives_the_very_pixels_and_takes_them_back(kind):
    image, frame = picture(kind), Frame(224, 130, 180)
    box = Box(134, 40, 314, 220)
    patch = cut(image, frame, 180)
    assert np.array_equal(patch, crop(image, box))
    assert np.array_equal(put_back(patch, frame, box), crop(image, box))


@kinds
@pytest.mark.parametrize("quarters", [-1, 1, 2, 3])
def test_quarter_turns_are_exact(kind, quarters):
    image, frame = picture(kind), Frame(224, 130, 180, 90 * quarters)
    box = Box(134, 40, 314, 220)
    patch = cut(image, frame, 180)
    assert np.array_equal(patch, np.rot90(crop(image, box), quarters))
    assert np.array_equal(put_back(patch, frame, box), crop(image, box))


def test_a_small_picture_turned_by_hand():
    image = np.array([(1, 2, 3), (4, 5, 6), (7, 8, 9)], np.uint8)
    assert cut(image, Frame(2, 1, 2, 90), 2).tolist() == [[3, 6], [2, 5]]  # what was at the right is on top
    assert cut(image, Frame(1.5, 1.5, 3, 180), 3).tolist() == [[9, 8, 7], [6, 5, 4], [3, 2, 1]]


def test_outside_lies_the_reflection():
    image = np.array([(1, 2, 3), (4, 5, 6), (7, 8, 9)], np.uint8)
    assert cut(image, Frame(1, 1, 4), 4).tolist() == [[5, 4, 5, 6], [2, 1, 2, 3], [5, 4, 5, 6], [8, 7, 8, 9]]
    assert cut(image[:1, :1], Frame(0, 0, 4), 4).tolist() == [[1] * 4] * 4
    # Far more than the picture's own size.
    assert cut(image, Frame(1.5, 1.5, 21), 21)[10, :9].tolist() == [5, 4, 5, 6, 5, 4, 5, 6, 5]


@given(frames.filter(lambda frame: frame.side > 2), st.integers(1, 64), st.sampled_from([(40, 60), (40, 60, 3)]))
def test_no_corner_is_black(frame, size, shape):
    patch = cut(np.full(shape, 200, np.uint8), frame, size)
    assert patch.shape == (size, size, *shape[2:])
    assert set(np.unique(patch)) == {200}


@pytest.mark.parametrize("angle", [6, 17, 30, 45, 100, 135, -160])
def test_there_and_back_at_the_same_size_little_is_lost(angle):
    """Measured: a mean error of 0.9 to 1.2 levels, and 99 of 100 values within 8."""
    image, frame = picture(), Frame(224, 155, 200, angle)
    box = frame.bounds((512, 512))
    inside = cv2.erode(coverage(frame, box), np.ones((7, 7)), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    error = np.abs(put_back(cut(image, frame, 200), frame, box).astype(int) - crop(image, box))[inside]
    assert error.mean() < 1.3
    assert np.percentile(error, 99) <= 9


@pytest.mark.parametrize("size", [100, 200, 512])
@pytest.mark.parametrize("angle", [0, 20, 135])
def test_a_face_mask_comes_back_and_does_not_ring(angle, size):
    mask = draw_mask([turned_face(angle, 200, 200)], (400, 400), MaskOptions())
    frame = frame_around(turned_face(angle, 200, 200), (400, 400), 0.5)
    there = cut(mask, frame, size)
    assert there.max() == 255
    assert not there[0].any()
    back = put_back(there, frame, Box(0, 0, 400, 400))
    # The feather falls by up to 37 levels a pixel; at half the size it lies up to one pixel elsewhere.
    error = np.abs(back.astype(int) - mask)
    assert error.max() <= 40
    assert error.mean() < 0.3
    far = cv2.dilate(mask, np.ones((11, 11)))
    assert not back[far == 0].any()


@pytest.mark.parametrize(("angle", "size"), [(0, 400), (30, 400), (30, 617), (200, 300)])
def test_enlarging_and_back_loses_as_little_turned_as_upright(angle, size):
    image, frame = picture(), Frame(224, 155, 200, angle)
    box = frame.bounds((512, 512))
    inside = cv2.erode(coverage(frame, box), np.ones((9, 9)), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    error = np.abs(put_back(cut(image, frame, size), frame, box).astype(int) - crop(image, box))[inside]
    assert error.mean() < 1.3
    assert np.percentile(error, 99) <= 10


def test_shrinking_does_not_alias():
    stripes = np.repeat(np.tile(np.array([0, 255], np.uint8), 200)[None, :, None], 400, axis=0).repeat(3, axis=2)
    for angle in (0, 30, 45):
        patch = cut(stripes, Frame(200, 200, 200, angle), 40)
        assert abs(int(patch.min()) - 127) <= 32, angle
        assert abs(int(patch.max()) - 127) <= 32, angle
    # A finely striped patch, put back smaller.
    back = put_back(stripes, Frame(60, 60, 80, 20), Box(50, 50, 70, 70))
    assert abs(int(back.min()) - 127) <= 32
    assert abs(int(back.max()) - 127) <= 32


@pytest.mark.parametrize("size", [64, 200, 333])
@pytest.mark.parametrize(
    "frame", [Frame(300, 60, 120, 25), Frame(5, 5, 120, -140), Frame(256, 256, 120), Frame(3, 3, 60)]
)
def test_outside_the_frame_nothing_changes(frame, size):
    image = picture()
    box = frame.bounds((512, 512))
    mask = coverage(frame, box)
    patch = np.full((size, size, 3), 7, np.uint8)
    merged = image.copy()
    merge_into(merged, put_back(patch, frame, box), mask, box)
    whole = coverage(frame, Box(0, 0, 512, 512)) > 0
    assert np.array_equal(merged[~whole], image[~whole])
    assert np.all(merged[whole] == 7)


def test_a_picture_wider_than_opencv_warps_is_cut():
    wide = np.zeros((100, 40_000, 3), np.uint8)
    wide[:, 39_000:] = 200
    frame = Frame(39_500, 50, 60, 30)
    patch = cut(wide, frame, 32)
    assert set(np.unique(patch)) == {200}
    whole = Box(0, 0, 40_000, 100)
    assert np.array_equal(put_back(patch, frame, whole)[:, :, 0] == 200, coverage(frame, whole) == 255)


@pytest.mark.parametrize("angle", [0, 31])
def test_a_part_of_a_picture_is_that_part_of_the_whole(angle):
    frame, part = Frame(200, 150, 90, angle), Box(190, 100, 300, 170)
    patch = cut(picture(), frame, 128)
    whole = put_back(patch, frame, Box(0, 0, 512, 512))
    difference = np.abs(put_back(patch, frame, part).astype(int) - crop(whole, part))
    assert difference.max() <= (3 if angle else 0)  # OpenCV warps to a 32nd of a pixel, counted from the part's corner
    assert difference.mean() < 0.1


def test_what_is_not_covered_is_zero():
    frame = Frame(20, 20, 10, 30)
    back = put_back(np.full((16, 16), 255, np.uint8), frame, Box(0, 0, 40, 40))
    assert np.array_equal(back, coverage(frame, Box(0, 0, 40, 40)))
    assert not put_back(np.full((4, 4), 255, np.uint8), Frame(100, 100, 4), Box(0, 0, 9, 9)).any()


def test_a_face_on_its_head_is_upright_in_its_cut():
    turned = np.ascontiguousarray(np.rot90(data.astronaut(), 2))
    face = Face(
        Box(243, 337, 333, 450), 0.9, ((309.0, 407.0), (267.0, 407.0), (289.0, 382.0), (305.0, 362.0), (272.0, 362.0))
    )
    frame = frame_around(face, (512, 512), 0.3)
    side = int(frame.side)
    upright = Frame(512 - frame.x, 512 - frame.y, side)
    assert np.array_equal(cut(turned, frame, side), cut(data.astronaut(), upright, side))


@pytest.mark.parametrize("angle", [12, -25, 60])
def test_a_turned_photo_is_cut_as_the_photo_itself(angle):
    """The picture is turned, and the cut turns it back: the face looks as it did."""
    photo = data.astronaut()
    matrix = cv2.getRotationMatrix2D((223.5, 118.5), -angle, 1)  # OpenCV counts anticlockwise, and from pixels' middles
    turned = cv2.warpAffine(photo, matrix, (512, 512), flags=cv2.INTER_CUBIC)
    frame = Frame(224, 119, 140, angle)
    error = np.abs(cut(turned, frame, 140).astype(int) - cut(photo, Frame(224, 119, 140), 140))
    assert error.mean() < 2
