"""Scenes with faces at known places: one photographed face, pasted at any size, turn, light and blur.

The face is `skimage.data.astronaut` (NASA, public domain); the backgrounds are pictures of scikit-image without a face.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

from imaging.geometry.boxes import Box
from imaging.geometry.crop import resize
from imaging.geometry.nms import iou

ROLL = 3.0  # degrees, clockwise, of the astronaut herself: her irises lie at (202.8, 101.3) and (246.5, 103.5)
FACE = Box(178, 62, 270, 175)  # brow to chin in the astronaut
HEAD = Box(132, 2, 324, 218)  # the face with its hair: what is pasted
BACKGROUNDS = ("coffee", "chelsea", "brick", "grass", "gravel")
SIZES = (12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 400)
ANGLES = tuple(range(0, 360, 15))
LIGHTS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08)  # factors on the face's values
FOUND = 0.5  # intersection over union from which a found box is a true one


@dataclass(frozen=True, slots=True)
class Placed:
    """One face of a scene.

    Attributes:
        width: of the face, in pixels of the scene.
        center: of the face, (x, y) in pixels of the scene; may lie near a border.
        angle: turn in degrees, clockwise.
        light: factor on the face's values; under 1 is darker.
        blur: deviation of a Gaussian blur, as a share of the face's width.
    """

    width: float
    center: tuple[float, float]
    angle: float = 0.0
    light: float = 1.0
    blur: float = 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """An RGB uint8 picture, and its faces as they were pasted: true boxes, and turns in degrees, clockwise."""

    name: str
    image: NDArray[np.uint8]
    faces: tuple[Box, ...] = ()
    angles: tuple[float, ...] = ()


def compose(name: str, size: tuple[int, int], faces: Sequence[Placed], background: str = "coffee") -> Scene:
    """Paste faces into a background of `size` (width, height); later ones lie over earlier ones.

    Raises:
        ValueError: a face whose box lies outside the scene.
    """
    canvas = resize(_background(background), size)
    return Scene(name, canvas, tuple(_paste(canvas, face) for face in faces), tuple(face.angle for face in faces))


def sized(seed: int = 0, size: tuple[int, int] = (1024, 1024), per_size: int = 4) -> Iterator[Scene]:
    """One upright face of each of `SIZES` at `per_size` random places."""
    random = np.random.default_rng(seed)
    for width in SIZES:
        for number in range(per_size):
            face = Placed(width, _somewhere(random, size, width))
            yield compose(f"size {width}", size, [face], BACKGROUNDS[number % len(BACKGROUNDS)])


def turned(seed: int = 0, width: int = 96, size: tuple[int, int] = (640, 640), per_angle: int = 2) -> Iterator[Scene]:
    """One face at each of `ANGLES`."""
    random = np.random.default_rng(seed)
    for angle in ANGLES:
        for number in range(per_angle):
            face = Placed(width, _somewhere(random, size, width), angle=angle)
            yield compose(f"angle {angle}", size, [face], BACKGROUNDS[number % len(BACKGROUNDS)])


def dark(seed: int = 0, size: tuple[int, int] = (640, 640)) -> Iterator[Scene]:
    """One face in ever less light."""
    random = np.random.default_rng(seed)
    for light in LIGHTS:
        for background in BACKGROUNDS:
            yield compose(f"light {light}", size, [Placed(96, _somewhere(random, size, 96), light=light)], background)


def blurred(seed: int = 0, size: tuple[int, int] = (640, 640)) -> Iterator[Scene]:
    """One face, ever softer."""
    random = np.random.default_rng(seed)
    for blur in (0.01, 0.02, 0.04, 0.06, 0.08, 0.12):
        for background in BACKGROUNDS:
            yield compose(f"blur {blur}", size, [Placed(96, _somewhere(random, size, 96), blur=blur)], background)


def crowds(seed: int = 0, size: tuple[int, int] = (1536, 1024), count: int = 12) -> Iterator[Scene]:
    """Many faces apart from each other, of 16 to 120 pixels, a little turned, each in its own light."""
    random = np.random.default_rng(seed)
    columns = round(math.sqrt(count * size[0] / size[1]))
    cell = (size[0] / columns, size[1] / math.ceil(count / columns))
    for background in BACKGROUNDS:
        faces = [
            Placed(
                float(random.uniform(16, min(120, cell[0] / 2.5, cell[1] / 2.5))),
                (
                    (number % columns + float(random.uniform(0.4, 0.6))) * cell[0],
                    (number // columns + float(random.uniform(0.4, 0.6))) * cell[1],
                ),
                angle=float(random.uniform(-20, 20)),
                light=float(random.uniform(0.5, 1.1)),
            )
            for number in range(count)
        ]
        yield compose(f"crowd of {count}", size, faces, background)


def touching(size: tuple[int, int] = (800, 600)) -> Iterator[Scene]:
    """Two faces cheek to cheek, level and one above the other's shoulder."""
    for background in BACKGROUNDS:
        for width in (40, 90, 160):
            for apart in (1.05, 1.2):
                x, y = size[0] / 2, size[1] / 2
                pair = [Placed(width, (x, y)), Placed(width * 0.9, (x + apart * width, y - 0.3 * width))]
                yield compose(f"touching {apart}", size, pair, background)


