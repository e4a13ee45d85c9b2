"""What each person looks like: the wishes, and the seed's choice for all that they leave open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sketch.words import Brief, Wish

_FREE_HAIR = ("black", "dark brown", "brown", "brown", "auburn", "red", "blonde", "blonde")
_DARK_HAIR = ("black", "black", "dark brown")
_FREE_EYES = ("brown", "brown", "blue", "green", "hazel", "grey")
_FREE_SKIN = ("pale", "fair", "fair", "light", "tan", "brown", "dark")
_FREE_CLOTH = (
    "burgundy", "mustard", "green", "olive", "teal", "blue", "navy", "purple", "cream", "grey", "denim", "red",
)  # fmt: skip
_FREE_BEARD = ("none", "none", "stubble", "beard", "none", "moustache")
_LONG_HAIR = ("long", "long", "bob", "bun", "ponytail", "long")
_FREE_WOMAN = ("dress", "sweater", "t-shirt", "shirt", "jacket", "sweater")
_FREE_MAN = ("shirt", "sweater", "t-shirt", "jacket", "suit", "hoodie")


@dataclass(frozen=True, slots=True)
class Appearance:
    """One person, decided. The strings are values of `palette` and `words`; None means without it.

    Attributes:
        part: where the hair parts, -1 to 1 of its reach.
        fringe: hair falls over the forehead.
        jaw: width of the jaw, 0 (narrow) to 1 (wide).
        shape: eye size, nose width, mouth width, lip fullness and brow weight, each -1 to 1.
    """

    woman: bool
    old: bool
    skin: str
    hair_color: str
    hair_style: str
    hair_texture: str
    beard: str | None
    eyes: str
    glasses: str | None
    hat: str | None
    freckles: bool
    garment: str
    cloth: str
    expression: str
    lipstick: str | None
    blush: bool
    part: float
    fringe: bool
    jaw: float
    shape: tuple[float, float, float, float, float]


def decide(wish: Wish, brief: Brief, rng: np.random.Generator) -> Appearance:
    """Fill a wish up. The same number of draws is made whatever the words say, so a word changes one thing."""
    draw = rng.random(20)
    choose = _Chooser(brief, wish)
    woman = (wish.gender == "woman") if wish.gender else draw[0] < 0.5 and wish.beard is None
    old = wish.age == "old"
    skin, hair_color, eyes = _coloring(choose, draw, old=old)
    beard = choose("beard", ("none",) if woman else _FREE_BEARD, draw[6])
    glasses = choose("glasses", ("none",) * 6 + ("glasses",), draw[7])
    garment, cloth = _clothes(choose, draw, woman=woman)
    freckled = draw[11] < 0.12 and skin in ("pale", "fair") and "freckles" not in brief.banned["freckles"]
    return Appearance(
        woman=woman,
        old=old,
        skin=skin,
        hair_color=hair_color,
        hair_style=choose("hair_style", (*_LONG_HAIR, "short") if woman else ("short", "short"), draw[4]),
        hair_texture=choose("hair_texture", ("straight", "wavy", "wavy", "straight", "curly"), draw[5]),
        beard=None if beard == "none" else beard,
        eyes=eyes,
        glasses=None if glasses == "none" else glasses,
        hat=wish.hat,
        freckles=wish.freckles is not None or bool(freckled),
        garment=garment,
        cloth=cloth,
        expression=choose("expression", ("neutral", "smiling", "smiling", "neutral"), draw[10]),
        lipstick=wish.lipstick,
        blush=wish.blush is not None,
        part=float(draw[12] * 2 - 1),
        fringe=woman and bool(draw[13] < 0.3),
        jaw=float(draw[14] * 0.45 + (0.0 if woman else 0.55)),
        shape=tuple(float(value * 2 - 1) for value in draw[15:20]),  # type: ignore[arg-type]
    )


class _Chooser:
    """Takes the wish when there is one, else draws from what is not banned."""

    def __init__(self, brief: Brief, wish: Wish) -> None:
        self._brief, self._wish = brief, wish

    def __call__(self, field: str, options: Sequence[str], draw: float) -> str:
        wished: str | None = getattr(self._wish, field)
        if wished:
            return wished
        allowed = [value for value in options if value not in self._brief.banned[field]] or list(options)
        return allowed[int(draw * len(allowed))]


def _clothes(choose: _Chooser, draw: NDArray[np.float64], *, woman: bool) -> tuple[str, str]:
    """Garment and colour; a spacesuit is white where the words do not say otherwise."""
    garment = choose("garment", _FREE_WOMAN if woman else _FREE_MAN, draw[8])
    return garment, choose("cloth", ("white",) if garment == "spacesuit" else _FREE_CLOTH, draw[9])


def _coloring(choose: _Chooser, draw: NDArray[np.float64], *, old: bool) -> tuple[str, str, str]:
    """Skin, hair and eyes, which go together where the words leave them open."""
    skin = choose("skin", _FREE_SKIN, draw[1])
    dark = skin in ("brown", "dark")
    hair = ("grey", "white", "grey") if old else _DARK_HAIR if dark else _FREE_HAIR
    eyes = ("brown", "dark") if dark else _FREE_EYES
    return skin, choose("hair_color", hair, draw[2]), choose("eyes", eyes, draw[3])
