"""Numbers that tell whether an image or a portrait is good enough to go on.

Belongs here: measurements and the verdict on them, with limits and reasons. Does not: what happens to a job that is
turned down (`fc_assets`).

The checks of portraits follow the measures of ISO/IEC 29794-5 (OFIQ) where a five-point detector allows it. Size,
sharpness and light decide; pose and eyes are advice, since art may do as it likes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.boxes import Face

# Output checks (all on a grey image of 0 to 255).
LEAST_DEVIATION = 3.0
LEAST_CORRELATION = 0.3

# Portrait checks.
LEAST_FACE = 24  # pixels across; below, five landmarks are guesses
# Variance of the Laplacian at 64 pixels. Measured: a photo in focus 860, painted faces 650 and more, the photo blurred
# by 1 % of the face's width 215, by 2 % 50, by 3 % 18. A soft face is what the face pass is for; a smear is not a face.
LEAST_SHARPNESS = 20.0
SOFT = 200.0
SHARPNESS_SIDE = 64
LUMINANCE = (0.08, 0.92)  # wider than for passport photos: dark skin in low light is no fault, nor is high-key art
USUAL_LUMINANCE = (0.2, 0.8)  # OFIQ's range; advice only
MOST_BURNT = 0.4  # share of pixels at 247 and above


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found.

    Attributes:
        passed: whether nothing that decides was wrong.
        scores: the numbers, by name.
        reasons: why it was turned down, each with its number and limit; empty when it passed.
        advice: what was noticed and does not decide.
    """

    passed: bool
    scores: dict[str, float]
    reasons: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


