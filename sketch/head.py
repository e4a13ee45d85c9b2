"""Head and ears, and the light and shade of a face.

Coordinates are those of `canvas.Frame`: the eyes lie at y = 0, the chin at 0.5.
"""

from __future__ import annotations

import numpy as np

from sketch.appearance import Appearance
from sketch.canvas import Canvas, Color, Frame, Light, Mask, Points, curve, ellipse, mirrored, mix, moved, rgb
from sketch.palette import HAIR, SKINS

INK = rgb(34, 24, 26)


class Head:
    """Draws one head. `outline` and `mask` are set from the start, for hair and beard to use."""

    def __init__(
        self, canvas: Canvas, frame: Frame, person: Appearance, light: Light, rng: np.random.Generator
    ) -> None:
        self.canvas, self.frame, self.person, self.light, self.rng = canvas, frame, person, light, rng
        self.unit = frame.unit
        self.colors = SKINS[person.skin]
        self.skin = self.colors.ramp
        jaw = person.jaw
        self.outline = curve(
            mirrored(
                [
                    (0.0, -0.5),
                    (0.17, -0.475),
                    (0.275, -0.39),
                    (0.325, -0.24),
                    (0.335, -0.08),
                    (0.332, 0.06),
                    (0.31, 0.18),
                    (0.262 + 0.032 * jaw, 0.30),
                    (0.172 + 0.045 * jaw, 0.415),
                    (0.075 + 0.03 * jaw, 0.487),
                    (0.0, 0.5),
                ]
            ),
            closed=True,
        )
        self.mask: Mask | None = canvas.mask(frame.at(self.outline))
        self.eye_size, self.nose_width, self.mouth_width, self.lip, self.brow_weight = person.shape

    def draw_base(self) -> None:
        """Ears, the face and its shading: everything that lies under hair, beard and features."""
        if self.person.hair_style not in ("long", "bob"):
            self._ears()
        self.canvas.paint(self.mask, self.skin.base)
        self._planes()
        self._cheeks()
        self._nose()
        if self.person.old:
            self._wrinkles()
        if self.person.freckles:
            self._freckles()

    def _shape(self, points: Points, color: Color, alpha: float = 1.0, blur: float = 0.0, depth: float = 0.0) -> None:
        self.canvas.shape(self.frame.at(points, depth), color, alpha, blur * self.unit, self.mask)

    def _line(
        self, points: Points, color: Color, width: float, alpha: float = 1.0, blur: float = 0.0, depth: float = 0.5
    ) -> None:
        self.canvas.stroke([self.frame.at(points, depth)], color, width * self.unit, alpha, blur * self.unit, self.mask)

    def _ears(self) -> None:
        for e in (-1.0, 1.0):
            hidden = -self.frame.yaw * e * 0.02
            ear = curve(
                [(0.315, -0.04), (0.365, -0.065), (0.395, -0.01), (0.375, 0.08), (0.34, 0.145), (0.31, 0.12)],
                closed=True,
            )
            outline = self.frame.at((ear - (hidden, 0)) * (e, 1))
            self.canvas.shape(outline, mix(self.skin.base, self.colors.blush, 0.2))
            lit = e == self.light.side
            self.canvas.shape(outline, self.skin.light if lit else self.skin.shade, 0.5 if lit else 0.8)
            inner = curve([(0.335, -0.02), (0.365, -0.025), (0.37, 0.02), (0.345, 0.07), (0.345, 0.02)], closed=True)
            self.canvas.shape(
                self.frame.at(inner * (e, 1)), mix(self.skin.shade, self.colors.blush, 0.4), 0.8, self.unit * 0.006
            )

    def _planes(self) -> None:
        s, skin, contrast = self.light.side, self.skin, self.light.contrast
        self._shape(ellipse(s * 0.09, -0.14, 0.24, 0.26), skin.light, 0.75, 0.07)
        dark = curve(
            [(-s * 0.22, -0.52), (-s * 0.265, -0.30), (-s * 0.25, -0.12), (-s * 0.262, 0.03), (-s * 0.245, 0.13),
             (-s * 0.19, 0.22), (-s * 0.165, 0.33), (-s * 0.10, 0.44), (-s * 0.02, 0.53), (-s * 0.5, 0.6),
             (-s * 0.5, -0.5)],
            closed=True,
        )  # fmt: skip
        self._shape(dark, skin.shade, min(1.0, 0.72 * contrast), 0.022)
        self._shape(moved(dark, -s * 0.06, 0.0), mix(skin.shade, skin.deep, 0.4), min(1.0, 0.5 * contrast), 0.03)
        edge = curve(
            [
                (s * 0.3, -0.4),
                (s * 0.30, 0.0),
                (s * 0.26, 0.2),
                (s * 0.16, 0.38),
                (s * 0.02, 0.5),
                (s * 0.5, 0.6),
                (s * 0.5, -0.4),
            ],
            closed=True,
        )
        self._shape(edge, skin.shade, 0.4, 0.025)
        if contrast > 1.2:  # dramatic: half of the face falls away
            half = [
                (-s * 0.03, -0.6),
                (-s * 0.05, -0.1),
                (-s * 0.03, 0.15),
                (-s * 0.06, 0.3),
                (-s * 0.02, 0.6),
                (-s * 0.6, 0.6),
                (-s * 0.6, -0.6),
            ]
            self._shape(np.array(half), skin.deep, 0.42, 0.03)
        # Light that comes back from behind, along the jaw on the shaded side.
        rim = self.outline[(self.outline[:, 0] * -s > 0.1) & (self.outline[:, 1] > -0.1)]
        rim = rim[np.argsort(rim[:, 1])]
        self._line(rim * (0.985, 1.0), mix(self.light.rim, skin.base, 0.3), 0.02, 0.55, 0.007, 0.0)
        for e in (-1.0, 1.0):  # eye sockets, deepest beside the nose
            self._shape(ellipse(e * 0.145, -0.028, 0.105, 0.055), skin.shade, 0.55, 0.02, 0.5)
            self._shape(
                ellipse(e * 0.068, -0.03, 0.026, 0.05, e * 0.2), mix(skin.shade, skin.deep, 0.35), 0.6, 0.014, 0.6
            )
            self._shape(
                ellipse(e * 0.15, 0.055, 0.075, 0.016), mix(skin.shade, self.colors.blush, 0.3), 0.3, 0.012, 0.5
            )
        self._shape(ellipse(0.0, 0.372, 0.068, 0.018), skin.shade, 0.65, 0.012, 0.6)
        self._shape(ellipse(s * 0.015, 0.435, 0.06, 0.035), skin.light, 0.5, 0.02, 0.5)
        self._shape(ellipse(0.0, 0.245, 0.02, 0.022), skin.shade, 0.35, 0.01, 0.8)

    def _cheeks(self) -> None:
        s, skin = self.light.side, self.skin
        for e in (-1.0, 1.0):
            self._shape(
                ellipse(e * 0.205, 0.155, 0.09, 0.06, -e * 0.4),
                self.colors.blush,
                0.6 if self.person.blush else 0.3,
                0.035,
                0.3,
            )
            self._shape(
                ellipse(e * 0.18, 0.095, 0.07, 0.036, -e * 0.35), skin.light, 0.75 if e == s else 0.5, 0.02, 0.4
            )
        self._shape(ellipse(s * 0.2, 0.08, 0.035, 0.016, -s * 0.45), skin.glint, 0.6, 0.01, 0.4)
        self._shape(ellipse(s * 0.07, -0.22, 0.10, 0.055), skin.glint, 0.35, 0.035, 0.3)
        if self.person.beard == "stubble":
            jaw = self.outline[self.outline[:, 1] > 0.1]
            area = np.concatenate([jaw[np.argsort(-jaw[:, 0])], np.array([(-0.14, 0.24), (0.0, 0.225), (0.14, 0.24)])])
            self._shape(area, mix(HAIR[self.person.hair_color], self.skin.shade, 0.35), 0.42, 0.025)

    def _nose(self) -> None:
        s, skin = self.light.side, self.skin
        wide = 0.066 + 0.009 * self.nose_width + (0.0 if self.person.woman else 0.006)
        side = curve([(-s * 0.045, -0.075), (-s * 0.026, 0.0), (-s * 0.03, 0.10), (-s * 0.032, 0.155),
                      (-s * wide, 0.19), (-s * (wide + 0.02), 0.165), (-s * 0.07, 0.09),
                      (-s * 0.062, 0.0)], closed=True)  # fmt: skip
        self._shape(side, skin.shade, 0.75, 0.009, 0.8)
        self._shape(
            np.array([(s * 0.05, 0.1), (s * wide, 0.14), (s * wide, 0.2), (s * 0.04, 0.2)]), skin.shade, 0.3, 0.014, 0.8
        )
        under = curve(
            [
                (-wide, 0.182),
                (-0.03, 0.192),
                (0.0, 0.2),
                (0.03, 0.192),
                (wide, 0.182),
                (0.045, 0.212),
                (0.0, 0.226),
                (-0.045, 0.212),
            ],
            closed=True,
        )
        self._shape(under, mix(skin.shade, skin.deep, 0.3), 0.75, 0.006, 0.9)
        cast = curve([(0.0, 0.205), (-s * 0.07, 0.2), (-s * 0.075, 0.235), (-s * 0.03, 0.25)], closed=True)
        self._shape(cast, skin.shade, 0.5, 0.012, 0.8)
        self._line(
            curve([(s * 0.008, -0.05), (s * 0.012, 0.05), (s * 0.012, 0.14)]), skin.light, 0.034, 0.8, 0.009, 0.85
        )
        self._line(curve([(s * 0.012, 0.0), (s * 0.014, 0.09)]), skin.glint, 0.014, 0.6, 0.005, 0.9)
        self._shape(ellipse(s * 0.006, 0.155, 0.03, 0.026), skin.light, 0.7, 0.01, 1.0)
        self._shape(ellipse(s * 0.012, 0.15, 0.011, 0.009), skin.glint, 0.9, 0.003, 1.0)
        for e in (-1.0, 1.0):
            self._shape(
                ellipse(e * 0.031, 0.201, 0.019, 0.0085, -e * 0.25), mix(skin.deep, INK, 0.25), 0.85, 0.002, 0.9
            )
            wing = curve([(e * (wide - 0.018), 0.14), (e * (wide + 0.004), 0.165), (e * (wide - 0.004), 0.197)])
            self._line(wing, mix(skin.shade, skin.deep, 0.4), 0.009, 0.6, 0.002, 0.85)

    def _wrinkles(self) -> None:
        tone = mix(self.skin.shade, self.skin.deep, 0.25)
        for y in (-0.25, -0.205, -0.165):
            self._line(
                curve([(-0.15, y + 0.012), (-0.05, y), (0.05, y + 0.004), (0.15, y + 0.014)]),
                tone,
                0.008,
                0.5,
                0.003,
                0.3,
            )
        for e in (-1.0, 1.0):
            self._line(curve([(e * 0.08, 0.175), (e * 0.125, 0.225), (e * 0.14, 0.31)]), tone, 0.012, 0.75, 0.004)
            self._line(curve([(e * 0.08, 0.05), (e * 0.14, 0.075), (e * 0.205, 0.055)]), tone, 0.01, 0.6, 0.004)
            for dy in (-0.03, 0.0, 0.03):
                self._line(curve([(e * 0.24, dy * 0.5), (e * 0.285, dy * 1.4)]), tone, 0.006, 0.6, 0.002, 0.3)
            self._line(curve([(e * 0.15, 0.36), (e * 0.16, 0.42)]), tone, 0.01, 0.4, 0.006)

    def _freckles(self) -> None:
        count = 70
        x = self.rng.normal(0.0, 0.5, count).clip(-1, 1) * 0.25
        y = self.rng.normal(0.105, 0.045, count)
        size = self.rng.uniform(0.0028, 0.0058, count)
        tone = mix(self.skin.shade, rgb(150, 84, 52), 0.5)
        for point_x, point_y, radius in zip(x, y, size, strict=True):
            self._shape(ellipse(point_x, point_y, radius, radius * 0.85), tone, 0.5, 0.0015, 0.5)
