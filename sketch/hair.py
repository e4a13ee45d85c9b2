"""Hair of the head, and beards: locks between two guide curves."""

from __future__ import annotations

import numpy as np

from sketch.canvas import curve, ellipse, mix, moved, taper
from sketch.head import Head
from sketch.strands import Guide, Strands


class Hair(Strands):
    """Draws one person's hair: `draw_back` before the body, `draw_front` after the face."""

    def draw_back(self) -> None:
        """What falls behind neck and shoulders."""
        style = self.person.hair_style
        if style == "long":
            self._mass([(-0.36, -0.3), (-0.47, 0.1), (-0.52, 0.5), (-0.56, 0.9), (-0.46, 1.18), (-0.2, 1.1), (0.0, 1.0),
                        (0.2, 1.1), (0.46, 1.18), (0.56, 0.9), (0.52, 0.5), (0.47, 0.1), (0.36, -0.3),
                        (0.0, -0.5)])  # fmt: skip
        elif style == "bob":
            self._mass([(-0.36, -0.3), (-0.44, 0.1), (-0.45, 0.4), (-0.34, 0.52), (0.0, 0.5), (0.34, 0.52), (0.45, 0.4),
                        (0.44, 0.1), (0.36, -0.3), (0.0, -0.5)])  # fmt: skip
        elif style == "bun" and not self.person.hat:
            self._bun(0.05 * np.sign(self.part), -0.65, 0.165, 0.14)
        elif style == "ponytail":
            e = float(-np.sign(self.part))
            inner = [(e * 0.26, -0.2), (e * 0.36, 0.1), (e * 0.30, 0.5), (e * 0.36, 1.05)]
            outer = [(e * 0.30, -0.42), (e * 0.50, -0.1), (e * 0.55, 0.5), (e * 0.47, 1.12)]
            if self.curly:
                self._curly_locks([(inner, outer, 0.6)])
            else:
                self._lock(inner, outer, 0.35)

    def _mass(self, outline: Guide) -> None:
        points = curve(outline, closed=True)
        if self.curly:
            self._curly(points, np.concatenate([points, points[:1]]), 1.0)
            return
        mask = self.canvas.mask(self.frame.at(points))
        self.canvas.paint(mask, mix(self.colors.shade, self.colors.deep, 0.5))
        x = self.rng.uniform(-1, 1, 44)
        reach = np.abs(points[:, 0]).max()
        paths = []
        for value in x:
            sway = self.rng.uniform(-0.02, 0.02)
            line = curve(
                [
                    (value * 0.34, -0.3),
                    (value * reach * 0.86, 0.15),
                    (value * reach + sway, 0.6),
                    (value * reach * 0.94, 1.3),
                ]
            )
            paths.append(self.frame.at(self._waved(line, self.rng.uniform(0, 6))))
        third = len(paths) // 2
        self.canvas.stroke(paths[:third], self.colors.deep, self.unit * 0.018, 0.6, self.unit * 0.003, mask)
        self.canvas.stroke(paths[third:], self.colors.shade, self.unit * 0.014, 0.7, self.unit * 0.003, mask)

    def _bun(self, x: float, y: float, width: float, height: float) -> None:
        outline = ellipse(x, y, width, height)
        if self.curly:
            self._curly(outline, np.concatenate([outline, outline[:1]]), 0.3)
            return
        mask = self.canvas.mask(self.frame.at(outline))
        colors, s = self.colors, self.light.side
        self.canvas.paint(mask, colors.base)
        self.canvas.shape(
            self.frame.at(ellipse(x - s * width * 0.5, y + height * 0.4, width * 0.8, height * 0.8)),
            colors.deep,
            0.7,
            self.unit * 0.03,
            mask,
        )
        turns = [
            self.frame.at(ellipse(x, y + height * 0.2, width * k, height * k)[: 24 + int(6 * k)])
            for k in np.linspace(0.25, 1.0, 9)
        ]
        self.canvas.stroke(turns, colors.shade, self.unit * 0.011, 0.75, 0.0, mask)
        self.canvas.shape(
            self.frame.at(ellipse(x + s * width * 0.35, y - height * 0.35, width * 0.4, height * 0.25, s * 0.4)),
            colors.glint,
            0.5,
            self.unit * 0.02,
            mask,
        )

    def draw_front(self, head: Head) -> None:
        """Crown, sides and fringe, with their shadow on the forehead."""
        if self.person.hair_style == "bald":
            self._bald(head)
            return
        locks = self._locks()
        outlines = [np.concatenate([curve(inner), curve(outer)[::-1]]) for inner, outer, _ in locks]
        for outline in outlines:
            self.canvas.shape(
                self.frame.at(moved(outline, 0.0, 0.035)), head.skin.shade, 0.75, self.unit * 0.022, head.mask
            )
        if self.curly:
            self._curly_locks(locks)
            return
        for inner, outer, shade in locks:
            self._lock(inner, outer, shade)

    def _bald(self, head: Head) -> None:
        tone = mix(head.skin.shade, self.colors.base, 0.3)
        for e in (-1.0, 1.0):
            side = curve(
                [(e * 0.36, -0.3), (e * 0.30, -0.26), (e * 0.285, -0.12), (e * 0.31, 0.0), (e * 0.36, 0.0)], closed=True
            )
            self.canvas.shape(self.frame.at(side), tone, 0.5, self.unit * 0.02, head.mask)
        s = self.light.side
        self.canvas.shape(
            self.frame.at(ellipse(s * 0.1, -0.37, 0.12, 0.055, s * 0.3)),
            head.skin.glint,
            0.65,
            self.unit * 0.03,
            head.mask,
        )

    def _locks(self) -> list[tuple[Guide, Guide, float]]:
        """The locks from back to front: inner guide (hairline), outer guide (silhouette), shade 0 to 1."""
        style, part, s = self.person.hair_style, self.part, self.light.side
        locks = []
        for e in (-1.0, 1.0):
            inner: Guide = [(part, -0.385), ((part + e * 0.25) * 0.62, -0.365), (e * 0.255, -0.245), (e * 0.298, -0.10)]
            outer: Guide = [
                (part - e * 0.06, -0.582),
                (part * 0.5 + e * 0.15, -0.574),
                (e * 0.275, -0.515),
                (e * 0.36, -0.385),
                (e * 0.394, -0.2),
            ]
            if style == "long":
                inner += [(e * 0.318, 0.12), (e * 0.318, 0.42), (e * 0.345, 0.75), (e * 0.33, 1.12)]
                outer += [(e * 0.425, 0.12), (e * 0.47, 0.45), (e * 0.50, 0.8), (e * 0.35, 1.24)]
            elif style == "bob":
                inner += [(e * 0.31, 0.1), (e * 0.30, 0.28), (e * 0.255, 0.44)]
                outer += [(e * 0.42, 0.05), (e * 0.445, 0.27), (e * 0.33, 0.5)]
            elif style in ("bun", "ponytail"):
                inner = [
                    (part * 0.6, -0.375),
                    (e * 0.15, -0.36),
                    (e * 0.255, -0.26),
                    (e * 0.30, -0.12),
                    (e * 0.318, 0.0),
                ]
                outer = [
                    (part * 0.6, -0.55),
                    (e * 0.17, -0.545),
                    (e * 0.31, -0.42),
                    (e * 0.362, -0.22),
                    (e * 0.345, -0.02),
                ]
            elif self.person.woman:
                inner += [(e * 0.312, 0.02), (e * 0.325, 0.10)]
                outer += [(e * 0.39, -0.03), (e * 0.336, 0.14)]
            else:
                inner[-1] = (e * 0.296, -0.13)
                inner += [(e * 0.316, 0.03)]
                outer = [
                    (part - e * 0.06, -0.597),
                    (part * 0.5 + e * 0.13, -0.593),
                    (e * 0.262, -0.53),
                    (e * 0.34, -0.40),
                    (e * 0.368, -0.22),
                    (e * 0.338, 0.035),
                ]
            locks.append((inner, outer, 0.15 if e == s else 0.6))
        if style == "short" and not self.person.woman:
            e = float(-np.sign(part))
            locks.append(  # the top, combed over from the parting
                (
                    [(part, -0.40), (part + e * 0.14, -0.415), (part + e * 0.26, -0.40), (e * 0.265, -0.30)],
                    [(part, -0.57), (part + e * 0.12, -0.635), (part + e * 0.30, -0.59), (e * 0.345, -0.40)],
                    0.1,
                )
            )
        if self.person.fringe and style not in ("bun", "ponytail"):
            e = float(-np.sign(part))
            locks.append(
                (
                    [(part, -0.37), (part + e * 0.08, -0.27), (part + e * 0.22, -0.20), (e * 0.315, -0.05)],
                    [(part, -0.545), (part + e * 0.2, -0.50), (e * 0.27, -0.36), (e * 0.34, -0.04)],
                    0.25,
                )
            )
        return locks