def verify_output(pixels: NDArray[np.uint8], size: tuple[int, int]) -> Verdict:
    """Whether a generated image is usable: the size asked for, not blank, not noise.

    Args:
        pixels: RGB uint8 of shape (height, width, 3).
        size: the (width, height) that was asked for.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    deviation = float(grey.std())
    correlation = _neighbour_correlation(grey)
    found = (pixels.shape[1], pixels.shape[0])
    reasons = []
    if found != size:
        reasons.append(f"it is {found[0]}x{found[1]}, not {size[0]}x{size[1]}")
    if deviation < LEAST_DEVIATION:
        reasons.append(f"it is blank: its brightness varies by {deviation:.1f}, at least {LEAST_DEVIATION:g} is usual")
    elif correlation < LEAST_CORRELATION:
        reasons.append(
            f"it is noise: neighbouring pixels correlate by {correlation:.2f}, at least {LEAST_CORRELATION:g} is usual"
        )
    scores = {"deviation": round(deviation, 2), "neighbour_correlation": round(correlation, 3)}
    return Verdict(not reasons, scores, tuple(reasons))


def _neighbour_correlation(grey: NDArray[np.float32]) -> float:
    """Pearson correlation of adjacent pixels, along rows or columns, whichever is lower.

    Near 1 for pictures, near 0 for white noise and for rows or columns of random colours.
    """
    return min(_correlation(grey[:, :-1], grey[:, 1:]), _correlation(grey[:-1], grey[1:]))


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    spread = float(one.std() * other.std())
    return float(((one - one.mean()) * (other - other.mean())).mean() / spread) if spread > 0 else 1.0


def verify_portrait(face_pixels: NDArray[np.uint8], face: Face, size: tuple[int, int]) -> Verdict:
    """Whether a face is good enough to be worked on.

    Args:
        face_pixels: RGB uint8, the pixels of the face's box.
        face: the face, in the coordinates of its image.
        size: (width, height) of that image, in pixels.
    """
    grey: NDArray[np.uint8] = np.asarray(cv2.cvtColor(face_pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    luminance = float(grey.mean()) / 255
    burnt = float(np.mean(grey >= 247))
    dark = float(np.mean(grey <= 25))
    sharpness = _sharpness(grey)
    share = face.box.area / (size[0] * size[1])
    scores = {
        "width": float(face.box.width),
        "share": round(share, 5),
        "sharpness": round(sharpness, 1),
        "luminance": round(luminance, 3),
        "burnt": round(burnt, 4),
        "dark": round(dark, 4),
        "confidence": round(face.score, 3),
    }
    reasons = []
    if face.box.width < LEAST_FACE:
        reasons.append(f"the face is {face.box.width} px wide, under {LEAST_FACE}")
    if sharpness < LEAST_SHARPNESS:
        reasons.append(f"the face is blurred: sharpness {sharpness:.0f}, under {LEAST_SHARPNESS:g}")
    if not LUMINANCE[0] <= luminance <= LUMINANCE[1]:
        reasons.append(f"the face is too {'dark' if luminance < LUMINANCE[0] else 'bright'}: luminance {luminance:.2f}")
    if burnt > MOST_BURNT:
        reasons.append(f"the face is over-exposed: {burnt:.0%} of it is white, over {MOST_BURNT:.0%}")
    advice = _pose_advice(face, scores)
    if LEAST_SHARPNESS <= sharpness < SOFT:
        advice = (*advice, f"the face is soft: sharpness {sharpness:.0f}, {SOFT:g} and more is crisp")
    if not USUAL_LUMINANCE[0] <= luminance <= USUAL_LUMINANCE[1]:
        low, high = USUAL_LUMINANCE
        advice = (*advice, f"the light is unusual: luminance {luminance:.2f}, {low:g} to {high:g} is usual")
    box = face.box
    if box.left <= 0 or box.top <= 0 or box.right >= size[0] or box.bottom >= size[1]:
        advice = (*advice, "the face touches the border of the image and may be cut off")
    return Verdict(not reasons, scores, tuple(reasons), advice)


def _pose_advice(face: Face, scores: dict[str, float]) -> tuple[str, ...]:
    """Add pose and eye distance to the scores; what to say about them."""
    distance = face.eye_distance
    if face.landmarks is None or not distance:
        return ()
    roll = face.roll
    (left_x, left_y), (right_x, right_y), (nose_x, nose_y) = face.landmarks[:3]
    # Along the line between the eyes, whatever the roll; 0: the nose is in the middle, 1 or -1: at an eye.
    across, down = right_x - left_x, right_y - left_y
    yaw = ((2 * nose_x - left_x - right_x) * across + (2 * nose_y - left_y - right_y) * down) / distance**2
    scores["eye_distance"] = round(distance, 1)
    # Sigmoid of OFIQ's inter-eye distance measure: 70 px gives 50 of 100, with a width of 20 px.
    scores["eye_distance_score"] = round(100 / (1 + math.exp(-(distance - 70) / 20)), 1)
    scores["roll"] = round(roll, 1)
    scores["roll_score"] = round(100 * max(0.0, math.cos(math.radians(roll))) ** 2, 1)
    scores["yaw"] = round(yaw, 2)
    advice = []
    if abs(roll) > 30:
        advice.append(f"the head is tilted by {roll:.0f} degrees")
    if abs(yaw) > 0.6:
        advice.append("the head is turned to the side")
    return tuple(advice)


def _sharpness(grey: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian after shrinking the crop to 64 pixels, so that it does not depend on the size.

    A smaller crop is measured as it is: enlarging it would only measure the interpolation.
    """
    scale = min(1.0, SHARPNESS_SIDE / max(grey.shape))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return float(cv2.Laplacian(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), cv2.CV_32F).var())


def quality_score(pixels: NDArray[np.uint8]) -> tuple[float, dict[str, float]]:
    """A score from 0 to 1 for the technical quality of an image, and its parts.

    The parts, each 0 to 1: sharpness (variance of the Laplacian at 512 pixels on the longer side, full at 500),
    contrast (deviation of brightness, full at 60), exposure (1 while no more than 1 % is black or white), saturation
    (mean, full at 0.3), resolution (megapixels, full at 1). The score is their mean.

    Args:
        pixels: RGB uint8 of shape (height, width, 3).
    """
    height, width = pixels.shape[:2]
    scale = 512 / max(height, width)
    small = cv2.resize(
        pixels,
        (max(1, round(width * scale)), max(1, round(height * scale))),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    clipped = float(np.mean((grey <= 4) | (grey >= 251)))
    saturation = float(cv2.cvtColor(small, cv2.COLOR_RGB2HSV)[:, :, 1].mean()) / 255
    parts = {
        "sharpness": min(1.0, float(cv2.Laplacian(grey, cv2.CV_32F).var()) / 500),
        "contrast": min(1.0, float(grey.std()) / 60),
        "exposure": 1 - min(1.0, max(0.0, clipped - 0.01) / 0.5),
        "saturation": min(1.0, saturation / 0.3),
        "resolution": min(1.0, width * height / 1_000_000),
    }
    parts = {name: round(value, 3) for name, value in parts.items()}
    return round(sum(parts.values()) / len(parts), 3), parts
