"""The face pass of the painter: a face painted over, true to its place, pose and light.

Methods: strokes in layers from coarse to fine, each laid where the canvas differs from the picture (Hertzmann,
"Painterly rendering with curved brush strokes of multiple sizes", 1998); their direction from the smoothed
structure tensor (Kyprianidis and Kang, "Image and video abstraction by coherence-enhancing filtering", 2011).
"""

from __future__ import annotations

import math
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.geometry.boxes import Face
from sketch.canvas import Color
from sketch.palette import EYES, LIPSTICK
from sketch.words import Wish, common_wish, read

_BRUSHES: Final = (0.048, 0.024, 0.012)  # widths, in face widths
_SEGMENTS: Final = 3
_LENGTH: Final = 0.8  # of one segment, in brush widths
_PLANE: Final = 9.0  # steps of lightness between the planes of a face, of 100
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)

Image = NDArray[np.float32]


def repaint_face(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], prompt: str, seed: int, strength: float, face: Face | None
) -> NDArray[np.uint8]:
    """Paint over the masked part of a picture.

    Args:
        image: RGB, uint8, shape (height, width, 3).
        mask: uint8, shape (height, width); 255 is painted over, 0 is kept to the pixel.
        prompt: words that steer it: eye colour, lips, blush, freckles, expression, warm or cold light. All but the
            light need landmarks.
        seed: 0 to 2**32 - 1; the same arguments give the same bytes.
        strength: 0 (the image unchanged) to 1 (nothing but paint).
        face: where the face lies in `image`, or None.

    Returns:
        RGB, uint8, of the image's shape.
    """
    strength = min(1.0, max(0.0, strength))
    if strength == 0 or not mask.any():
        return image.copy()
    rng = np.random.Generator(np.random.PCG64(seed))
    brief = read(prompt)
    # Only the masked part and a margin are worked on.
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    extent = float(max(np.ptp(rows), np.ptp(columns)) + 1)
    margin = math.ceil(extent * 0.1) + 4
    top, bottom = max(0, int(rows[0]) - margin), min(image.shape[0], int(rows[-1]) + margin + 1)
    left, right = max(0, int(columns[0]) - margin), min(image.shape[1], int(columns[-1]) + margin + 1)
    here = np.s_[top:bottom, left:right]
    size = float(face.box.width) if face else extent
    source = image[here]
    if face is not None and face.landmarks is not None:
        points = np.array(face.landmarks, float) - (left, top)
        source = _steer(source, points, common_wish(brief), strength, rng)
    painted = _paint(source, mask[here] > 0, size, strength, rng)
    painted = _grade(painted, brief.light, strength)
    cover = (mask[here].astype(np.float32) / 255 * (1 - (1 - strength) ** 2))[..., None]
    result = image.copy()
    mixed = image[here] + (painted - image[here]) * cover
    result[here] = (mixed + 0.5).clip(0, 255).astype(np.uint8)
    return result


# -- paint ------------------------------------------------------------------------------------------------------


def _paint(
    source: NDArray[Any], wanted: NDArray[np.bool_], size: float, strength: float, rng: np.random.Generator
) -> Image:
    """The picture in brush strokes where they are wanted: float32, 0 to 255."""
    angle = _flow(source, size)
    smooth = cv2.bilateralFilter(cv2.medianBlur(source, 3), 7, 40, max(2.0, size * 0.015))
    rich = _richer(smooth)
    blur = max(1.0, size * 0.02)
    # The fourth channel is the height of the paint.
    canvas = np.dstack([cv2.GaussianBlur(rich, (0, 0), blur), np.full(source.shape[:2], 128, np.uint8)])
    for index, brush in enumerate(_BRUSHES):
        width = max(2.0, brush * size * (0.6 + 0.5 * strength))
        guide = cv2.GaussianBlur(rich, (0, 0), width * 0.45)
        _strokes(canvas, guide, angle, width, wanted, always=index == 0, rng=rng)
    # Lines of drawing: what is finer than the finest brush comes back at the strong edges, softly.
    fine = source.astype(np.float32) - cv2.GaussianBlur(source, (0, 0), max(1.0, size * 0.012)).astype(np.float32)
    edge = cv2.GaussianBlur(_largest(np.abs(fine)), (0, 0), max(1.0, size * 0.008))
    weight = np.clip((edge - 3) / 12, 0, 1)[..., None] * (0.95 - 0.35 * strength)
    relief = _light_on(canvas[..., 3])[..., None]
    return np.asarray(canvas[..., :3].astype(np.float32) + fine * weight + relief, np.float32)


