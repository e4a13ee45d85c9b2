"""What is found in one picture without a job: its faces, portraits, mask and scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.errors import InvalidImageError
from imaging.faces.identity import similarity
from imaging.faces.mask import draw_mask
from imaging.faces.mask_options import MaskOptions
from imaging.faces.portrait_options import PortraitOptions
from imaging.faces.portraits import Portrait, make_portrait
from imaging.faces.selection import FaceOptions, Selection, select
from imaging.files.decode import DecodedImage
from imaging.geometry.boxes import Face
from imaging.quality.score import measure_quality, rate_quality
from resources.detectors.base import Detector, sure_faces
from resources.encoders.base import FaceEncoder


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """Whose face the faces are compared with.

    Attributes:
        encoder: what tells how alike two faces are.
        path: the picture of the person, as the user named it.
        face: the face in it.
        others: how many more faces are in it.
        embedding: the face's, float32 of shape (128,) and length 1.
    """

    encoder: FaceEncoder
    path: str
    face: Face
    others: int
    embedding: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AnalysisOptions:
    """How pictures are analyzed; the same for all of them.

    Attributes:
        detector: what finds the faces.
        why: one sentence that says which detector that is, and why.
        faces: which of them are kept, and in which order.
        mask: what the mask looks like.
        portraits: how portraits are cut, and which faces are good enough to be left as they are.
        person: whom the faces are compared with; None: with nobody.
    """

    detector: Detector
    why: str
    faces: FaceOptions
    mask: MaskOptions
    portraits: PortraitOptions
    person: Person | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Compared(Portrait):
    """A face that is kept.

    Attributes:
        similarity: to the person's face, -1 to 1; None without a person, or without landmarks.
    """

    similarity: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """What is found in one picture. The order of `portraits` is that of everything else.

    Attributes:
        image: the picture.
        selection: the faces that are kept and those that are dropped.
        portraits: one for each face that is kept.
        mask: uint8 of shape (height, width), of the faces that a job would make anew, as it would draw it.
        quality: of the whole picture, 0 to 1.
        quality_parts: what the quality is made of, each 0 to 1.
        quality_numbers: what was measured for that.
    """

    image: DecodedImage
    selection: Selection
    portraits: tuple[Compared, ...]
    mask: NDArray[np.uint8]
    quality: float
    quality_parts: dict[str, float]
    quality_numbers: dict[str, float]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the picture, upright."""
        return (self.image.pixels.shape[1], self.image.pixels.shape[0])


def analyze(image: DecodedImage, options: AnalysisOptions) -> Analysis:
    """Find, choose, check and mask the faces of a picture.

    Raises:
        BackendError: the detector or the encoder failed.
    """
    pixels = image.pixels
    size = (pixels.shape[1], pixels.shape[0])
    selection = select(options.detector.detect(pixels), size, options.faces)
    made = [make_portrait(pixels, selection.kept, number, options.portraits) for number in range(len(selection.kept))]
    portraits = tuple(
        Compared(one.face, one.frame, one.verdict, one.left, _similarity(pixels, one.face, options.person))
        for one in made
    )
    to_change = [portrait.face for portrait in portraits if portrait.is_to_change]
    numbers = measure_quality(pixels)
    quality, parts = rate_quality(numbers)
    mask = draw_mask(to_change, (size[1], size[0]), options.mask, pixels)
    return Analysis(image, selection, portraits, mask, quality, parts, numbers)


def person_in(image: DecodedImage, path: str, options: AnalysisOptions, encoder: FaceEncoder) -> Person:
    """The person of a picture: its largest face that is sure enough.

    Raises:
        InvalidImageError: there is no such face.
        BackendError: the detector gives no landmarks of it, or the encoder failed.
    """
    found = sure_faces(options.detector, image.pixels, options.faces.confidence)
    if not found:
        raise InvalidImageError(
            f"--reference: no face was found in {path} by {options.detector.name}.",
            "Give a picture with a face that is larger, sharper or better lit, or a lower --confidence.",
        )
    face = found[0]
    return Person(encoder, path, face, len(found) - 1, encoder.embed(image.pixels, face))


def _similarity(pixels: NDArray[np.uint8], face: Face, person: Person | None) -> float | None:
    if person is None or face.landmarks is None:
        return None
    return similarity(person.encoder.embed(pixels, face), person.embedding)
