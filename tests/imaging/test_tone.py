"""Photos whose colour is a function of lightness, and photos with little colour."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from imaging.faces.blend import without_color
from imaging.faces.mask import draw_mask
from imaging.faces.tone import find_tone
from imaging.geometry.boxes import Box, Face
from imaging.geometry.crop import crop, resize
from sketch.paint import paint_scene

PHOTOS = {
    "astronaut": data.astronaut(),
    "head": np.ascontiguousarray(data.astronaut()[:240, 110:340]),
    "chelsea": data.chelsea(),
    "coffee": data.coffee(),
    "large": resize(data.astronaut(), (1600, 1600)),
}
FACE = Box(179, 62, 269, 175)  # of the astronaut
MASK = crop(draw_mask([Face(FACE, 0.9)], (512, 512)), FACE)


def packed(image: np.ndarray, kind: str, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, quality=quality)
    return np.array(Image.open(file).convert("RGB"))


def ramp(*colors: tuple[int, int, int]):
    """A tone from black to white through these colours."""
    levels = np.linspace(0, 255, len(colors))

    def toned(image: np.ndarray) -> np.ndarray:
        grey = without_color(image)[..., 0]
        channels = [np.interp(grey, levels, channel) for channel in zip(*colors, strict=True)]
        return np.rint(np.stack(channels, axis=2)).astype(np.uint8)

    return toned


def sepia(image: np.ndarray) -> np.ndarray:
    """As filters everywhere do it."""
    matrix = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
    return np.clip(image @ matrix.T, 0, 255).astype(np.uint8)


def grainy(image: np.ndarray, deviation: float) -> np.ndarray:
    return np.clip(np.rint(image + np.random.default_rng(0).normal(0, deviation, image.shape)), 0, 255).astype(np.uint8)


def stamped(image: np.ndarray) -> np.ndarray:
    stamped = image.copy()
    height, width = image.shape[:2]
    stamped[height * 93 // 100 : height * 97 // 100, width * 4 // 5 : width * 97 // 100] = (255, 120, 20)
    return stamped


def saturated(image: np.ndarray, share: float) -> np.ndarray:
    grey = without_color(image).astype(float)
    return np.clip(np.rint(grey + (image - grey) * share), 0, 255).astype(np.uint8)


def scaled(image: np.ndarray, factors: object, plus: float = 0) -> np.ndarray:
    return np.clip(image * np.array(factors) + plus, 0, 255).astype(np.uint8)


cyanotype = ramp((5, 20, 45), (40, 90, 140), (235, 240, 235))
selenium = ramp((10, 5, 12), (120, 112, 115), (250, 248, 244))
split = ramp((10, 10, 40), (128, 125, 120), (255, 245, 220))
duotone = ramp((60, 0, 80), (255, 220, 90))

TONED = {
    "grey": without_color,
    "grey WebP": lambda image: packed(without_color(image), "WEBP", 40),
    "grey JPEG": lambda image: packed(without_color(image), "JPEG", 60),
    "grey, noise of 1": lambda image: grainy(without_color(image), 1),
    "grey, noise of 3": lambda image: grainy(without_color(image), 3),
    "grey, stamped": lambda image: stamped(without_color(image)),
    "grey, stamped JPEG": lambda image: packed(stamped(without_color(image)), "JPEG", 80),
    "sepia": sepia,
    "sepia JPEG": lambda image: packed(sepia(image), "JPEG", 75),
    "sepia WebP": lambda image: packed(sepia(image), "WEBP", 60),
    "sepia, noise of 2": lambda image: grainy(sepia(image), 2),
    "sepia, stamped JPEG": lambda image: packed(stamped(sepia(image)), "JPEG", 80),
    "cyanotype": cyanotype,
    "cyanotype JPEG": lambda image: packed(cyanotype(image), "JPEG", 75),
    "selenium WebP": lambda image: packed(selenium(image), "WEBP", 60),
    "split": split,
    "duotone JPEG": lambda image: packed(duotone(image), "JPEG", 75),
}
COLORED = {
    "as it is": lambda image: image,
    "pale": lambda image: saturated(image, 0.3),
    "very pale": lambda image: saturated(image, 0.2),
    "pale JPEG": lambda image: packed(saturated(image, 0.3), "JPEG", 60),
    "pale and warm": lambda image: scaled(saturated(image, 0.3), (1.15, 1, 0.75)),
    "cold": lambda image: scaled(image, (0.8, 0.95, 1.2)),
    "night": lambda image: scaled(image, 0.15),
    "blue night": lambda image: scaled(image, (0.1, 0.12, 0.25)),
    "fog": lambda image: scaled(image, 0.25, 160),
    "pale in fog": lambda image: scaled(saturated(image, 0.5), 0.3, 160),
}


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize("kind", TONED)
def test_a_photo_without_colours_of_its_own_has_a_tone_that_gives_it_back(photo, kind):
    toned = TONED[kind](PHOTOS[photo])
    tone = find_tone(toned)
    assert tone is not None
    off = np.abs(tone.of(toned).astype(int) - toned)
    assert np.median(off) <= 2
    assert off.mean() < 3.5


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize("kind", COLORED)
def test_a_photo_with_little_colour_has_none(photo, kind):
    assert find_tone(COLORED[kind](PHOTOS[photo])) is None


@pytest.mark.parametrize("kind", TONED)
def test_the_tone_holds_in_the_face(kind):
    toned = TONED[kind](data.astronaut())
    assert find_tone(toned).holds_in(crop(toned, FACE), MASK)


def only_the_face(share: float, low: int, high: int) -> np.ndarray:
    """The face in colour, all else black, grey or white: as snow, or a pale person before a wall."""
    photo = data.astronaut()
    mask = np.zeros(photo.shape[:2], np.uint8)
    cv2.ellipse(mask, (224, 118), (40, 52), 0, 0, 360, 255, -1)
    weight = cv2.GaussianBlur(mask, (0, 0), 3)[..., None] / 255
    around = np.clip(without_color(photo).astype(float), low, high)
    return saturated(np.rint(photo * weight + around * (1 - weight)).astype(np.uint8), share)


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize(("low", "high"), [(0, 255), (120, 255), (240, 250), (5, 20)])
def test_a_face_in_colour_keeps_it_though_all_else_is_grey(share, low, high):
    photo = only_the_face(share, low, high)
    tone = find_tone(photo)
    assert tone is None or not tone.holds_in(crop(photo, FACE), MASK)


@pytest.mark.parametrize("words", ["portrait of a woman in snow", "a man in fog, grey sky", "a woman at night"])
@pytest.mark.parametrize("seed", range(3))
def test_painted_pictures_are_in_colour_and_monochrome_ones_are_not(words, seed):
    assert find_tone(paint_scene(words, "", seed, 384, 384)) is None
    assert find_tone(paint_scene(f"monochrome, {words}", "", seed, 384, 384)) is not None


def test_a_grey_photo_stays_grey_to_the_last_bit_and_colours_take_its_tone():
    tone = find_tone(without_color(data.astronaut()))
    assert np.array_equal(tone.of(data.coffee()), without_color(data.coffee()))
    other = cyanotype(data.coffee())
    blue = find_tone(cyanotype(data.astronaut())).of(saturated(other, 0.2))
    assert np.abs(blue.astype(int) - other).mean() < 1.5


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (64, 64)])
def test_pictures_of_any_size_are_looked_at(size):
    flat = np.full((size[1], size[0], 3), (90, 80, 70), np.uint8)
    tone = find_tone(flat)
    assert (tone is None) == (size[0] * size[1] < 16)
    assert tone is None or np.array_equal(tone.of(flat), flat)
