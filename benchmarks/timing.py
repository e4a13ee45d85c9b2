"""What the face work costs on one core, and how much memory it takes beside the picture.

Times are CPU times of the process with one thread, the least of some rounds: what else the machine does is not in them.
Memory is what NumPy allocates, by tracemalloc; OpenCV's scratch buffers inside a call are not seen by it.
"""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scenes import Placed, Scene, compose

from fc_assets.stages.final_image import merge_faces
from imaging.faces.mask import MASK_MARGIN, draw_mask, mask_bounds, part_of_face
from imaging.geometry.align import Frame, cut, frame_around, put_back
from imaging.geometry.boxes import Box, Face
from resources.artifacts.images import Patch, PatchesRecord
from resources.artifacts.records import FaceRecord, PortraitRecord

SIDE = 1024  # pixels of the picture
FACE_SIZE = 1024  # pixels at which a face is new_faces anew: SDXL's own
PADDING = 0.6  # room around a face, as the portraits have
COUNTS = (1, 4, 16)
WIDTHS = {1: 300, 4: 150, 16: 75}  # of the faces, in pixels
ROUNDS = 7
TURN = 12.0  # degrees: too much to be left as it is

Result = TypeVar("Result")


@dataclass(frozen=True)
class Picture:
    """A picture and the faces in it, with landmarks."""

    scene: Scene
    faces: tuple[Face, ...]


def picture(count: int, angle: float = 0.0) -> Picture:
    """A picture of 1024 x 1024 pixels with so many faces in rows, all turned by `angle` degrees."""
    across = math.isqrt(count)
    cell, width = SIDE / across, WIDTHS[count]
    placed = [
        Placed(width, ((number % across + 0.5) * cell, (number // across + 0.5) * cell), angle=angle)
        for number in range(count)
    ]
    scene = compose(f"faces {count}", (SIDE, SIDE), placed)
    faces = (_face(box, face.angle) for box, face in zip(scene.faces, placed, strict=True))
    return Picture(scene, tuple(faces))


def _face(box: Box, angle: float) -> Face:
    """A face with the landmarks of a usual one, turned clockwise."""
    turn = math.radians(angle)
    linear = np.array([(math.cos(turn), -math.sin(turn)), (math.sin(turn), math.cos(turn))])
    usual = np.array([(-0.21, -0.14), (0.21, -0.14), (0, 0.04), (-0.17, 0.24), (0.17, 0.24)]) * box.width
    points = usual @ linear.T + box.center
    return Face(box, 0.9, tuple((float(x), float(y)) for x, y in points))


@dataclass(frozen=True)
class Cost:
    """Milliseconds of CPU time per picture, and the peak of memory in copies of the picture."""

    cut: float
    back: float
    mask: float
    merge: float
    copies: float

    @property
    def total(self) -> float:
        """All but the detection, in milliseconds."""
        return self.cut + self.back + self.mask + self.merge


def cost(shown: Picture, rounds: int = ROUNDS) -> Cost:
    """What the face work on a picture costs. The new faces are the old ones, 12 levels warmer."""
    image, faces = shown.scene.image, shown.faces
    cut_time, (frames, cuts) = least(lambda: _cut(image, faces), rounds)
    new_faces = [np.clip(one + np.array([12, 0, -12]), 0, 255).astype(np.uint8) for one in cuts]
    mask_time, mask = least(lambda: draw_mask(faces, image.shape[:2]), rounds)
    back_time, patches = least(lambda: _back(new_faces, frames, mask, faces), rounds)
    record = PortraitRecord(
        detector="known",
        width=SIDE,
        height=SIDE,
        faces=tuple(
            FaceRecord(box=face.box.as_tuple(), crop=patch.box, score=face.score, landmarks=face.landmarks, passed=True)
            for face, patch in zip(faces, patches, strict=True)
        ),
    )
    put = PatchesRecord(patches, {})
    merge_time, _ = least(lambda: merge_faces(image, mask, record, put), rounds)
    peak = max(
        peak_of(lambda: _cut(image, faces[:1])),  # the stages hold one face at a time
        peak_of(lambda: _back(new_faces[:1], frames[:1], mask, faces)),
        peak_of(lambda: draw_mask(faces, image.shape[:2])),
        peak_of(lambda: merge_faces(image, mask, record, put)),
    )
    return Cost(cut_time, back_time, mask_time, merge_time, peak / image.nbytes)


def _cut(image: NDArray[np.uint8], faces: tuple[Face, ...]) -> tuple[list[Frame], list[NDArray[np.uint8]]]:
    frames = [frame_around(face, (SIDE, SIDE), PADDING) for face in faces]
    return frames, [cut(image, frame, FACE_SIZE) for frame in frames]


def _back(
    new_faces: list[NDArray[np.uint8]], frames: list[Frame], mask: NDArray[np.uint8], faces: tuple[Face, ...]
) -> tuple[Patch, ...]:
    """As the asset `changed_face` does: as far as the mask goes."""
    patches = []
    for number, (one, frame) in enumerate(zip(new_faces, frames, strict=True)):
        box = frame.bounds((SIDE, SIDE))
        used = mask_bounds(part_of_face(mask, faces, number, box), MASK_MARGIN)
        place = used.moved(box.left, box.top) if used else box
        patches.append(Patch(place.as_tuple(), put_back(one, frame, place)))
    return tuple(patches)


def least(work: Callable[[], Result], rounds: int) -> tuple[float, Result]:
    """The least CPU time of some rounds, in milliseconds, and the result; one round before them does not count."""
    result = work()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return min(times) * 1000, result


def peak_of(work: Callable[[], object]) -> int:
    """The most bytes that Python and NumPy hold at once while something is done, beside what they held before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