def at_borders(size: tuple[int, int] = (640, 480), width: int = 90) -> Iterator[Scene]:
    """A face whose box touches each border and corner, then one that is cut off by a fifth."""
    for background in BACKGROUNDS[:3]:
        for inside, label in ((0.5, "at the border"), (0.3, "cut by a fifth")):
            for across in (0, 1, 2):
                for down in (0, 1, 2):
                    if (across, down) != (1, 1):
                        x = (inside * width, size[0] / 2, size[0] - inside * width)[across]
                        tall = width * FACE.height / FACE.width
                        y = (inside * tall, size[1] / 2, size[1] - inside * tall)[down]
                        yield compose(label, size, [Placed(width, (x, y))], background)


def small_in_large(seed: int = 0, size: tuple[int, int] = (2048, 1536), per_size: int = 3) -> Iterator[Scene]:
    """One small face in a picture of three megapixels."""
    random = np.random.default_rng(seed)
    for width in (12, 14, 16, 20, 24):
        for number in range(per_size):
            face = Placed(width, _somewhere(random, size, width))
            yield compose(f"{width} px in 3 megapixels", size, [face], BACKGROUNDS[number % len(BACKGROUNDS)])


def beside(seed: int = 0, size: tuple[int, int] = (1024, 1024)) -> Iterator[Scene]:
    """An upright face, and one that lies, stands on its head or leans by an eighth beside it."""
    random = np.random.default_rng(seed)
    for width in (48, 64, 96, 128, 192, 256):
        for angle in (90, 135, 180, 225, 270):
            pair = [Placed(width, (size[0] * 0.27, size[1] / 2)), Placed(width, (size[0] * 0.7, size[1] / 2), angle)]
            yield compose(f"beside {angle}", size, pair, BACKGROUNDS[int(random.integers(len(BACKGROUNDS)))])


def rolled(seed: int = 0, size: tuple[int, int] = (900, 900)) -> Iterator[Scene]:
    """A face of each size, turned by 0 to 40 degrees to either side."""
    random = np.random.default_rng(seed)
    for width in (40, 90, 160, 300):
        for angle in (-40, -32, -24, -16, -8, 0, 8, 16, 24, 32, 40):
            for background in ("coffee", "grass"):
                place = (450 + float(random.uniform(-20, 20)), 450 + float(random.uniform(-20, 20)))
                yield compose(f"rolled {angle}", size, [Placed(width, place, angle=angle)], background)


