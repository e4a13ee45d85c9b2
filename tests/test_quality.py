"""Checks of generated images and of portraits, and the quality score."""

import math

import cv2
import numpy as np
import pytest
from skimage import data

from imaging.boxes import Box, Face
from imaging.crop import clamp, crop, resize
from imaging.quality import Verdict, quality_score, verify_output, verify_portrait

FACE = Face(  # skimage's astronaut, as YuNet finds her
    Box(179, 62, 269, 175), 0.9, ((203.0, 105.0), (245.0, 105.0), (223.0, 130.0), (207.0, 150.0), (240.0, 150.0))
)
PHOTOS = {"astronaut": data.astronaut, "coffee": data.coffee, "chelsea": data.chelsea}


def size_of(pixels: np.ndarray) -> tuple[int, int]:
    return (pixels.shape[1], pixels.shape[0])


def noise(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


def painting() -> np.ndarray:
    """Nothing but a slow change of colour."""
    ramp = np.linspace(60, 200, 256)
    return np.stack([np.tile(ramp, (256, 1)), np.tile(ramp[:, None], (1, 256)), np.full((256, 256), 90)], 2).astype(
        np.uint8
    )


def check(pixels: np.ndarray, face: Face = FACE) -> Verdict:
    return verify_portrait(crop(pixels, face.box), face, size_of(pixels))


# Output


@pytest.mark.parametrize("name", PHOTOS)
def test_photos_pass(name):
    photo = PHOTOS[name]()
    verdict = verify_output(photo, size_of(photo))
    assert verdict.passed
    assert verdict.reasons == ()
    assert verdict.scores["neighbour_correlation"] > 0.9


def test_a_smooth_painting_passes():
    assert verify_output(painting(), (256, 256)).passed


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.zeros((64, 64, 3), np.uint8), "blank"),
        (np.full((64, 64, 3), (200, 30, 90), np.uint8), "blank"),
        (noise((64, 64, 3)) // 100, "blank"),  # nearly black
        (noise((64, 64, 3)), "noise"),
        (np.repeat(noise((64, 1, 3)), 64, axis=1), "noise"),  # every row of one random colour
        (np.repeat(noise((1, 64, 3)), 64, axis=0), "noise"),
    ],
)
def test_blank_and_noise_are_turned_down_with_their_number(pixels, said):
    verdict = verify_output(pixels, (64, 64))
    assert not verdict.passed
    assert len(verdict.reasons) == 1
    assert said in verdict.reasons[0]
    assert any(letter.isdigit() for letter in verdict.reasons[0])


def test_a_grainy_photo_is_not_noise():
    photo = data.astronaut()
    grain = np.random.default_rng(1).normal(0, 20, photo.shape)
    assert verify_output(np.clip(photo + grain, 0, 255).astype(np.uint8), (512, 512)).passed


def test_the_wrong_size_is_turned_down():
    verdict = verify_output(painting(), (512, 256))
    assert verdict.reasons == ("it is 256x256, not 512x256",)
    assert not verdict.passed


# Portraits


def test_a_good_portrait_passes_with_its_numbers():
    verdict = check(data.astronaut())
    assert verdict.passed
    assert verdict.reasons == ()
    assert verdict.advice == ()
    assert verdict.scores["width"] == 90
    assert verdict.scores["eye_distance"] == 42.0
    assert verdict.scores["eye_distance_score"] == round(100 / (1 + math.exp(1.4)), 1)
    assert verdict.scores["roll"] == 0.0
    assert 0.5 < verdict.scores["luminance"] < 0.7


def test_a_face_without_landmarks_has_no_pose():
    verdict = check(data.astronaut(), Face(FACE.box, 0.9))
    assert verdict.passed
    assert not {"roll", "yaw", "eye_distance"} & verdict.scores.keys()


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
        size_of(pixels),
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
    for name in ("yaw", "eye_distance", "luminance", "burnt"):
        assert verdict.scores[name] == pytest.approx(upright[name], abs=0.01)
    assert [advice for advice in verdict.advice if "turned to the side" in advice] == []


@pytest.mark.parametrize(("nose_x", "yaw"), [(224.0, 0.0), (203.0, -1.0), (245.0, 1.0), (234.5, 0.5)])
def test_yaw_is_the_place_of_the_nose_between_the_eyes(nose_x, yaw):
    points = (*FACE.landmarks[:2], (nose_x, 130.0), *FACE.landmarks[3:])
    verdict = check(data.astronaut(), Face(FACE.box, 0.9, points))
    assert verdict.scores["yaw"] == yaw
    assert verdict.passed
    assert bool(verdict.advice) == (abs(yaw) > 0.6)


def test_eyes_at_one_point_give_no_pose():
    points = ((224.0, 105.0), (224.0, 105.0), *FACE.landmarks[2:])
    assert "yaw" not in check(data.astronaut(), Face(FACE.box, 0.9, points)).scores


def test_a_verdict_cannot_be_changed():
    with pytest.raises(AttributeError):
        Verdict(passed=True, scores={}).passed = False


# Score


@pytest.mark.parametrize("name", PHOTOS)
def test_the_score_is_the_mean_of_its_parts(name):
    score, parts = quality_score(PHOTOS[name]())
    assert set(parts) == {"sharpness", "contrast", "exposure", "saturation", "resolution"}
    assert all(0 <= value <= 1 for value in parts.values())
    assert score == pytest.approx(np.mean(list(parts.values())), abs=0.001)


def test_each_part_falls_with_what_it_measures():
    photo = data.astronaut()
    _, good = quality_score(photo)
    grey = np.repeat(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    worse = {
        "sharpness": cv2.GaussianBlur(photo, (0, 0), 5),
        "contrast": (photo * 0.2 + 100).astype(np.uint8),
        "exposure": np.where(photo > 90, 255, 0).astype(np.uint8),
        "saturation": grey,
        "resolution": resize(photo, (128, 128)),
    }
    for part, pixels in worse.items():
        assert quality_score(pixels)[1][part] < good[part], part


def test_a_blank_image_scores_nothing_but_its_resolution():
    assert quality_score(np.zeros((1000, 1000, 3), np.uint8)) == (
        0.2,
        {"sharpness": 0.0, "contrast": 0.0, "exposure": 0.0, "saturation": 0.0, "resolution": 1.0},
    )
