"""What every face encoder promises."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imaging.geometry.boxes import Face


class FaceEncoder(Protocol):
    """A back end that says who a face is, as numbers."""

    name: str

    def describe(self) -> dict[str, Any]:
        """Everything that decides the result besides image and face: model, its SHA-256. JSON values."""
        ...

    def embed(self, image: NDArray[np.uint8], face: Face) -> NDArray[np.float32]:
        """The embedding of a face: float32 of shape (128,) and length 1; faces of one person lie near each other.

        Args:
            image: RGB uint8 of shape (height, width, 3), the whole picture.
            face: a face of that picture, with its five landmarks.

        Raises:
            BackendError: the face has no landmarks, or the encoder fails.
        """
        ...
