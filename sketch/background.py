"""What lies behind the people: ten places, painted loosely and out of focus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from sketch.canvas import Canvas, Color, Points, ellipse, mix, moved, rgb

_SIDE: Final = 320  # backgrounds are out of focus: painted with this longest side at most, then enlarged


@dataclass(frozen=True, slots=True)
class Place:
    """A background and what it does to the people in front of it."""

    draw: Callable[[Canvas, np.random.Generator], None]
    rim: Color
    grade: Color


def paint_background(name: str, width: int, height: int, rng: np.random.Generator) -> Canvas:
    """A canvas of this size with the place on it."""
    scale = min(1.0, _SIDE / max(width, height))
    small = Canvas(np.zeros((3, max(8, round(height * scale)), max(8, round(width * scale))), np.float32))
    PLACES[name].draw(small, rng)
    _brush(small, rng)
    pixels = np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_CUBIC) for plane in small.pixels])
    return Canvas(pixels.clip(0, 1).astype(np.float32))


def _brush(canvas: Canvas, rng: np.random.Generator) -> None:
    """Go over the whole in short broad strokes of its own colours."""
    image = np.ascontiguousarray(canvas.pixels.transpose(1, 2, 0) * 255).astype(np.uint8)
    source = image.copy()
    count = 650
    x, y = rng.integers(0, canvas.width, count), rng.integers(0, canvas.height, count)
    angle = rng.normal(-0.5, 0.5, count)
    reach = rng.uniform(0.006, 0.03, count) * max(canvas.width, canvas.height)
    tone = rng.normal(0, 5, count)
    dx, dy = (np.cos(angle) * reach).astype(int), (np.sin(angle) * reach).astype(int)
    thick = max(2, round(max(canvas.width, canvas.height) * 0.012))
    colors = np.clip(source[y, x].astype(float) + tone[:, None], 0, 255).tolist()
    for i in range(count):
        start, end = (int(x[i] - dx[i]), int(y[i] - dy[i])), (int(x[i] + dx[i]), int(y[i] + dy[i]))
        cv2.line(image, start, end, colors[i], thick, cv2.LINE_AA)
    mixed = cv2.addWeighted(image, 0.6, source, 0.4, 0)
    canvas.pixels[:] = mixed.transpose(2, 0, 1).astype(np.float32) / 255


def _sky(canvas: Canvas, stops: list[tuple[float, Color]]) -> None:
    """A vertical gradient through stops at heights 0 (top) to 1."""
    at = np.linspace(0, 1, canvas.height)
    for channel in range(3):
        column = np.interp(at, [stop for stop, _ in stops], [color[channel] for _, color in stops])
        canvas.pixels[channel] = column[:, None]


def _box(canvas: Canvas, left: float, top: float, right: float, bottom: float) -> Points:
    """A rectangle in fractions of the canvas."""
    size = (canvas.width, canvas.height)
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)]) * size


def _dot(canvas: Canvas, x: float, y: float, radius: float) -> Points:
    """A circle: centre in fractions of the canvas, radius in fractions of its longest side."""
    side = max(canvas.width, canvas.height)
    return ellipse(x * canvas.width, y * canvas.height, radius * side, radius * side)


def _ridge(canvas: Canvas, rng: np.random.Generator, base: float, rise: float, count: int) -> Points:
    """A skyline of hills or peaks: heights in fractions of the canvas."""
    x = np.linspace(-0.05, 1.05, count)
    y = base - rise * rng.uniform(0.15, 1.0, count)
    fine = np.linspace(-0.05, 1.05, count * 6)
    line = np.stack([fine, np.interp(fine, x, y)], axis=1)
    return np.concatenate([line, [(1.05, 1.1), (-0.05, 1.1)]]) * (canvas.width, canvas.height)


def _side(canvas: Canvas) -> float:
    return float(max(canvas.width, canvas.height))


def _studio(canvas: Canvas, rng: np.random.Generator) -> None:
    walls = [
        rgb(98, 112, 122),
        rgb(122, 104, 96),
        rgb(88, 108, 100),
        rgb(116, 98, 116),
        rgb(136, 120, 96),
        rgb(82, 96, 124),
    ]
    wall = walls[int(rng.integers(len(walls)))]
    _sky(canvas, [(0, mix(wall, (0, 0, 0), 0.25)), (0.5, wall), (1, mix(wall, (0, 0, 0), 0.35))])
    side = _side(canvas)
    x = 0.3 + 0.4 * rng.random()
    canvas.shape(_dot(canvas, x, 0.42, 0.34), mix(wall, (1, 0.96, 0.88), 0.5), 0.75, side * 0.12)
    for _ in range(10):
        spot = _dot(canvas, rng.random(), rng.random(), rng.uniform(0.05, 0.15))
        canvas.shape(spot, mix(wall, (1, 1, 1) if rng.random() < 0.5 else (0, 0, 0), 0.25), 0.3, side * 0.03)


def _sunset(canvas: Canvas, rng: np.random.Generator) -> None:
    _sky(
        canvas,
        [
            (0, rgb(72, 66, 118)),
            (0.28, rgb(164, 92, 122)),
            (0.5, rgb(238, 142, 96)),
            (0.66, rgb(252, 202, 128)),
            (1, rgb(246, 190, 120)),
        ],
    )
    side, x = _side(canvas), float(rng.choice([0.2, 0.8]))
    canvas.shape(_dot(canvas, x, 0.56, 0.2), rgb(255, 226, 160), 0.7, side * 0.08)
    canvas.shape(_dot(canvas, x, 0.56, 0.055), rgb(255, 248, 222), 1.0, side * 0.006)
    for _ in range(9):
        y = rng.uniform(0.06, 0.45)
        cloud = ellipse(
            rng.random() * canvas.width,
            y * canvas.height,
            side * rng.uniform(0.08, 0.22),
            side * rng.uniform(0.008, 0.022),
        )
        canvas.shape(cloud, rgb(255, 184, 140) if y > 0.25 else rgb(196, 112, 132), 0.65, side * 0.012)
    for base, rise, tone in (
        (0.72, 0.12, rgb(168, 92, 102)),
        (0.8, 0.1, rgb(112, 64, 92)),
        (0.92, 0.08, rgb(66, 44, 72)),
    ):
        canvas.shape(_ridge(canvas, rng, base, rise, 9), tone, 1.0, side * 0.006)


def _forest(canvas: Canvas, rng: np.random.Generator) -> None:
    _sky(canvas, [(0, rgb(172, 196, 140)), (0.45, rgb(214, 222, 164)), (0.75, rgb(120, 150, 88)), (1, rgb(58, 82, 50))])
    side = _side(canvas)
    for depth in (0.0, 0.5, 1.0):
        tone = mix(rgb(132, 156, 116), rgb(38, 52, 40), depth)
        for x in rng.uniform(-0.05, 1.05, 9 - int(4 * depth)):
            wide = rng.uniform(0.008, 0.016) * (1 + 2.2 * depth)
            lean = rng.uniform(-0.03, 0.03)
            trunk = np.array(
                [(x - wide + lean, -0.1), (x + wide + lean, -0.1), (x + wide * 1.4, 1.1), (x - wide * 1.4, 1.1)]
            )
            canvas.shape(trunk * (canvas.width, canvas.height), tone, 0.8, side * (0.012 - 0.006 * depth))
        for _ in range(26):
            top = rng.random() < 0.65
            y = rng.uniform(-0.05, 0.3) if top else rng.uniform(0.72, 1.05)
            leaf = mix(rgb(150, 176, 88), rgb(44, 78, 46), min(1.0, depth * 0.6 + rng.random() * 0.5))
            canvas.shape(_dot(canvas, rng.random(), y, rng.uniform(0.03, 0.08)), leaf, 0.55, side * 0.014)
    for _ in range(3):
        x = rng.uniform(0.1, 0.9)
        beam = np.array([(x, -0.05), (x + 0.07, -0.05), (x - 0.12, 1.05), (x - 0.34, 1.05)]) * (
            canvas.width,
            canvas.height,
        )
        canvas.shape(beam, rgb(255, 246, 196), 0.22, side * 0.02)


def _city_at(canvas: Canvas, rng: np.random.Generator, *, night: bool) -> None:
    if night:
        _sky(canvas, [(0, rgb(22, 26, 54)), (0.5, rgb(54, 50, 94)), (0.8, rgb(112, 74, 112)), (1, rgb(44, 36, 62))])
    else:
        _sky(
            canvas,
            [(0, rgb(126, 164, 200)), (0.5, rgb(196, 210, 216)), (0.8, rgb(226, 210, 190)), (1, rgb(120, 118, 124))],
        )
    side = _side(canvas)
    for depth in (0.0, 0.5, 1.0):
        far, near = (rgb(66, 62, 108), rgb(24, 24, 46)) if night else (rgb(168, 184, 198), rgb(84, 94, 112))
        x = -0.05
        while x < 1.0:
            wide, top = rng.uniform(0.06, 0.14), rng.uniform(0.12, 0.5) + 0.12 * depth
            tone = mix(mix(far, near, depth), (1, 0.9, 0.8), rng.uniform(0, 0.1))
            canvas.shape(_box(canvas, x, top, x + wide, 1.1), tone, 1.0, side * 0.006)
            for row in np.arange(top + 0.03, 0.95, 0.045):
                for column in np.arange(x + 0.012, x + wide - 0.012, 0.028):
                    if rng.random() < (0.4 if night else 0.3):
                        lamp = rgb(255, 206, 124) if night else mix(tone, (1, 1, 1), 0.35)
                        canvas.shape(_box(canvas, column, row, column + 0.013, row + 0.02), lamp, 0.75)
            x += wide + rng.uniform(0.0, 0.03)
    if night:
        for _ in range(22):
            lamp = (rgb(255, 170, 90), rgb(255, 110, 130), rgb(110, 190, 240), rgb(255, 222, 160))[int(rng.integers(4))]
            canvas.shape(
                _dot(canvas, rng.random(), rng.uniform(0.5, 1.0), rng.uniform(0.012, 0.03)), lamp, 0.5, side * 0.005
            )


def _city(canvas: Canvas, rng: np.random.Generator) -> None:
    _city_at(canvas, rng, night=False)


def _night_city(canvas: Canvas, rng: np.random.Generator) -> None:
    _city_at(canvas, rng, night=True)


def _stars(canvas: Canvas, rng: np.random.Generator, count: int, low: float) -> None:
    for _ in range(count):
        dot = _dot(canvas, rng.random(), rng.uniform(0, low), rng.uniform(0.0012, 0.0035))
        canvas.shape(dot, rgb(255, 250, 232), rng.uniform(0.4, 1.0))


def _night(canvas: Canvas, rng: np.random.Generator) -> None:
    _sky(canvas, [(0, rgb(16, 24, 56)), (0.5, rgb(36, 56, 102)), (0.8, rgb(84, 104, 142)), (1, rgb(40, 52, 78))])
    side, x = _side(canvas), float(rng.choice([0.18, 0.82]))
    _stars(canvas, rng, 90, 0.7)
    canvas.shape(_dot(canvas, x, 0.18, 0.13), rgb(150, 176, 216), 0.55, side * 0.05)
    canvas.shape(_dot(canvas, x, 0.18, 0.06), rgb(246, 242, 222), 1.0, side * 0.004)
    for base, rise, tone in ((0.82, 0.1, rgb(44, 60, 92)), (0.94, 0.1, rgb(22, 32, 54))):
        canvas.shape(_ridge(canvas, rng, base, rise, 11), tone, 1.0, side * 0.005)


def _beach(canvas: Canvas, rng: np.random.Generator) -> None:
    _sky(
        canvas, [(0, rgb(96, 164, 212)), (0.46, rgb(196, 226, 236)), (0.5, rgb(224, 236, 234)), (1, rgb(224, 236, 234))]
    )
    side = _side(canvas)
    for _ in range(8):
        cloud = ellipse(
            rng.random() * canvas.width,
            rng.uniform(0.05, 0.4) * canvas.height,
            side * rng.uniform(0.06, 0.16),
            side * rng.uniform(0.015, 0.04),
        )
        canvas.shape(cloud, rgb(255, 252, 246), 0.6, side * 0.018)
    canvas.shape(_box(canvas, -0.1, 0.5, 1.1, 0.85), rgb(48, 128, 160), 1.0, side * 0.003)
    canvas.shape(_box(canvas, -0.1, 0.6, 1.1, 0.85), rgb(88, 176, 184), 0.8, side * 0.03)
    waves = [
        np.array([(x, y), (x + rng.uniform(0.05, 0.18), y)]) * (canvas.width, canvas.height)
        for x, y in zip(rng.uniform(-0.1, 1, 26), rng.uniform(0.52, 0.8, 26), strict=True)
    ]
    canvas.stroke(waves, rgb(232, 248, 246), side * 0.005, 0.55, side * 0.002)
    sand = _ridge(canvas, rng, 0.84, 0.05, 5)
    canvas.shape(sand - (0, side * 0.012), rgb(246, 250, 246), 0.9, side * 0.006)
    canvas.shape(sand, rgb(230, 204, 162), 1.0, side * 0.004)


def _mountains(canvas: Canvas, rng: np.random.Generator) -> None:
    _sky(
        canvas, [(0, rgb(108, 152, 196)), (0.5, rgb(206, 220, 228)), (0.7, rgb(240, 224, 204)), (1, rgb(150, 170, 150))]
    )
    side = _side(canvas)
    for base, rise, tone in (
        (0.62, 0.4, rgb(158, 178, 206)),
        (0.72, 0.32, rgb(116, 138, 172)),
        (0.82, 0.2, rgb(84, 108, 130)),
        (0.93, 0.14, rgb(66, 92, 80)),
    ):
        peaks = _ridge(canvas, rng, base, rise, 8)
        mask = canvas.mask(peaks, side * 0.003)
        canvas.paint(mask, tone)
        canvas.shape(
            moved(peaks, side * 0.04, side * 0.03), mix(tone, (0.1, 0.12, 0.25), 0.22), 0.7, side * 0.006, mask
        )
        if base < 0.75:
            snow = peaks.copy()
            snow[:-2, 1] = np.minimum(snow[:-2, 1] + side * 0.05, (base - rise * 0.45) * canvas.height)
            caps = np.concatenate([peaks[:-2], snow[:-2][::-1]])
            canvas.shape(caps, rgb(248, 248, 250), 0.75, side * 0.004, mask)
        canvas.shape(_box(canvas, -0.2, base, 1.2, base + 0.12), rgb(226, 228, 226), 0.35, side * 0.04)


def _garden(canvas: Canvas, rng: np.random.Generator) -> None:
    _sky(canvas, [(0, rgb(176, 208, 216)), (0.35, rgb(198, 214, 164)), (0.6, rgb(112, 152, 88)), (1, rgb(62, 98, 58))])
    side = _side(canvas)
    for _ in range(60):
        y = rng.uniform(0.1, 1.0)
        leaf = mix(rgb(170, 196, 110), rgb(44, 84, 50), float(np.clip(y + rng.uniform(-0.3, 0.3), 0, 1)))
        canvas.shape(_dot(canvas, rng.random(), y, rng.uniform(0.03, 0.075)), leaf, 0.55, side * 0.014)
    blooms = (rgb(232, 124, 144), rgb(248, 196, 110), rgb(246, 232, 222), rgb(190, 120, 184), rgb(222, 84, 80))
    for _ in range(64):
        y = 1.02 - 0.8 * rng.random() ** 1.4
        bloom, radius = blooms[int(rng.integers(len(blooms)))], 0.008 + 0.02 * y * rng.random()
        x = rng.random()
        canvas.shape(_dot(canvas, x, y, radius), bloom, 0.9, side * 0.004)
        canvas.shape(_dot(canvas, x, y, radius * 0.4), mix(bloom, (1, 0.95, 0.7), 0.6), 0.8, side * 0.002)
    for _ in range(14):
        canvas.shape(
            _dot(canvas, rng.random(), rng.uniform(0.02, 0.4), rng.uniform(0.015, 0.04)),
            rgb(255, 252, 214),
            0.3,
            side * 0.003,
        )


def _room(canvas: Canvas, rng: np.random.Generator) -> None:
    wall = (rgb(186, 164, 140), rgb(148, 160, 150), rgb(170, 152, 158), rgb(136, 148, 166))[int(rng.integers(4))]
    _sky(canvas, [(0, mix(wall, (1, 1, 1), 0.12)), (0.7, wall), (1, mix(wall, (0.2, 0.1, 0.1), 0.4))])
    side, left = _side(canvas), bool(rng.random() < 0.5)

    def place(points: Points) -> Points:
        return points if left else points * (-1, 1) + (canvas.width, 0)

    canvas.shape(place(_box(canvas, 0.03, 0.06, 0.33, 0.66)), rgb(240, 234, 222), 1.0, side * 0.004)
    canvas.shape(place(_box(canvas, 0.05, 0.08, 0.31, 0.64)), rgb(206, 226, 234), 1.0, side * 0.004)
    canvas.shape(place(_box(canvas, 0.05, 0.4, 0.31, 0.64)), rgb(166, 192, 150), 0.8, side * 0.03)
    for bar in (_box(canvas, 0.172, 0.08, 0.188, 0.64), _box(canvas, 0.05, 0.33, 0.31, 0.35)):
        canvas.shape(place(bar), rgb(240, 234, 222), 1.0, side * 0.003)
    for x in (0.0, 0.31):
        canvas.shape(place(_box(canvas, x, 0.0, x + 0.075, 0.78)), mix(wall, rgb(150, 74, 58), 0.55), 0.9, side * 0.008)
    for shelf in (0.22, 0.44):
        canvas.shape(place(_box(canvas, 0.68, shelf, 1.02, shelf + 0.018)), rgb(104, 72, 52), 1.0, side * 0.003)
        x = 0.70
        while x < 0.97:
            wide = rng.uniform(0.014, 0.03)
            book = (rgb(146, 62, 54), rgb(58, 88, 104), rgb(196, 160, 96), rgb(82, 104, 74), rgb(220, 208, 186))[
                int(rng.integers(5))
            ]
            canvas.shape(
                place(_box(canvas, x, shelf - rng.uniform(0.09, 0.14), x + wide, shelf)), book, 0.9, side * 0.003
            )
            x += wide + (0.05 if rng.random() < 0.15 else 0.002)
    glow = np.array([(0.05, 0.1), (0.31, 0.1), (0.8, 1.1), (0.2, 1.1)]) * (canvas.width, canvas.height)
    canvas.shape(place(glow), rgb(255, 240, 206), 0.3, side * 0.06)


def _space(canvas: Canvas, rng: np.random.Generator) -> None:
    _sky(canvas, [(0, rgb(14, 14, 38)), (0.6, rgb(30, 24, 62)), (1, rgb(16, 18, 44))])
    side = _side(canvas)
    for _ in range(22):
        cloud = (rgb(96, 52, 132), rgb(42, 82, 150), rgb(170, 72, 120), rgb(40, 112, 140))[int(rng.integers(4))]
        x = rng.random()
        canvas.shape(
            _dot(canvas, x, 0.75 - 0.5 * x + rng.normal(0, 0.14), rng.uniform(0.06, 0.16)), cloud, 0.33, side * 0.045
        )
    _stars(canvas, rng, 150, 1.0)
    x, y, radius = float(rng.choice([0.16, 0.84])), 0.24, 0.12
    ball = canvas.mask(_dot(canvas, x, y, radius), side * 0.002)
    tone = (rgb(206, 142, 92), rgb(96, 148, 190), rgb(188, 110, 104))[int(rng.integers(3))]
    canvas.paint(ball, tone)
    for band in np.linspace(-0.09, 0.09, 5):
        canvas.shape(
            _box(canvas, 0, y + band, 1, y + band + 0.02), mix(tone, (1, 0.95, 0.9), 0.35), 0.5, side * 0.006, ball
        )
    canvas.shape(_dot(canvas, x + 0.05, y + 0.05, radius), rgb(16, 14, 36), 0.75, side * 0.03, ball)


PLACES: Final[dict[str, Place]] = {
    "studio": Place(_studio, rgb(226, 222, 214), (1.0, 1.0, 1.0)),
    "sunset": Place(_sunset, rgb(255, 184, 116), (1.06, 0.98, 0.92)),
    "forest": Place(_forest, rgb(222, 234, 160), (0.99, 1.02, 0.95)),
    "city": Place(_city, rgb(220, 230, 240), (1.0, 1.0, 1.01)),
    "night city": Place(_night_city, rgb(255, 150, 150), (0.98, 0.96, 1.03)),
    "night": Place(_night, rgb(150, 186, 240), (0.94, 0.97, 1.05)),
    "beach": Place(_beach, rgb(240, 248, 250), (1.03, 1.01, 0.98)),
    "mountains": Place(_mountains, rgb(230, 238, 248), (1.0, 1.0, 1.02)),
    "garden": Place(_garden, rgb(244, 244, 190), (1.02, 1.01, 0.96)),
    "room": Place(_room, rgb(255, 236, 204), (1.03, 1.0, 0.96)),
    "space": Place(_space, rgb(170, 170, 250), (0.96, 0.96, 1.06)),
}


def texture(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Brush marks and paper over a whole picture: a factor near 1, shape (height, width)."""
    coarse = rng.normal(0, 1, (max(8, height // 6), max(8, width // 6))).astype(np.float32)
    kernel = np.zeros((9, 9), np.float32)
    cv2.line(kernel, (0, 7), (8, 1), 1.0, 1)
    marks = cv2.resize(cv2.filter2D(coarse, -1, kernel / kernel.sum()), (width, height), interpolation=cv2.INTER_CUBIC)
    grain = rng.standard_normal((height, width), np.float32)
    return (1 + 0.035 * marks + 0.012 * grain).astype(np.float32)
