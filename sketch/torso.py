"""Neck and shoulders, and how cloth lies on them."""

from __future__ import annotations

import numpy as np

from sketch.appearance import Appearance
from sketch.canvas import Canvas, Frame, Light, Mask, Points, curve, mirrored, mix, moved, taper
from sketch.palette import CLOTH, SKINS, Ramp, ramp


class Torso:
    """One person from the neck down, in the frame of the head with only part of its tilt."""

    def __init__(self, canvas: Canvas, head: Frame, person: Appearance, light: Light, rng: np.random.Generator) -> None:
        self.canvas, self.person, self.light, self.rng = canvas, person, light, rng
        self.frame = Frame(head.x, head.y, head.unit, head.tilt * 0.25, 0.0)
        self.unit = head.unit
        self.end = (canvas.height - head.y) / head.unit + 0.4
        self.skin = SKINS[person.skin].ramp
        self.cloth = ramp(CLOTH[person.cloth])

    def _at(self, points: list[tuple[float, float]]) -> Points:
        return self.frame.at(np.array(points, float))

    def _mask(self, outline: Points) -> Mask | None:
        return self.canvas.mask(self.frame.at(outline))

    def _torso(self) -> Points:
        """The outline of neck and shoulders; the hem lies below the picture."""
        neck, wide = (0.168, 0.84) if self.person.woman else (0.212, 1.0)
        return curve(
            mirrored(
                [
                    (0.0, 0.2),
                    (neck, 0.25),
                    (neck, 0.54),
                    (neck + 0.06, 0.655),
                    (0.46 * wide, 0.755),
                    (0.78 * wide, 0.835),
                    (0.95 * wide, 0.98),
                    (1.03 * wide, 1.28),
                    (1.02 * wide, 1.7),
                    (1.0 * wide, max(1.9, self.end)),
                    (0.0, max(2.0, self.end + 0.1)),
                ]
            ),
            closed=True,
        )

    def _neck(self, torso: Points) -> None:
        mask, unit, skin, side = self._mask(torso), self.unit, self.skin, self.light.side
        self.canvas.paint(mask, skin.base)
        paint = self.canvas
        dark = [
            (-side * 0.45, 0.45),
            (-side * 0.04, 0.5),
            (-side * 0.07, 0.66),
            (-side * 0.20, 0.85),
            (-side * 0.5, 0.9),
        ]
        paint.shape(self._at(dark), skin.shade, 0.8, unit * 0.03, mask)
        # The cast shadow of the chin.
        chin = curve(
            [(-0.3, 0.3), (0.3, 0.3), (0.235, 0.56), (0.05, 0.655), (-0.05, 0.655), (-0.235, 0.56)], closed=True
        )
        paint.shape(
            self.frame.at(moved(chin, -side * 0.03, 0.0)), mix(skin.shade, skin.deep, 0.35), 0.85, unit * 0.014, mask
        )
        for e in (-1.0, 1.0):  # collar bones and the neck's tendons
            bone = curve([(e * 0.05, 0.845), (e * 0.2, 0.82), (e * 0.42, 0.835)])
            paint.stroke([self.frame.at(bone)], skin.shade, unit * 0.02, 0.55, unit * 0.008, mask)
            paint.stroke([self.frame.at(moved(bone, 0, -(0.02)))], skin.light, unit * 0.018, 0.5, unit * 0.008, mask)
            tendon = curve([(e * 0.13, 0.58), (e * 0.085, 0.72), (e * 0.035, 0.83)])
            paint.stroke([self.frame.at(tendon)], skin.shade, unit * 0.022, 0.35, unit * 0.01, mask)

    def _cut(self, torso: Points, neckline: list[tuple[float, float]]) -> Points:
        """The torso below a neckline, given from left to right."""
        neck = curve(neckline)
        low = neck[0, 1]
        outside = torso[(torso[:, 1] > low - 0.02) & (np.abs(torso[:, 0]) > abs(neck[0, 0]) - 0.02)]
        right, left = outside[outside[:, 0] > 0], outside[outside[:, 0] <= 0]
        return np.concatenate([neck, right[np.argsort(right[:, 1])], left[np.argsort(-left[:, 1])]])

    def _fabric(self, outline: Points, colors: Ramp, *, folds: bool = True) -> Mask | None:
        """Lay cloth: base, light from one side, shade on the other, folds, and the rim."""
        canvas, unit, side = self.canvas, self.unit, self.light.side
        # Cloth is a little larger than the body.
        mask = self._mask(outline * (1.03, 1.0) + (0.0, -0.012))
        if mask is None:
            return None
        canvas.paint(mask, colors.base)
        lit = [(side * 0.15, 0.75), (side * 0.6, 0.78), (side * 0.95, 1.0), (side * 0.7, 1.45), (side * 0.3, 1.2)]
        canvas.shape(self._at(lit), colors.light, 0.6, unit * 0.1, mask)
        shade = [(-side * 0.28, 0.7), (-side * 1.3, 0.7), (-side * 1.3, 2.3), (-side * 0.1, 2.3), (-side * 0.42, 1.3)]
        canvas.shape(self._at(shade), colors.shade, 0.75 * self.light.contrast, unit * 0.07, mask)
        canvas.shape(self._at([(-2, 1.55), (2, 1.55), (2, 3), (-2, 3)]), colors.deep, 0.35, unit * 0.2, mask)
        if folds:
            self._folds(colors, mask)
        torso = self._torso()
        rim = torso[(torso[:, 0] * -side > 0.5) & (torso[:, 1] < 1.6)]
        rim = rim[np.argsort(rim[:, 1])] * (1.02, 1.0) - (0.0, 0.008)
        canvas.shape(self.frame.at(taper(rim, 0.026)), self.light.rim, 0.6, unit * 0.005, mask)
        return mask

    def _folds(self, colors: Ramp, mask: Mask) -> None:
        canvas, unit = self.canvas, self.unit
        for e in (-1.0, 1.0):
            arm = curve([(e * 0.66, 1.12), (e * 0.64, 1.3), (e * 0.66, 1.55), (e * 0.64, 2.0)])
            canvas.shape(self.frame.at(taper(arm, 0.06)), colors.deep, 0.55, unit * 0.014, mask)
            for base_x, drift in ((0.60, -0.22), (0.57, -0.12), (0.46, -0.16)):
                x, y = base_x + self.rng.uniform(-0.03, 0.03), 1.0 + self.rng.uniform(-0.06, 0.16)
                fold = curve([(e * x, y), (e * (x + drift * 0.35), y + 0.11), (e * (x + drift), y + 0.3)])
                canvas.shape(self.frame.at(taper(fold, 0.05)), colors.shade, 0.6, unit * 0.010, mask)
                canvas.shape(
                    self.frame.at(taper(moved(fold, 0.02 * self.light.side, -0.022), 0.026)),
                    colors.light,
                    0.45,
                    unit * 0.007,
                    mask,
                )
        # Dry strokes of the brush, along the cloth.
        strokes = [
            self.frame.at(curve([(x, y), (x + 0.03, y + 0.12), (x + self.rng.uniform(-0.03, 0.09), y + 0.26)], steps=4))
            for x, y in zip(self.rng.uniform(-1, 1, 26), self.rng.uniform(0.85, 1.8, 26), strict=True)
        ]
        for marks, tone in ((strokes[:13], colors.light), (strokes[13:], colors.shade)):
            marked = canvas.union([taper(mark, unit * 0.034) for mark in marks])
            canvas.paint(marked.inside(mask) if marked else None, tone, 0.2)

    def _edge(self, line: list[tuple[float, float]], colors: Ramp, width: float) -> None:
        """A hem: a band of cloth with its shadow below."""
        path = curve(line)
        self.canvas.stroke(
            [self.frame.at(moved(path, 0, width * 0.6))], colors.deep, self.unit * width, 0.45, self.unit * 0.006
        )
        self.canvas.stroke([self.frame.at(path)], colors.base, self.unit * width)
        self.canvas.stroke([self.frame.at(moved(path, 0, -(width * 0.2)))], colors.light, self.unit * width * 0.4, 0.5)

    def _collar(self, colors: Ramp, low: float) -> None:
        for e in (-1.0, 1.0):
            wing = np.array(
                [(e * 0.16, 0.61), (e * 0.27, 0.70), (e * 0.235, 0.90), (e * 0.02, low - 0.05), (e * 0.08, 0.80)]
            )
            self.canvas.shape(self.frame.at(moved(wing, 0, 0.02)), colors.deep, 0.5, self.unit * 0.012)
            tone = colors.light if e == self.light.side else mix(colors.base, colors.shade, 0.45)
            self.canvas.shape(self.frame.at(wing), tone)

    def _open_front(self, torso: Points, low: float) -> None:
        """Both sides of an open jacket, which meet at `low`."""
        for e in (-1.0, 1.0):
            half = torso[(torso[:, 0] * e > 0.24) & (torso[:, 1] > 0.6)]
            half = half[np.argsort(half[:, 1])]
            front = np.array([(0.0, 3.0), (0.0, low), (e * 0.12, 1.2), (e * 0.19, 0.95), (e * 0.25, 0.70)])
            shadow = np.concatenate([half, front])
            self.canvas.shape(self.frame.at(moved(shadow, -(e * 0.02), 0.02)), self.cloth.deep, 0.45, self.unit * 0.02)
            self._fabric(shadow, self.cloth)
