"""Head, ears and features.

Coordinates are those of `canvas.Frame`: the eyes lie at y = 0, the chin at 0.5.
"""

from __future__ import annotations

import numpy as np

from sketch.body import Light
from sketch.canvas import Canvas, Color, Frame, Mask, Points, curve, ellipse, mirrored, mix, moved, rgb, taper
from sketch.look import Look
from sketch.palette import EYES, HAIR, LIPSTICK, SKINS

_INK = rgb(34, 24, 26)
_WHITE = rgb(250, 248, 244)


class Head:
    """Draws one head. `outline` and `mask` are set from the start, for hair and beard to use."""

    def __init__(self, canvas: Canvas, frame: Frame, look: Look, light: Light, rng: np.random.Generator) -> None:
        self.canvas, self.frame, self.look, self.light, self.rng = canvas, frame, look, light, rng
        self.unit = frame.unit
        self.colors = SKINS[look.skin]
        self.skin = self.colors.ramp
        jaw = look.jaw
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
        self.eye_size, self.nose_width, self.mouth_width, self.lip, self.brow_weight = look.shape

    def draw_base(self) -> None:
        """Ears, the face and its shading: everything that lies under hair, beard and features."""
        if self.look.hair_style not in ("long", "bob"):
            self._ears()
        self.canvas.paint(self.mask, self.skin.base)
        self._planes()
        self._cheeks()
        self._nose()
        if self.look.old:
            self._wrinkles()
        if self.look.freckles:
            self._freckles()

    def draw_features(self) -> None:
        """Mouth, eyes and brows, which lie over a beard."""
        self._mouth()
        for e in (-1.0, 1.0):
            self._eye(e)
            self._brow(e)

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
                0.6 if self.look.blush else 0.3,
                0.035,
                0.3,
            )
            self._shape(
                ellipse(e * 0.18, 0.095, 0.07, 0.036, -e * 0.35), skin.light, 0.75 if e == s else 0.5, 0.02, 0.4
            )
        self._shape(ellipse(s * 0.2, 0.08, 0.035, 0.016, -s * 0.45), skin.glint, 0.6, 0.01, 0.4)
        self._shape(ellipse(s * 0.07, -0.22, 0.10, 0.055), skin.glint, 0.35, 0.035, 0.3)
        if self.look.beard == "stubble":
            jaw = self.outline[self.outline[:, 1] > 0.1]
            area = np.concatenate([jaw[np.argsort(-jaw[:, 0])], np.array([(-0.14, 0.24), (0.0, 0.225), (0.14, 0.24)])])
            self._shape(area, mix(HAIR[self.look.hair_color], self.skin.shade, 0.35), 0.42, 0.025)

    def _nose(self) -> None:
        s, skin = self.light.side, self.skin
        wide = 0.066 + 0.009 * self.nose_width + (0.0 if self.look.woman else 0.006)
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
                ellipse(e * 0.031, 0.201, 0.019, 0.0085, -e * 0.25), mix(skin.deep, _INK, 0.25), 0.85, 0.002, 0.9
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

    def _eye(self, e: float) -> None:
        look, s, skin = self.look, self.light.side, self.skin
        size = 1.0 + 0.07 * self.eye_size + (0.06 if look.woman else -0.02)
        opening = {"laughing": 0.66, "smiling": 0.86, "surprised": 1.22, "angry": 0.8, "sad": 0.9}.get(
            look.expression, 1.0
        )
        opening *= size * (0.9 if look.old else 1.0)
        squint = 0.012 if look.expression in ("laughing", "smiling") else 0.0
        inner, outer = (e * (0.145 - 0.073 * size), 0.012), (e * (0.145 + 0.076 * size), -0.004)
        top = [inner, (e * 0.105, -0.021 * opening), (e * 0.148, -0.037 * opening), (e * 0.19, -0.028 * opening), outer]
        low = [
            (e * 0.195, 0.017 * opening - squint),
            (e * 0.15, 0.029 * opening - squint),
            (e * 0.105, 0.026 * opening - squint),
        ]
        upper = curve(top)
        almond = np.concatenate([upper, curve([outer, *low, inner])])
        at = self.frame.at
        mask = self.canvas.mask(at(almond, 0.5))
        if mask is None:
            return
        unit, canvas = self.unit, self.canvas
        canvas.paint(mask, mix(rgb(250, 246, 240), skin.base, 0.10))
        iris_x, iris_y, radius = e * 0.146 + self.frame.yaw * 0.006, -0.004, 0.0365 * size
        color = EYES[look.eyes]
        canvas.shape(at(ellipse(iris_x, iris_y, radius, radius), 0.5), mix(color, _INK, 0.72), 1.0, 0.0, mask)
        canvas.shape(at(ellipse(iris_x, iris_y, radius * 0.84, radius * 0.84), 0.5), color, 1.0, unit * 0.002, mask)
        canvas.shape(
            at(ellipse(iris_x, iris_y + radius * 0.42, radius * 0.55, radius * 0.35), 0.5),
            mix(color, _WHITE, 0.45),
            0.7,
            unit * 0.004,
            mask,
        )
        canvas.shape(at(ellipse(iris_x, iris_y, radius * 0.46, radius * 0.46), 0.5), _INK, 1.0, 0.0, mask)
        # The lid's shadow on the ball, then the light in the eye.
        canvas.stroke(
            [at(moved(upper, 0, 0.006), 0.5)], mix(skin.deep, _INK, 0.3), unit * 0.018, 0.55, unit * 0.006, mask
        )
        canvas.shape(at(ellipse(iris_x + s * 0.012, iris_y - 0.012, 0.0095, 0.0105), 0.5), _WHITE, 1.0, 0.0, mask)
        canvas.shape(at(ellipse(iris_x - s * 0.013, iris_y + 0.014, 0.005, 0.005), 0.5), _WHITE, 0.5, 0.0, mask)
        self._line(curve([inner, *reversed(low), outer]), mix(skin.shade, skin.deep, 0.5), 0.007, 0.75, 0.002)
        ink = mix(_INK, skin.deep, 0.15)
        weight = 0.0165 if look.woman else 0.0125
        lash = upper.copy()
        rise = np.sin(np.linspace(0.1, 1.0, len(lash)) * np.pi * 0.72) * weight
        lash[:, 1] -= rise
        tip = np.array([(outer[0] + e * (0.022 if look.woman else 0.008), outer[1] - (0.018 if look.woman else 0.002))])
        canvas.shape(at(np.concatenate([lash, tip, moved(upper[::-1], 0, 0.004)]), 0.5), ink)
        canvas.stroke([at(upper, 0.5)], ink, unit * 0.008)
        if look.woman:
            for i, out, up in ((-3, 0.024, 0.022), (-8, 0.022, 0.027), (-13, 0.015, 0.028), (-19, 0.007, 0.026)):
                x, y = upper[i] - (0, 0.006)
                hair = curve([(x, y), (x + e * out * 0.62, y - up * 0.42), (x + e * out, y - up)], steps=5)
                canvas.shape(at(taper(hair, 0.011, both=False), 0.5), ink, 0.92)
        crease = curve(
            [
                (e * 0.08, -0.022 * opening),
                (e * 0.12, -0.05 * opening - 0.006),
                (e * 0.17, -0.052 * opening - 0.006),
                (e * 0.225, -0.026),
            ]
        )
        self._line(crease, mix(skin.shade, skin.deep, 0.55), 0.009, 0.7, 0.002)
        self._shape(ellipse(e * 0.16, -0.083, 0.06, 0.014, e * 0.1), skin.light, 0.45, 0.008, 0.5)

    def _brow(self, e: float) -> None:
        look = self.look
        inner, arch, outer = {
            "angry": (0.026, -0.004, -0.014),
            "sad": (-0.022, 0.004, 0.012),
            "surprised": (-0.03, -0.038, -0.028),
            "laughing": (-0.006, -0.012, -0.004),
        }.get(look.expression, (0.0, 0.0, 0.0))
        thick = (0.024 if look.woman else 0.034) + 0.005 * self.brow_weight
        line = [
            (e * 0.058, -0.084 + inner),
            (e * 0.11, -0.106 + (inner + arch) / 2),
            (e * 0.172, -0.118 + arch),
            (e * 0.247, -0.09 + outer),
        ]
        spine = curve(line)
        body = np.sin(np.linspace(0.32, 1.0, len(spine)) * np.pi) ** 0.7 * thick / 2
        outline = np.concatenate([spine - np.stack([body * 0, body], 1), (spine + np.stack([body * 0, body], 1))[::-1]])
        hair = HAIR[look.hair_color]
        color = mix(hair, _INK, 0.55 if look.hair_color not in ("white", "grey") else 0.3)
        self._shape(outline, color, 0.88, 0.003, 0.5)
        t = np.linspace(0.05, 0.9, 16)
        roots = spine[(t * (len(spine) - 1)).astype(int)]
        slant = np.stack([e * (0.006 + 0.022 * t), -0.026 + 0.03 * t], axis=1) * (thick / 0.03)
        hairs = [
            self.frame.at(np.stack([root - drift * 0.4, root + drift * 0.6]), 0.5)
            for root, drift in zip(roots, slant, strict=True)
        ]
        self.canvas.stroke(hairs, mix(color, _INK, 0.3), self.unit * 0.005, 0.75)

    def _mouth(self) -> None:
        look, skin, s = self.look, self.skin, self.light.side
        lift, wide, open_ = {
            "laughing": (-0.026, 0.137, 0.052),
            "smiling": (-0.017, 0.122, 0.0),
            "sad": (0.019, 0.098, 0.0),
            "angry": (0.012, 0.104, 0.0),
            "surprised": (0.004, 0.068, 0.058),
        }.get(look.expression, (-0.002, 0.104, 0.0))
        wide *= 1 + 0.05 * self.mouth_width
        full = (1.0 if look.woman else 0.78) * (1 + 0.16 * self.lip) * (0.8 if look.old else 1.0)
        y = 0.298
        lips = LIPSTICK[look.lipstick] if look.lipstick else self.colors.lips
        if not look.woman and look.lipstick is None:
            lips = mix(lips, skin.base, 0.35)
        left, right = (-wide, y + lift), (wide, y + lift)
        seam = [
            left,
            (-wide * 0.5, y + lift * 0.25 + 0.004),
            (0.0, y + 0.005),
            (wide * 0.5, y + lift * 0.25 + 0.004),
            right,
        ]
        bow = [right, (wide * 0.55, y - 0.016 * full + lift * 0.5), (0.026, y - 0.03 * full), (0.0, y - 0.022 * full),
               (-0.026, y - 0.03 * full), (-wide * 0.55, y - 0.016 * full + lift * 0.5), left]  # fmt: skip
        drop = open_ - lift * 0.3
        bottom = [left, (-wide * 0.55, y + 0.026 * full + drop * 0.85 + lift * 0.3), (0.0, y + 0.046 * full + drop),
                  (wide * 0.55, y + 0.026 * full + drop * 0.85 + lift * 0.3), right]  # fmt: skip
        deeper = mix(lips, skin.deep, 0.4)
        whole = np.concatenate([curve(bottom), curve(bow)])
        self._shape(whole, lips, 1.0, 0.002, 0.6)
        self._shape(np.concatenate([curve(seam), curve(bow)]), deeper, 0.62, 0.003, 0.6)
        if open_:
            floor = [(-wide * 0.9, y + lift + 0.004), (-wide * 0.5, y + 0.01 + drop * 0.78),
                     (0.0, y + 0.012 + drop * 0.98), (wide * 0.5, y + 0.01 + drop * 0.78),
                     (wide * 0.9, y + lift + 0.004)]  # fmt: skip
            inside = np.concatenate([curve(seam), curve(floor)[::-1]])
            hole = self.canvas.mask(self.frame.at(inside, 0.6))
            self.canvas.paint(hole, rgb(74, 26, 30))
            teeth = np.concatenate(
                [
                    curve(seam),
                    (curve(seam) * (0.86, 1.0) + (0, open_ * (0.62 if look.expression == "laughing" else 0.2)))[::-1],
                ]
            )
            self.canvas.shape(self.frame.at(teeth, 0.6), rgb(240, 236, 228), 0.97, 0.0, hole)
            self.canvas.stroke(
                [self.frame.at(moved(curve(seam), 0, 0.004), 0.6)],
                rgb(74, 26, 30),
                self.unit * 0.01,
                0.5,
                self.unit * 0.003,
                hole,
            )
        self._line(curve(seam), mix(deeper, _INK, 0.55), 0.0085, 0.9, 0.0015, 0.6)
        shine = ellipse(s * 0.012, y + 0.03 * full + drop, wide * 0.33, 0.007)
        self._shape(shine, mix(lips, _WHITE, 0.6), 0.6 if look.lipstick else 0.42, 0.005, 0.6)
        for e in (-1.0, 1.0):
            corner = ellipse(e * (wide + 0.008), y + lift + 0.002, 0.016, 0.012)
            self._shape(corner, mix(skin.shade, skin.deep, 0.3), 0.55, 0.007, 0.5)
            if look.expression in ("smiling", "laughing"):
                fold = curve([(e * 0.085, 0.185), (e * 0.14, 0.23), (e * (wide + 0.04), y + lift + 0.02)])
                self._line(fold, skin.shade, 0.012, 0.4, 0.007)
                self._shape(ellipse(e * 0.2, 0.125, 0.07, 0.045, -e * 0.4), skin.light, 0.4, 0.02, 0.4)
