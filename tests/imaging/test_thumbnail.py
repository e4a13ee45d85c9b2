"""Previews: never larger than allowed, and Markdown that a name cannot break."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.data import astronaut

from imaging.files.thumbnail import thumbnail_markdown, thumbnail_webp

NOISE = np.random.default_rng(3).integers(0, 256, (600, 900, 3), dtype=np.uint8)


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_fits_the_longest_side():
    assert opened(thumbnail_webp(np.full((512, 1024, 3), 90, np.uint8))).size == (192, 96)
    assert opened(thumbnail_webp(np.full((1024, 512, 3), 90, np.uint8))).size == (96, 192)


def test_small_images_are_not_enlarged():
    assert opened(thumbnail_webp(np.full((20, 10, 3), 90, np.uint8))).size == (10, 20)


def test_extreme_shapes_keep_at_least_one_pixel():
    assert opened(thumbnail_webp(np.full((2, 4000, 3), 90, np.uint8))).size == (192, 1)


def test_colours_survive():
    image = opened(thumbnail_webp(np.full((300, 300, 3), (200, 60, 20), np.uint8)))
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - (200, 60, 20)).max() <= 6


def test_masks():
    mask = np.zeros((300, 300), np.uint8)
    mask[:, 150:] = 255
    image = np.asarray(opened(thumbnail_webp(mask)).convert("L"))
    assert image[:, :90].max() < 10
    assert image[:, 102:].min() > 245


def test_quality_goes_before_size():
    free, tight = thumbnail_webp(NOISE, limit=100_000), thumbnail_webp(NOISE, limit=6000)
    assert len(tight) <= 6000 < len(free)
    assert opened(tight).size == opened(free).size


@settings(max_examples=25, deadline=None)
@given(st.integers(150, 4000), st.integers(1, 192))
def test_never_over_the_limit(limit, longest):
    data = thumbnail_webp(NOISE, longest=longest, limit=limit)
    assert len(data) <= limit
    assert max(opened(data).size) <= longest


def test_impossible_limit():
    with pytest.raises(ValueError, match="20 bytes"):
        thumbnail_webp(NOISE, limit=20)


def test_markdown():
    text = thumbnail_markdown(NOISE, "mask of [job]\n\\1")
    assert text.startswith(r"![mask of \[job\] \\1](data:image/webp;base64,")
    assert text.endswith(")")
    data = base64.b64decode(text.rpartition(",")[2][:-1], validate=True)
    assert max(opened(data).size) <= 80


@pytest.mark.parametrize("alt", ["a", "changed_face of " + "j" * 63])
@pytest.mark.parametrize(
    "pixels", [NOISE, astronaut(), np.full((64, 4000, 3), 90, np.uint8)], ids=["noise", "photo", "row"]
)
def test_markdown_is_short_enough_to_be_shown_where_it_stands(pixels, alt):
    text = thumbnail_markdown(pixels, alt)
    assert len(text) < 1000
    opened(base64.b64decode(text.rpartition(",")[2][:-1], validate=True))
