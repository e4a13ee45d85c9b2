"""Face detection with YuNet through OpenCV's `FaceDetectorYN`.

Model: Wu, Peng and Yu, "YuNet: A Tiny
Millisecond-level Face Detector" (2023), MIT licence, from opencv_zoo.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.errors import BackendError
from imaging.faces.search import Search, Sighting, Turned, search
from imaging.faces.second_look import second_look
from imaging.geometry.boxes import Face
from resources.detectors.base import largest_first
from resources.detectors.eyes import EYES_FILE, KNOWN, Irises, find_irises, load_cascade
from resources.models.weights import check_known_file

MODEL_SHA256: Final = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
MODEL_URL: Final = (
    "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx"
)
TURNED: Final = Turned(320, (90, 180, 270))  # a face that lies between two of them is seen in both
NMS_THRESHOLD: Final = 0.3  # inside the model
CANDIDATES: Final = 5000


def how_to_search(confidence: float, candidates: float) -> Search:
    """The sizes that suit YuNet, which knows faces of 10 to 300 pixels; close-ups are larger."""
    return Search(
        long_sides=(640, 320),
        large_from=1024,
        large_to=2048,
        confidence=confidence,
        candidates=candidates,
        sure=0.88,
        tile=640,
        overlap=96,
        enlarge=2.0,
        tile_confidence=0.8,
    )


class YuNetDetector:
    """Finds faces of any size and turn.

    Args:
        model_path: the `face_detection_yunet_2023mar.onnx` file.
        confidence: from this score on, 0 to 1, a face counts as found.
        candidates: faces under that are returned from this score on; None: none are.

    Raises:
        SettingsError: the file is missing or is another file.
    """

    name = "yunet"

    def __init__(self, model_path: Path, confidence: float = 0.6, candidates: float | None = None) -> None:
        hint = "Run: fc models pull yunet --save. It fetches face_detection_yunet_2023mar.onnx."
        check_known_file(model_path, "FC_YUNET_MODEL", MODEL_SHA256, hint)
        self._how = how_to_search(confidence, confidence if candidates is None else candidates)
        self._eyes = load_cascade(EYES_FILE)
        self._model = cv2.FaceDetectorYN.create(
            str(model_path), "", (640, 640), self._how.candidates, NMS_THRESHOLD, CANDIDATES
        )

    def describe(self) -> dict[str, Any]:
        """The model, its hash, and how it searches."""
        return {
            "detector": self.name,
            "model": "face_detection_yunet_2023mar",
            "model_sha256": MODEL_SHA256,
            "search": asdict(self._how),
            "opencv": cv2.__version__,
        }

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """Find the faces in an RGB image; see `Detector.detect`."""
        faces = search(image, self.look, self._how, turned=TURNED)
        return largest_first(
            second_look(image, face, self.look, self.irises) if face.score >= self._how.confidence else face
            for face in faces
        )

    def irises(self, grey: NDArray[np.uint8]) -> Irises | None:
        """Where the irises are in an upright grey cut of the eyes; see `imaging.faces.second_look`."""
        return find_irises(self._eyes, grey, KNOWN)

    def look(self, image: NDArray[np.uint8]) -> Iterator[Sighting]:
        """What the model sees in an RGB image. It names the landmarks in `Face`'s order."""
        for row in self._rows(cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
            x, y, width, height, *points = row[:14].tolist()
            landmarks = tuple(zip(points[::2], points[1::2], strict=True))
            yield Sighting((x, y, x + width, y + height), float(row[14]), landmarks)

    def _rows(self, bgr: NDArray[Any]) -> NDArray[np.float64]:
        """OpenCV's rows: x, y, width, height, ten landmark coordinates, score.

        OpenCV pads to multiples of 32 itself; but where that makes a side of only 32, its answer is now and then
        made of uninitialised memory (seen in 4.14), so the padding is done here, to 64 at least.
        """
        right, below = (max(64, -(-side // 32) * 32) - side for side in (bgr.shape[1], bgr.shape[0]))
        bgr = cv2.copyMakeBorder(bgr, 0, below, 0, right, cv2.BORDER_CONSTANT)
        try:
            self._model.setInputSize((bgr.shape[1], bgr.shape[0]))
            rows = self._model.detect(bgr)[1]
        except cv2.error as error:
            raise BackendError(
                f"YuNet failed on an image of {bgr.shape[1]}x{bgr.shape[0]} pixels: {error}.",
                "Check the OpenCV installation, or set FC_DETECTOR=haar.",
            ) from error
        return np.zeros((0, 15)) if rows is None else np.asarray(rows, np.float64)
