"""Where the irises of a face are, by the eye cascade that OpenCV 4 ships; good to a tenth of a degree of roll."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.errors import BackendError

EYES_FILE: Final = "haarcascade_eye.xml"
WIDTH: Final = 160  # pixels of the part of a face that is looked at; its eyes are 45 to 100 apart, one on each side

# Step between the sizes looked for, neighbours, least and largest size in pixels: where the eyes may be of any
# size in a box, and where the distance between them is known, which takes half the time.
ANY: Final = (1.08, 4, 24, 64)
KNOWN: Final = (1.15, 3, 28, 52)

Irises = tuple[tuple[float, float], tuple[float, float]]


def find_irises(
    cascade: cv2.CascadeClassifier, grey: NDArray[Any], how: tuple[float, int, int, int] = ANY
) -> Irises | None:
    """The irises in the upper part of an upright face, the viewer's left one first.

    Args:
        cascade: the eye cascade.
        grey: uint8 of shape (height, 160).
        how: `ANY` or `KNOWN`.

    Returns:
        Their (x, y) in pixels; None unless just two eyes are seen, one on each side, level within 17 degrees.
    """
    step, neighbours, least, most = how
    found = cascade.detectMultiScale(
        grey, scaleFactor=step, minNeighbors=neighbours, minSize=(least, least), maxSize=(most, most)
    )
    eyes = sorted(_iris(grey, x, y, w, h) for x, y, w, h in np.asarray(found).tolist())
    if len(eyes) != 2:
        return None
    (left_x, left_y), (right_x, right_y) = eyes
    apart = right_x - left_x
    if not (left_x < WIDTH / 2 < right_x and 45 <= apart <= 100 and abs(right_y - left_y) < 0.3 * apart):
        return None
    return eyes[0], eyes[1]


def _iris(grey: NDArray[Any], left: int, top: int, width: int, height: int) -> tuple[float, float]:
    """The middle of the darkest spot inside the box of an eye, as large as an iris: the cascade's box is rough.

    The spot is looked for in the middle half of the box, so the brow is left out.
    """
    smooth = cv2.GaussianBlur(grey, (0, 0), width / 12)
    across, down = left + width // 4, top + height * 3 // 8
    part = smooth[down : top + height * 3 // 4, across : left + width * 3 // 4].astype(np.float64)
    weight = np.clip(np.quantile(part, 0.15) - part, 0, None)
    if not weight.any():
        return (left + width / 2, top + height / 2)
    rows, columns = np.indices(part.shape) + 0.5
    return (
        across + float((columns * weight).sum() / weight.sum()),
        down + float((rows * weight).sum() / weight.sum()),
    )


def load_cascade(file: str) -> cv2.CascadeClassifier:
    """One of the cascades that OpenCV ships.

    Raises:
        BackendError: this OpenCV ships none (version 5 does not).
    """
    # The folder's own constant, cv2.data.haarcascades, ends in a separator.
    path = Path(getattr(cv2, "data").haarcascades) / file  # noqa: B009 - cv2's stubs do not know `data`
    cascade = cv2.CascadeClassifier(str(path)) if path.is_file() else None
    if cascade is None or cascade.empty():
        raise BackendError(
            f"OpenCV {cv2.__version__} does not ship the cascade {file}.",
            "Install opencv-python-headless 4.12 or newer, below 5.",
        )
    return cascade
