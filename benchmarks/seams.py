"""What is seen of a face that was put back: the seam, the cast that is left, and changes outside the mask.

    .venv/bin/python benchmarks/seams.py [--kind ellipse box hull] [--skin] [--feather 8] [--all]

Each case is a photo with known faces, and the same photo damaged as a generator might damage it: a colour cast, gain,
noise, blur, or a slope of light. The damaged faces are put back as the assets `mask` and `final_image` do, so a perfect
merge would give the photo back. Printed per kind of damage, the mean and the worst of:

- seam: the mean gradient of lightness along the mask's edge, as a share of the photo's own; 1 is no seam
- cast: the largest mean difference of a channel inside the mask, in levels of 255
- outside: the largest change of a pixel where the mask is 0; always 0

`cases` and `measure` can be used for other measurements, such as of real generators.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

from fc_assets.stages.final_image import merge_faces
from imaging.faces.blend import edge_ring
from imaging.faces.mask import draw_mask
from imaging.faces.mask_options import MaskOptions
from imaging.geometry.boxes import Box, Face
from imaging.geometry.crop import crop, portrait_box
from resources.artifacts.images import Patch, PatchesRecord
from resources.artifacts.records import FaceRecord, PortraitRecord

Picture = NDArray[np.uint8]

# The face of skimage's astronaut (NASA, public domain).
ASTRONAUT = Face(Box(179, 62, 269, 175), 0.9, ((208, 105), (246, 102), (232, 124), (214, 146), (246, 143)))


@dataclass(frozen=True)
class Case:
    """A photo, its faces, and the photo with every face damaged. `damage` names what was done."""

    name: str
    damage: str
    picture: Picture
    faces: tuple[Face, ...]
    damaged: Picture


@dataclass(frozen=True)
class Seen:
    """What is seen of a merge: seam (1 is none), cast in levels, largest change outside the mask in levels."""

    seam: float
    cast: float
    outside: int


def measure(case: Case, options: MaskOptions = MaskOptions()) -> Seen:  # noqa: B008 - it is frozen
    """Put the damaged faces of a case back and look at the result. A mask without pixels has no seam and no cast."""
    mask = draw_mask(case.faces, case.picture.shape[:2], options, case.picture)
    merged = put_back(case, mask)
    inside, ring = mask == 255, edge_ring(mask)
    difference = merged.astype(np.float64) - case.picture
    seam = _gradient(merged)[ring].mean() / max(_gradient(case.picture)[ring].mean(), 1e-6) if ring.any() else 1.0
    cast = np.abs(difference[inside].mean(axis=0)).max() if inside.any() else 0.0
    return Seen(float(seam), float(cast), int(np.abs(difference).max(axis=2)[mask == 0].max(initial=0)))


def put_back(case: Case, mask: Picture) -> Picture:
    """The photo with its damaged faces merged in by the product's own code."""
    height, width = case.picture.shape[:2]
    boxes = [portrait_box(face.box, (width, height), 0.6) for face in case.faces]
    records = tuple(
        FaceRecord(
            box=face.box.as_tuple(), crop=box.as_tuple(), score=face.score, landmarks=face.landmarks, passed=True
        )
        for face, box in zip(case.faces, boxes, strict=True)
    )
    patches = tuple(Patch(box.as_tuple(), crop(case.damaged, box)) for box in boxes)
    record = PortraitRecord(detector="known", width=width, height=height, faces=records)
    return merge_faces(case.picture, mask, record, PatchesRecord(patches, {}))


def cases(*, every_place: bool = True) -> Iterator[Case]:
    """Every photo with every damage; without `every_place` only the upright face in the middle."""
    for name, (picture, faces) in photos(every_place=every_place).items():
        for kind, versions in DAMAGES.items():
            for number, damage in enumerate(versions):
                yield Case(f"{name}, {kind} {number + 1}", kind, picture, faces, damage(picture))


def photos(*, every_place: bool = True) -> dict[str, tuple[Picture, tuple[Face, ...]]]:
    """Photos and their faces: upright, at the borders, tiny, huge, touching, and turned in steps of 15 degrees."""
    picture = data.astronaut()
    found: dict[str, tuple[Picture, tuple[Face, ...]]] = {"middle": (picture, (ASTRONAUT,))}
    if not every_place:
        return found
    borders = {"left": (215, 0, 512, 400), "top": (60, 110, 400, 512), "right": (0, 0, 235, 400)}
    for name, (left, top, right, bottom) in borders.items():
        cut = np.ascontiguousarray(picture[top:bottom, left:right])
        found[f"border {name}"] = (cut, (_moved(ASTRONAUT, -left, -top, cut.shape),))
    for name, scale in (("tiny", 0.3), ("huge", 3.0)):
        close = picture[40:260, 120:330]
        face = _moved(ASTRONAUT, -120, -40, close.shape)
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        sized = np.asarray(cv2.resize(close, None, fx=scale, fy=scale, interpolation=method), dtype=np.uint8)
        found[name] = (sized, (_scaled(face, scale),))
    half = np.ascontiguousarray(picture[20:250, 170:270])
    pair = np.hstack([half, half[:, ::-1]])
    first = _moved(ASTRONAUT, -170, -20, pair.shape)
    found["touching"] = (pair, (first, _mirrored(first, pair.shape[1])))
    found |= {f"turned {degrees}": _turned(picture, ASTRONAUT, degrees) for degrees in range(15, 360, 15)}
    return found