def _flow(source: NDArray[Any], size: float) -> Image:
    """The direction along edges at each pixel, in radians: the minor axis of the smoothed structure tensor."""
    grey = cv2.GaussianBlur(cv2.cvtColor(source, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), max(1.0, size * 0.008))
    dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    sigma = max(2.0, size * 0.03)
    xx, yy, xy = (cv2.GaussianBlur(part, (0, 0), sigma) for part in (dx * dx, dy * dy, dx * dy))
    return np.asarray(0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2, np.float32)


def _richer(source: NDArray[Any]) -> NDArray[np.uint8]:
    """More colour, and light gathered into planes, as a painter would mix.

    The planes are Winnemoeller's soft quantisation ("Real-time video abstraction", 2006).
    """
    lab: Image = np.asarray(cv2.cvtColor(source.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    light = lab[..., 0]
    nearest = np.round(light / _PLANE) * _PLANE
    lab[..., 0] = nearest + _PLANE / 2 * np.tanh((light - nearest) * 0.32) + 2.5 * np.sin((light - 50) / 50 * np.pi)
    lab[..., 1:] *= np.float32(1.22)
    rgb = np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.float32)
    return (rgb * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _strokes(
    canvas: NDArray[Any],
    guide: NDArray[Any],
    angle: Image,
    width: float,
    wanted: NDArray[np.bool_],
    *,
    always: bool,
    rng: np.random.Generator,
) -> None:
    """Lay one layer of strokes on the canvas, in place."""
    height, across = canvas.shape[:2]
    step = max(2.0, width * 0.95)
    grid = np.stack(np.meshgrid(np.arange(0, across, step), np.arange(0, height, step)), axis=-1).reshape(-1, 2)
    grid = grid + rng.uniform(-0.5, 0.5, grid.shape) * step
    limit = np.array([across - 1, height - 1])
    grid = grid.clip(0, limit)
    if not always:
        wanted = wanted & (cv2.blur(_largest(cv2.absdiff(canvas[..., :3], guide)), (3, 3)) > 13)
    x, y = grid.astype(int).T
    path = [grid[wanted[y, x]]]
    heading = rng.choice([-1.0, 1.0], len(path[0]))
    before = np.zeros((len(path[0]), 2))
    for _ in range(_SEGMENTS):
        x, y = path[-1].astype(int).T
        turn = angle[y, x]
        along = np.stack([np.cos(turn), np.sin(turn)], axis=1) * heading[:, None]
        along *= np.where(along[:, 0] * before[:, 0] + along[:, 1] * before[:, 1] < 0, -1.0, 1.0)[
            :, None
        ]  # never fold back
        path.append((path[-1] + along * width * _LENGTH).clip(0, limit))
        before = along
    points = np.rint(np.stack(path, axis=1) * 16).astype(np.int32)
    x, y = path[len(path) // 2].astype(int).T
    colors = guide[y, x] + rng.normal(0, 3.5, (len(points), 1)) + rng.normal(0, 2.0, (len(points), 3))
    paint = np.column_stack([colors.clip(0, 255), rng.uniform(80, 176, len(points))]).tolist()
    thick = max(1, round(width))
    for i in rng.permutation(len(points)).tolist():
        cv2.polylines(
            canvas, [points[i]], isClosed=False, color=paint[i], thickness=thick, lineType=cv2.LINE_AA, shift=4
        )


def _largest(channels: NDArray[Any]) -> NDArray[Any]:
    """The largest of the three channels at each pixel; NumPy's own `max(axis=2)` takes ten times as long."""
    largest: NDArray[Any] = np.maximum(np.maximum(channels[..., 0], channels[..., 1]), channels[..., 2])
    return largest


def _light_on(relief: NDArray[Any]) -> Image:
    """Light from the upper left on the ridges of the paint, in levels."""
    soft = cv2.GaussianBlur(relief, (0, 0), 1.1).astype(np.float32)
    slope = cv2.Sobel(soft, cv2.CV_32F, 1, 0) + cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    return np.asarray(np.clip(slope * 0.045, -8, 8), np.float32)


def _grade(painted: Image, light: str | None, strength: float) -> Image:
    factor = {"warm": (1.06, 1.0, 0.88), "cold": (0.9, 0.98, 1.08)}.get(light or "")
    if factor is None:
        return painted
    return painted * (1 + (np.array(factor, np.float32) - 1) * strength)


# -- words ------------------------------------------------------------------------------------------------------


def _steer(
    source: NDArray[np.uint8], points: NDArray[np.float64], wish: Wish, strength: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Change what the words ask for, before it is painted over.

    `points` are the five landmarks in pixels of `source`.
    """
    eyes = float(math.dist(points[0], points[1]))
    if eyes < 8:
        return source
    mouth = _expression(source, points, wish.expression, eyes, strength)
    image = mouth.astype(np.float32)
    if wish.eyes:
        for eye in points[:2]:
            _tint_eye(image, eye, eyes, EYES[wish.eyes], strength)
    if wish.lipstick:
        _tint_lips(image, points, LIPSTICK[wish.lipstick], strength)
    if wish.blush or wish.expression in ("smiling", "laughing"):
        amount = (0.5 if wish.blush else 0.2) * strength
        for cheek in _cheeks(points):
            _glaze(image, cheek, (eyes * 0.27, eyes * 0.2), (214, 92, 84), amount)
    if wish.freckles:
        _freckle(image, points, eyes, strength, rng)
    return (image + 0.5).clip(0, 255).astype(np.uint8)


def _cheeks(points: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The middle of each cheek: below the eye, level with the nose tip or a little lower."""
    return [
        points[eye] * 0.42 + points[corner] * 0.58 + (points[eye] - points[2]) * (0.24, 0.0)
        for eye, corner in ((0, 3), (1, 4))
    ]


def _spot(shape: tuple[int, ...], center: NDArray[np.float64], radii: tuple[float, float]) -> Image:
    """A soft ellipse, 1 in the middle, falling as a Gaussian with these deviations."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.asarray(np.exp(-(((x - center[0]) / radii[0]) ** 2 + ((y - center[1]) / radii[1]) ** 2) / 2), np.float32)


def _glaze(
    image: Image,
    center: NDArray[np.float64],
    radii: tuple[float, float],
    color: tuple[float, float, float],
    amount: float,
) -> None:
    """A transparent colour: darkens as a glaze does, in place."""
    cover = (_spot(image.shape, center, radii) * amount)[..., None]
    tinted = image * (np.array(color, np.float32) / 255) ** 0.5
    image += (tinted * 1.06 - image) * cover


def _colored(image: Image, color: Color, cover: Image, contrast: float) -> Image:
    """The colour, lighter and darker as the image is around its mean under the cover."""
    grey = image @ _LUMA
    mean = float((grey * cover).sum() / max(float(cover.sum()), 1e-3))
    relative = 1 + (grey / max(mean, 8.0) - 1) * contrast
    return np.asarray(np.array(color, np.float32) * 255 * relative.clip(0.35, 2.0)[..., None], np.float32)


def _lay(image: Image, color: Color, cover: Image, contrast: float) -> None:
    """Blend the colour in under the cover, in place."""
    image += (_colored(image, color, cover, contrast) - image) * cover[..., None]


def _tint_eye(image: Image, eye: NDArray[np.float64], eyes: float, color: Color, strength: float) -> None:
    """Colour the iris: the dark disk near the landmark; lashes, pupil and the white stay."""
    reach, radius = eyes * 0.07, eyes * 0.085
    grey = image @ _LUMA
    soft = cv2.GaussianBlur(grey, (0, 0), max(1.0, radius * 0.5))
    height, width = grey.shape
    left, top = max(0, int(eye[0] - reach)), max(0, int(eye[1] - reach * 0.6))
    window = soft[top : min(height, int(eye[1] + reach * 0.6) + 1), left : min(width, int(eye[0] + reach) + 1)]
    if window.size == 0:
        return
    at = np.unravel_index(int(window.argmin()), window.shape)
    y, x = np.ogrid[:height, :width]
    distance = np.hypot(x - (left + at[1]), (y - (top + at[0])) * 1.1) / radius
    disk = np.clip((1.1 - distance) / 0.35, 0, 1) * (1 - np.clip((0.5 - distance) / 0.2, 0, 1))
    white = np.clip((grey - 140) / 50, 0, 1)
    cover = np.asarray(disk * (1 - white) * min(1.0, 0.3 + 0.6 * strength), np.float32)
    _lay(image, color, cover, 0.55)


def _tint_lips(image: Image, points: NDArray[np.float64], color: Color, strength: float) -> None:
    """Colour what is redder than the cheeks around the line between the mouth's corners."""
    left, right, nose = points[3], points[4], points[2]
    middle, wide = (left + right) / 2, float(math.dist(left, right))
    lab = cv2.cvtColor(image.clip(0, 255) / 255, cv2.COLOR_RGB2LAB)
    redness = cv2.GaussianBlur(lab[..., 1] - 0.25 * lab[..., 0], (0, 0), max(0.8, wide * 0.015))
    height, width = redness.shape
    samples = [redness[int(np.clip(y, 0, height - 1)), int(np.clip(x, 0, width - 1))] for x, y in _cheeks(points)]
    down = (middle - nose) / max(1.0, float(math.dist(middle, nose)))
    zone = _spot(image.shape, middle + down * wide * 0.05, (wide * 0.30, wide * 0.15))
    zone = np.clip(zone * 2.2 - 0.5, 0, 1)
    lips = np.clip((redness - float(np.mean(samples)) - 4) / 6, 0, 1)
    _lay(image, color, np.asarray(zone * lips * min(0.8, 0.25 + 0.6 * strength), np.float32), 0.9)


def _freckle(image: Image, points: NDArray[np.float64], eyes: float, strength: float, rng: np.random.Generator) -> None:
    """Small brown dots over nose and cheeks, in place."""
    along = (points[1] - points[0]) / eyes
    down = np.array([-along[1], along[0]])
    center = (points[0] + points[1]) / 2 + down * eyes * 0.42
    dots = np.zeros(image.shape[:2], np.uint8)
    for u, v, size in zip(rng.normal(0, 0.42, 90), rng.normal(0, 0.13, 90), rng.uniform(0.006, 0.013, 90), strict=True):
        x, y = center + (along * u + down * v) * eyes
        cv2.circle(dots, (round(x * 16), round(y * 16)), max(6, round(size * eyes * 16)), 255, -1, cv2.LINE_AA, 4)
    cover = cv2.GaussianBlur(dots, (0, 0), max(0.5, eyes * 0.006)).astype(np.float32)[..., None] / 255
    image += (image * np.array([0.80, 0.66, 0.56], np.float32) - image) * cover * min(1.0, 0.3 + 0.6 * strength)


def _expression(
    source: NDArray[np.uint8], points: NDArray[np.float64], expression: str | None, eyes: float, strength: float
) -> NDArray[np.uint8]:
    """Bend the mouth's corners a little up or down; a photograph takes no more than that."""
    lift = {"smiling": 0.075, "laughing": 0.09, "sad": -0.07, "angry": -0.04}.get(expression or "", 0.0)
    if lift == 0.0:
        return source
    height, width = source.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    wide = float(math.dist(points[3], points[4]))
    middle = (points[3] + points[4]) / 2
    outward = (points[4] - points[3]) / max(1.0, wide)
    for corner, sign in ((points[3], -1.0), (points[4], 1.0)):
        spot = _spot(source.shape, corner, (eyes * 0.16, eyes * 0.16)) * np.float32(eyes * lift * strength)
        y = y + spot
        x = x - spot * np.float32(sign * outward[0] * 0.4)
    y = y - _spot(source.shape, middle, (eyes * 0.16, eyes * 0.12)) * np.float32(eyes * lift * strength * 0.35)
    return np.asarray(cv2.remap(source, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT), np.uint8)
