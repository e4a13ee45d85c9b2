"""The painter: what it reads out of words, and what its pictures hold."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from imaging.geometry.boxes import Box, Face
from resources.detectors.haar import HaarDetector
from resources.detectors.yunet import YuNetDetector
from resources.settings import PROJECT_ROOT
from sketch.canvas import Canvas, ellipse, taper
from sketch.paint import paint_scene
from sketch.repaint import repaint_face
from sketch.words import MAX_PEOPLE, common_wish, read

MODEL = Path(
    os.environ.get("FC_YUNET_MODEL") or PROJECT_ROOT.parent / "shared/models/face_detection_yunet_2023mar.onnx"
)
ASTRONAUT = Face(
    Box(179, 62, 269, 175), 0.94, ((203.4, 101.4), (245.3, 101.7), (223.1, 124.9), (203.4, 144.2), (240.1, 142.3))
)


@pytest.fixture(params=["haar", "yunet"], scope="module")
def detector(request):
    if request.param == "haar":
        return HaarDetector()
    if not MODEL.is_file():
        pytest.skip("the YuNet model is not here: set FC_YUNET_MODEL")
    return YuNetDetector(MODEL)


@pytest.fixture(scope="module")
def face_mask():
    y, x = np.ogrid[:512, :512]
    inside = ((x - 224) / 55) ** 2 + ((y - 118) / 68) ** 2
    return (np.clip((1.1 - inside) / 0.2, 0, 1) * 255).astype(np.uint8)


# -- words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "count"),
    [
        ("", 1),
        ("portrait of a woman", 1),
        ("masterpiece, best quality", 1),
        ("two people", 2),
        ("a couple", 2),
        ("a couple at the beach", 2),
        ("three women", 3),
        ("a man and a woman", 2),
        ("man and woman", 2),
        ("2girls", 2),
        ("1boy", 1),
        ("2girls, 1boy", 3),
        ("score_9, 1girl, solo, woman", 1),
        ("group of friends", 4),
        ("a group of three friends", 3),
        ("two people, a red-haired woman and a bald man", 2),
        ("a young woman, the woman is smiling", 1),
        ("a 25 years old woman", 1),
        ("six people", 6),
        ("12 people in a city", MAX_PEOPLE),
    ],
)
def test_people_are_counted(prompt, count):
    assert len(read(prompt).people) == count


def test_words_belong_to_the_person_they_stand_with():
    woman, man = read("a red-haired woman and a bald man with a beard").people
    assert (woman.gender, woman.hair_color, woman.hair_style, woman.beard) == ("woman", "red", None, None)
    assert (man.gender, man.hair_color, man.hair_style, man.beard) == ("man", None, "bald", "beard")


def test_words_before_and_after_each_person():
    first, second = read("a smiling woman with long black hair next to a man with a moustache wearing a hat").people
    assert (first.expression, first.hair_style, first.hair_color, first.hat) == ("smiling", "long", "black", None)
    assert (second.beard, second.hat, second.expression) == ("moustache", "hat", None)


def test_a_plural_shares_its_words():
    assert all(person.garment == "suit" for person in read("three men in suits").people)
    assert all(person.glasses for person in read("a man and a woman, both with glasses").people)


def test_one_person_in_full():
    (person,) = read("old black woman, dark brown curly hair, green eyes, freckles, red lipstick, navy blazer").people
    assert person.age == "old"
    assert person.skin == "dark"
    assert (person.hair_color, person.hair_texture, person.eyes) == ("dark brown", "curly", "green")
    assert (person.freckles, person.lipstick) == ("freckles", "red")
    assert (person.garment, person.cloth) == ("suit", "navy")


@pytest.mark.parametrize(
    ("prompt", "place", "light"),
    [
        ("woman at sunset", "sunset", "warm"),
        ("man in the forest, dramatic light", "forest", "dramatic"),
        ("woman, city at night", "night city", None),
        ("astronaut in space, cold light", "space", "cold"),
        ("a woman", None, None),
    ],
)
def test_place_and_light(prompt, place, light):
    brief = read(prompt)
    assert (brief.place, brief.light) == (place, light)


def test_negative_words_and_without_turn_things_off():
    brief = read("a woman with glasses and a hat, forest, black and white", "glasses, hat, forest, monochrome")
    (person,) = brief.people
    assert (person.glasses, person.hat, brief.place, brief.monochrome) == (None, None, None, False)
    (person,) = read("a man without glasses, no beard").people
    assert (person.glasses, person.beard) == (None, None)


def test_black_and_white_is_a_style_and_no_hair_colour():
    brief = read("a woman with red hair, black and white")
    assert brief.monochrome
    assert brief.people[0].hair_color == "red"


def test_what_all_people_share():
    shared = common_wish(read("a smiling woman with blue eyes and a smiling man with brown eyes"))
    assert (shared.expression, shared.eyes, shared.gender) == ("smiling", None, None)


@given(st.text(max_size=200), st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_can_be_read(prompt, negative):
    assert 1 <= len(read(prompt, negative).people) <= MAX_PEOPLE


# -- canvas -----------------------------------------------------------------------------------------------------


def test_a_shape_is_filled_up_to_its_edge_and_the_borders():
    canvas = Canvas(np.zeros((3, 6, 6), np.float32))
    canvas.shape(np.array([(-9.0, -9.0), (3.0, -9.0), (3.0, 16.0), (-9.0, 16.0)]), (1.0, 0.5, 0.25))
    np.testing.assert_allclose(canvas.pixels[:, :, :3], np.array([1.0, 0.5, 0.25])[:, None, None] * np.ones((6, 3)))
    assert canvas.pixels[:, :, 5:].max() == 0


def test_shapes_off_the_canvas_leave_no_mark_and_a_clip_holds():
    canvas = Canvas(np.zeros((3, 8, 8), np.float32))
    canvas.shape(ellipse(40, 40, 5, 5), (1, 1, 1))
    canvas.shape(ellipse(-90, 4, 5, 5), (1, 1, 1), 1.0, 2.0)
    assert canvas.pixels.max() == 0
    clip = canvas.mask(np.array([(-9.0, -9.0), (3.0, -9.0), (3.0, 16.0), (-9.0, 16.0)]))
    canvas.shape(np.array([(-9.0, -9.0), (16.0, -9.0), (16.0, 16.0), (-9.0, 16.0)]), (1, 1, 1), 1.0, 0.0, clip)
    assert canvas.pixels[:, :, 5:].max() == 0
    assert canvas.pixels[:, :, :3].min() == 1


def test_a_brush_mark_is_pointed_and_as_thick_as_asked():
    line = np.stack([np.linspace(0, 10, 11), np.zeros(11)], axis=1)
    mark = taper(line, 2.0)
    assert mark.shape == (22, 2)
    assert np.ptp(mark[:, 1]) == pytest.approx(2.0)
    np.testing.assert_allclose(mark[[0, 10]], line[[0, 10]], atol=1e-9)
    np.testing.assert_array_equal(taper(np.stack([line, line]), 2.0)[1], mark)


# -- pictures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(64, 64), (64, 512), (1024, 64), (136, 200), (1336, 768)])
def test_any_size_and_the_same_bytes_again(width, height):
    first = paint_scene("two women, garden", "", 5, width, height)
    assert (first.shape, first.dtype) == ((height, width, 3), np.uint8)
    assert first.flags.c_contiguous
    assert first.std() > 10
    np.testing.assert_array_equal(first, paint_scene("two women, garden", "", 5, width, height))


def test_seed_and_words_change_the_picture():
    pictures = [paint_scene("a woman", "", seed, 128, 128) for seed in (1, 2, 2**32 - 1)]
    pictures.append(paint_scene("a woman with blue hair", "", 1, 128, 128))
    pictures.append(paint_scene("a woman, beach", "", 1, 128, 128))
    for index, first in enumerate(pictures):
        assert all(np.abs(first.astype(int) - other).mean() > 1 for other in pictures[index + 1 :])


def test_one_word_changes_only_what_it_names():
    plain = paint_scene("a woman with brown eyes, studio", "", 3, 256, 256).astype(int)
    blue = paint_scene("a woman with blue eyes, studio", "", 3, 256, 256).astype(int)
    changed = np.abs(plain - blue).max(axis=2) > 4
    assert 0 < changed.mean() < 0.02


def test_hair_colour_is_the_colour_asked_for():
    def crown(color):
        picture = paint_scene(f"a woman with straight long {color} hair, studio", "", 8, 256, 256)
        return picture[56:74, 104:152].reshape(-1, 3).mean(axis=0)

    red, blue = crown("red"), crown("blue")
    assert red[0] > red[2] + 40
    assert blue[2] > blue[0] + 20


def test_black_and_white_has_no_colour():
    picture = paint_scene("a woman with red hair, sunset, black and white", "", 2, 128, 128).astype(int)
    assert np.ptp(picture, axis=2).max() <= 14


@pytest.mark.parametrize("expression", ["smiling", "laughing", "sad", "angry", "surprised", "neutral"])
@pytest.mark.parametrize(
    "style", ["bald", "curly hair", "hair in a bun", "ponytail, beanie", "cap, long hair", "bob, hat"]
)
def test_every_combination_paints(expression, style):
    garment = {"bald": "spacesuit", "curly hair": "hoodie", "hair in a bun": "dress"}.get(style, "jacket")
    assert paint_scene(f"{expression} person, {style}, {garment}", "", 4, 64, 64).shape == (64, 64, 3)


PORTRAITS = (
    "portrait of a woman",
    "portrait of a man with a beard",
    "a red-haired woman with freckles, forest",
    "old man with glasses, black suit, room",
    "a smiling black woman with curly hair, garden",
    "a bald man in a hoodie, city",
    "laughing woman, bun, beach",
    "a woman with a hat, sunset",
    "man, mountains, blue eyes",
    "a woman with long black hair, black and white",
    "an angry man with a moustache and a cap",
    "asian woman, night city, dramatic light",
)


@pytest.mark.parametrize("size", [256, 512])
def test_a_detector_finds_the_one_face(detector, size):
    found = [
        len(detector.detect(paint_scene(prompt, "", seed, size, size)))
        for seed, prompt in enumerate(PORTRAITS, start=1)
    ]
    assert found == [1] * len(PORTRAITS)


@pytest.mark.parametrize(
    ("prompt", "count", "size"),
    [
        ("portrait of a woman", 1, (1024, 1024)),
        ("a red-haired woman and a bald man with a beard", 2, (768, 768)),
        ("a man and a woman, sunset", 2, (1024, 1024)),
        ("three women, garden", 3, (768, 512)),
        ("three people, forest", 3, (512, 512)),
    ],
)
def test_a_detector_finds_every_face(detector, prompt, count, size):
    assert len(detector.detect(paint_scene(prompt, "", 11, *size))) == count


# -- the face pass ----------------------------------------------------------------------------------------------


def test_strength_zero_or_no_mask_changes_nothing(face_mask):
    image = data.astronaut()
    np.testing.assert_array_equal(repaint_face(image, face_mask, "blue eyes", 1, 0.0, ASTRONAUT), image)
    np.testing.assert_array_equal(repaint_face(image, face_mask * 0, "blue eyes", 1, 1.0, ASTRONAUT), image)


@pytest.mark.parametrize("face", [None, ASTRONAUT])
def test_more_strength_changes_more_and_nothing_outside_the_mask(face_mask, face):
    image = data.astronaut()
    inside = face_mask > 200
    changes = []
    for strength in (0.2, 0.5, 1.0):
        painted = repaint_face(image, face_mask, "portrait", 1, strength, face)
        np.testing.assert_array_equal(painted[face_mask == 0], image[face_mask == 0])
        np.testing.assert_array_equal(painted, repaint_face(image, face_mask, "portrait", 1, strength, face))
        changes.append(np.abs(painted.astype(int) - image)[inside].mean())
    assert changes == sorted(changes)
    assert changes[1] > 2
    assert changes[2] < 30  # still the same face in the same light


def test_a_repainted_face_is_still_found_in_its_place(face_mask, detector):
    painted = repaint_face(data.astronaut(), face_mask, "smiling woman, blue eyes", 1, 0.8, ASTRONAUT)
    (face,) = detector.detect(painted)
    assert abs(face.box.center[0] - 224) < 12
    assert abs(face.box.center[1] - 115) < 12


def test_words_steer_eyes_lips_and_cheeks(face_mask):
    def patch(prompt, x, y, radius):
        painted = repaint_face(data.astronaut(), face_mask, prompt, 1, 0.9, ASTRONAUT).astype(float)
        return painted[y - radius : y + radius + 1, x - radius : x + radius + 1].reshape(-1, 3).mean(axis=0)

    def blue(color):
        return color[2] - color[0]

    assert blue(patch("blue eyes", 203, 101, 4)) > blue(patch("portrait", 203, 101, 4)) + 8
    plain, lips = patch("portrait", 222, 150, 3), patch("red lipstick", 222, 150, 3)
    assert lips[0] - lips[1] > plain[0] - plain[1] + 8
    plain, blush = patch("portrait", 196, 125, 4), patch("blush", 196, 125, 4)
    assert blush[0] - blush[1] > plain[0] - plain[1] + 4


@pytest.mark.parametrize("size", [64, 200])
def test_small_pictures_and_masks_at_the_border(size):
    image = data.astronaut()[60 : 60 + size, 160 : 160 + size]
    mask = np.full((size, size), 255, np.uint8)
    points = tuple((x - 160, y - 60) for x, y in ASTRONAUT.landmarks)
    face = Face(Box(19, 2, min(size, 109), min(size, 115)), 0.9, points)
    painted = repaint_face(image, mask, "green eyes, red lipstick, freckles, smiling", 3, 1.0, face)
    assert painted.shape == image.shape
