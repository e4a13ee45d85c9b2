"""The painter's colours: skin, hair, eyes, cloth and light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sketch.canvas import Color, mix, rgb, times


@dataclass(frozen=True, slots=True)
class Ramp:
    """One material from shade to light."""

    deep: Color
    shade: Color
    base: Color
    light: Color
    glint: Color


@dataclass(frozen=True, slots=True)
class Skin:
    """A skin's ramp, its flush and its lips."""

    ramp: Ramp
    blush: Color
    lips: Color


def _skin(base: Color, shade: Color, deep: Color, light: Color, blush: Color, lips: Color) -> Skin:
    return Skin(Ramp(deep, shade, base, light, mix(light, (1.0, 0.98, 0.92), 0.55)), blush, lips)


SKINS: Final[dict[str, Skin]] = {
    "pale": _skin(
        rgb(243, 212, 196),
        rgb(214, 164, 152),
        rgb(158, 100, 100),
        rgb(252, 231, 217),
        rgb(232, 140, 132),
        rgb(196, 100, 104),
    ),
    "fair": _skin(
        rgb(236, 194, 168),
        rgb(202, 144, 122),
        rgb(146, 88, 80),
        rgb(250, 219, 194),
        rgb(226, 124, 108),
        rgb(186, 88, 88),
    ),
    "light": _skin(
        rgb(224, 176, 144),
        rgb(186, 126, 100),
        rgb(128, 76, 64),
        rgb(242, 202, 170),
        rgb(212, 108, 90),
        rgb(172, 80, 76),
    ),
    "tan": _skin(
        rgb(204, 152, 114),
        rgb(162, 106, 78),
        rgb(106, 62, 50),
        rgb(228, 182, 142),
        rgb(192, 92, 72),
        rgb(156, 72, 66),
    ),
    "brown": _skin(
        rgb(170, 116, 82),
        rgb(126, 78, 56),
        rgb(80, 46, 38),
        rgb(200, 146, 108),
        rgb(166, 76, 60),
        rgb(136, 62, 58),
    ),
    "dark": _skin(
        rgb(136, 90, 64),
        rgb(96, 58, 44),
        rgb(56, 33, 30),
        rgb(172, 122, 92),
        rgb(142, 62, 52),
        rgb(120, 54, 54),
    ),
}

HAIR: Final[dict[str, Color]] = {
    "black": rgb(46, 38, 42),
    "dark brown": rgb(72, 48, 40),
    "brown": rgb(104, 68, 48),
    "auburn": rgb(124, 58, 40),
    "red": rgb(172, 76, 38),
    "blonde": rgb(206, 160, 96),
    "grey": rgb(146, 144, 146),
    "white": rgb(214, 210, 206),
    "blue": rgb(58, 92, 158),
    "pink": rgb(214, 112, 148),
    "purple": rgb(112, 72, 142),
    "green": rgb(70, 124, 88),
}

EYES: Final[dict[str, Color]] = {
    "brown": rgb(104, 64, 38),
    "dark": rgb(62, 40, 30),
    "blue": rgb(74, 124, 172),
    "green": rgb(84, 130, 84),
    "hazel": rgb(130, 98, 50),
    "grey": rgb(112, 126, 136),
    "amber": rgb(172, 112, 40),
    "purple": rgb(116, 84, 156),
    "red": rgb(158, 52, 44),
}

CLOTH: Final[dict[str, Color]] = {
    "red": rgb(164, 48, 46),
    "burgundy": rgb(108, 36, 48),
    "orange": rgb(204, 108, 52),
    "yellow": rgb(218, 174, 76),
    "mustard": rgb(190, 142, 56),
    "green": rgb(62, 112, 82),
    "olive": rgb(104, 106, 66),
    "teal": rgb(44, 110, 114),
    "turquoise": rgb(64, 152, 156),
    "blue": rgb(52, 90, 152),
    "navy": rgb(40, 52, 84),
    "purple": rgb(98, 68, 128),
    "pink": rgb(212, 128, 146),
    "brown": rgb(112, 78, 58),
    "beige": rgb(202, 180, 150),
    "cream": rgb(228, 214, 190),
    "white": rgb(232, 228, 220),
    "grey": rgb(122, 124, 130),
    "silver": rgb(176, 180, 186),
    "black": rgb(46, 46, 54),
    "gold": rgb(192, 150, 70),
    "denim": rgb(78, 106, 144),
}

LIPSTICK: Final[dict[str, Color]] = {
    "red": rgb(176, 34, 48),
    "pink": rgb(214, 92, 124),
    "purple": rgb(120, 52, 96),
    "black": rgb(48, 34, 42),
    "orange": rgb(212, 88, 62),
    "brown": rgb(124, 64, 54),
    "nude": rgb(190, 124, 108),
}


def ramp(base: Color) -> Ramp:
    """A material's ramp from its own colour: shade leans to violet, light to warm white."""
    return Ramp(
        deep=times(base, (0.38, 0.34, 0.42)),
        shade=times(base, (0.66, 0.61, 0.70)),
        base=base,
        light=mix(times(base, (1.14, 1.12, 1.06)), (1.0, 0.95, 0.86), 0.12),
        glint=mix(base, (1.0, 0.96, 0.88), 0.55),
    )
