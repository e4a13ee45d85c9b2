"""Face detection with the Haar cascades that OpenCV 4 ships: nothing to fetch, frontal faces only.

Method: Viola and Jones (2001); cascades by Rainer Lienhart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.errors import BackendError
from imaging.faces.search import Search, Sighting, Turned, search
from imaging.geometry.boxes import Box, Face
from imaging.geometry.crop import crop, portrait_box
from imaging.geometry.nms import iou, nms
from resources.detectors.base import largest_first
from resources.detectors.eyes import EYES_FILE, WIDTH, find_irises, load_cascade

OVERLAP: Final = 0.35
SMALLEST_FACE: Final = 24  # pixels at the size looked at; both cascades' own window is 20
NEIGHBOURS: Final = 3
# From one size that is looked for to the next: the second when the first sees no sure face. Of 400 painted portraits of
# 256 pixels the first misses 2, both together none; the second takes twice as long.
STEPS: Final = (1.2, 1.1)
# The copy is turned by eighths, since the cascades see a turn of 16 degrees at most.
TURNED: Final = Turned(480, (45, 90, 135, 180, 225, 270, 315))
TURNED_STEP: Final = 1.3
TURNED_FACE: Final = 32  # pixels, at 480
FILES: Final = {
    "default": "haarcascade_frontalface_default.xml",
    "alt2": "haarcascade_frontalface_alt2.xml",
    "eyes": EYES_FILE,
}
# The weight of a hit is the sum of the last stage. Half-way weight and spread for the logistic curve below,
# read off a few pictures: true faces give 3 to 8 and 55 to 57, chance hits under 2 and under 55.
CURVES: Final = {"default": (2.5, 1.2), "alt2": (55.0, 0.6)}
# Nose tip and mouth corners from the middle between the eyes, in eye distances along and across the eye line:
# the proportions of the five-point template that face recognisers align to (112 x 112, ArcFace, 2019).
NOSE_AND_MOUTH: Final = ((0.0, 0.57), (-0.41, 1.15), (0.41, 1.15))
EYES_BONUS: Final = 0.5  # how much of the remaining doubt two well-placed eyes take away


def how_to_search(confidence: float, candidates: float) -> Search:
    """The one size that suits the cascades, which look at every size in it themselves.

    Measured on scenes of `benchmarks/scenes.py`: a second look at 320 pixels finds 0.6 % more, 480 pixels instead lose
    most of a crowd. Tiles find faces of 24 to 32 pixels in a megapixel, but cost 1.4 s and more without one: YuNet's
    work.
    """
    return Search(
        long_sides=(640,),
        large_from=1024,
        large_to=1280,
        confidence=confidence,
        candidates=candidates,
        sure=0.95,
        tile=0,
        overlap=0,
        enlarge=1.0,
        tile_confidence=1.0,
    )


class HaarDetector:
    """Finds frontal faces with two cascades that vote, and eyes as a third opinion.

    The score of a hit is a logistic curve of its weight, 0 to 1. Two cascades that agree on a place are taken
    as independent, `1 - (1 - a)(1 - b)`; a lone hit counts half; two eyes where eyes belong halve the doubt.
    The score grows with each weight, and is a rank rather than a probability.

    Args:
        confidence: from this score on, 0 to 1, a face counts as found.
        candidates: faces under that are returned from this score on; None: none are.

    Raises:
        BackendError: this OpenCV ships no cascades (version 5 does not).
    """

    name = "haar"

    def __init__(self, confidence: float = 0.6, candidates: float | None = None) -> None:
        self._how = how_to_search(confidence, confidence if candidates is None else candidates)
        self._cascades = {key: load_cascade(file) for key, file in FILES.items()}

    def describe(self) -> dict[str, Any]:
        """The cascades, and how they search."""
        return {
            "detector": self.name,
            "model": sorted(FILES.values()),
            "search": asdict(self._how),
            "steps": STEPS,
            "eyes": "darkest spot",
            "opencv": cv2.__version__,
        }

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """Find the faces in an RGB image; see `Detector.detect`.

        Landmarks are None unless both eyes are found where eyes belong. Nose and mouth are then not seen but
        placed below the eyes as on the mean frontal face.
        """
        return largest_first(search(image, self.look, self._how, self.look_closer, TURNED, self.look_turned))

    def look(self, image: NDArray[np.uint8]) -> Iterator[Sighting]:
        """What the cascades see in an RGB image."""
        return self._look(image, STEPS[0])

    def look_closer(self, image: NDArray[np.uint8]) -> Iterator[Sighting]:
        """The same with more sizes, for a picture in which no face was sure."""
        return self._look(image, STEPS[1])

    def look_turned(self, image: NDArray[np.uint8]) -> Iterator[Sighting]:
        """The same as `look`, only around the places where one cascade sees something in a quick look at few sizes."""
        hits = self._hits(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), "alt2", TURNED_STEP, TURNED_FACE)
        for hit in nms(hits, OVERLAP):
            around = portrait_box(hit.box, (image.shape[1], image.shape[0]), 0.3)
            for seen in self.look(crop(image, around)):
                yield seen.moved(around.left, around.top)

    def _look(self, image: NDArray[np.uint8], step: float) -> Iterator[Sighting]:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        try:
            votes = {key: nms(self._hits(grey, key, step), OVERLAP) for key in CURVES}
            faces = [self._with_eyes(grey, face) for face in _agree(votes["default"], votes["alt2"])]
        except cv2.error as error:
            raise BackendError(
                f"The Haar cascades failed on an image of {grey.shape[1]}x{grey.shape[0]} pixels: {error}.",
                "Check the OpenCV installation, or set FC_YUNET_MODEL and FC_DETECTOR=yunet.",
            ) from error
        return (Sighting(face.box.as_tuple(), face.score, face.landmarks) for face in faces)

    def _hits(self, grey: NDArray[Any], key: str, step: float, least: int = SMALLEST_FACE) -> list[Face]:
        """What one cascade sees, each place with a score of 0 to 1."""
        middle, spread = CURVES[key]
        boxes, _, weights = self._cascades[key].detectMultiScale3(
            grey,
            scaleFactor=step,
            minNeighbors=NEIGHBOURS,
            minSize=(least, least),
            outputRejectLevels=True,
        )
        return [
            Face(Box(x, y, x + width, y + height), 1 / (1 + math.exp((middle - float(weight)) / spread)))
            for (x, y, width, height), weight in zip(np.asarray(boxes).tolist(), weights, strict=True)
        ]

    def _with_eyes(self, grey: NDArray[Any], face: Face) -> Face:
        """The face with a higher score when it has one eye on each side, level and of one size."""
        box = face.box
        upper = grey[box.top + box.height // 8 : box.top + box.height * 6 // 10, box.left : box.right]
        scale = WIDTH / box.width
        size = (WIDTH, max(1, round(upper.shape[0] * scale)))
        enlarged = cv2.resize(upper, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        eyes = find_irises(self._cascades["eyes"], enlarged)
        if eyes is None:
            return face
        (left_x, left_y), (right_x, right_y) = eyes
        middle = np.array([(left_x + right_x) / 2, (left_y + right_y) / 2])
        along = np.array([right_x - left_x, right_y - left_y])
        down = np.array([-along[1], along[0]])
        points = np.array([*eyes, *(middle + right * along + low * down for right, low in NOSE_AND_MOUTH)])
        points = points / scale + (box.left, box.top + box.height // 8)
        landmarks = tuple((float(x), float(y)) for x, y in points.tolist())
        return Face(box, 1 - (1 - face.score) * EYES_BONUS, landmarks)


def _agree(first: list[Face], second: list[Face]) -> list[Face]:
    """Join the two cascades' hits; agreement raises the score, a lone hit's is halved."""
    rest = list(second)
    joined = []
    for face in first:
        partner = max(rest, key=lambda other: iou(face.box, other.box), default=None)
        if partner is not None and iou(face.box, partner.box) > OVERLAP:
            rest.remove(partner)
            joined.append(Face(face.box, 1 - (1 - face.score) * (1 - partner.score)))
        else:
            joined.append(Face(face.box, face.score / 2))
    return joined + [Face(face.box, face.score / 2) for face in rest]