def draw_beard(hair: Hair) -> None:
    """A full beard or a moustache; stubble is a matter of the skin (`face`)."""
    person, canvas, frame, unit, colors = hair.person, hair.canvas, hair.frame, hair.unit, hair.colors
    if person.beard not in ("beard", "moustache"):
        return
    if person.beard == "beard":
        jaw = 0.03 * person.jaw
        half = [(0.335, -0.02), (0.338, 0.12), (0.305 + jaw, 0.28), (0.225 + jaw, 0.43), (0.11, 0.535), (0.0, 0.56)]
        inner = [(0.0, 0.255), (0.1, 0.245), (0.165, 0.27), (0.225, 0.225), (0.285, 0.12), (0.308, -0.02)]
        outline = curve(
            [*half, *((-x, y) for x, y in reversed(half[:-1])), *((-x, y) for x, y in reversed(inner)), *inner[1:]],
            closed=True,
            steps=5,
        )
        mask = canvas.mask(frame.at(outline, 0.2), unit * 0.006)
        canvas.paint(mask, mix(colors.base, colors.shade, 0.35), 0.96)
        s = hair.light.side
        canvas.shape(
            frame.at(
                curve(
                    [(-s * 0.4, 0.0), (-s * 0.2, 0.25), (-s * 0.02, 0.4), (-s * 0.02, 0.6), (-s * 0.4, 0.6)],
                    closed=True,
                )
            ),
            colors.deep,
            0.6,
            unit * 0.04,
            mask,
        )
        canvas.shape(frame.at(ellipse(s * 0.14, 0.4, 0.08, 0.09)), colors.light, 0.5, unit * 0.03, mask)
        for tone, alpha in ((colors.deep, 0.35), (colors.shade, 0.45), (colors.light, 0.3)):
            roots = np.stack([hair.rng.uniform(-0.33, 0.33, 150), hair.rng.uniform(-0.02, 0.5, 150)], axis=1)[:, None]
            t = np.linspace(0, 1, 5)[:, None]
            falls = roots + t * (0.0, 0.07) + (t - t * t) * hair.rng.normal(0, 0.05, (150, 1, 1)) * (1.0, 0.0)
            drawn = canvas.union(list(frame.at(taper(falls, 0.009), 0.3)))
            canvas.paint(drawn.inside(mask) if drawn and mask else None, tone, alpha)
    for e in (-1.0, 1.0):
        wing = curve(
            [
                (0.0, 0.232),
                (e * 0.06, 0.228),
                (e * 0.115, 0.262),
                (e * 0.142, 0.318),
                (e * 0.10, 0.295),
                (e * 0.05, 0.283),
                (0.0, 0.282),
            ],
            closed=True,
        )
        mask = canvas.mask(frame.at(wing, 0.7), unit * 0.003)
        canvas.paint(mask, mix(colors.base, colors.shade, 0.2 if e == hair.light.side else 0.6))
        hairs = [
            frame.at(
                curve(
                    [(e * x, 0.228 + x * 0.1), (e * (x + 0.03), 0.258 + x * 0.2), (e * (x + 0.045), 0.295 + x * 0.25)],
                    steps=4,
                ),
                0.7,
            )
            for x in np.linspace(0.0, 0.1, 12)
        ]
        canvas.stroke(hairs[::2], colors.deep, unit * 0.006, 0.6, 0.0, mask)
        canvas.stroke(hairs[1::2], colors.light, unit * 0.005, 0.5, 0.0, mask)
