"""Neck, shoulders and clothes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sketch.canvas import Canvas, Color, Frame, Mask, Points, curve, ellipse, mirrored, mix, moved, rgb, taper
from sketch.look import Look
from sketch.palette import CLOTH, SKINS, Ramp, ramp

_WHITE = rgb(236, 232, 224)


@dataclass(frozen=True, slots=True)
class Light:
    """Where the light comes from.

    Attributes:
        side: +1 from the viewer's right, -1 from the left.
        rim: colour of the light from behind, which edges the shaded side.
        contrast: how dark the shaded side is; 1 is usual.
    """

    side: float
    rim: Color
    contrast: float


class Body:
    """Draws one person from the neck down, in the frame of the head with only part of its tilt."""

    def __init__(self, canvas: Canvas, head: Frame, look: Look, light: Light, rng: np.random.Generator) -> None:
        self.canvas, self.look, self.light, self.rng = canvas, look, light, rng
        self.frame = Frame(head.x, head.y, head.unit, head.tilt * 0.25, 0.0)
        self.unit = head.unit
        self.end = (canvas.height - head.y) / head.unit + 0.4
        self.skin = SKINS[look.skin].ramp
        self.cloth = ramp(CLOTH[look.cloth])

    def draw(self) -> None:
        """Neck, chest, clothes."""
        if self.look.garment == "hoodie":
            self._hood()
        torso = self._torso()
        self._neck(torso)
        {
            "t-shirt": self._t_shirt,
            "shirt": self._shirt,
            "suit": self._suit,
            "dress": self._dress,
            "sweater": self._sweater,
            "hoodie": self._hoodie,
            "jacket": self._jacket,
            "spacesuit": self._spacesuit,
        }[self.look.garment](torso)
        self.canvas.shape(  # the head's shadow on the chest
            self._at([(-0.2, 0.5), (0.2, 0.5), (0.26, 0.8), (0.0, 0.95), (-0.26, 0.8)]),
            self.cloth.deep, 0.25, self.unit * 0.06, self._mask(torso),
        )  # fmt: skip

    def _at(self, points: list[tuple[float, float]]) -> Points:
        return self.frame.at(np.array(points, float))

    def _mask(self, outline: Points) -> Mask | None:
        return self.canvas.mask(self.frame.at(outline))

    def _torso(self) -> Points:
        """The outline of neck and shoulders; the hem lies below the picture."""
        neck, wide = (0.168, 0.84) if self.look.woman else (0.212, 1.0)
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

    def _t_shirt(self, torso: Points) -> None:
        line = [(-0.3, 0.715), (-0.2, 0.83), (0.0, 0.9), (0.2, 0.83), (0.3, 0.715)]
        self._fabric(self._cut(torso, line), self.cloth)
        self._edge(line, self.cloth, 0.038)

    def _dress(self, torso: Points) -> None:
        line = [(-0.44, 0.775), (-0.34, 0.93), (-0.17, 1.0), (0.0, 1.02), (0.17, 1.0), (0.34, 0.93), (0.44, 0.775)]
        self._fabric(self._cut(torso, line), self.cloth)
        self._edge(line, self.cloth, 0.022)
        chain = curve([(-0.2, 0.71), (-0.11, 0.86), (0.0, 0.915), (0.11, 0.86), (0.2, 0.71)])
        gold = rgb(224, 186, 104)
        self.canvas.stroke([self.frame.at(moved(chain, 0, 0.008))], self.skin.shade, self.unit * 0.008, 0.6)
        self.canvas.stroke([self.frame.at(chain)], gold, self.unit * 0.007)
        self.canvas.shape(self.frame.at(ellipse(0, 0.93, 0.017, 0.02)), gold)
        self.canvas.shape(self.frame.at(ellipse(0.004, 0.925, 0.006, 0.007)), _WHITE)

    def _sweater(self, torso: Points) -> None:
        self._fabric(torso[torso[:, 1] > 0.62], self.cloth)
        wide = 0.2 if self.look.woman else 0.245
        collar = curve(
            [(-wide, 0.60), (0.0, 0.655), (wide, 0.60), (wide + 0.05, 0.76), (0.0, 0.85), (-wide - 0.05, 0.76)],
            closed=True,
        )
        self.canvas.shape(self.frame.at(moved(collar, 0, 0.03)), self.cloth.deep, 0.5, self.unit * 0.015)
        mask = self._mask(collar)
        self.canvas.paint(mask, self.cloth.base)
        side = self.light.side
        self.canvas.shape(self._at([(-side * 0.4, 0.5), (-side * 0.02, 0.6), (-side * 0.08, 0.9), (-side * 0.4, 0.9)]),
                          self.cloth.shade, 0.8, self.unit * 0.03, mask)  # fmt: skip
        ribs = [
            self.frame.at(curve([(x * 0.93, 0.6), (x, 0.7), (x * 1.12, 0.86)], steps=4))
            for x in np.linspace(-wide, wide, 15)
        ]
        self.canvas.stroke(ribs, self.cloth.deep, self.unit * 0.008, 0.3, 0.0, mask)
        self.canvas.shape(self.frame.at(curve([(-wide, 0.58), (wide, 0.58), (0.1, 0.7), (-0.1, 0.7)], closed=True)),
                          self.cloth.deep, 0.5, self.unit * 0.025, mask)  # fmt: skip

    def _shirt(self, torso: Points) -> None:
        line = [(-0.24, 0.70), (-0.1, 0.85), (0.0, 0.98), (0.1, 0.85), (0.24, 0.70)]
        mask = self._fabric(self._cut(torso, line), self.cloth)
        placket = [self._at([(x, 0.97), (x, 3.0)]) for x in (-0.045, 0.045)]
        self.canvas.stroke(placket, self.cloth.shade, self.unit * 0.009, 0.8, 0.0, mask)
        for y in np.arange(1.08, self.end, 0.2):
            self.canvas.shape(self.frame.at(ellipse(0, y + 0.004, 0.016, 0.016)), self.cloth.deep, 0.7)
            self.canvas.shape(self.frame.at(ellipse(0, y, 0.014, 0.014)), mix(self.cloth.light, _WHITE, 0.4))
        self._collar(self.cloth, 0.98)

    def _collar(self, colors: Ramp, low: float) -> None:
        for e in (-1.0, 1.0):
            wing = np.array(
                [(e * 0.16, 0.61), (e * 0.27, 0.70), (e * 0.235, 0.90), (e * 0.02, low - 0.05), (e * 0.08, 0.80)]
            )
            self.canvas.shape(self.frame.at(moved(wing, 0, 0.02)), colors.deep, 0.5, self.unit * 0.012)
            tone = colors.light if e == self.light.side else mix(colors.base, colors.shade, 0.45)
            self.canvas.shape(self.frame.at(wing), tone)

    def _suit(self, torso: Points) -> None:
        white = ramp(_WHITE)
        line = [(-0.24, 0.70), (-0.1, 0.84), (0.0, 0.9), (0.1, 0.84), (0.24, 0.70)]
        self._fabric(self._cut(torso, line), white, folds=False)
        tie = ramp(CLOTH["burgundy" if self.look.cloth != "burgundy" else "navy"])
        if self.look.woman:
            self._collar(white, 1.02)
        else:
            self._collar(white, 0.95)
            knot = np.array([(-0.055, 0.865), (0.055, 0.865), (0.035, 0.975), (-0.035, 0.975)])
            blade = np.array([(-0.033, 0.97), (0.033, 0.97), (0.085, 1.7), (-0.085, 1.7)])
            self.canvas.shape(self.frame.at(moved(blade, 0.015, 0.01)), white.shade, 0.7, self.unit * 0.01)
            self.canvas.shape(self.frame.at(blade), tie.base)
            half = blade.copy()
            half[[0, 3] if self.light.side > 0 else [1, 2], 0] = 0.0
            self.canvas.shape(self.frame.at(half), tie.light, 0.6, self.unit * 0.008)
            self.canvas.shape(self.frame.at(moved(knot, 0, 0.012)), tie.deep, 0.7, self.unit * 0.008)
            self.canvas.shape(self.frame.at(knot), mix(tie.base, tie.light, 0.4))
        self._open_front(torso, 1.62)
        for e in (-1.0, 1.0):
            lapel = np.array([(e * 0.26, 0.68), (e * 0.37, 0.74), (e * 0.46, 0.99), (e * 0.36, 1.02), (e * 0.38, 1.09),
                              (e * 0.03, 1.66), (e * 0.14, 1.2), (e * 0.2, 0.95)])  # fmt: skip
            self.canvas.shape(self.frame.at(moved(lapel, e * 0.012, 0.022)), self.cloth.deep, 0.7, self.unit * 0.012)
            lit = e == self.light.side
            self.canvas.shape(
                self.frame.at(lapel), mix(self.cloth.base, self.cloth.light, 0.55) if lit else self.cloth.shade
            )
            edge = self._at([(e * 0.37, 0.74), (e * 0.46, 0.99), (e * 0.36, 1.02), (e * 0.38, 1.09), (e * 0.03, 1.66)])
            self.canvas.stroke([edge], self.cloth.light, self.unit * 0.007, 0.7 if lit else 0.35)

    def _open_front(self, torso: Points, low: float) -> None:
        """Both sides of an open jacket, which meet at `low`."""
        for e in (-1.0, 1.0):
            half = torso[(torso[:, 0] * e > 0.24) & (torso[:, 1] > 0.6)]
            half = half[np.argsort(half[:, 1])]
            front = np.array([(0.0, 3.0), (0.0, low), (e * 0.12, 1.2), (e * 0.19, 0.95), (e * 0.25, 0.70)])
            shadow = np.concatenate([half, front])
            self.canvas.shape(self.frame.at(moved(shadow, -(e * 0.02), 0.02)), self.cloth.deep, 0.45, self.unit * 0.02)
            self._fabric(shadow, self.cloth)

    def _jacket(self, torso: Points) -> None:
        line = [(-0.27, 0.715), (-0.18, 0.82), (0.0, 0.88), (0.18, 0.82), (0.27, 0.715)]
        inner = ramp(CLOTH["cream" if self.look.cloth not in ("cream", "white", "beige") else "navy"])
        self._fabric(self._cut(torso, line), inner)
        self._edge(line, inner, 0.034)
        self._open_front(torso, 2.4)
        for e in (-1.0, 1.0):
            wing = np.array([(e * 0.2, 0.6), (e * 0.33, 0.72), (e * 0.42, 0.98), (e * 0.3, 1.05), (e * 0.2, 0.86)])
            self.canvas.shape(self.frame.at(moved(wing, 0, 0.025)), self.cloth.deep, 0.6, self.unit * 0.015)
            lit = e == self.light.side
            self.canvas.shape(
                self.frame.at(wing), self.cloth.light if lit else mix(self.cloth.base, self.cloth.shade, 0.4)
            )
            zip_line = curve([(e * 0.19, 0.9), (e * 0.13, 1.2), (e * 0.06, 1.8), (e * 0.0, 2.5)])
            self.canvas.stroke([self.frame.at(zip_line)], mix(self.cloth.light, _WHITE, 0.3), self.unit * 0.012, 0.7)

    def _hood(self) -> None:
        hood = curve(
            [(0.0, 0.32), (0.34, 0.4), (0.5, 0.66), (0.36, 0.9), (0.0, 0.98), (-0.36, 0.9), (-0.5, 0.66), (-0.34, 0.4)],
            closed=True,
        )
        mask = self._mask(hood)
        self.canvas.paint(mask, self.cloth.shade)
        self.canvas.shape(self.frame.at(hood * (0.8, 1.0) + (0, 0.05)), self.cloth.deep, 0.7, self.unit * 0.05, mask)
        self.canvas.stroke([self.frame.at(hood)], self.cloth.base, self.unit * 0.05, 0.8, self.unit * 0.012, mask)

    def _hoodie(self, torso: Points) -> None:
        line = [(-0.34, 0.73), (-0.22, 0.86), (0.0, 0.97), (0.22, 0.86), (0.34, 0.73)]
        self._fabric(self._cut(torso, line), self.cloth)
        for e in (-1.0, 1.0):
            roll = curve(
                [
                    (e * 0.25, 0.58),
                    (e * 0.42, 0.68),
                    (e * 0.34, 0.86),
                    (e * 0.02, 1.04),
                    (e * 0.0, 0.95),
                    (e * 0.2, 0.82),
                ],
                closed=True,
            )
            self.canvas.shape(self.frame.at(moved(roll, 0, 0.03)), self.cloth.deep, 0.5, self.unit * 0.02)
            tone = (
                mix(self.cloth.base, self.cloth.light, 0.6)
                if e == self.light.side
                else mix(self.cloth.base, self.cloth.shade, 0.6)
            )
            self.canvas.shape(self.frame.at(roll), tone)
            cord = curve([(e * 0.09, 0.99), (e * 0.1, 1.15), (e * 0.085, 1.34)])
            self.canvas.stroke([self.frame.at(moved(cord, 0.01, 0.006))], self.cloth.deep, self.unit * 0.02, 0.5)
            self.canvas.stroke([self.frame.at(cord)], _WHITE, self.unit * 0.017)

    def _spacesuit(self, torso: Points) -> None:
        self._fabric(torso[torso[:, 1] > 0.6] * (1.08, 1.0), self.cloth)
        trim = rgb(214, 104, 48)
        for e in (-1.0, 1.0):
            band = curve([(e * 0.62, 0.8), (e * 0.6, 1.1), (e * 0.52, 1.7), (e * 0.5, 2.4)])
            self.canvas.stroke([self.frame.at(band)], trim, self.unit * 0.055, 0.9)
        patch = ellipse(-0.32 * self.light.side, 1.22, 0.085, 0.085)
        self.canvas.shape(self.frame.at(patch), rgb(46, 78, 140))
        star = curve([(-0.39 * self.light.side, 1.25), (-0.32 * self.light.side, 1.2), (-0.25 * self.light.side, 1.18)])
        self.canvas.stroke([self.frame.at(star)], _WHITE, self.unit * 0.014)
        for low, tone, width in (
            (0.80, rgb(92, 98, 108), 0.12),
            (0.775, rgb(176, 182, 190), 0.075),
            (0.76, rgb(236, 238, 240), 0.02),
        ):
            ring = ellipse(0.0, low - 0.06, 0.40, 0.115)
            self.canvas.stroke([self.frame.at(np.concatenate([ring[-1:], ring[:18]]))], tone, self.unit * width)
