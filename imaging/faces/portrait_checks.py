"""Whether a face is good enough to be worked on, and how good, with reasons.

The scores of 0 to 100 have the names of ISO/IEC 29794-5 and, where a five-point detector allows it, the mappings of its
reference implementation, OFIQ (Federal Office for Information Security, Germany). OFIQ measures on a region drawn
through 98 landmarks; here it is an ellipse inside the face. Size, sharpness and light decide; the rest is advice, since
art may do as it likes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.faces.shapes import face_ellipse
from imaging.geometry.align import upright_angle
from imaging.geometry.boxes import Box, Face
from imaging.quality.score import Verdict, verify_output

LEAST_FACE = 24  # pixels across; below, five landmarks are guesses
# Variance of the Laplacian at 64 pixels. Measured: a photo in focus 860, painted faces 650 and more, the photo blurred
# by 1 % of the face's width 215, by 2 % 50, by 3 % 18. A soft face is what the face pass is for; a smear is not a face.
LEAST_SHARPNESS = 20.0
SOFT = 200.0
SHARPNESS_SIDE = 64
LUMINANCE = (0.08, 0.92)  # wider than for passport photos: dark skin in low light is no fault, nor is high-key art
USUAL_LUMINANCE = (0.2, 0.8)  # OFIQ's range; advice only
BURNT = 247  # grey levels; OFIQ's, and so is the next
DARK = 25
MOST_BURNT = 0.4  # share of the face
SKIN = 0.8  # of the face's ellipse; beyond it lie hair and background
SKIN_A, SKIN_B = (5.0, 25.0), (5.0, 35.0)  # CIELAB; OFIQ's range for skin of any tone
MOST_TURN = 30.0  # degrees
# A face of fewer pixels, found with a lower score, must look like one: chance hits in bokeh are soft, those in grain
# are noise, and the landmarks of either lie anyhow. Measured on faces of 12 to 64 pixels: sharpness 450 and more.
SMALL, UNSURE = 64, 0.8
SMALL_SHARPNESS = 100.0
LOW = 60.0  # of 100; under it a score is worth a word
ROOM = 0.25  # of the face's longer side; with so much on each side of it nothing of the head is missing

# A usual face, in distances between its eyes.
NOSE_DEPTH = 0.5  # of the nose tip before the eyes
EYES_TO_MOUTH = 1.15
NOSE_BETWEEN = 0.55  # where the nose tip lies from eyes (0) to mouth (1); measured on YuNet's points, 0.54 to 0.58


def verify_portrait(
    face_pixels: NDArray[np.uint8], face: Face, size: tuple[int, int], others: Sequence[Face] = ()
) -> Verdict:
    """Whether a face is good enough to be worked on.

    The verdict's scores are what was measured (`width` and `eye_distance` in pixels; `roll`, `yaw` and `pitch` in
    degrees, the last two good to about 10; `share`, `luminance`, `burnt`, `dark`, `confidence` 0 to 1; `sharpness`, the
    variance of the Laplacian at 64 pixels), each check's score of 0 to 100 (names ending in `_score`), and `total`, the
    mean of these, 0 to 1. Without landmarks there is neither pose nor eye distance.

    Args:
        face_pixels: RGB uint8, the pixels of the face's box.
        face: the face, in the coordinates of its image.
        size: (width, height) of that image, in pixels.
        others: the other faces of that image.
    """
    grey = np.asarray(cv2.cvtColor(face_pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    measured = {
        "width": float(face.box.width),
        "share": round(face.box.area / (size[0] * size[1]), 5),
        "sharpness": round(sharpness_of(grey), 1),
        "luminance": round(float(grey.mean()) / 255, 3),
        "burnt": round(float(np.mean(grey >= BURNT)), 4),
        "dark": round(float(np.mean(grey <= DARK)), 4),
        "confidence": round(face.score, 3),
    } | _pose(face)
    scores = (
        _scores_of_numbers(measured)
        | _scores_of_skin(face_pixels, grey, face)
        | {
            "single_face_present_score": _alone(face.box, [other.box for other in others]),
            "crop_of_the_face_image_score": 100 * min(1.0, _room(face.box, size) / ROOM),
        }
    )
    rounded = {name: round(score, 1) for name, score in scores.items()}
    total = {"total": round(sum(scores.values()) / len(scores) / 100, 3)}
    reasons = _reasons(measured) + _doubts(measured, grey, face)
    return Verdict(not reasons, measured | rounded | total, reasons, _advice(measured, rounded, face.box, size))


def _reasons(measured: dict[str, float]) -> tuple[str, ...]:
    """What turns the face down."""
    reasons = []
    width, sharpness, luminance, burnt = (measured[name] for name in ("width", "sharpness", "luminance", "burnt"))
    if width < LEAST_FACE:
        reasons.append(f"the face is {width:.0f} px wide, under {LEAST_FACE}")
    if sharpness < LEAST_SHARPNESS:
        reasons.append(f"the face is blurred: sharpness {sharpness:.0f}, under {LEAST_SHARPNESS:g}")
    if not LUMINANCE[0] <= luminance <= LUMINANCE[1]:
        reasons.append(f"the face is too {'dark' if luminance < LUMINANCE[0] else 'bright'}: luminance {luminance:.2f}")
    if burnt > MOST_BURNT:
        reasons.append(f"the face is over-exposed: {burnt:.0%} of it is white, over {MOST_BURNT:.0%}")
    return tuple(reasons)


def _doubts(measured: dict[str, float], grey: NDArray[np.uint8], face: Face) -> tuple[str, ...]:
    """Why a small face of a low score is none."""
    if face.box.width >= SMALL or face.score >= UNSURE:
        return ()
    said = {
        f"soft, with a sharpness of {measured['sharpness']:.0f}": measured["sharpness"] < SMALL_SHARPNESS,
        "noise": not verify_output(np.stack([grey] * 3, axis=2), grey.shape[::-1]).passed,
        "without eyes, nose and mouth where a face has them": not _looks_like_a_face(face),
    }
    doubts = [words for words, true in said.items() if true]
    known = f"{face.box.width} px wide, found with a score of {face.score:.2f}"
    return (f"it is hardly a face: {known}, and {' and '.join(doubts)}",) if doubts else ()


def _looks_like_a_face(face: Face) -> bool:
    """Whether the landmarks lie in the box as those of a face from any side may; also where there are none."""
    distance = face.eye_distance
    if face.landmarks is None or not distance:
        return face.landmarks is None
    eye, other_eye, nose, mouth, other_mouth = np.array(face.landmarks, dtype=np.float64)
    turn = math.radians(upright_angle(face))
    across, down = np.array([math.cos(turn), math.sin(turn)]), np.array([-math.sin(turn), math.cos(turn)])
    middle = (eye + other_eye) / 2
    wide = max(abs(float((other_mouth - mouth) @ across)), distance)
    to_mouth = float(((mouth + other_mouth) / 2 - middle) @ down) / wide
    to_nose = float((nose - middle) @ down) / wide
    box = face.box
    return (
        0.4 < to_mouth < 3
        and -0.1 < to_nose < to_mouth + 0.1
        and 0.15 < distance / max(box.width, box.height) < 0.9
        and all(
            box.left - box.width / 4 < x < box.right + box.width / 4
            and box.top - box.height / 4 < y < box.bottom + box.height / 4
            for x, y in face.landmarks
        )
    )


def _advice(measured: dict[str, float], scores: dict[str, float], box: Box, size: tuple[int, int]) -> tuple[str, ...]:
    """What is worth a word and does not decide."""
    sharpness, luminance = measured["sharpness"], measured["luminance"]
    low, high = USUAL_LUMINANCE
    said = {
        f"the head is tilted by {measured.get('roll', 0):.0f} degrees": abs(measured.get("roll", 0)) > MOST_TURN,
        "the head is turned to the side": abs(measured.get("yaw", 0)) > MOST_TURN,
        "the head is turned up or down": abs(measured.get("pitch", 0)) > MOST_TURN,
        f"the face is soft: sharpness {sharpness:.0f}, {SOFT:g} and more is crisp": LEAST_SHARPNESS <= sharpness < SOFT,
        f"the light is unusual: luminance {luminance:.2f}, {low:g} to {high:g} is usual": not low <= luminance <= high,
        "the light comes from one side": scores["illumination_uniformity_score"] < LOW,
        "the skin has an unusual colour": scores["natural_colour_score"] < LOW,
        "the face touches the border of the image and may be cut off": _room(box, size) <= 0,
    }
    return tuple(words for words, true in said.items() if true)


def _scores_of_numbers(measured: dict[str, float]) -> dict[str, float]:
    """0 to 100 for each number that has a mapping; all but the sharpness are OFIQ's."""
    luminance, low, high = measured["luminance"], *USUAL_LUMINANCE
    scores = {
        # Measured: in focus 97, blurred by 1 % of the face's width 78, by 2 % 24, by 3 % 5.
        "sharpness_score": 100 * _sigmoid(math.log(max(1.0, measured["sharpness"])), math.log(100), 0.6),
        "luminance_mean_score": 100 * _sigmoid(luminance, low, 0.05) * (1 - _sigmoid(luminance, high, 0.05)),
        "over_exposure_prevention_score": min(100.0, 1 / (measured["burnt"] + 0.01)),
        "under_exposure_prevention_score": max(0.0, 120 * (0.832 - _sigmoid(measured["dark"], 0.92, 0.05))),
    }
    if "eye_distance" in measured:
        scores["inter_eye_distance_score"] = 100 * _sigmoid(measured["eye_distance"], 70, 20)
        for name in ("roll", "yaw", "pitch"):
            scores[f"head_pose_{name}_score"] = 100 * max(0.0, math.cos(math.radians(measured[name]))) ** 2
    return scores


