"""Overlapping boxes: how much two overlap, and which of many to keep.

Belongs here: pure geometry on boxes. Does not: detectors.
"""

from __future__ import annotations

from collections.abc import Iterable

from imaging.boxes import Box, Face


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes: 0.0 (apart) to 1.0 (equal)."""
    width = min(first.right, second.right) - max(first.left, second.left)
    height = min(first.bottom, second.bottom) - max(first.top, second.top)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (first.area + second.area - shared)


def nms(faces: Iterable[Face], threshold: float = 0.35) -> list[Face]:
    """Greedy non-maximum suppression: of faces that overlap by more than `threshold`, keep the best.

    Args:
        faces: in any order; equal scores are decided by place, so the result does not depend on the order.
        threshold: intersection over union, 0 to 1, above which two boxes are one face.

    Returns:
        The faces kept, highest score first.
    """
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: (-face.score, face.box.as_tuple())):
        if all(iou(face.box, other.box) <= threshold for other in kept):
            kept.append(face)
    return kept
