"""What an automatic mask looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

MaskKind = Literal["ellipse", "box", "hull", "none"]


MASK_RANGES: Final = {"grow": (-40, 100), "feather": (0, 50), "offset_x": (-100, 100), "offset_y": (-100, 100)}


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """What an automatic mask looks like. All lengths are in percent of the face's width.

    Attributes:
        kind: `ellipse` from brow to chin; `box`: rounded, around that ellipse; `hull`: the face's outline by its five
            landmarks, the ellipse where a detector gives none; `none`: no face is changed.
        grow: how much larger the outline is on each side, -40 to 100; negative: smaller.
        feather: over how much the mask fades, always inwards, 0 to 50; above 0 at least 8 pixels, where the face is
            large enough. 0: a hard edge.
        offset_x: how far the outline is moved to the right, -100 to 100.
        offset_y: how far the outline is moved down, -100 to 100.
        skin: whether the mask ends where the colour of the face's skin ends, before hair and background.

    Raises:
        ValueError: names the option that is out of its range.
    """

    kind: MaskKind = "ellipse"
    grow: float = 0.0
    feather: float = 8.0
    offset_x: float = 0.0
    offset_y: float = 0.0
    skin: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.kind not in get_args(MaskKind):
            raise ValueError(f"kind must be one of {', '.join(get_args(MaskKind))}; got {self.kind!r}.")
        for name, (least, most) in MASK_RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be {least} to {most}; got {getattr(self, name)}.")
