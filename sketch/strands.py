"""Strands and curls: how the area between two guide curves becomes hair."""

from __future__ import annotations

import numpy as np

from sketch.appearance import Appearance
from sketch.canvas import Canvas, Color, Frame, Light, Mask, Points, curve, ellipse, mix, moved, parts, taper
from sketch.palette import HAIR, ramp

Guide = list[tuple[float, float]]
_STEPS = 36
_ALONG = np.linspace(0, 1, _STEPS)


class Strands:
    """Fills and combs the hair of one person."""

    def __init__(
        self, canvas: Canvas, frame: Frame, person: Appearance, light: Light, rng: np.random.Generator
    ) -> None:
        self.canvas, self.frame, self.person, self.light, self.rng = canvas, frame, person, light, rng
        self.unit = frame.unit
        self.colors = ramp(HAIR[person.hair_color])
        self.part = 0.13 * (1 if person.part >= 0 else -1) * (0.4 + 0.6 * abs(person.part))
        self.curly = person.hair_texture == "curly"
        self.wave = {"straight": 0.004, "wavy": 0.03, "curly": 0.02}[person.hair_texture]

    def _waved(self, line: Points, phase: float) -> Points:
        t = np.linspace(0, 1, len(line))
        wave = self.wave * min(1.0, float(np.ptp(line[:, 1])))
        return line + np.stack([np.sin(t * 13 + phase) * wave * t, np.zeros_like(t)], axis=1)

    def _lock(self, inner: Guide, outer: Guide, shade: float) -> None:
        """Fill the area between two guides and comb strands from one to the other."""
        colors, unit, canvas = self.colors, self.unit, self.canvas
        first, second = _resample(curve(inner)), _resample(curve(outer))
        phase = self.rng.uniform(0, 6)
        first, second = self._waved(first, phase), self._waved(second, phase)
        outline = np.concatenate([first, second[::-1]])
        mask = canvas.mask(self.frame.at(outline))
        if mask is None:
            return
        canvas.paint(mask, mix(colors.base, colors.shade, 0.2))
        self._soft_light(first, second, shade, mask)
        tones = (colors.deep, colors.shade, colors.light, colors.base)
        widths, alphas = (0.016, 0.026, 0.014, 0.022), (0.5, 0.55, 0.55 - 0.35 * shade, 0.5)
        for tone, width, alpha in zip(tones, widths, alphas, strict=True):
            strands = [
                taper(self._strand(first, second, int(self.rng.integers(0, 12)), int(self.rng.integers(18, 40))), width)
                for _ in range(20)
            ]
            self._marks(strands, tone, alpha, mask)
        # The band of light across the strands.
        shine = [
            taper(self._strand(first, second, int(self.rng.integers(4, 9)), int(self.rng.integers(6, 13))), 0.016)
            for _ in range(26)
        ]
        self._marks(shine, colors.glint, 0.42 * (1 - shade) + 0.1, mask, unit * 0.003)
        canvas.stroke([self.frame.at(first)], colors.deep, unit * 0.02, 0.5, unit * 0.008, mask)
        if shade > 0.4:
            canvas.stroke([self.frame.at(second)], self.light.rim, unit * 0.016, 0.5, unit * 0.006, mask)

    def _strand(self, first: Points, second: Points, start: int, length: int) -> Points:
        """A strand somewhere between two guides, from one of their steps on."""
        t = self.rng.uniform(0.03, 0.97)
        bend = t + self.rng.uniform(-0.08, 0.08) * _ALONG
        path: Points = first + (second - first) * bend[:, None]
        return path[start : start + max(4, length)]

    def _marks(self, marks: list[Points], tone: Color, alpha: float, mask: Mask, blur: float = 0.0) -> None:
        placed = parts(self.frame.at(np.concatenate(marks)), marks)
        drawn = self.canvas.union(placed, blur)
        self.canvas.paint(drawn.inside(mask) if drawn else None, tone, alpha)

    def _soft_light(self, first: Points, second: Points, shade: float, mask: Mask) -> None:
        """Volume: dark at the hairline and where the lock turns under, light on the bulge."""
        colors, blur = self.colors, self.unit * 0.035
        near = first + (second - first) * 0.22
        self.canvas.shape(self.frame.at(np.concatenate([first, near[::-1]])), colors.deep, 0.6, blur, mask)
        low, high = first + (second - first) * 0.4, first + (second - first) * 0.8
        bulge = np.concatenate([low[4:16], high[4:16][::-1]])
        self.canvas.shape(self.frame.at(bulge), colors.light, 0.7 * (1 - shade) + 0.1, blur, mask)
        fall = np.concatenate([first[9:], second[9:][::-1]])
        self.canvas.shape(self.frame.at(fall), colors.shade, 0.25 + 0.6 * shade, blur * 1.6, mask)
        tail = np.concatenate([first[26:], second[26:][::-1]])
        self.canvas.shape(self.frame.at(tail), colors.deep, 0.3, blur, mask)

    def _bubbles(self, outline: Points, size: float) -> list[Points]:
        """A bubbly edge along a closed outline, in pixels."""
        length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(outline, axis=0).T))])
        at = np.arange(0, length[-1], size * 0.9)
        x, y = np.interp(at, length, outline[:, 0]), np.interp(at, length, outline[:, 1])
        radii = size * self.rng.uniform(0.65, 1.1, len(at))
        return [self.frame.at(ellipse(*spot)) for spot in zip(x, y, radii, radii, strict=True)]

    def _curly(self, outline: Points, edge: Points, shade: float) -> None:
        """A mass of curls: `outline` filled, bubbly along `edge`, then many small turns of hair."""
        colors, unit, s = self.colors, self.unit, self.light.side
        mask = self.canvas.union([self.frame.at(outline), *self._bubbles(edge, 0.055)])
        if mask is None:
            return
        self.canvas.paint(mask, mix(colors.base, colors.shade, 0.35 + 0.5 * shade))
        low, high = outline.min(axis=0), outline.max(axis=0)
        dark = ellipse(-s * 0.32, low[1] + 0.6 * (high[1] - low[1]), 0.22, 0.5 * (high[1] - low[1]))
        self.canvas.shape(self.frame.at(dark), colors.deep, 0.55, unit * 0.08, mask)
        self.canvas.shape(self.frame.at(ellipse(s * 0.17, -0.5, 0.2, 0.13)), colors.light, 0.55, unit * 0.06, mask)
        count = int(np.prod(high - low + 0.1) * 520)
        tones = ((colors.deep, 0.38, 0.018), (colors.shade, 0.5, 0.022), (colors.light, 0.42 - 0.25 * shade, 0.015))
        for tone, alpha, width in tones:
            self._marks(list(taper(self._turns(low - 0.05, high + 0.05, count), width)), tone, alpha, mask)
        glints = list(taper(self._turns(low - 0.05, (high[0] + 0.05, low[1] + 0.4), count // 8 + 4), 0.009))
        self._marks(glints, colors.glint, 0.35 * (1 - shade), mask)

    def _turns(self, low: Points, high: Points | tuple[float, float], count: int) -> Points:
        """Turns of curls, each somewhere in a rectangle; shape (count, 9, 2)."""
        center = self.rng.uniform(low, high, (count, 2))
        radius, start = self.rng.uniform(0.018, 0.042, (count, 1)), self.rng.uniform(0, 2 * np.pi, (count, 1))
        angle = start + np.linspace(0, 1, 9) * self.rng.uniform(2.4, 4.6, (count, 1))
        radius = radius * np.linspace(1.0, 0.55, 9)
        return np.stack(
            [center[:, :1] + np.cos(angle) * radius, center[:, 1:] + np.sin(angle) * radius * 0.85], axis=-1
        )

    def _curly_locks(self, locks: list[tuple[Guide, Guide, float]]) -> None:
        for inner, outer, shade in locks:
            first, second = _resample(curve(inner)), _resample(curve(outer))
            first = moved(first, 0.0, -0.015)
            self._curly(np.concatenate([first, second[::-1]]), np.concatenate([second, first[::-1]]), shade * 0.5)


def _resample(line: Points) -> Points:
    """The line as `_STEPS` points, evenly along its length."""
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.linspace(0, length[-1], _STEPS)
    return np.stack([np.interp(at, length, line[:, 0]), np.interp(at, length, line[:, 1])], axis=1)
