"""The checks of portraits: what decides, what is advice, and each score."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from imaging.faces.portrait_checks import verify_portrait
from imaging.geometry.boxes import Box, Face
from imaging.geometry.crop import clamp, crop, resize
from imaging.quality.score import Verdict
from resources.detectors.haar import HaarDetector
from sketch.paint import paint_scene

FACE = Face(  # skimage's astronaut, as YuNet finds her
    Box(179, 62, 269, 175), 0.9, ((203.0, 105.0), (245.0, 105.0), (223.0, 130.0), (207.0, 150.0), (240.0, 150.0))
)


def check(pixels: np.ndarray, face: Face = FACE, *others: Face) -> Verdict:
    return verify_portrait(crop(pixels, face.box), face, (pixels.shape[1], pixels.shape[0]), others)


def test_a_good_portrait_passes_with_its_numbers():
    verdict = check(data.astronaut())
    assert verdict.passed
    assert verdict.reasons == ()
    assert verdict.advice == ()
    assert verdict.scores["width"] == 90
    assert verdict.scores["eye_distance"] == 42.0
    assert verdict.scores["inter_eye_distance_score"] == round(100 / (1 + math.exp(1.4)), 1)
    assert verdict.scores["roll"] == 0.0
    assert 0.5 < verdict.scores["luminance"] < 0.7


def test_a_face_without_landmarks_has_no_pose():
    verdict = check(data.astronaut(), Face(FACE.box, 0.9))
    assert verdict.passed
    assert not {"roll", "yaw", "pitch", "eye_distance"} & verdict.scores.keys()
    assert not any("pose" in name or "eye" in name for name in verdict.scores)
    assert verdict.scores["total"] > 0.9


def scaled(light: float, lift: float = 0.0) -> np.ndarray:
    return np.clip(data.astronaut() * light + lift, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (scaled(0.08), "too dark"),
        (scaled(0.1, 245), "too bright"),
        (scaled(3.0), "over-exposed"),
        (cv2.GaussianBlur(data.astronaut(), (0, 0), 6), "blurred"),
    ],
)
def test_a_bad_portrait_says_why(pixels, said):
    verdict = check(pixels)
    assert not verdict.passed
    assert any(said in reason for reason in verdict.reasons)


def test_a_face_of_a_few_pixels_is_turned_down():
    small = resize(data.astronaut(), (128, 128))
    verdict = check(small, Face(Box(45, 16, 67, 44), 0.9))
    assert verdict.reasons == ("the face is 22 px wide, under 24",)


SMALL = 39  # pixels
USUAL = ((-0.23, -0.12), (0.23, -0.12), (0, 0.1), (-0.18, 0.32), (0.18, 0.32))


def hit(score: float = 0.62, points: tuple[tuple[float, float], ...] = USUAL) -> Face:
    """A box of 39 pixels in a picture of 200, with landmarks as shares of it."""
    box = Box(80, 76, 80 + SMALL, 76 + 49)
    return Face(box, score, tuple((99.5 + x * SMALL, 100 + y * SMALL) for x, y in points))


def bokeh(seed: int) -> np.ndarray:
    """Discs of light out of focus."""
    random = np.random.default_rng(seed)
    picture = np.full((200, 200, 3), 40, np.uint8)
    for _ in range(60):
        x, y, size = (int(random.integers(low, high)) for low, high in ((0, 200), (0, 200), (8, 30)))
        cv2.circle(picture, (x, y), size, random.integers(60, 256, 3).tolist(), -1)
    return cv2.GaussianBlur(picture, (0, 0), 3)


@pytest.mark.parametrize("seed", range(5))
def test_a_small_chance_hit_in_bokeh_is_no_portrait(seed):
    reasons = check(bokeh(seed), hit()).reasons
    assert "hardly a face: 39 px wide, found with a score of 0.62, and soft" in reasons[-1]


def test_a_small_chance_hit_in_noise_is_no_portrait():
    noise = np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    assert ["noise" in reason for reason in check(noise, hit()).reasons] == [True]


SCATTERED = [
    ((-0.23, 0.3), (0.23, -0.3), (0.4, 0.1), (-0.18, 0.3), (0.18, -0.32)),  # a line
    ((-0.05, -0.1), (0.0, -0.1), (0, 0), (-0.02, 0.1), (0.02, 0.1)),  # eyes at one place
    ((-0.23, -0.12), (0.23, -0.12), (0, 0.9), (-0.18, 0.32), (0.18, 0.32)),  # the nose below the mouth
    ((-0.23, -0.12), (0.23, -0.12), (0, -0.1), (-0.18, -0.1), (0.18, -0.1)),  # the mouth between the eyes
    tuple((x + 1.5, y) for x, y in USUAL),  # beside the box
]


def small_photo() -> tuple[np.ndarray, Face]:
    """The astronaut with a face of 39 pixels."""
    scale = SMALL / 90
    pixels = resize(data.astronaut(), (round(512 * scale), round(512 * scale)))
    box = Box(*(round(side * scale) for side in FACE.box.as_tuple()))
    return pixels, Face(box, 0.62, tuple((x * scale, y * scale) for x, y in FACE.landmarks))


def test_a_small_sharp_face_of_a_low_score_is_a_portrait():
    pixels, face = small_photo()
    assert check(pixels, face).passed
    assert check(pixels, Face(face.box, 0.62)).passed, "a detector may have no landmarks"


@pytest.mark.parametrize("points", SCATTERED)
def test_landmarks_that_lie_anyhow_make_a_small_face_of_a_low_score_none(points):
    pixels, face = small_photo()
    (x, y), wide = face.box.center, face.box.width
    scattered = tuple((x + across * wide, y + down * wide) for across, down in points)
    (reason,) = check(pixels, Face(face.box, 0.62, scattered)).reasons
    assert "without eyes, nose and mouth" in reason
    assert check(pixels, Face(face.box, 0.9, scattered)).passed, "the detector was sure"


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_small_face_may_be_turned(quarters):
    assert check(*turn(*small_photo(), quarters)).passed


def test_a_soft_face_passes_with_advice():
    verdict = check(cv2.GaussianBlur(data.astronaut(), (0, 0), 2))
    assert verdict.passed
    assert any("soft" in advice for advice in verdict.advice)


def test_dim_light_passes_with_advice():
    verdict = check(scaled(0.25))
    assert verdict.passed
    assert any("0.2 to 0.8 is usual" in advice for advice in verdict.advice)
    assert verdict.scores["dark"] > check(data.astronaut()).scores["dark"]


@pytest.mark.parametrize("cut", [Box(200, 0, 512, 512), Box(0, 80, 512, 512), Box(0, 0, 240, 512), Box(0, 0, 512, 160)])
def test_a_face_at_the_border_passes_with_advice(cut):
    pixels = crop(data.astronaut(), cut)
    box = clamp(
        Box(*(side - start for side, start in zip(FACE.box.as_tuple(), (cut.left, cut.top) * 2, strict=True))),
        (pixels.shape[1], pixels.shape[0]),
    )
    verdict = check(pixels, Face(box, 0.9))
    assert verdict.passed
    assert any("touches the border" in advice for advice in verdict.advice)


def turn(pixels: np.ndarray, face: Face, quarters: int) -> tuple[np.ndarray, Face]:
    """A picture and its face, turned counter-clockwise."""
    box, points = face.box, face.landmarks
    for _ in range(quarters):
        width = pixels.shape[1]
        pixels = np.ascontiguousarray(np.rot90(pixels))
        box = Box(box.top, width - box.right, box.bottom, width - box.left)
        points = tuple((y, width - x) for x, y in points)
    return pixels, Face(box, face.score, points)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_picture_changes_the_roll_and_nothing_else(quarters):
    upright = check(data.astronaut()).scores
    verdict = check(*turn(data.astronaut(), FACE, quarters))
    assert verdict.passed
    assert abs(verdict.scores["roll"]) == pytest.approx(90 * min(quarters, 4 - quarters))
    for name in (
        "yaw",
        "pitch",
        "eye_distance",
        "luminance",
        "burnt",
        "natural_colour_score",
        "illumination_uniformity_score",
    ):
        assert verdict.scores[name] == pytest.approx(upright[name], abs=0.01)
    assert [advice for advice in verdict.advice if "turned to the side" in advice] == []


@pytest.mark.parametrize(("nose_x", "yaw"), [(224.0, 0.0), (203.0, -45.0), (245.0, 45.0), (234.5, 26.6)])
def test_yaw_is_told_by_the_place_of_the_nose_between_the_eyes(nose_x, yaw):
    points = (*FACE.landmarks[:2], (nose_x, 130.0), *FACE.landmarks[3:])
    verdict = check(data.astronaut(), Face(FACE.box, 0.9, points))
    assert verdict.scores["yaw"] == yaw
    assert verdict.scores["head_pose_yaw_score"] == pytest.approx(100 * math.cos(math.radians(yaw)) ** 2, abs=0.1)
    assert verdict.passed
    assert ("the head is turned to the side" in verdict.advice) == (abs(yaw) > 30)


@pytest.mark.parametrize(("nose_y", "pitch"), [(129.75, 0.0), (150.0, -46.0), (105.0, 51.7)])
def test_pitch_is_told_by_the_place_of_the_nose_between_eyes_and_mouth(nose_y, pitch):
    points = (*FACE.landmarks[:2], (224.0, nose_y), *FACE.landmarks[3:])
    verdict = check(data.astronaut(), Face(FACE.box, 0.9, points))
    assert verdict.scores["pitch"] == pitch
    assert verdict.scores["head_pose_pitch_score"] == pytest.approx(100 * math.cos(math.radians(pitch)) ** 2, abs=0.1)
    assert verdict.passed
    assert ("the head is turned up or down" in verdict.advice) == (abs(pitch) > 30)


def test_eyes_at_one_point_give_no_pose():
    points = ((224.0, 105.0), (224.0, 105.0), *FACE.landmarks[2:])
    assert "yaw" not in check(data.astronaut(), Face(FACE.box, 0.9, points)).scores


# Scores


def score(name: str, pixels: np.ndarray, face: Face = FACE, *others: Face) -> float:
    return check(pixels, face, *others).scores[f"{name}_score"]


def at_scale(factor: float) -> tuple[np.ndarray, Face]:
    side = round(512 * factor)
    box = Box(*(round(value * factor) for value in FACE.box.as_tuple()))
    points = tuple((x * factor, y * factor) for x, y in FACE.landmarks)
    return resize(data.astronaut(), (side, side)), Face(box, 0.9, points)


@pytest.mark.parametrize("factor", [0.3, 0.5, 1, 2, 4])
def test_a_good_portrait_is_good_at_any_size(factor):
    verdict = check(*at_scale(factor))
    assert verdict.passed
    assert verdict.advice == ()
    assert verdict.scores["total"] > 0.88
    assert verdict.scores["sharpness_score"] > 90


@pytest.mark.parametrize("prompt", ["portrait of a woman", "an old man with a beard", "a child in sunlight"])
def test_painted_faces_pass(prompt):
    painting = paint_scene(prompt, "", 4, 512, 512)
    face, *others = HaarDetector().detect(painting)
    verdict = check(painting, face, *others)
    assert verdict.passed, verdict.reasons
    assert verdict.scores["total"] > 0.85


def test_the_total_is_the_mean_of_the_scores():
    scores = check(data.astronaut()).scores
    parts = [value for name, value in scores.items() if name.endswith("_score")]
    assert len(parts) == 12
    assert scores["total"] == pytest.approx(sum(parts) / 1200, abs=0.001)


def test_blur_and_darkness_lower_the_total_step_by_step():
    photo = data.astronaut()
    blurred = [check(cv2.GaussianBlur(photo, (0, 0), sigma)).scores["total"] for sigma in (0.1, 1, 2, 4, 8)]
    darker = [check(scaled(light)).scores["total"] for light in (1, 0.5, 0.25, 0.1)]
    assert blurred == sorted(blurred, reverse=True)
    assert darker == sorted(darker, reverse=True)
    assert darker[-1] < 0.7


def flat(*rgb: int) -> np.ndarray:
    return np.full((200, 200, 3), rgb, np.uint8)


FLAT_FACE = Face(Box(50, 50, 150, 170), 0.9)


@pytest.mark.parametrize(("grey", "expected"), [(128, 100), (51, 50), (204, 50), (0, 2), (255, 2)])
def test_luminance_mean(grey, expected):
    assert score("luminance_mean", flat(grey, grey, grey), FLAT_FACE) == pytest.approx(expected, abs=0.6)


@pytest.mark.parametrize(("burnt", "expected"), [(0, 100), (12, 91), (120, 50), (1200, 9)])
def test_over_exposure_is_halved_by_one_percent(burnt, expected):
    pixels = flat(128, 128, 128)
    face = pixels[50:170, 50:150].copy().reshape(-1, 3)  # 12000 pixels
    face[:burnt] = 247
    pixels[50:170, 50:150] = face.reshape(120, 100, 3)
    assert score("over_exposure_prevention", pixels, FLAT_FACE) == pytest.approx(expected, abs=0.5)


def test_under_exposure():
    assert score("under_exposure_prevention", flat(26, 26, 26), FLAT_FACE) == 99.8
    assert score("under_exposure_prevention", flat(25, 25, 25), FLAT_FACE) == pytest.approx(0, abs=0.1)


def test_light_from_one_side_is_seen_whichever_way_the_head_is_turned():
    photo = data.astronaut()
    photo[:, :224] //= 4
    assert score("illumination_uniformity", data.astronaut()) > 80
    for quarters in range(4):
        verdict = check(*turn(photo, FACE, quarters))
        assert verdict.scores["illumination_uniformity_score"] < 60
        assert "the light comes from one side" in verdict.advice
        assert verdict.passed
    # Light from above is equal on both sides.
    photo = data.astronaut()
    photo[:118] //= 4
    assert score("illumination_uniformity", photo) > 80


@pytest.mark.parametrize("skin", [(255, 219, 196), (224, 172, 138), (141, 85, 54), (74, 47, 36)])
def test_skin_of_any_tone_is_natural_and_green_is_not(skin):
    assert score("natural_colour", flat(*skin), FLAT_FACE) == 100
    verdict = check(flat(60, 160, 80), FLAT_FACE)
    assert verdict.scores["natural_colour_score"] < 5
    assert "the skin has an unusual colour" in verdict.advice


@pytest.mark.parametrize(("height", "expected"), [(113, 0), (90, 20.4), (30, 73.5)])
def test_a_second_face_counts_by_its_size(height, expected):
    second, third = Face(Box(300, 0, 390, height), 0.9), Face(Box(400, 0, 410, 10), 0.9)
    assert score("single_face_present", data.astronaut(), FACE, third, second) == pytest.approx(expected, abs=0.1)
    assert score("single_face_present", data.astronaut()) == 100


@pytest.mark.parametrize(("top", "expected"), [(0, 0), (10, 40), (25, 100), (60, 100)])
def test_a_crop_is_complete_with_room_of_a_quarter_of_the_face(top, expected):
    face = Face(Box(60, top, 140, top + 100), 0.9)
    assert score("crop_of_the_face_image", flat(128, 100, 90), face) == expected


@given(st.integers(1, 60), st.integers(1, 60), st.booleans(), st.integers(0, 2**32 - 1))
def test_any_box_is_measured(width, height, marked, seed):
    random = np.random.default_rng(seed)
    points = tuple((float(x), float(y)) for x, y in random.uniform(0, 64, (5, 2))) if marked else None
    pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    scores = check(pixels, Face(Box(2, 2, 2 + width, 2 + height), 0.5, points)).scores
    assert all(0 <= value <= 100 for name, value in scores.items() if name.endswith("_score"))
    assert all(math.isfinite(value) for value in scores.values())
    assert 0 <= scores["total"] <= 1
