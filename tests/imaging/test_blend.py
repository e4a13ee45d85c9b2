"""Putting a face back: nothing changes outside the mask, and no cast is left inside."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage import data

from imaging.faces.blend import edge_ring, match_ring_color, merge_into, without_color
from imaging.faces.mask import draw_mask, part_of_face
from imaging.geometry.boxes import Box, Face
from imaging.geometry.crop import crop, portrait_box

FACE = Face(Box(179, 62, 269, 175), 0.9)  # of skimage's astronaut


def random_image(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def merge(original: np.ndarray, patch: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy of the original with the patch blended over all of it."""
    merged = original.copy()
    merge_into(merged, patch, mask, Box(0, 0, original.shape[1], original.shape[0]))
    return merged


def lightness(image: np.ndarray) -> np.ndarray:
    """L* of CIELAB, 0 to 100."""
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[:, :, 0]


@pytest.fixture(scope="module")
def portrait() -> tuple[np.ndarray, np.ndarray]:
    """The astronaut's portrait and the mask of her face, of the crop's size."""
    image = data.astronaut()
    box = portrait_box(FACE.box, (512, 512), 0.6)
    return crop(image, box), crop(draw_mask([FACE], (512, 512)), box)


def test_merge_by_hand():
    original = np.full((10, 10, 3), 10, np.uint8)
    patch = np.full((10, 10, 3), 210, np.uint8)
    mask = np.zeros((10, 10), np.uint8)
    mask[4:7, 4:7] = 51  # a fifth
    mask[5, 5] = 255
    mask[0, 0] = 52  # 10 + 200 * 52 / 255 = 50.78
    expected = np.full((10, 10), 10)
    expected[4:7, 4:7] = 50
    expected[0, 0] = 51
    expected[5, 5] = 210
    assert np.array_equal(merge(original, patch, mask), np.repeat(expected[:, :, None], 3, axis=2))


@given(
    arrays(np.uint8, (7, 5, 3)),
    arrays(np.uint8, (7, 5, 3)),
    arrays(np.uint8, (7, 5), elements=st.sampled_from([0, 0, 1, 127, 254, 255])),
)
def test_merge_keeps_the_outside_takes_the_inside_and_lies_between_elsewhere(original, patch, mask):
    merged = merge(original, patch, mask)
    assert merged.dtype == np.uint8
    assert np.array_equal(merged[mask == 0], original[mask == 0])
    assert np.array_equal(merged[mask == 255], patch[mask == 255])
    assert (merged >= np.minimum(original, patch)).all()
    assert (merged <= np.maximum(original, patch)).all()
    assert np.array_equal(merge(original, original, mask), original)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (101, 67), (200, 200)])
