"""What `fc faces` tells of a picture: its table and its JSON.

Belongs here: which numbers, and how they are written. Does not: what is found (`jobs.cli.faces_found`), or files
(`jobs.cli.faces_files`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from rich.text import Text

from imaging.errors import FaceChangerError
from imaging.face_selection import Dropped
from imaging.identity import SAME_PERSON
from jobs.cli.faces_found import Found, How, Portrait
from jobs.cli.output import counted, out, say, table

# ---- the table


def print_table(path: str, found: Found, how: How) -> None:
    """The picture in one line, and a line for each of its faces."""
    width, height = found.size
    counts = f"{counted(len(found.portraits), 'face')}, {len(found.chosen.dropped)} dropped"
    say(f"{path}: {width}x{height} {found.image.format}, quality {found.quality:.2f}, {counts}", style="bold")
    for note in found.image.notes:
        say(f"  {note}", style="dim")
    if found.portraits or found.chosen.dropped:
        _print_faces(found, how)


def _print_faces(found: Found, how: How) -> None:
    """Those that are dropped last."""
    columns = ["face", "box", "size", "share", "score", "roll", "sharpness", "portrait"]
    columns += ["alike"] if how.person else []
    rows: list[list[str | Text]] = [
        [str(number), *_measured(portrait, found.size, how), _verdict(portrait)]
        for number, portrait in enumerate(found.portraits, start=1)
    ]
    for other in found.chosen.dropped:
        place = _place(other.face.box.as_tuple(), found.size)
        empty = [""] * (len(columns) - 5)
        rows.append(["-", *place, f"{other.face.score:.2f}", *empty, Text(f"dropped: {other.reason}", style="dim")])
    out.print(table([*columns, "verdict"], rows))


def _measured(portrait: Portrait, size: tuple[int, int], how: How) -> list[str]:
    scores = portrait.verdict.scores
    told = [
        *_place(portrait.face.box.as_tuple(), size),
        f"{portrait.face.score:.2f}",
        f"{round(scores['roll'])}°" if "roll" in scores else "-",
        f"{scores['sharpness']:.0f}",
        f"{scores['total']:.2f}",
    ]
    return [*told, _alike(portrait)] if how.person else told


def _place(box: tuple[int, int, int, int], size: tuple[int, int]) -> list[str]:
    width, height = box[2] - box[0], box[3] - box[1]
    share = 100 * width * height / (size[0] * size[1])
    return [",".join(map(str, box)), f"{width}x{height}", f"{share:.1f} %"]


def _alike(portrait: Portrait) -> str:
    if portrait.similarity is None:
        return "no landmarks"
    return f"{portrait.similarity:.2f} {'same' if portrait.similarity >= SAME_PERSON else 'other'}"


def _verdict(portrait: Portrait) -> Text:
    verdict = portrait.verdict
    if not verdict.passed:
        return Text(f"not passed: {'; '.join(verdict.reasons)}", style="yellow")
    return Text(f"passed; {'; '.join(verdict.advice)}" if verdict.advice else "passed", style="green")


# ---- JSON


def how_json(how: How) -> dict[str, Any]:
    """How the pictures were looked at."""
    person = how.person
    reference = person and {
        "path": person.path,
        "box": list(person.face.box.as_tuple()),
        "score": round(person.face.score, 4),
        "other_faces": person.others,
        "encoder": person.encoder.describe(),
        "same_person_from": SAME_PERSON,
    }
    return {
        "detector": how.detector.describe(),
        "why": how.why,
        "choice": asdict(how.faces),
        "mask": asdict(how.mask),
        "padding": how.padding,
        "reference": reference,
    }


def found_json(path: str, found: Found, files: dict[str, Any] | None) -> dict[str, Any]:
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
                "passed": portrait.verdict.passed,
                "reasons": list(portrait.verdict.reasons),
                "advice": list(portrait.verdict.advice),
                "portrait": portrait.verdict.scores,
                "similarity": None if portrait.similarity is None else round(portrait.similarity, 4),
                "same_person": None if portrait.similarity is None else portrait.similarity >= SAME_PERSON,
            }
            for number, portrait in enumerate(found.portraits, start=1)
        ],
        "dropped": [{**_face_json(other, found.size), "reason": other.reason} for other in found.chosen.dropped],
        "masked_share": round(float(np.count_nonzero(found.mask)) / found.mask.size, 5),
        "files": files,
    }


def _face_json(one: Portrait | Dropped, size: tuple[int, int]) -> dict[str, Any]:
    face = one.face
    return {
        "box": list(face.box.as_tuple()),
        "share": round(face.box.area / (size[0] * size[1]), 5),
        "score": round(face.score, 4),
        "landmarks": face.landmarks and [[round(x, 2), round(y, 2)] for x, y in face.landmarks],
    }


def error_json(path: str, error: FaceChangerError) -> dict[str, Any]:
    """A picture that could not be looked at."""
    return {"path": path, "error": {"what": error.what, "mend": error.mend}}
