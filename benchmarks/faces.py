"""The face work, measured: what is found, what is seen of a merge, what it costs.

    python benchmarks/faces.py [detect] [roll] [seams] [speed] [--places 4] [--images docs/images]

Everything runs on one thread, and times are CPU times. YuNet's file is taken from
`FC_YUNET_MODEL`; without it Haar alone is measured, and the table says so. With `--images` the curves are drawn as SVG,
and made cases before and after as WebP.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from pathlib import Path

import cv2
import detection
import numpy as np
import seams
import timing
from charts import line_chart
from detection import Finder
from numpy.typing import NDArray
from PIL import Image
from scenes import ROLL, Scene, compose, rolled

from imaging.faces.mask import draw_mask
from imaging.faces.search import search
from imaging.faces.second_look import second_look
from imaging.geometry.align import LEFT_AS_IT_IS, upright_angle
from imaging.geometry.boxes import Face
from imaging.geometry.crop import crop, portrait_box, resize
from resources.detectors import haar, yunet
from resources.detectors.base import Detector

PARTS = ("detect", "roll", "seams", "speed")
CONFIDENCE = 0.6  # FC_DETECTOR_CONFIDENCE
SHOWN = ("middle, cast 7", "turned 45, cast 2", "touching, cast 7")
HIGH = 220  # pixels of a shown picture


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"what to measure, of {', '.join(PARTS)}; default: all")
    parser.add_argument("--places", type=int, default=4, help="scenes per size of a face; half as many per angle")
    parser.add_argument("--images", type=Path, help="folder for the curves and pictures")
    given = parser.parse_args()
    if set(given.parts) - set(PARTS) or given.places < 1:
        parser.error(f"the parts are {', '.join(PARTS)}, and --places is 1 or more")
    if given.images:
        given.images.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    parts = given.parts or PARTS
    print(
        f"{_processor()}, one thread; Python {platform.python_version()}, OpenCV {cv2.__version__}, "
        f"NumPy {np.__version__}; {platform.system()} {platform.machine()}"
    )
    model = os.environ.get("FC_YUNET_MODEL")
    if not model and set(parts) & {"detect", "roll", "speed"}:
        print("FC_YUNET_MODEL is not set: YuNet and the single look with it are left out.")
    path = Path(model) if model else None
    if "detect" in parts:
        detect(path, given.places, given.images)
    if "roll" in parts:
        roll(path)
    if "seams" in parts:
        merges(given.images)
    if "speed" in parts:
        speed(path)


def _processor() -> str:
    names = [
        line.partition(":")[2].strip()
        for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else ())
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor() or platform.machine()


def detect(model: Path | None, places: int, images: Path | None) -> None:
    """Print recall and precision of each way of looking, by confidence and by kind of scene."""
    groups = detection.groups(places)
    ways: dict[str, Finder] = {}
    if model:
        eyes = yunet.YuNetDetector(model, CONFIDENCE, detection.LEAST)
        how = yunet.how_to_search(CONFIDENCE, CONFIDENCE)
        ways["yunet"] = detection.searched(eyes.look, how, yunet.TURNED, irises=eyes.irises)
        ways["single look"] = detection.single(eyes.look)
    cascades, how = haar.HaarDetector(CONFIDENCE, detection.LEAST), haar.how_to_search(CONFIDENCE, CONFIDENCE)
    ways["haar"] = detection.searched(cascades.look, how, haar.TURNED, cascades.look_turned)
    print(f"\nDetection: {sum(map(len, groups.values()))} scenes")
    used: dict[str, float] = {}
    asked = 0.0
    for name, find in ways.items():
        swept = detection.sweep(find, groups)
        asked = asked or swept[CONFIDENCE].precision  # the first way's is what the single look has to reach
        for confidence, one in swept.items():
            print(
                f"{name:12s} confidence {confidence:4.2f}   precision {one.precision:.4f}   recall {one.recall:.4f}   "
                f"{one.false} false of {one.false + one.hits}"
            )
        least = detection.confidence_for(swept, asked) if name == "single look" else CONFIDENCE
        used[name] = CONFIDENCE if least is None else least
    print("\nRecall, and false boxes in brackets, at " + ", ".join(f"{name} {at:g}" for name, at in used.items()))
    for group, pictures in groups.items():
        scores = {name: detection.score(find, pictures, used[name]) for name, find in ways.items()}
        print(f"{group:16s}" + "   ".join(f"{name} {one.recall:.3f} ({one.false})" for name, one in scores.items()))
    for group, across in (
        ("size", "width of the face in pixels, in a picture of 1024 x 1024"),
        ("rotation", "turn of a face of 96 pixels, in degrees"),
        ("darkness", "light on a face of 96 pixels, as a share"),
    ):
        _curve(group, across, ways, used, groups[group], images)


def _curve(
    group: str, across: str, ways: dict[str, Finder], used: dict[str, float], scenes: list[Scene], images: Path | None
) -> None:
    steps = list(detection.by_name(scenes))
    lines = {
        name: [detection.score(find, pictures, used[name]).recall for _, pictures in steps]
        for name, find in ways.items()
    }
    ticks = [f"{number:g}" for number, _ in steps]
    print(f"\n{group:12s}" + " ".join(f"{tick:>5s}" for tick in ticks))
    for name, values in lines.items():
        print(f"{name:12s}" + " ".join(f"{value:5.2f}" for value in values))
    if images:
        legend = {f"{name} at {used[name]:g}": values for name, values in lines.items()}
        every = [tick if number % max(1, len(ticks) // 12) == 0 else "" for number, tick in enumerate(ticks)]
        (images / f"faces-{group}.svg").write_text(
            line_chart(f"Faces found, by {group}", across, "recall", every, legend), encoding="utf-8"
        )


def roll(model: Path | None) -> None:
    """Print by how many degrees each detector errs about how a face is turned, and how many it takes for upright."""
    pictures = list(rolled())
    ways: dict[str, Callable[[Scene], list[Face]]] = {}
    if model:
        eyes = yunet.YuNetDetector(model, CONFIDENCE)
        how = yunet.how_to_search(CONFIDENCE, CONFIDENCE)
        ways["yunet"] = lambda scene: eyes.detect(scene.image)
        ways["first look"] = lambda scene: search(scene.image, eyes.look, how, turned=yunet.TURNED)
        ways["no irises"] = lambda scene: [
            second_look(scene.image, face, eyes.look, lambda _grey: None)
            for face in search(scene.image, eyes.look, how, turned=yunet.TURNED)
        ]
    cascades = haar.HaarDetector(CONFIDENCE)
    ways["haar"] = lambda scene: cascades.detect(scene.image)
    print(f"\nRoll: {len(pictures)} scenes; degrees, of those found")
    for name, find in ways.items():
        for least, most in ((0, 0), (8, 24), (32, 40)):
            asked = [scene for scene in pictures if least <= abs(scene.angles[0]) <= most]
            pairs = [(scene, max(find(scene), key=lambda face: face.box.area, default=None)) for scene in asked]
            found = [(scene.angles[0] + ROLL, upright_angle(face)) for scene, face in pairs if face is not None]
            off = [abs((read - true + 180) % 360 - 180) for true, read in found]
            upright = sum(abs(read) <= LEFT_AS_IT_IS < abs(true) for true, read in found)
            print(
                f"{name:10s} turned by {least:2d} to {most:2d}: mean {np.mean(off):.2f}   worst {max(off):.1f}   "
                f"read as upright {upright} of {len(found)}, {len(asked)} asked"
            )


def merges(images: Path | None) -> None:
    """Print what is seen of each kind of damage after the merge, and draw some cases."""
    seen: dict[str, list[seams.Seen]] = {}
    for case in seams.cases():
        seen.setdefault(case.damage, []).append(seams.measure(case))
        if images and case.name in SHOWN:
            _before_and_after(case, images / f"merge-{case.name.split()[0].strip(',')}.webp")
    print(f"\nSeams: {sum(map(len, seen.values()))} cases")
    for damage, found in seen.items():
        gradients, casts = [one.seam for one in found], [one.cast for one in found]
        print(
            f"{damage:6s} {len(found):4d} cases   seam {np.mean(gradients):.4f} worst {max(gradients):.4f}   "
            f"cast {np.mean(casts):.2f} worst {max(casts):.2f}   outside {max(one.outside for one in found)}"
        )


def _before_and_after(case: seams.Case, path: Path) -> None:
    """The photo, the new faces pasted as they are, and merged, side by side."""
    mask = draw_mask(case.faces, case.picture.shape[:2])
    pasted = np.where((mask > 0)[..., None], case.damaged, case.picture)
    height, width = case.picture.shape[:2]
    around = portrait_box(case.faces[0].box, (width, height), 0.5)
    row = [_sized(crop(one, around)) for one in (case.picture, pasted, seams.put_back(case, mask))]
    Image.fromarray(np.hstack(row)).save(path, quality=90)


def _sized(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return resize(image, (round(image.shape[1] * HIGH / image.shape[0]), HIGH))


def speed(model: Path | None) -> None:
    """Print CPU milliseconds per picture of 1024 x 1024, and memory in copies of it."""
    detectors: list[Detector] = [yunet.YuNetDetector(model)] if model else []
    detectors.append(haar.HaarDetector())
    print(f"\nSpeed: 1024 x 1024 pixels, faces made anew at {timing.FACE_SIZE}; CPU ms per picture, least of rounds")
    for angle in (0.0, timing.TURN):
        for count in timing.COUNTS:
            shown = timing.picture(count, angle)
            one = timing.cost(shown)
            times = "   ".join(f"{detector.name} {_time_of(detector, shown.scene):.0f}" for detector in detectors)
            print(
                f"{count:2d} faces, turned {angle:2.0f}: cut {one.cut:.1f}   back {one.back:.1f}   "
                f"mask {one.mask:.1f}   merge {one.merge:.1f}   together {one.total:.1f}   "
                f"memory {one.copies:.1f} copies   detect: {times}"
            )
    for background in ("coffee", "grass", "gravel"):
        empty = compose("no face 0", (timing.SIDE, timing.SIDE), [], background)
        times = "   ".join(f"{detector.name} {_time_of(detector, empty):.0f}" for detector in detectors)
        print(f"no face, {background}: detect: {times}")


def _time_of(detector: Detector, scene: Scene) -> float:
    def detect_all() -> list[Face]:
        return detector.detect(scene.image)

    return timing.least(detect_all, 2)[0]


if __name__ == "__main__":
    main()
