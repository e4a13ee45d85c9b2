"""What every face detector promises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imaging.geometry.boxes import Face


class Detector(Protocol):
    """A back end that finds faces."""

    name: str

    def describe(self) -> dict[str, Any]:
        """Everything that decides the result besides the image: model, its SHA-256, thresholds. JSON values."""
        ...

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """Find the faces in an RGB uint8 image of shape (height, width, 3), largest first.

        Returns an empty list when there is none. Boxes lie inside the image. Faces under `FC_DETECTOR_CONFIDENCE` may
        be among them, so that a person sees what was nearly found: `imaging.faces.selection` drops them.

        Raises:
            BackendError: when the detector itself fails; never for an image without faces.
        """
        ...


def sure_faces(detector: Detector, image: NDArray[np.uint8], confidence: float) -> list[Face]:
    """The faces of an image that have at least this score, largest first; a detector may give candidates under it."""
    return [face for face in detector.detect(image) if face.score >= confidence]


def largest_first(faces: Iterable[Face]) -> list[Face]:
    """Faces by area, largest first; equal areas from left to right, then top to bottom."""
    return sorted(faces, key=lambda face: (-face.box.area, face.box.left, face.box.top))
