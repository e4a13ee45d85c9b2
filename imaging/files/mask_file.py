"""A mask that a person painted: a picture file in, how far each pixel is made anew out."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.errors import InvalidImageError
from imaging.files.decode import decode_image

_GREY: Final = 8  # levels between channels: what lossy formats leave of a grey picture
_ONE_INK: Final = 16  # levels within which the colours of strokes are one colour
_BLACK: Final = 64  # the brightest channel of an ink that looks black
_OPAQUE: Final = 250  # opacity that no eye tells from all of it
_SOLID: Final = 128  # opacity from which the colour of a stroke counts; the rim of a soft one has any
_PLAIN: Final = "Save it as greyscale without transparency: white is made anew, black is kept."


def read_mask(data: bytes, *, name: str) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Read a mask: a grey picture, or strokes of one colour on a transparent layer.

    Numbers count as they are, whatever the file says of its colour space. Where parts are transparent, the opacity is
    the mask, as A1111 takes it, if the colours do not say otherwise.

    Args:
        data: a file of a format that `decode_image` reads.
        name: what the errors call the file.

    Returns:
        uint8 of shape (height, width), 255 where the picture is made anew; and one sentence for everything assumed.

    Raises:
        InvalidImageError: not readable, coloured, black, or of transparency that can mean two things.
    """
    image = decode_image(data, name=name, colors=False)
    if image.rgba is None or image.rgba[..., 3].min() >= _OPAQUE:
        mask = _grey(image.pixels if image.rgba is None else image.rgba[..., :3])
        if mask is None:
            raise InvalidImageError(f"{name} has colours.", _PLAIN)
        notes = []
    else:
        mask = _opacity(image.rgba, name)
        notes = ["Its transparency is the mask: what is painted is made anew."]
    if not mask.any():
        raise InvalidImageError(f"{name} is all black, so nothing would be made anew.", "Paint the faces white.")
    share = float(np.count_nonzero(mask >= _SOLID)) / mask.size
    if mask.min() >= _OPAQUE:
        notes.append("It is all white: the whole square around each face is made anew.")
    elif share > 0.5:
        notes.append(f"It makes {share:.0%} of the picture anew; if it is the wrong way round, invert it.")
    return mask, tuple(notes)


def _grey(colors: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The brightness of colours of shape (height, width, 3); None when they are no greys."""
    if int(np.max(colors.max(axis=2) - colors.min(axis=2))) > _GREY:
        return None
    return cv2.cvtColor(np.ascontiguousarray(colors), cv2.COLOR_RGB2GRAY).astype(np.uint8)


def _opacity(rgba: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """The mask that RGBA of shape (height, width, 4) means."""
    colors, alpha = rgba[..., :3], np.ascontiguousarray(rgba[..., 3])
    if not alpha.any():
        raise InvalidImageError(f"{name} is transparent all over: nothing is painted.", "Paint the faces white.")
    if alpha.min() == alpha.max():
        raise InvalidImageError(f"{name} is equally transparent all over.", _PLAIN)
    if np.array_equal(colors, np.repeat(alpha[..., None], 3, axis=2)):  # white, weighted by its opacity
        return alpha
    inks = colors[alpha >= min(_SOLID, int(alpha.max()))]
    if int(np.ptp(inks, axis=0).max()) <= _ONE_INK:
        if inks.max() <= _BLACK:
            raise InvalidImageError(
                f"{name} is painted in black on a transparent layer: black is kept, but paint is made anew.", _PLAIN
            )
        return alpha
    grey = _grey(colors)
    if grey is not None and np.array_equal(np.where(grey > 0, 255, 0), alpha):  # black alone is marked as transparent
        return grey
    raise InvalidImageError(
        f"{name} has transparent parts, and several colours beside them: which of them is the mask cannot be told.",
        f"{_PLAIN} Or paint in one colour on a transparent layer.",
    )