def without_faces() -> Iterator[Scene]:
    """Pictures without a face, as they are, enlarged, and turned."""
    for name in BACKGROUNDS:
        picture = _background(name)
        for scale in (0.5, 1, 2, 4):
            size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
            yield Scene(f"no face: {name}", resize(picture, size))
        for turns in (1, 2, 3):
            yield Scene(f"no face: {name}", np.ascontiguousarray(np.rot90(picture, turns)))


def match(found: Sequence[Box], faces: Sequence[Box]) -> tuple[int, int]:
    """(true faces that were found, found boxes that are no face), each true face taken by one box at most."""
    pairs = sorted(
        ((iou(box, face), number, index) for number, box in enumerate(found) for index, face in enumerate(faces)),
        reverse=True,
    )
    boxes: set[int] = set()
    hits: set[int] = set()
    for overlap, number, index in pairs:
        if overlap >= FOUND and number not in boxes and index not in hits:
            boxes.add(number)
            hits.add(index)
    return len(hits), len(found) - len(boxes)


def _somewhere(random: np.random.Generator, size: tuple[int, int], width: float) -> tuple[float, float]:
    room = min(0.75 * width * FACE.height / FACE.width, min(size) / 2)
    return (float(random.uniform(room, size[0] - room)), float(random.uniform(room, size[1] - room)))


@lru_cache(maxsize=len(BACKGROUNDS))
def _background(name: str) -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = getattr(data, name)()
    return np.stack([picture] * 3, axis=2) if picture.ndim == 2 else picture


@lru_cache(maxsize=1)
def _head() -> NDArray[np.float32]:
    """The head as float RGB, and a fourth channel, 0 to 1: a soft ellipse."""
    pixels = data.astronaut()[HEAD.top : HEAD.bottom, HEAD.left : HEAD.right].astype(np.float32)
    y, x = np.mgrid[0 : HEAD.height, 0 : HEAD.width].astype(np.float32)
    radius = np.hypot((2 * x + 1) / HEAD.width - 1, (2 * y + 1) / HEAD.height - 1)
    return np.dstack([pixels, np.clip((1 - radius) / 0.12, 0, 1)])


def _paste(canvas: NDArray[np.uint8], face: Placed) -> Box:
    """Paste one face into the canvas; its box, cut at the canvas' borders."""
    scale = face.width / FACE.width
    sprite = _head()
    shrink = min(1.0, scale * 2)  # first by area, to twice the size that is needed, so that nothing aliases
    if shrink < 1:
        sprite = cv2.resize(sprite, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    shrink_x, shrink_y = sprite.shape[1] / HEAD.width, sprite.shape[0] / HEAD.height
    turn = math.radians(face.angle)
    cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
    middle = ((FACE.left + FACE.right) / 2 - HEAD.left, (FACE.top + FACE.bottom) / 2 - HEAD.top)
    # From the head's own pixels to the canvas: scaled and turned about the middle of the face.
    forward = np.array([[cos, -sin, face.center[0]], [sin, cos, face.center[1]]])
    forward[:, 2] -= forward[:, :2] @ middle
    forward[:, :2] /= (shrink_x, shrink_y)
    height, width = canvas.shape[:2]
    layer = cv2.warpAffine(sprite, forward, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    colors, alpha = layer[..., :3] * face.light, layer[..., 3:]
    if face.blur > 0:
        colors = cv2.GaussianBlur(colors, (0, 0), face.blur * face.width)
    canvas[...] = np.clip(np.rint(alpha * colors + (1 - alpha) * canvas), 0, 255).astype(np.uint8)
    # The bounding box of the turned ellipse from brow to chin.
    half_width, half_height = FACE.width / 2, FACE.height / 2
    across, down = math.hypot(half_width * cos, half_height * sin), math.hypot(half_width * sin, half_height * cos)
    x, y = face.center
    return Box(
        max(0, round(x - across)), max(0, round(y - down)), min(width, round(x + across)), min(height, round(y + down))
    )