@pytest.mark.parametrize("place", ["corner", "edge", "middle", "beyond"])
def test_faces_at_borders_change_nothing_outside_their_masks(height, width, place):
    left, top = {
        "corner": (0, 0),
        "edge": (width - 30, height // 3),
        "middle": (width // 3, height // 3),
        "beyond": (width - 15, height - 20),  # half of the face is missing
    }[place]
    faces = [Face(Box(left, top, left + 30, top + 36), 0.9), Face(Box(left - 12, top, left + 10, top + 30), 0.8)]
    image = random_image(1, height, width)
    before = image.copy()
    mask = draw_mask(faces, (height, width))
    for number, face in enumerate(faces):
        box = portrait_box(face.box, (width, height), 0.4)
        patch = random_image(2 + number, box.height, box.width)
        own = part_of_face(mask, faces, number, box)
        merge_into(image, match_ring_color(patch, crop(before, box), own), own, box)
    assert image[mask == 0].tobytes() == before[mask == 0].tobytes()
    assert (image != before).any()


@given(st.integers(0, 50), st.integers(4, 40), st.integers(4, 40), st.booleans())
def test_an_identical_patch_gives_the_identical_image(seed, height, width, soft):
    image = random_image(seed, height, width)
    mask = random_image(seed + 100, height, width)[:, :, 0] if soft else np.full((height, width), 255, np.uint8)
    patch = match_ring_color(image, image, mask)
    assert np.array_equal(patch, image)
    assert np.array_equal(merge(image, patch, mask), image)


def test_every_color_cast_of_up_to_twelve_levels_is_taken_away(portrait):
    """Levels by which the inside differs from the photo: 6 to 12 before; after it 0.2 on average, 0.5 at worst."""
    photo, mask = portrait
    inside = mask == 255
    before, after = [], []
    for cast in itertools.product((-12, 0, 12), repeat=3):
        if any(cast):
            patch = np.clip(photo.astype(int) + cast, 0, 255).astype(np.uint8)
            merged = merge(photo, match_ring_color(patch, photo, mask), mask)
            before.append(np.abs(patch[inside].astype(int) - photo[inside]).mean())
            after.append(np.abs(merged[inside].astype(int) - photo[inside]).mean())
    assert np.mean(before) > 7
    assert np.mean(after) < 0.2
    assert max(after) < 0.5


@pytest.mark.parametrize("factors", [(0.93, 1, 1), (1, 1.07, 1), (1.06, 1, 0.94), (0.93, 0.93, 0.93)])
def test_a_gain_is_taken_away(portrait, factors):
    photo, mask = portrait
    patch = np.clip(np.rint(photo * np.array(factors)), 0, 255).astype(np.uint8)
    inside = mask == 255
    merged = merge(photo, match_ring_color(patch, photo, mask), mask)
    assert np.abs(patch[inside].astype(int) - photo[inside]).mean() > 2
    assert np.abs(merged[inside].astype(int) - photo[inside]).mean() < 0.3


@pytest.mark.parametrize(("down", "across"), [(0, 16), (12, 0), (-8, 10)])
def test_light_from_another_side_is_taken_away(portrait, down, across):
    """Levels over the whole side of the portrait, darker at the one end and lighter at the other."""
    photo, mask = portrait
    height, width = mask.shape
    slope = np.linspace(-0.5, 0.5, height)[:, None] * down + np.linspace(-0.5, 0.5, width) * across
    patch = np.clip(np.rint(photo + slope[..., None]), 0, 255).astype(np.uint8)
    inside = mask == 255
    merged = merge(photo, match_ring_color(patch, photo, mask), mask)
    assert np.abs(patch[inside].astype(int) - photo[inside]).mean() > 0.8
    assert np.abs(merged[inside].astype(int) - photo[inside]).mean() < 0.4


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_a_smoother_patch_is_not_given_more_contrast(portrait, sigma):
    """A blurred face has less deviation on the ring; to stretch it would shift the colours in its middle."""
    photo, mask = portrait
    patch = cv2.GaussianBlur(photo, (0, 0), sigma)
    difference = match_ring_color(patch, photo, mask).astype(float) - photo
    assert np.abs(difference[mask == 255].mean(axis=0)).max() < 1


@pytest.mark.parametrize("cast", [(12, -12, 12), (-12, 0, 5)])
def test_a_hard_mask_has_its_colors_matched_too(portrait, cast):
    photo, soft = portrait
    mask = np.where(soft > 0, 255, 0).astype(np.uint8)
    patch = np.clip(photo + np.array(cast), 0, 255).astype(np.uint8)
    merged = merge(photo, match_ring_color(patch, photo, mask), mask)
    assert np.abs(merged[mask > 0].astype(int) - photo[mask > 0]).mean() < 0.5


def test_the_ring_by_hand():
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:] = 255  # a hard edge on three sides; the picture's border is none
    ring = edge_ring(mask)
    assert not ring[mask == 0].any()
    assert ring[20].tolist() == [False] * 10 + [True] * 6 + [False] * 24
    assert ring[:, 35].tolist() == [False] * 10 + [True] * 6 + [False] * 8 + [True] * 6 + [False] * 10
    mask[20, 30] = 254
    assert edge_ring(mask)[20, 30]


def test_a_grey_picture_stays_as_it_is_without_colour():
    grey = np.repeat(random_image(3, 8, 9)[..., :1], 3, axis=2)
    assert np.array_equal(without_color(grey), grey)
    assert without_color(np.full((1, 1, 3), (255, 0, 0), np.uint8)).tolist() == [[[76, 76, 76]]]  # 0.299 of 255


def test_a_patch_of_many_rows_is_blended_in_every_strip():
    original, patch = random_image(4, 300, 5), random_image(5, 300, 5)
    mask = random_image(6, 300, 5)[..., 0]
    alpha = mask[..., None] / 255
    expected = np.rint(original + (patch.astype(float) - original) * alpha)
    assert np.abs(merge(original, patch, mask) - expected).max() <= 1e-3


@pytest.mark.parametrize(("factor", "expected"), [(0.9, 1.0), (0.4, 0.4 * 1.25)])
def test_a_flat_patch_takes_the_contrast_of_its_surroundings_within_the_limit(portrait, factor, expected):
    photo, mask = portrait
    ring = (mask > 0) & (mask < 255)
    mean = photo[ring].mean(axis=0)
    patch = np.clip(np.rint((photo - mean) * factor + mean), 0, 255).astype(np.uint8)
    matched = match_ring_color(patch, photo, mask)
    assert lightness(matched)[ring].std() / lightness(photo)[ring].std() == pytest.approx(expected, abs=0.01)


def test_a_difference_that_is_meant_stays(portrait):
    """Black on white: the levels move by 40 and no further."""
    photo, mask = portrait
    black, white = np.zeros_like(photo), np.full_like(photo, 255)
    matched = match_ring_color(black, white, mask)
    assert (matched == 40).all()


def test_only_the_ring_decides(portrait):
    """A new expression in the middle of the face does not move the colours at its edge."""
    photo, mask = portrait
    patch = np.clip(photo + np.array([9, -4, 3]), 0, 255).astype(np.uint8)
    other = patch.copy()
    other[mask == 255] = 255 - other[mask == 255]
    one, two = match_ring_color(patch, photo, mask), match_ring_color(other, photo, mask)
    assert np.array_equal(one[mask < 255], two[mask < 255])


@pytest.mark.parametrize("level", [0, 255])
def test_without_a_ring_the_patch_is_left_as_it_is(level):
    patch, target = random_image(1, 9, 9), random_image(2, 9, 9)
    assert np.array_equal(match_ring_color(patch, target, np.full((9, 9), level, np.uint8)), patch)


def test_what_does_not_fit_is_refused_by_name():
    image, mask = random_image(1, 6, 8), np.zeros((6, 8), np.uint8)
    wrong = [
        (image.astype(np.float32), mask, "must be uint8; got float32"),
        (image[:, :7], mask, r"\(6, 7, 3\)"),
        (image[:, :, 0], mask, r"\(6, 8\)"),
        (image, mask[:5], r"\(5, 8\)"),
        (image, mask > 0, "bool"),
    ]
    for patch, drawn, said in wrong:
        with pytest.raises(ValueError, match=said):
            merge(image, patch, drawn)
        with pytest.raises(ValueError, match=said):
            match_ring_color(patch, image, drawn)


@pytest.mark.parametrize("box", [Box(-8, 0, -3, 5), Box(5, -1, 10, 4), Box(17, 0, 22, 5), Box(0, 17, 5, 22)])
def test_a_box_outside_the_image_is_refused(box):
    with pytest.raises(ValueError, match="reaches out of an image of 20x20"):
        merge_into(random_image(1, 20, 20), random_image(2, 5, 5), np.full((5, 5), 255, np.uint8), box)
