"""From words and a seed to a painting."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sketch.background import paint_background, texture
from sketch.body import Body
from sketch.canvas import Canvas, ellipse
from sketch.extras import draw_glasses, draw_hat
from sketch.face import Face
from sketch.hair import Hair, draw_beard
from sketch.scene import Figure, Scene, compose
from sketch.words import read

PAINTER_VERSION = "1"
_FINE = 640  # up to this longest side the work is done at twice the size
_LARGEST = 1280  # beyond this longest side it is done smaller and enlarged before the finish


def paint_scene(prompt: str, negative: str, seed: int, width: int, height: int) -> NDArray[np.uint8]:
    """Paint a portrait of one to six people.

    Args:
        prompt: what to show; words that mean nothing to the painter are passed over.
        negative: what to leave out.
        seed: 0 to 2**32 - 1; the same arguments give the same bytes.
        width: pixels, at least 64.
        height: pixels, at least 64.

    Returns:
        RGB, uint8, shape (height, width, 3).
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    brief = read(prompt, negative)
    long_side = max(width, height)
    scale = 2.0 if long_side <= _FINE else min(1.0, _LARGEST / long_side)
    work_width, work_height = round(width * scale), round(height * scale)
    scene = compose(brief, work_width, work_height, rng)
    canvas = paint_background(scene.place, work_width, work_height, rng)
    for figure in scene.figures:
        _paint_figure(canvas, figure, scene, rng)
    return _finish(canvas, scene, width, height, rng)


def _paint_figure(canvas: Canvas, figure: Figure, scene: Scene, rng: np.random.Generator) -> None:
    frame, person, light = figure.frame, figure.person, scene.light
    unit = frame.unit
    # Air between the figure and what lies behind it.
    canvas.shape(ellipse(frame.x, frame.y + 0.1 * unit, 0.62 * unit, 0.8 * unit), light.rim, 0.25, unit * 0.16)
    hair = Hair(canvas, frame, person, light, rng)
    head = Face(canvas, frame, person, light, rng)
    hair.draw_back()
    Body(canvas, frame, person, light, rng).draw()
    head.draw_base()
    draw_beard(hair)
    head.draw_features()
    hair.draw_front(head)
    if person.hat:
        draw_hat(canvas, frame, person, light, head.mask, head.skin.shade)
    if person.glasses:
        draw_glasses(canvas, frame, person.glasses, head.skin.shade, light)


def _finish(canvas: Canvas, scene: Scene, width: int, height: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Bring to size, then grade, darken the corners and lay the texture of brush and paper over it."""
    shrink = canvas.width > width
    mode = cv2.INTER_AREA if shrink else cv2.INTER_CUBIC
    planes = canvas.pixels
    if (canvas.width, canvas.height) != (width, height):
        planes = np.stack([cv2.resize(plane, (width, height), interpolation=mode) for plane in planes])
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)
    corners = 1 - 0.16 * (x[None, :] ** 2 + y[:, None] ** 2) ** 1.5 / 2.0
    factor = texture(width, height, rng) * corners
    if scene.monochrome:
        grey = planes[0] * 0.299 + planes[1] * 0.587 + planes[2] * 0.114
        planes = np.stack([grey, grey * np.float32(0.985), grey * np.float32(0.96)])
    else:
        planes = planes * np.array(scene.grade, np.float32)[:, None, None]
    pixels = (planes * factor * 255 + 0.5).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))
