"""Numbers that tell whether an image is good enough to go on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.geometry.crop import fit_within, resize
from imaging.quality.artefacts import blockiness, noise

# Output checks (all on a grey image of 0 to 255).
LEAST_DEVIATION = 3.0
LEAST_CORRELATION = 0.3
FACE_SIDE = 64  # pixels; here too a face is no noise. Measured: faces 0.49 and more, noise up to 8 pixels wide 0.2
LEAST_PIXELS = 64  # of a mask; fewer say nothing

# Quality score.
WEIGHTS = {
    "sharpness": 0.3,
    "artefacts": 0.25,
    "contrast": 0.15,
    "exposure": 0.15,
    "saturation": 0.05,
    "resolution": 0.1,
}  # together 1
LEAST_PART = 0.05
MEASURED_SIDE = 512  # pixels
WINDOW = 1024  # pixels; shrinking would hide blocks and noise


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
    grey = _grey(pixels).astype(np.float32)
    deviation, correlation = float(grey.std()), _neighbour_correlation(grey, np.ones(grey.shape, np.bool_))
    return _verdict(
        (pixels.shape[1], pixels.shape[0]), size, (deviation, LEAST_DEVIATION), (correlation, LEAST_CORRELATION)
    )


def verify_face(pixels: NDArray[np.uint8], before: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Verdict:
    """Whether a face made anew is usable: the size of the old one, and inside its mask neither blank nor noise.

    It is looked at where the mask is 255, since back ends put the old pixels back where it is not, and without the
    darkest and the lightest tenth, into which those may bleed. Noise is looked for in single and in coarse pixels.
    Where the old pixels are flat or grainy themselves, such as a cheek alone, half of what they have is enough.

    Args:
        pixels: the new face, RGB uint8 of shape (height, width, 3).
        before: what it was made from, RGB uint8.
        mask: uint8 of shape (height, width), as large as `before`.
    """
    size = (before.shape[1], before.shape[0])
    if pixels.shape != before.shape:
        return _verdict((pixels.shape[1], pixels.shape[0]), size)
    inside = next(part for part in (mask == 255, mask > 0, mask >= 0) if part.sum() >= min(LEAST_PIXELS, mask.size))
    new, old = _structure(_grey(pixels), inside), _structure(_grey(before), inside)
    limits = (min(LEAST_DEVIATION, old[0] / 2), min(LEAST_CORRELATION, old[1] / 2))
    return _verdict(size, size, *zip(new, limits, strict=True))


def _verdict(
    found: tuple[int, int],
    size: tuple[int, int],
    deviation: tuple[float, float] = (1.0, 0.0),
    correlation: tuple[float, float] = (1.0, 0.0),
) -> Verdict:
    """A verdict on a picture's size, deviation of brightness and correlation of neighbours, these with their limits."""
    reasons = []
    if found != size:
        reasons.append(f"it is {found[0]}x{found[1]}, not {size[0]}x{size[1]}")
    if deviation[0] < deviation[1]:
        reasons.append(
            f"it is blank: its brightness varies by {deviation[0]:.1f}, at least {deviation[1]:.3g} is usual"
        )
    elif correlation[0] < correlation[1]:
        reasons.append(
            f"it is noise: neighbouring pixels correlate by {correlation[0]:.2f}, "
            f"at least {correlation[1]:.2g} is usual"
        )
    scores = {"deviation": round(deviation[0], 2), "neighbour_correlation": round(correlation[0], 3)}
    return Verdict(not reasons, scores, tuple(reasons))


def _structure(grey: NDArray[np.uint8], inside: NDArray[np.bool_]) -> tuple[float, float]:
    """The deviation of brightness without its outer tenths, and the least correlation of neighbours at two sizes."""
    values = grey[inside].astype(np.float32)
    deviation = float(np.clip(values, *np.percentile(values, (10, 90))).std())
    size = fit_within((grey.shape[1], grey.shape[0]), min(FACE_SIDE, max(grey.shape)))
    coarse, whole = resize(grey, size), resize(inside.astype(np.uint8) * np.uint8(255), size) == 255
    views = [(grey, inside), (coarse, whole)] if whole.sum() >= LEAST_PIXELS else [(grey, inside)]
    return deviation, min(_neighbour_correlation(view.astype(np.float32), part) for view, part in views)


