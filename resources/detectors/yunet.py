"""Face detection with YuNet through OpenCV's `FaceDetectorYN`.

Belongs here: the model file and its check, the sizes and turns at which it looks. Does not: what is done
with the faces. Model: Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector" (2023), MIT licence,
from opencv_zoo.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.boxes import Box, Face
from imaging.errors import BackendError
from imaging.nms import nms
from resources.detectors.base import largest_first
from resources.weights import check_known_file

MODEL_SHA256: Final = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
MODEL_URL: Final = (
    "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx"
)
LONG_SIDES: Final = (640, 320)  # the model knows faces of 10 to 300 pixels; close-ups are larger
OVERLAP: Final = 0.35
# A face on its side is often found upright as well, weakly and with wrong landmarks; and three more looks
# bring three times the chance hits. So the turns are tried unless an upright face is sure, and only sure
# hits of theirs count.
SURE: Final = 0.85
NMS_THRESHOLD: Final = 0.3  # inside the model
CANDIDATES: Final = 5000


class YuNetDetector:
    """Finds faces at several sizes, and turned by 90, 180 and 270 degrees when none is surely upright.

    Args:
        model_path: the `face_detection_yunet_2023mar.onnx` file.
        confidence: faces under this score, 0 to 1, are dropped.

    Raises:
        SettingsError: the file is missing or is another file.
    """

    name = "yunet"

    def __init__(self, model_path: Path, confidence: float = 0.6) -> None:
        mend = "Run: fc models pull yunet --save. It fetches face_detection_yunet_2023mar.onnx."
        check_known_file(model_path, "FC_YUNET_MODEL", MODEL_SHA256, mend)
        self._confidence = confidence
        self._model = cv2.FaceDetectorYN.create(
            str(model_path), "", LONG_SIDES[:1] * 2, confidence, NMS_THRESHOLD, CANDIDATES
        )

    def describe(self) -> dict[str, Any]:
        """The model, its hash, and every threshold."""
        return {
            "detector": self.name,
            "model": "face_detection_yunet_2023mar",
            "model_sha256": MODEL_SHA256,
            "confidence": self._confidence,
            "long_sides": list(LONG_SIDES),
            "overlap": OVERLAP,
            "sure": SURE,
            "opencv": cv2.__version__,
        }

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """Find the faces in an RGB image; see `Detector.detect`."""
        faces = self._look(image, 0)
        if not any(face.score >= SURE for face in faces):
            turned = [face for turns in (1, 2, 3) for face in self._look(image, turns)]
            faces += [face for face in turned if face.score >= SURE]
        return largest_first(nms(faces, OVERLAP))

    def _look(self, image: NDArray[np.uint8], quarter_turns: int) -> list[Face]:
        """The faces of the image turned counter-clockwise by so many quarters, in its own coordinates."""
        height, width = image.shape[:2]
        long_side = max(height, width)
        turned = cv2.cvtColor(np.ascontiguousarray(np.rot90(image, quarter_turns)), cv2.COLOR_RGB2BGR)
        sides = [side for side in LONG_SIDES if side < long_side] or [long_side]
        faces = []
        for side in sides:
            scale = side / long_side
            size = (max(1, round(turned.shape[1] * scale)), max(1, round(turned.shape[0] * scale)))
            for row in self._rows(
                turned if side == long_side else cv2.resize(turned, size, interpolation=cv2.INTER_AREA)
            ):
                x, y, box_width, box_height = row[:4]
                corners = np.array([(x, y), (x + box_width, y + box_height)])
                points = np.concatenate([corners, row[4:14].reshape(5, 2)]) / scale
                face = _face(_turn_back(points, quarter_turns, width, height), float(row[14]), width, height)
                if face is not None:
                    faces.append(face)
        return faces

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


def _turn_back(points: NDArray[np.float64], quarter_turns: int, width: int, height: int) -> NDArray[np.float64]:
    """Points of `np.rot90(image, quarter_turns)` in coordinates of the image of this width and height."""
    x, y = points[:, 0], points[:, 1]
    if quarter_turns == 1:
        x, y = width - y, x
    elif quarter_turns == 2:
        x, y = width - x, height - y
    elif quarter_turns == 3:
        x, y = y, height - x
    return np.stack([x, y], axis=1)


def _face(points: NDArray[np.float64], score: float, width: int, height: int) -> Face | None:
    """A face from two opposite corners and YuNet's five landmarks; None when it is outside the image.

    YuNet names the landmarks from the viewer's left to right, eyes, nose, mouth, in `Face`'s order.
    """
    low, high = points[:2].min(axis=0), points[:2].max(axis=0)
    left, top = max(0, int(np.floor(low[0]))), max(0, int(np.floor(low[1])))
    right, bottom = min(width, int(np.ceil(high[0]))), min(height, int(np.ceil(high[1])))
    if right <= left or bottom <= top:
        return None
    landmarks = tuple((float(x), float(y)) for x, y in points[2:])
    return Face(Box(left, top, right, bottom), min(1.0, max(0.0, score)), landmarks)
