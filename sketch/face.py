"""The features of a face, in the coordinates of `head`."""

from __future__ import annotations

import numpy as np

from sketch.canvas import curve, ellipse, mix, moved, rgb, taper
from sketch.head import INK, Head
from sketch.palette import EYES, HAIR, LIPSTICK

_WHITE = rgb(250, 248, 244)


class Face(Head):
    """Draws one head with mouth, eyes and brows."""

    def draw_features(self) -> None:
        """Mouth, eyes and brows, which lie over a beard."""
        self._mouth()
        for e in (-1.0, 1.0):
            self._eye(e)
            self._brow(e)

    def _eye(self, e: float) -> None:
        person, s, skin = self.person, self.light.side, self.skin
        size = 1.0 + 0.07 * self.eye_size + (0.06 if person.woman else -0.02)
        opening = {"laughing": 0.66, "smiling": 0.86, "surprised": 1.22, "angry": 0.8, "sad": 0.9}.get(
            person.expression, 1.0
        )
        opening *= size * (0.9 if person.old else 1.0)
        squint = 0.012 if person.expression in ("laughing", "smiling") else 0.0
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
        color = EYES[person.eyes]
        canvas.shape(at(ellipse(iris_x, iris_y, radius, radius), 0.5), mix(color, INK, 0.72), 1.0, 0.0, mask)
        canvas.shape(at(ellipse(iris_x, iris_y, radius * 0.84, radius * 0.84), 0.5), color, 1.0, unit * 0.002, mask)
        canvas.shape(
            at(ellipse(iris_x, iris_y + radius * 0.42, radius * 0.55, radius * 0.35), 0.5),
            mix(color, _WHITE, 0.45),
            0.7,
            unit * 0.004,
            mask,
        )
        canvas.shape(at(ellipse(iris_x, iris_y, radius * 0.46, radius * 0.46), 0.5), INK, 1.0, 0.0, mask)
        # The lid's shadow on the ball, then the light in the eye.
        canvas.stroke(
            [at(moved(upper, 0, 0.006), 0.5)], mix(skin.deep, INK, 0.3), unit * 0.018, 0.55, unit * 0.006, mask
        )
        canvas.shape(at(ellipse(iris_x + s * 0.012, iris_y - 0.012, 0.0095, 0.0105), 0.5), _WHITE, 1.0, 0.0, mask)
        canvas.shape(at(ellipse(iris_x - s * 0.013, iris_y + 0.014, 0.005, 0.005), 0.5), _WHITE, 0.5, 0.0, mask)
        self._line(curve([inner, *reversed(low), outer]), mix(skin.shade, skin.deep, 0.5), 0.007, 0.75, 0.002)
        ink = mix(INK, skin.deep, 0.15)
        weight = 0.0165 if person.woman else 0.0125
        lash = upper.copy()
        rise = np.sin(np.linspace(0.1, 1.0, len(lash)) * np.pi * 0.72) * weight
        lash[:, 1] -= rise
        tip = np.array(
            [(outer[0] + e * (0.022 if person.woman else 0.008), outer[1] - (0.018 if person.woman else 0.002))]
        )
        canvas.shape(at(np.concatenate([lash, tip, moved(upper[::-1], 0, 0.004)]), 0.5), ink)
        canvas.stroke([at(upper, 0.5)], ink, unit * 0.008)
        if person.woman:
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
        person = self.person
        inner, arch, outer = {
            "angry": (0.026, -0.004, -0.014),
            "sad": (-0.022, 0.004, 0.012),
            "surprised": (-0.03, -0.038, -0.028),
            "laughing": (-0.006, -0.012, -0.004),
        }.get(person.expression, (0.0, 0.0, 0.0))
        thick = (0.024 if person.woman else 0.034) + 0.005 * self.brow_weight
        line = [
            (e * 0.058, -0.084 + inner),
            (e * 0.11, -0.106 + (inner + arch) / 2),
            (e * 0.172, -0.118 + arch),
            (e * 0.247, -0.09 + outer),
        ]
        spine = curve(line)
        body = np.sin(np.linspace(0.32, 1.0, len(spine)) * np.pi) ** 0.7 * thick / 2
        outline = np.concatenate([spine - np.stack([body * 0, body], 1), (spine + np.stack([body * 0, body], 1))[::-1]])
        hair = HAIR[person.hair_color]
        color = mix(hair, INK, 0.55 if person.hair_color not in ("white", "grey") else 0.3)
        self._shape(outline, color, 0.88, 0.003, 0.5)
        t = np.linspace(0.05, 0.9, 16)
        roots = spine[(t * (len(spine) - 1)).astype(int)]
        slant = np.stack([e * (0.006 + 0.022 * t), -0.026 + 0.03 * t], axis=1) * (thick / 0.03)
        hairs = [
            self.frame.at(np.stack([root - drift * 0.4, root + drift * 0.6]), 0.5)
            for root, drift in zip(roots, slant, strict=True)
        ]
        self.canvas.stroke(hairs, mix(color, INK, 0.3), self.unit * 0.005, 0.75)

    def _mouth(self) -> None:
        person, skin, s = self.person, self.skin, self.light.side
        lift, wide, open_ = {
            "laughing": (-0.026, 0.137, 0.052),
            "smiling": (-0.017, 0.122, 0.0),
            "sad": (0.019, 0.098, 0.0),
            "angry": (0.012, 0.104, 0.0),
            "surprised": (0.004, 0.068, 0.058),
        }.get(person.expression, (-0.002, 0.104, 0.0))
        wide *= 1 + 0.05 * self.mouth_width
        full = (1.0 if person.woman else 0.78) * (1 + 0.16 * self.lip) * (0.8 if person.old else 1.0)
        y = 0.298
        lips = LIPSTICK[person.lipstick] if person.lipstick else self.colors.lips
        if not person.woman and person.lipstick is None:
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
                    (curve(seam) * (0.86, 1.0) + (0, open_ * (0.62 if person.expression == "laughing" else 0.2)))[::-1],
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
        self._line(curve(seam), mix(deeper, INK, 0.55), 0.0085, 0.9, 0.0015, 0.6)
        shine = ellipse(s * 0.012, y + 0.03 * full + drop, wide * 0.33, 0.007)
        self._shape(shine, mix(lips, _WHITE, 0.6), 0.6 if person.lipstick else 0.42, 0.005, 0.6)
        for e in (-1.0, 1.0):
            corner = ellipse(e * (wide + 0.008), y + lift + 0.002, 0.016, 0.012)
            self._shape(corner, mix(skin.shade, skin.deep, 0.3), 0.55, 0.007, 0.5)
            if person.expression in ("smiling", "laughing"):
                fold = curve([(e * 0.085, 0.185), (e * 0.14, 0.23), (e * (wide + 0.04), y + lift + 0.02)])
                self._line(fold, skin.shade, 0.012, 0.4, 0.007)
                self._shape(ellipse(e * 0.2, 0.125, 0.07, 0.045, -e * 0.4), skin.light, 0.4, 0.02, 0.4)
