"""Glasses and hats."""

from __future__ import annotations

import numpy as np

from sketch.appearance import Appearance
from sketch.canvas import Canvas, Frame, Light, Mask, Points, curve, ellipse, mix, moved, rgb
from sketch.palette import CLOTH, Ramp, ramp

_FRAME_INK = rgb(38, 30, 32)
_LENS = 0.102, 0.082
_WHITE = rgb(250, 250, 250)


def draw_glasses(canvas: Canvas, frame: Frame, kind: str, skin_shade: tuple[float, float, float], light: Light) -> None:
    """Glasses or sunglasses, on the nose of the frame."""
    width, height = _LENS
    unit, at = frame.unit, frame.at
    rims = [_lens(e, width, height) for e in (-1.0, 1.0)]
    bridge = curve([(-0.045, 0.0), (0.0, -0.014), (0.045, 0.0)])
    arms = [np.array([(e * 0.245, -0.02), (e * 0.335, -0.03)]) for e in (-1.0, 1.0)]
    lines = [*(np.concatenate([rim, rim[:1]]) for rim in rims), bridge, *arms]
    canvas.stroke([at(moved(line, 0.0, 0.014), 0.6) for line in lines], skin_shade, unit * 0.014, 0.5, unit * 0.006)
    for rim in rims:
        mask = canvas.mask(at(rim, 0.6))
        if kind == "sunglasses":
            canvas.paint(mask, rgb(38, 34, 40), 0.93)
            canvas.shape(at(moved(rim, 0.0, 0.06), 0.6), rgb(112, 88, 92), 0.5, unit * 0.03, mask)
        x = float(rim[:, 0].mean())
        glare = np.array([(x - 0.02, -0.1), (x + 0.025, -0.1), (x - 0.035, 0.12), (x - 0.075, 0.12)])
        canvas.shape(at(glare * (1.0, 1.0), 0.6), _WHITE, 0.14 if kind == "glasses" else 0.2, unit * 0.004, mask)
    canvas.stroke([at(line, 0.6) for line in lines], _FRAME_INK, unit * 0.0135)
    shine = [at(rim[17:24] if light.side < 0 else rim[24:31], 0.6) for rim in rims]
    canvas.stroke(shine, mix(_FRAME_INK, _WHITE, 0.55), unit * 0.005, 0.9)


def _lens(e: float, width: float, height: float) -> Points:
    """A rounded lens, wider than high."""
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.75 * width
    y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** 0.75 * height
    return np.stack([x + e * 0.146, y + 0.008], axis=1)


