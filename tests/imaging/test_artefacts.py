"""Estimates of blocks and noise."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from imaging.quality.artefacts import blockiness, noise

PHOTOS = [data.astronaut, data.coffee, data.chelsea]


def grey(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def as_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("photo", PHOTOS)
def test_blocks_are_seen_in_jpegs_and_not_in_photos(photo):
    clean = blockiness(grey(photo()))
    steps = [blockiness(grey(as_jpeg(photo(), quality))) for quality in (75, 50, 20, 10, 5)]
    assert clean < 0.05
    assert [clean, *steps] == sorted([clean, *steps])
    assert steps[2] > 0.6
    assert steps[4] > 1.5


def test_the_grid_is_found_wherever_the_picture_was_cropped():
    jpeg = grey(as_jpeg(data.astronaut(), 10))
    values = [blockiness(jpeg[top:, left:]) for top, left in ((0, 0), (1, 0), (3, 5), (7, 7))]
    assert max(values) - min(values) < 0.05


def test_blocks_of_even_brightness_by_hand():
    blocks = np.kron(np.random.default_rng(0).integers(0, 256, (12, 12)), np.ones((8, 8))).astype(np.uint8)
    assert blockiness(blocks) > 5
    assert blockiness(np.kron(blocks[::8, ::8], np.ones((7, 7))).astype(np.uint8)) < 0.5  # not a grid of 8


def test_one_drawn_edge_on_the_grid_is_no_block():
    edge = np.zeros((128, 128), np.uint8)
    edge[64:], edge[:, 64:] = 200, 255
    assert blockiness(edge) == 0.0


@pytest.mark.parametrize("deviation", [4, 8, 16])
def test_noise_is_its_deviation_where_nothing_else_is(deviation):
    ramp = np.tile(np.linspace(60, 190, 256), (256, 1))
    noisy = ramp + np.random.default_rng(5).normal(0, deviation, ramp.shape)
    assert noise(np.rint(noisy).astype(np.uint8)) == pytest.approx(deviation, rel=0.08)


@pytest.mark.parametrize("photo", PHOTOS)
def test_a_photo_has_little_noise_and_what_is_added_is_seen(photo):
    clean = grey(photo())
    assert noise(clean) < 2.5
    added = np.clip(clean + np.random.default_rng(5).normal(0, 10, clean.shape), 0, 255).astype(np.uint8)
    assert noise(added) == pytest.approx(10, abs=2)


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (23, 500), (500, 23)])
def test_the_smallest_images_have_neither(shape):
    flat = np.full(shape, 77, np.uint8)
    assert blockiness(flat) == 0.0
    assert noise(flat) == 0.0
