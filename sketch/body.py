"""Clothes."""

from __future__ import annotations

import numpy as np

from sketch.canvas import Points, curve, ellipse, mix, moved, rgb
from sketch.palette import CLOTH, ramp
from sketch.torso import Torso

_WHITE = rgb(236, 232, 224)


class Body(Torso):
    """Draws one person from the neck down."""

    def draw(self) -> None:
        """Neck, chest, clothes."""
        if self.person.garment == "hoodie":
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
        }[self.person.garment](torso)
        self.canvas.shape(  # the head's shadow on the chest
            self._at([(-0.2, 0.5), (0.2, 0.5), (0.26, 0.8), (0.0, 0.95), (-0.26, 0.8)]),
            self.cloth.deep, 0.25, self.unit * 0.06, self._mask(torso),
        )  # fmt: skip

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
        wide = 0.2 if self.person.woman else 0.245
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

    def _suit(self, torso: Points) -> None:
        white = ramp(_WHITE)
        line = [(-0.24, 0.70), (-0.1, 0.84), (0.0, 0.9), (0.1, 0.84), (0.24, 0.70)]
        self._fabric(self._cut(torso, line), white, folds=False)
        tie = ramp(CLOTH["burgundy" if self.person.cloth != "burgundy" else "navy"])
        if self.person.woman:
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

    def _jacket(self, torso: Points) -> None:
        line = [(-0.27, 0.715), (-0.18, 0.82), (0.0, 0.88), (0.18, 0.82), (0.27, 0.715)]
        inner = ramp(CLOTH["cream" if self.person.cloth not in ("cream", "white", "beige") else "navy"])
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
