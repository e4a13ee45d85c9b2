"""A user's mask as a file: what each kind of it means, and what is refused."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from imaging.errors import InvalidImageError
from imaging.files.mask_file import read_mask
from tests.imaging.test_decode import chunk, png

STROKES = cv2.GaussianBlur(cv2.ellipse(np.zeros((80, 96), np.uint8), (40, 40), (20, 28), 0, 0, 360, 255, -1), (0, 0), 2)
HARD = np.where(STROKES > 127, 255, 0).astype(np.uint8)


def png_of(pixels, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def painted(color, alpha=STROKES):
    """Strokes of one colour on a transparent layer, the colour under the transparent parts too."""
    return np.dstack([np.full((*alpha.shape, 3), color, np.uint8), alpha])


def sixteen_bits(values, extra=b""):
    rows = [row.astype(">u2").tobytes() for row in values]
    return png(values.shape[1], values.shape[0], 16, 0, rows, extra)


HOLE = np.dstack([np.random.default_rng(1).integers(0, 256, (80, 96, 3), np.uint8), 255 - HARD])
PALETTE = Image.fromarray(np.where(HARD > 0, 1, 0).astype(np.uint8), "P")
PALETTE.putpalette([0, 0, 0, 255, 255, 255])
OPACITIES = Image.fromarray(STROKES, "P")
OPACITIES.putpalette([255] * 768)
GREYS = Image.fromarray(STROKES)
BLACK_UNDER = np.dstack([np.repeat(np.where(STROKES > 0, 255, 0).astype(np.uint8)[..., None], 3, axis=2), STROKES])

GOOD = {
    "grey": (png_of(STROKES), STROKES),
    "RGB": (png_of(np.repeat(STROKES[..., None], 3, axis=2)), STROKES),
    "opaque RGBA": (png_of(np.dstack([STROKES] * 3 + [np.full_like(STROKES, 255)])), STROKES),
    "one bit": (png_of(Image.fromarray(HARD > 0)), HARD),
    "palette": (png_of(PALETTE), HARD),
    "palette, black is transparent": (png_of(PALETTE, transparency=0), HARD),
    "palette of opacities": (png_of(OPACITIES, transparency=bytes(range(256))), STROKES),
    "grey, black is transparent": (png_of(GREYS, transparency=0), STROKES),
    "sixteen bits": (sixteen_bits(STROKES.astype(np.uint16) * 257), STROKES),
    "sixteen bits with gamma": (
        sixteen_bits(STROKES.astype(np.uint16) * 257, chunk(b"gAMA", (100_000).to_bytes(4))), STROKES,
    ),
    "white on transparent": (png_of(painted(255)), STROKES),
    "white on transparent black": (png_of(BLACK_UNDER), STROKES),
    "premultiplied": (png_of(np.dstack([STROKES] * 4)), STROKES),
    "grey and alpha": (png_of(Image.merge("LA", [Image.new("L", GREYS.size, 255), GREYS])), STROKES),
    "red on transparent": (png_of(painted((255, 0, 40))), STROKES),
}  # fmt: skip


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_painted_is_the_mask(kind):
    data, expected = GOOD[kind]
    mask, notes = read_mask(data, name="m.png")
    assert (mask.dtype, mask.shape) == (np.uint8, expected.shape)
    assert np.array_equal(mask, expected)
    assert all("transparen" in note for note in notes)


def test_a_lossy_mask_is_grey_all_the_same():
    for kind in ("WEBP", "JPEG"):
        buffer = io.BytesIO()
        Image.fromarray(np.repeat(STROKES[..., None], 3, axis=2)).save(buffer, kind, quality=80)
        mask, _ = read_mask(buffer.getvalue(), name="m")
        assert np.abs(mask.astype(int) - STROKES).mean() < 2


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (png_of(np.zeros((80, 96), np.uint8)), "all black"),
        (png_of(HOLE[..., :3]), "has colours"),
        (png_of(HOLE), r"m\.png has transparent parts, and several colours beside them"),
        (png_of(painted(0)), "painted in black on a transparent layer"),
        (png_of(painted(255, np.zeros_like(STROKES))), "nothing is painted"),
        (png_of(painted(255, np.full_like(STROKES, 90))), "equally transparent all over"),
        (png_of(np.dstack([HARD, HARD, HARD, np.where(np.arange(96) < 20, 0, 255) + 0 * HARD]).astype(np.uint8)),
         "several colours"),
    ],
)  # fmt: skip
def test_what_could_mean_two_things_or_nothing_is_refused(data, said):
    with pytest.raises(InvalidImageError, match=said) as caught:
        read_mask(data, name="m.png")
    assert caught.value.hint


def test_a_mask_that_may_be_the_wrong_way_round_says_so():
    assert any("wrong way round" in note for note in read_mask(png_of(255 - STROKES), name="m")[1])
    assert read_mask(png_of(STROKES), name="m")[1] == ()
    assert any("all white" in note for note in read_mask(png_of(np.full_like(STROKES, 255)), name="m")[1])
