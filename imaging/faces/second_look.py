"""A second look at each face: whether it is one, and how it is turned, to a degree.

A chance hit, such as in bokeh, is not seen again in a cut of its own; its score is halved. And a detector's landmarks
lean towards upright.

First the irises are looked for in an upright cut of the face's eyes, which gives the roll to a tenth of a degree. Where
they are not seen, since the face is turned further than was thought, or wears sunglasses, the detector looks at a cut
that is turned by the estimate, and at its mirror image, whose mistakes are the other way round; and so on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.faces.portrait_checks import LEAST_SHARPNESS, SHARPNESS_SIDE, sharpness_of
from imaging.faces.search import Detect, Sighting
from imaging.geometry.align import Frame, glance, upright_angle
from imaging.geometry.boxes import Box, Face
from imaging.geometry.crop import crop

Irises = Callable[[NDArray[np.uint8]], tuple[tuple[float, float], tuple[float, float]] | None]
"""Where the two irises are in a grey uint8 picture of the eyes, upright, `EYES` (width, height); None: not seen."""

EYES: Final = (160, 72)  # pixels; the eyes are about 64 apart in it
EYES_WIDTH: Final = 2.5  # of the picture, in distances between the eyes
OFF_MIDDLE: Final = (24, 22)  # pixels by which the middle between the irises may lie beside that of the landmarks
CLOSE: Final = 6.0  # degrees; irises further off level than this are looked at again
# Looks: side in pixels, and how much further a face is turned than YuNet says. Measured on scenes and paintings: it
# reads 0.47, 0.6 and 0.7 of a turn there, with a deviation of 2 degrees.
LOOKS: Final = ((224, 1.8), (240, 1.4), (256, 1.2), (240, 1.4))
STILL: Final = 1.5  # degrees; a smaller change is the last
EIGHTHS: Final = (0, 45, 315, 90, 270, 135, 225, 180)  # degrees, the likeliest first
SMALL: Final = 160  # pixels; the side of a look that tells only which way is up
SURER: Final = 0.01  # of the score, by which a turn must be better than those before
BEYOND_DOUBT: Final = 0.92
SEEN_AGAIN: Final = 0.8  # measured: faces have 0.81 and more in their own cut, chance hits 0.66 and less
UPRIGHT: Final = 0.9  # under this score irises may be wrinkles in a beard that stands on its head
ROOM: Final = 1.6  # side of a look, in longer sides of the face's box
MOST_READ: Final = 45.0  # degrees; more is another face, or eyes taken for a mouth
MOST_CHANGE: Final = 60.0
SAME_PLACE: Final = 0.2  # of a look's side, from its middle
SAME_SIZE: Final = 1.6  # times as large or as small
SAME_SCORE: Final = 0.7  # of the score that it was found with


@dataclass(frozen=True, slots=True)
class _Pose:
    """Landmarks, shape (5, 2) in pixels of the picture, and the turn in degrees that is held for true."""

    points: NDArray[np.float64]
    angle: float


def second_look(image: NDArray[np.uint8], face: Face, look: Detect, irises: Irises) -> Face:
    """The face with landmarks that say how it is turned, and half its score if it is not seen again.

    A face without landmarks stays as it is, and so does a smear of 64 pixels and more, which is hard to see again, and
    which the portrait's checks turn down by name.

    Args:
        image: the picture, RGB uint8 of shape (height, width, 3).
        face: as it was found.
        look: one pass of the detector.
        irises: a reader of irises, or of anything that is as good.
    """
    if face.landmarks is None or not face.eye_distance:
        return face
    pose = _Pose(np.array(face.landmarks, dtype=np.float64), upright_angle(face))
    seen = _by_irises(image, pose, irises) if face.score >= UPRIGHT else None
    if seen is None:
        pose, surest = _by_turns(image, face, pose, look)
        if surest < SEEN_AGAIN and face.score < UPRIGHT and not _is_smear(image, face):
            return replace(face, score=face.score / 2)
        seen = _by_irises(image, pose, irises) or _by_looks(image, face, pose, look, irises)
    return replace(face, landmarks=tuple((float(x), float(y)) for x, y in seen.points))


def _is_smear(image: NDArray[np.uint8], face: Face) -> bool:
    grey = cv2.cvtColor(crop(image, face.box), cv2.COLOR_RGB2GRAY)
    return face.box.width >= SHARPNESS_SIDE and sharpness_of(np.asarray(grey, dtype=np.uint8)) < LEAST_SHARPNESS


def _by_looks(image: NDArray[np.uint8], face: Face, pose: _Pose, look: Detect, irises: Irises) -> _Pose:
    """The pose that the looks come to, or the irises that are seen on the way."""
    start = pose.angle
    for side, gain in LOOKS:
        seen = _by_look(image, face, pose, look, side, gain)
        if seen is None or abs(_between(seen.angle, start)) > MOST_CHANGE:
            break
        is_still, pose = abs(_between(seen.angle, pose.angle)) < STILL, seen
        eyes = _by_irises(image, pose, irises)
        if eyes is not None or is_still:
            return eyes or pose
    return pose


def _by_irises(image: NDArray[np.uint8], pose: _Pose, irises: Irises) -> _Pose | None:
    """The pose as its irises say; None where they are not seen."""
    width, height = EYES
    top = (width - height) // 2
    for _ in range(2):
        middle = pose.points[:2].mean(axis=0)
        below = float(np.linalg.norm(pose.points[3:].mean(axis=0) - middle))
        apart = max(float(np.linalg.norm(pose.points[1] - pose.points[0])), 0.8 * below)  # nearer when seen from aside
        frame = Frame(float(middle[0]), float(middle[1]), EYES_WIDTH * apart, pose.angle)
        grey = cv2.cvtColor(glance(image, frame, width)[top : top + height], cv2.COLOR_RGB2GRAY)
        found = irises(np.asarray(grey, dtype=np.uint8))
        if found is None:
            return None
        eyes = np.add(np.array(found, dtype=np.float64), (0, top))
        if (np.abs(eyes.mean(axis=0) - width / 2) > OFF_MIDDLE).any():
            return None
        across = eyes[1] - eyes[0]
        off = math.degrees(math.atan2(across[1], across[0]))
        pose = _with_eyes(pose, pose.angle + off, frame.to_picture(eyes, width))
        if abs(off) <= CLOSE:
            return pose
    return None


def _by_turns(image: NDArray[np.uint8], face: Face, pose: _Pose, look: Detect) -> tuple[_Pose, float]:
    """The pose at that turn, of eight, at which the detector is surest of the face, and its score there."""
    best, surest = pose, 0.0
    for turn in EIGHTHS:
        frame = Frame(*face.box.center, ROOM * max(face.box.width, face.box.height), pose.angle + turn)
        seen = _same(look(glance(image, frame, SMALL)), SMALL, face)
        if seen is None or seen[0] < surest + (SURER if turn else 0):
            continue
        read = _angle(seen[1])
        if abs(read) <= MOST_READ:
            surest = seen[0]
            best = _Pose(frame.to_picture(seen[1], SMALL), frame.angle + read) if turn else pose
        if surest >= BEYOND_DOUBT:
            break
    return best, surest


def _with_eyes(pose: _Pose, angle: float, eyes: NDArray[np.float64]) -> _Pose:
    """The landmarks with other eyes, and nose and mouth turned and moved with them."""
    turned = _rotated(pose.points, _between(angle, _angle(pose.points)))
    return _Pose(np.concatenate([eyes, turned[2:] + eyes.mean(axis=0) - turned[:2].mean(axis=0)]), angle)


def _by_look(image: NDArray[np.uint8], face: Face, pose: _Pose, look: Detect, side: int, gain: float) -> _Pose | None:
    """The pose as the detector says that sees the face nearly upright; None where it does not see the same face."""
    frame = Frame(*face.box.center, ROOM * max(face.box.width, face.box.height), pose.angle)
    seen = glance(image, frame, side)
    plain, mirrored = (_same(look(one), side, face) for one in (seen, np.ascontiguousarray(seen[:, ::-1])))
    if plain is None or mirrored is None:
        return None
    points = (plain[1] + (mirrored[1] * (-1, 1) + (side, 0))[[1, 0, 2, 4, 3]]) / 2
    read = _angle(points)
    if abs(read) > MOST_READ:
        return None
    return _Pose(_rotated(frame.to_picture(points, side), (gain - 1) * read), pose.angle + gain * read)


def _same(sightings: Iterable[Sighting], side: int, face: Face) -> tuple[float, NDArray[np.float64]] | None:
    """Score and landmarks of the sighting that is the face, which fills the middle of a look; None where none is."""
    best, points = SAME_SCORE * face.score, None
    for one in sightings:
        left, top, right, bottom = one.corners
        beside = max(abs(left + right - side), abs(top + bottom - side)) / 2
        share = ROOM * max(right - left, bottom - top) / side
        if one.landmarks and one.score >= best and beside < SAME_PLACE * side and 1 / SAME_SIZE < share < SAME_SIZE:
            best, points = one.score, np.array(one.landmarks, dtype=np.float64)
    return None if points is None else (best, points)


def _rotated(points: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Landmarks turned clockwise about the middle between the eyes."""
    turn, middle = math.radians(degrees), points[:2].mean(axis=0)
    linear = np.array([(math.cos(turn), -math.sin(turn)), (math.sin(turn), math.cos(turn))])
    return np.asarray((points - middle) @ linear.T + middle, dtype=np.float64)


def _angle(points: NDArray[np.float64]) -> float:
    return upright_angle(Face(Box(0, 0, 1, 1), 1.0, tuple((float(x), float(y)) for x, y in points)))


def _between(one: float, other: float) -> float:
    """By how many degrees one angle is over another, -180 to 180."""
    return (one - other + 180) % 360 - 180
