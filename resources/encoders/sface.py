"""Face embeddings with SFace through OpenCV's `FaceRecognizerSF`.

Model: Zhong, Deng, Hu, Zhao, Li and Wen, "SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face
Recognition" (IEEE TIP 30, 2021), Apache-2.0 licence, from opencv_zoo.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.errors import BackendError
from imaging.geometry.boxes import Face
from resources.models.weights import check_known_file

MODEL_SHA256: Final = "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79"  # as opencv_zoo publishes it
MODEL_URL: Final = (
    "https://github.com/opencv/opencv_zoo/raw/main/models/face_recognition_sface/face_recognition_sface_2021dec.onnx"
)
LENGTH: Final = 128


class SFaceEncoder:
    """Brings a face to 112 x 112 pixels by its landmarks, as OpenCV does, and embeds it.

    Args:
        model_path: the `face_recognition_sface_2021dec.onnx` file.

    Raises:
        SettingsError: the file is missing or is another file.
    """

    name = "sface"

    def __init__(self, model_path: Path) -> None:
        check_known_file(model_path, "FC_SFACE_MODEL", MODEL_SHA256, "Run: fc models pull sface --save")
        self._model = cv2.FaceRecognizerSF.create(str(model_path), "")

    def describe(self) -> dict[str, Any]:
        """The model, its hash, and OpenCV's version."""
        return {
            "encoder": self.name,
            "model": "face_recognition_sface_2021dec",
            "model_sha256": MODEL_SHA256,
            "opencv": cv2.__version__,
        }

    def embed(self, image: NDArray[np.uint8], face: Face) -> NDArray[np.float32]:
        """The embedding of a face; see `FaceEncoder.embed`."""
        if face.landmarks is None:
            raise BackendError(
                f"The face at {face.box.as_tuple()} has no landmarks, so who it is cannot be told.",
                "Set FC_DETECTOR=yunet, which finds them; fc models pull yunet --save fetches it.",
            )
        box = face.box
        points = [value for point in face.landmarks for value in point]
        row = np.array([[box.left, box.top, box.width, box.height, *points, face.score]], np.float32)
        try:
            aligned = self._model.alignCrop(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), row)
            vector = np.array(self._model.feature(aligned), np.float32).reshape(-1)  # a copy: OpenCV uses its own again
        except cv2.error as error:
            raise BackendError(
                f"SFace failed on the face at {box.as_tuple()}: {error}.", "Check the OpenCV installation."
            ) from error
        length = float(np.linalg.norm(vector))
        if vector.shape != (LENGTH,) or not np.isfinite(length) or length == 0:
            raise BackendError(
                f"SFace gave no embedding of the face at {box.as_tuple()}: {vector.size} numbers of length {length:g}.",
                "Check the OpenCV installation.",
            )
        return np.asarray(vector / length, dtype=np.float32)