def _neighbour_correlation(grey: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    """Pearson correlation of adjacent pixels of a part, along rows or columns, whichever is lower.

    Near 1 for pictures, near 0 for white noise and for rows or columns of random colours.
    """
    return min(
        _correlation(one[both], other[both])
        for one, other, both in (
            (grey[:, :-1], grey[:, 1:], inside[:, :-1] & inside[:, 1:]),
            (grey[:-1], grey[1:], inside[:-1] & inside[1:]),
        )
    )


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    spread = float(one.std() * other.std()) if one.size else 0.0
    return float(((one - one.mean()) * (other - other.mean())).mean() / spread) if spread > 0 else 1.0


def measure_quality(pixels: NDArray[np.uint8]) -> dict[str, float]:
    """What `rate_quality` goes by, as measured.

    The numbers: `sharpness`, the variance of the Laplacian at 512 pixels on the longer side (a smaller image as it is),
    less what the noise adds to it; `blockiness` and `noise` of `artefacts`, in the middle 1024 x 1024 pixels;
    `contrast`, the deviation of brightness, 0 to 128; `clipped`, the share of values, of all three channels, at 4
    and under or 251 and above; `saturation`, the mean in HSV, 0 to 1; `megapixels`.

    Args:
        pixels: RGB uint8 of shape (height, width, 3).
    """
    height, width = pixels.shape[:2]
    small = resize(pixels, fit_within((width, height), min(MEASURED_SIDE, max(height, width))))
    grey = _grey(small)
    top, left = max(0, height - WINDOW) // 2, max(0, width - WINDOW) // 2
    middle = _grey(pixels[top : top + WINDOW, left : left + WINDOW])
    # The Laplacian makes white noise of deviation s into s times the root of 20.
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).var()) - 20 * noise(grey) ** 2
    return {
        "sharpness": round(max(0.0, sharpness), 1),
        "blockiness": round(blockiness(middle), 3),
        "noise": round(noise(middle), 2),
        "contrast": round(float(grey.std()), 1),
        "clipped": round(float(np.mean((small <= 4) | (small >= 251))), 4),
        "saturation": round(float(cv2.cvtColor(small, cv2.COLOR_RGB2HSV)[:, :, 1].mean()) / 255, 4),
        "megapixels": round(width * height / 1_000_000, 4),
    }


def rate_quality(numbers: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """A score from 0 to 1 for the technical quality of an image, and its parts, from what was measured.

    The parts, each 0 to 1: sharpness (nothing at 5, full at 500, in equal steps for equal ratios), artefacts (halved by
    a blockiness of 1.1, and again by noise of 12.5), contrast (full at 60), exposure (full while no more than 20 % is
    clipped, as of a black background; nothing at 80 %), saturation (full at 0.3), resolution (full at one megapixel,
    half at a quarter). The score is their geometric mean, weighted, each counted as 0.05 at least: what one lacks the
    others do not make good.

    Calibrated on photos of 450 to 600 pixels: 0.81 to 0.94 as they are, 0.33 to 0.54 blurred by a Gaussian of 2 pixels,
    0.60 to 0.79 as JPEG of quality 10, 0.61 to 0.77 with noise of 25; painted portraits of 1024 pixels 0.84 to 0.89.

    Args:
        numbers: as `measure_quality` gives them.
    """
    rough = 1 / (1 + max(0.0, numbers["blockiness"] - 0.1)) / (1 + max(0.0, numbers["noise"] - 2.5) / 10)
    parts = {
        "sharpness": math.log(max(numbers["sharpness"], 5) / 5) / math.log(100),
        "artefacts": rough,
        "contrast": numbers["contrast"] / 60,
        "exposure": 1 - (numbers["clipped"] - 0.2) / 0.6,
        "saturation": numbers["saturation"] / 0.3,
        "resolution": math.sqrt(numbers["megapixels"]),
    }
    parts = {name: round(min(1.0, max(0.0, value)), 3) for name, value in parts.items()}
    score = math.prod(max(LEAST_PART, parts[name]) ** weight for name, weight in WEIGHTS.items())
    return round(score, 3), parts


def quality_score(pixels: NDArray[np.uint8]) -> tuple[float, dict[str, float]]:
    """`rate_quality` of `measure_quality`: a score from 0 to 1, and its parts; `pixels` is RGB uint8."""
    return rate_quality(measure_quality(pixels))


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