def draw_hat(
    canvas: Canvas,
    frame: Frame,
    person: Appearance,
    light: Light,
    face: Mask | None,
    skin_shade: tuple[float, float, float],
) -> None:
    """A brimmed hat, a cap or a beanie, with its shadow on the forehead."""
    unit, at, s = frame.unit, frame.at, light.side
    name = {"hat": "beige", "cap": "navy", "beanie": "burgundy"}[person.hat or "hat"]
    colors = ramp(CLOTH[name if name != person.cloth else "olive"])
    if person.hat == "hat":
        shadow = curve([(-0.4, -0.36), (0.4, -0.36), (0.36, -0.2), (0.0, -0.14), (-0.36, -0.2)], closed=True)
        canvas.shape(at(shadow), skin_shade, 0.7, unit * 0.025, face)
        brim = curve(
            [
                (-0.68, -0.33),
                (-0.4, -0.40),
                (0.0, -0.43),
                (0.4, -0.40),
                (0.68, -0.33),
                (0.42, -0.245),
                (0.0, -0.20),
                (-0.42, -0.245),
            ],
            closed=True,
        )
        crown = curve(
            [
                (-0.37, -0.32),
                (-0.36, -0.55),
                (-0.28, -0.76),
                (-0.1, -0.78),
                (0.0, -0.745),
                (0.1, -0.78),
                (0.28, -0.76),
                (0.36, -0.55),
                (0.37, -0.32),
                (0.0, -0.27),
            ],
            closed=True,
        )
        _felt(canvas, at(brim), colors, light, unit)
        canvas.stroke(
            [at(curve([(-0.66, -0.325), (-0.42, -0.252), (0.0, -0.207), (0.42, -0.252), (0.66, -0.325)]))],
            colors.light,
            unit * 0.012,
            0.8,
        )
        _felt(canvas, at(crown), colors, light, unit)
        canvas.shape(at(ellipse(0.0, -0.72, 0.12, 0.05)), colors.deep, 0.55, unit * 0.025, canvas.mask(at(crown)))
        band = np.concatenate(
            [
                curve([(-0.365, -0.40), (0.0, -0.35), (0.365, -0.40)]),
                curve([(0.37, -0.31), (0.0, -0.26), (-0.37, -0.31)]),
            ]
        )
        canvas.shape(at(band), mix(colors.deep, _FRAME_INK, 0.4))
        return
    low = -0.25 if person.hat == "beanie" else -0.3
    shadow = curve(
        [(-0.36, low - 0.1), (0.36, low - 0.1), (0.33, low + 0.07), (0.0, low + 0.1), (-0.33, low + 0.07)], closed=True
    )
    canvas.shape(at(shadow), skin_shade, 0.7, unit * 0.025, face)
    dome = curve(
        [
            (-0.395, low + 0.06),
            (-0.40, low - 0.12),
            (-0.33, -0.58),
            (-0.14, -0.69),
            (0.14, -0.69),
            (0.33, -0.58),
            (0.40, low - 0.12),
            (0.395, low + 0.06),
            (0.0, low - 0.03),
        ],
        closed=True,
    )
    _felt(canvas, at(dome), colors, light, unit)
    mask = canvas.mask(at(dome))
    if person.hat == "beanie":
        ribs = [
            at(curve([(x * 0.25, -0.7), (x * 0.85, -0.5), (x, low + 0.08)], steps=5))
            for x in np.linspace(-0.38, 0.38, 15)
        ]
        canvas.stroke(ribs, colors.deep, unit * 0.012, 0.4, unit * 0.003, mask)
        cuff = np.concatenate(
            [
                curve([(-0.405, low - 0.07), (0.0, low - 0.14), (0.405, low - 0.07)]),
                curve([(0.40, low + 0.075), (0.0, low), (-0.40, low + 0.075)]),
            ]
        )
        canvas.shape(at(moved(cuff, 0, -(0.015))), colors.deep, 0.5, unit * 0.012, mask)
        canvas.shape(at(cuff), mix(colors.base, colors.light, 0.35))
        ribs = [
            at(np.array([(x, low - 0.14 + abs(x) * 0.17), (x, low + 0.005 + abs(x) * 0.18)]))
            for x in np.linspace(-0.38, 0.38, 21)
        ]
        canvas.stroke(ribs, colors.shade, unit * 0.011, 0.7, 0.0, canvas.mask(at(cuff)))
        return
    canvas.stroke([at(curve([(0.0, -0.7), (s * 0.02, -0.5), (0.0, low)]))], colors.shade, unit * 0.008, 0.7, 0.0, mask)
    visor = curve(
        [
            (-0.35, low),
            (-0.2, low - 0.09),
            (0.0, low - 0.115),
            (0.2, low - 0.09),
            (0.35, low),
            (0.2, low + 0.045),
            (0.0, low + 0.06),
            (-0.2, low + 0.045),
        ],
        closed=True,
    )
    canvas.shape(at(moved(visor, 0, -(0.012))), colors.deep, 0.6, unit * 0.01)
    canvas.shape(at(visor), mix(colors.base, colors.deep, 0.25))
    canvas.stroke(
        [at(curve([(-0.33, low + 0.003), (0.0, low + 0.055), (0.33, low + 0.003)]))], colors.light, unit * 0.01, 0.7
    )


def _felt(canvas: Canvas, outline: Points, colors: Ramp, light: Light, unit: float) -> None:
    mask = canvas.mask(outline)
    canvas.paint(mask, colors.base)
    middle = outline.mean(axis=0)
    shift = np.array([light.side * unit * 0.22, -unit * 0.02])
    canvas.shape((outline - middle) * 0.55 + middle + shift, colors.light, 0.7, unit * 0.06, mask)
    canvas.shape((outline - middle) * 0.9 + middle - shift * 1.6, colors.shade, 0.8, unit * 0.05, mask)