def _cast(levels: tuple[int, int, int]) -> Callable[[Picture], Picture]:
    return lambda picture: _levels(picture + np.array(levels, np.float64))


def _gain(factors: tuple[float, float, float]) -> Callable[[Picture], Picture]:
    return lambda picture: _levels(picture * np.array(factors))


def _noise(picture: Picture) -> Picture:
    return _levels(picture + np.random.default_rng(1).normal(0, 4, picture.shape) + 6)


def _blur(picture: Picture) -> Picture:
    return _levels(cv2.GaussianBlur(picture, (0, 0), 1.0).astype(np.float64) - 6)


def _slope(picture: Picture) -> Picture:
    """A light from the side: 8 levels darker on the left of the picture, 8 lighter on its right."""
    return _levels(picture + np.linspace(-8, 8, picture.shape[1])[None, :, None])


def _levels(values: NDArray[Any]) -> Picture:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


DAMAGES: Mapping[str, tuple[Callable[[Picture], Picture], ...]] = {
    "none": (np.copy,),
    "cast": tuple(_cast(levels) for levels in itertools.product((-12, 12), repeat=3)),
    "gain": tuple(_gain(factors) for factors in ((0.93, 1, 1), (1, 1.07, 1), (1.05, 1, 0.95), (0.93, 0.93, 0.93))),
    "noise": (_noise,),
    "blur": (_blur,),
    "slope": (_slope,),
}


def _points(face: Face, change: Callable[[float, float], tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    return tuple(change(x, y) for x, y in face.landmarks or ())


def _moved(face: Face, x: int, y: int, shape: tuple[int, ...]) -> Face:
    """Moved, and its box cut to the picture, as detectors do."""
    left, top = max(0, face.box.left + x), max(0, face.box.top + y)
    box = Box(left, top, min(shape[1], face.box.right + x), min(shape[0], face.box.bottom + y))
    return replace(face, box=box, landmarks=_points(face, lambda px, py: (px + x, py + y)))


def _scaled(face: Face, scale: float) -> Face:
    box = Box(*(round(side * scale) for side in face.box.as_tuple()))
    return replace(face, box=box, landmarks=_points(face, lambda x, y: (x * scale, y * scale)))


def _mirrored(face: Face, width: int) -> Face:
    eye, other_eye, nose, mouth, other_mouth = _points(face, lambda x, y: (width - x, y))
    box = Box(width - face.box.right, face.box.top, width - face.box.left, face.box.bottom)
    return replace(face, box=box, landmarks=(other_eye, eye, nose, other_mouth, mouth))


def _turned(picture: Picture, face: Face, degrees: float) -> tuple[Picture, tuple[Face, ...]]:
    """The picture turned clockwise about the face's centre, and the upright box around the turned face."""
    (x, y), turn = face.box.center, math.radians(degrees)
    matrix = cv2.getRotationMatrix2D((x, y), -degrees, 1.0)
    turned = cv2.warpAffine(picture, matrix, (512, 512), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    sine, cosine = math.sin(turn), math.cos(turn)
    # The box around the ellipse of the face: what a detector sees of it, not the box around its corners.
    across = math.hypot(face.box.width * cosine, face.box.height * sine) / 2
    along = math.hypot(face.box.width * sine, face.box.height * cosine) / 2
    box = Box(round(x - across), round(y - along), round(x + across), round(y + along))
    points = _points(
        face, lambda px, py: (x + (px - x) * cosine - (py - y) * sine, y + (px - x) * sine + (py - y) * cosine)
    )
    return np.asarray(turned, dtype=np.uint8), (replace(face, box=box, landmarks=points),)


def _gradient(picture: Picture) -> NDArray[np.float64]:
    """The size of the gradient of L*, per pixel."""
    lightness = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0].astype(np.float64)
    down, across = np.gradient(lightness)
    return np.asarray(np.hypot(down, across))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", nargs="+", default=["ellipse", "box", "hull"])
    parser.add_argument("--feather", type=float, default=8.0)
    parser.add_argument("--grow", type=float, default=0.0)
    parser.add_argument("--skin", action="store_true")
    parser.add_argument("--all", action="store_true", help="a line per photo, not only per damage")
    given = parser.parse_args()
    for kind in given.kind:
        options = MaskOptions(kind=kind, feather=given.feather, grow=given.grow, skin=given.skin)
        print(f"\n{options}")
        seen: dict[str, list[Seen]] = {}
        for case in cases():
            place = f"{case.damage:6s} {case.name.partition(',')[0]}" if given.all else case.damage
            seen.setdefault(place, []).append(measure(case, options))
        for place, all_seen in sorted(seen.items()):
            seams, casts = [one.seam for one in all_seen], [one.cast for one in all_seen]
            print(
                f"{place:24s} {len(all_seen):4d} cases   seam {np.mean(seams):.3f} worst {max(seams):.3f}   "
                f"cast {np.mean(casts):.2f} worst {max(casts):.2f}   outside {max(one.outside for one in all_seen)}"
            )


if __name__ == "__main__":
    main()
