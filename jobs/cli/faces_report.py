"""What `fc faces` prints of a picture: its table and its JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from rich.text import Text

from imaging.errors import FaceChangerError
from imaging.faces.identity import SAME_PERSON
from imaging.faces.selection import Dropped, shown_score
from imaging.geometry.boxes import Face
from jobs.cli.faces_analysis import Analysis, AnalysisOptions, Compared
from jobs.cli.output import counted, out, say, table

# ---- the table


def print_table(path: str, found: Analysis, options: AnalysisOptions) -> None:
    """The picture in one line, a row for each face, and what is to say of some of them."""
    width, height = found.size
    counts = f"{counted(len(found.portraits), 'face')}, {len(found.selection.dropped)} dropped"
    say(f"{path}: {width}x{height} {found.image.format}, quality {found.quality:.2f}, {counts}", style="bold")
    for note in found.image.notes:
        say(f"  {note}", style="dim")
    if found.portraits:
        columns = ["face", "box", "size", "share", "score", "roll", "sharpness", "portrait", "passed"]
        rows = [_row(number, portrait, found.size) for number, portrait in enumerate(found.portraits, start=1)]
        if options.person:
            columns.append("alike")
            rows = [[*row, _alike(portrait)] for row, portrait in zip(rows, found.portraits, strict=True)]
        out.print(table(columns, rows))
    for number, portrait in enumerate(found.portraits, start=1):
        for reason in portrait.verdict.reasons:
            say(f"  {number} does not pass: {reason}", style="yellow")
        if portrait.left:
            say(f"  {number} is left as it is: {portrait.left}", style="yellow")
        for advice in portrait.verdict.advice:
            say(f"  {number}: {advice}", style="dim")
    for other in found.selection.dropped:
        box, size, _share = _place(other.face, found.size)
        say(f"  dropped at {box} ({size}): {other.reason}", style="dim")


def _row(number: int, portrait: Compared, size: tuple[int, int]) -> list[str | Text]:
    scores = portrait.verdict.scores
    return [
        str(number),
        *_place(portrait.face, size),
        shown_score(portrait.face.score),
        f"{round(scores['roll'])}°" if "roll" in scores else "-",
        f"{scores['sharpness']:.0f}",
        f"{scores['total']:.2f}",
        Text("yes", style="green") if portrait.is_to_change else Text("no", style="yellow"),
    ]


def _place(face: Face, size: tuple[int, int]) -> list[str]:
    """Box as two corners, size in pixels, and share of the picture."""
    box = face.box
    share = 100 * box.area / (size[0] * size[1])
    return [f"{box.left},{box.top} {box.right},{box.bottom}", f"{box.width}x{box.height}", f"{share:.1f} %"]


def _alike(portrait: Compared) -> str:
    if portrait.similarity is None:
        return "no landmarks"
    return f"{portrait.similarity:.2f} {'same' if portrait.similarity >= SAME_PERSON else 'other'}"


# ---- JSON


def options_json(options: AnalysisOptions) -> dict[str, Any]:
    """What the pictures were analyzed with."""
    person = options.person
    reference = person and {
        "path": person.path,
        "box": list(person.face.box.as_tuple()),
        "score": round(person.face.score, 4),
        "other_faces": person.others,
        "encoder": person.encoder.describe(),
        "same_person_from": SAME_PERSON,
    }
    return {
        "detector": options.detector.describe(),
        "why": options.why,
        "choice": asdict(options.faces),
        "mask": asdict(options.mask),
        "padding": options.portraits.padding,
        "align": options.portraits.align,
        "reference": reference,
    }


def picture_json(path: str, found: Analysis, files: dict[str, Any] | None) -> dict[str, Any]:
    """All numbers of a picture."""
    width, height = found.size
    return {
        "path": path,
        "error": None,
        "width": width,
        "height": height,
        "format": found.image.format,
        "notes": list(found.image.notes),
        "quality": {"score": found.quality, "parts": found.quality_parts, "measured": found.quality_numbers},
        "faces": [
            {
                "number": number,
                **_face_json(portrait, found.size),
                "frame": asdict(portrait.frame),
                "passed": portrait.is_to_change,
                "reasons": list(portrait.reasons),
                "advice": list(portrait.verdict.advice),
                "portrait": portrait.verdict.scores,
                "similarity": None if portrait.similarity is None else round(portrait.similarity, 4),
                "same_person": None if portrait.similarity is None else portrait.similarity >= SAME_PERSON,
            }
            for number, portrait in enumerate(found.portraits, start=1)
        ],
        "dropped": [{**_face_json(other, found.size), "reason": other.reason} for other in found.selection.dropped],
        "masked_share": round(float(np.count_nonzero(found.mask)) / found.mask.size, 5),
        "files": files,
    }


def _face_json(one: Compared | Dropped, size: tuple[int, int]) -> dict[str, Any]:
    face = one.face
    return {
        "box": list(face.box.as_tuple()),
        "share": round(face.box.area / (size[0] * size[1]), 5),
        "score": round(face.score, 4),
        "landmarks": face.landmarks and [[round(x, 2), round(y, 2)] for x, y in face.landmarks],
    }


def error_json(path: str, error: FaceChangerError) -> dict[str, Any]:
    """A picture that could not be analyzed."""
    return {"path": path, "error": {"what": error.what, "hint": error.hint}}
