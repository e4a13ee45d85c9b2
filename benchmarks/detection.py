"""How many faces of composed scenes a detector finds, and how much else it takes for one.

A look at a picture does not depend on the confidence that is asked for, only which looks are needed does. So each way
keeps what its looks saw, and can be asked again with another confidence at little cost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import scenes
from numpy.typing import NDArray
from scenes import Scene

from imaging.faces.search import Detect, Search, Sighting, Turned, View, detect_in, search
from imaging.faces.second_look import Irises, second_look
from imaging.geometry.boxes import Box, Face

LEAST = 0.15  # score under which nothing that a look sees is asked for
CONFIDENCES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.88, 0.9, 0.92)
SINGLE_SIDE = 640  # pixels of the longer side that a single look is given, as adetailer and others do

Finder = Callable[[Scene, float], list[Face]]
"""The faces that a way of looking finds in a scene, at a confidence of 0 to 1."""


@dataclass(frozen=True)
class Score:
    """What was found of `faces` true ones: `hits` of them, and `false` boxes beside them."""

    hits: int
    false: int
    faces: int

    @property
    def recall(self) -> float:
        """The share of the true faces that was found; 1 where there are none."""
        return self.hits / self.faces if self.faces else 1.0

    @property
    def precision(self) -> float:
        """The share of the found boxes that are faces; 1 where nothing was found."""
        return self.hits / (self.hits + self.false) if self.hits + self.false else 1.0


def groups(per: int, least: int = 24) -> dict[str, list[Scene]]:
    """The scenes of a measurement, with `per` places for each size and angle; faces of `least` pixels and more count.

    Smaller ones are in the crowds (from 16) and in `small in large` (from 12).
    """
    size = [one for one in scenes.sized(per_size=per) if int(one.name.split()[-1]) >= least]
    return {
        "size": size,
        "rotation": list(scenes.turned(per_angle=max(1, per // 2))),
        "darkness": list(scenes.dark()),
        "blur": list(scenes.blurred()),
        "crowd": [*scenes.crowds(), *scenes.crowds(seed=1, count=30)],
        "touching": list(scenes.touching()),
        "border": list(scenes.at_borders()),
        "small in large": list(scenes.small_in_large(per_size=max(1, per // 2))),
        "beside": list(scenes.beside()),
        "no face": list(scenes.without_faces()),
    }


def searched(
    detect: Detect, options: Search, turned: Turned, quick: Detect | None = None, irises: Irises | None = None
) -> Finder:
    """The product's way: `imaging.faces.search` with a detector's looks, and the second look if there are `irises`."""
    seen = remembered(detect)
    glanced = remembered(quick) if quick else seen
    again: dict[tuple[int, Face], Face] = {}  # the scenes are kept as long as the way

    def find(scene: Scene, confidence: float) -> list[Face]:
        asked = replace(options, confidence=confidence, candidates=confidence)
        found = search(scene.image, seen, asked, turned=turned, quick=glanced)
        if irises is None:
            return found
        for face in found:
            if (id(scene), face) not in again:
                again[id(scene), face] = second_look(scene.image, face, seen, irises)
        return [face for face in (again[id(scene), one] for one in found) if face.score >= confidence]

    return find


def single(detect: Detect) -> Finder:
    """The plain way of most tools: one look at the whole picture, brought to 640 pixels on its longer side."""
    seen = remembered(detect)

    def find(scene: Scene, confidence: float) -> list[Face]:
        height, width = scene.image.shape[:2]
        scale = SINGLE_SIDE / max(width, height)
        view = View(Box(0, 0, width, height), (max(1, round(width * scale)), max(1, round(height * scale))))
        return detect_in(scene.image, [view], seen, confidence)

    return find


def remembered(detect: Detect) -> Detect:
    """The same look, which remembers what it saw in each picture."""
    memory: dict[bytes, list[Sighting]] = {}

    def again(image: NDArray[np.uint8]) -> list[Sighting]:
        key = hashlib.blake2b(image.tobytes(), digest_size=16, key=str(image.shape).encode()).digest()
        if key not in memory:
            memory[key] = [one for one in detect(image) if one.score >= LEAST]
        return memory[key]

    return again


def score(find: Finder, pictures: Sequence[Scene], confidence: float) -> Score:
    """What a way finds in some scenes, a box being a face from an intersection over union of 0.5 on."""
    hits = false = faces = 0
    for scene in pictures:
        found, wrong = scenes.match([face.box for face in find(scene, confidence)], scene.faces)
        hits, false, faces = hits + found, false + wrong, faces + len(scene.faces)
    return Score(hits, false, faces)


def sweep(find: Finder, scored: dict[str, list[Scene]]) -> dict[float, Score]:
    """The score over all scenes at each of `CONFIDENCES`."""
    pictures = list(chain.from_iterable(scored.values()))
    return {confidence: score(find, pictures, confidence) for confidence in CONFIDENCES}


def confidence_for(swept: dict[float, Score], precision: float) -> float | None:
    """The confidence with the highest recall at a precision of at least so much; None where there is none."""
    good = [confidence for confidence, one in swept.items() if one.precision >= precision]
    return max(good, key=lambda confidence: (swept[confidence].recall, confidence), default=None)


def by_name(pictures: Sequence[Scene]) -> Iterator[tuple[float, list[Scene]]]:
    """The scenes of a group by the number in their names, in order of that number."""
    numbers = sorted({number(scene) for scene in pictures})
    for wanted in numbers:
        yield wanted, [scene for scene in pictures if number(scene) == wanted]


def number(scene: Scene) -> float:
    """The number that ends a scene's name: its size, angle or light."""
    return float(scene.name.split()[-1])
