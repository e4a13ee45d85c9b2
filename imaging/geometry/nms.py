"""Overlapping boxes: how much two overlap, and which of many to keep."""

from __future__ import annotations

from collections.abc import Iterable

from imaging.geometry.boxes import Box, Face


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes: 0.0 (apart) to 1.0 (equal)."""
    shared = _shared(first, second)
    return shared / (first.area + second.area - shared)


def containment(first: Box, second: Box) -> float:
    """How much of the smaller of two boxes lies in the other: 0.0 (apart) to 1.0 (one holds the other)."""
    return _shared(first, second) / min(first.area, second.area)


def nms(faces: Iterable[Face], threshold: float = 0.35, contained: float = 0.7) -> list[Face]:
    """Greedy non-maximum suppression: of faces that are one face seen twice, keep the best.

    Args:
        faces: in any order; equal scores are decided by place, so the result does not depend on the order.
        threshold: intersection over union, 0 to 1, above which two boxes are one face.
        contained: containment, 0 to 1, above which the smaller box is a part of the same face: the half of it that
            was seen at the edge of a tile, or what a look at another size took for it.

    Returns:
        The faces kept, highest score first.
    """
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: (-face.score, face.box.as_tuple(), face.landmarks or ())):
        if not any(is_same(face, other, threshold, contained) for other in kept):
            kept.append(face)
    return kept


def is_same(face: Face, other: Face, threshold: float = 0.35, contained: float = 0.7) -> bool:
    """Whether two boxes are one face seen twice, as `nms` says."""
    return iou(face.box, other.box) > threshold or containment(face.box, other.box) > contained


def _shared(first: Box, second: Box) -> int:
    """Pixels that lie in both."""
    width = min(first.right, second.right) - max(first.left, second.left)
    height = min(first.bottom, second.bottom) - max(first.top, second.top)
    return width * height if width > 0 and height > 0 else 0
