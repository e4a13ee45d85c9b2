"""How portraits are cut, and which faces are good enough to be left as they are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PortraitOptions:
    """How portraits are cut, and which faces are good enough as they are.

    Attributes:
        padding: room on each side of a face, as a share of its longer side.
        align: whether portraits are turned upright.
        keep_sharp: crisp faces at least so many pixels wide are left as they are; 0: none is.
    """

    padding: float
    align: bool
    keep_sharp: int