def _scores_of_skin(pixels: NDArray[np.uint8], grey: NDArray[np.uint8], face: Face) -> dict[str, float]:
    """0 to 100 for the skin's colour, and for how equal the light is on its two halves."""
    ellipse, box = face_ellipse(face), face.box
    inside = ellipse.distance(box) < SKIN
    if not inside.any():  # a box of a few pixels across, which its ellipse slips through
        inside[:] = True
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[inside]
    beyond = [
        max(0.0, low - value, value - high)
        for value, (low, high) in zip(lab[:, 1:].mean(axis=0).tolist(), (SKIN_A, SKIN_B), strict=True)
    ]
    turn = math.radians(ellipse.angle)
    across = (np.arange(box.left, box.right) + 0.5 - ellipse.x) * math.cos(turn) + (
        np.arange(box.top, box.bottom) + 0.5 - ellipse.y
    )[:, None] * math.sin(turn)
    overlap = np.minimum(_histogram(grey[inside & (across < 0)]), _histogram(grey[inside & (across > 0)])).sum()
    return {
        "illumination_uniformity_score": 100 * float(overlap) ** 0.3,
        "natural_colour_score": 200 * (1 - _sigmoid(math.hypot(*beyond), 0, 10)),
    }


def _histogram(values: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The share of each of 32 steps of brightness; with OFIQ's 256, a small face would hardly overlap with itself."""
    counts = np.bincount(values >> 3, minlength=32)
    return counts / max(1, values.size)


def _pose(face: Face) -> dict[str, float]:
    """Eye distance in pixels, and roll, yaw and pitch in degrees, from the nose's place among eyes and mouth.

    Positive is clockwise, to the viewer's right, and up.
    """
    distance = face.eye_distance
    if face.landmarks is None or not distance:
        return {}
    left_eye, right_eye, nose, left_mouth, right_mouth = np.array(face.landmarks, dtype=np.float64)
    roll = upright_angle(face)
    turn = math.radians(roll)
    middle = (left_eye + right_eye) / 2
    across = float((nose - middle) @ (math.cos(turn), math.sin(turn))) / distance
    down = np.array([-math.sin(turn), math.cos(turn)])
    to_mouth = float(((left_mouth + right_mouth) / 2 - middle) @ down)
    between = float((nose - middle) @ down) / to_mouth if to_mouth else NOSE_BETWEEN
    return {
        "eye_distance": round(distance, 1),
        "roll": round(roll, 1),
        "yaw": round(math.degrees(math.atan(across / NOSE_DEPTH)), 1),
        "pitch": round(math.degrees(math.atan((NOSE_BETWEEN - between) * EYES_TO_MOUTH / NOSE_DEPTH)), 1),
    }


def _alone(box: Box, others: Sequence[Box]) -> float:
    """OFIQ's measure of a single face: 100 without another, 0 with another as large."""
    second = max((other.area for other in others), default=0)
    return 100 * max(0.0, 1 - second / box.area)


def _room(box: Box, size: tuple[int, int]) -> float:
    """The least distance from the face to the border of the image, as a share of the face's longer side."""
    least = min(box.left, box.top, size[0] - box.right, size[1] - box.bottom)
    return least / max(box.width, box.height)


def sharpness_of(grey: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian after shrinking the crop to 64 pixels, so that it does not depend on the size.

    A smaller crop is measured as it is: enlarging it would only measure the interpolation.
    """
    scale = min(1.0, SHARPNESS_SIDE / max(grey.shape))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return float(cv2.Laplacian(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), cv2.CV_32F).var())


def _sigmoid(value: float, middle: float, width: float) -> float:
    """0 to 1, a half at the middle."""
    return 1 / (1 + math.exp(-(value - middle) / width))
