"""The writer that needs nothing: prompts by rules, descriptions by measurement.

Every record it writes says that no model wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.geometry.boxes import Face
from resources.backends import is_trained
from resources.writers.base import DescriptionAnswer, Picture, PromptAnswer, PromptDraft, Usage
from resources.writers.face_tags import map_parts

RULES_VERSION = "1"
_NAME = "offline"
_HOW = "Written by rules and measurements, without a model."


@dataclass(frozen=True)
class _Term:
    """A term to add, and the word stems that make it needless or wrong when the prompt has one of them."""

    text: str
    unless: tuple[str, ...]


_LIGHT = (
    "light", "lit", "sun", "glow", "shadow", "dark", "night", "neon", "candle", "dusk", "dawn", "golden hour",
    "noir", "backlit", "silhouette", "overcast", "moon", "fire", "lamp", "flash",
)  # fmt: skip
_QUALITY = ("masterpiece", "quality", "score_", "award", "8k", "4k", "uhd")
_PLAIN_STYLE = (
    "minimal",
    "flat",
    "simple",
    "pixel",
    "low poly",
    "sketch",
    "doodle",
    "line art",
    "abstract",
    "rough",
)
_SOFT_FOCUS = ("focus", "blur", "bokeh", "depth of field", "sharp", "dreamy", "haze", "fog")
_FRAMING = (
    "composition", "close-up", "close up", "closeup", "shot", "view", "framing", "framed", "angle",
    "portrait", "panorama", "wide", "perspective", "macro", "symmetr", "rule of thirds", "full body",
    "upper body", "headshot",
)  # fmt: skip

_SCENE_TERMS = (
    _Term("best quality", _QUALITY),
    _Term("highly detailed", ("detail", "intricate", *_PLAIN_STYLE)),
    _Term("sharp focus", (*_SOFT_FOCUS, *_PLAIN_STYLE)),
    _Term("soft natural light", _LIGHT),
    _Term("balanced composition", _FRAMING),
)
_FACE_TERMS = (
    _Term("natural skin texture", ("skin", "texture", "mask", "robot", "cartoon", "anime", *_PLAIN_STYLE)),
    _Term("clear detailed eyes", ("eye", "gaze", "glasses", "blindfold", *_PLAIN_STYLE)),
    _Term("soft even light on the face", _LIGHT),
    _Term("true-to-life detail", ("detail", "realis", "photo", "cartoon", "anime", "paint", *_PLAIN_STYLE)),
)
_NEGATIVES = (
    _Term("low resolution", ("resolution", "pixel")),
    _Term("blurry", ("blur", "bokeh", "soft focus", "depth of field", "haze", "fog", "dreamy")),
    _Term("jpeg artifacts", ("jpeg", "glitch", "artifact")),
    _Term("noise", ("nois", "grain")),
    _Term("watermark", ("watermark",)),
    _Term("signature", ("signature", "signed", "autograph")),
    _Term("bad anatomy", ("anatomy",)),
    _Term("malformed hands", ("malformed",)),
    _Term("extra fingers", ("finger",)),
)

_MARK = re.compile(r",|\n\s*|\||\b(?:BREAK|AND|ADDCOL|ADDROW|ADDCOMM|ADDBASE)\b|\[(?:SEP|SKIP|STOP|CONCAT|PROMPT)\]")
_PERSON = re.compile(
    r"\b\d*\+?(?:girl|boy|man|men|woman|women|person|people|child|children|kid|lady|ladies|guy|male|female|other)s?\b",
    re.IGNORECASE,
)
_APART = re.compile(r"\b(?:AND|ADDCOL|ADDROW|ADDCOMM|ADDBASE)\b|\|")  # between prompts that are whole by themselves

# sRGB values of colour names that people use; the nearest one in CIELAB names a pixel.
_COLOURS = {
    "black": (15, 15, 15),
    "dark grey": (70, 70, 70),
    "grey": (128, 128, 128),
    "light grey": (195, 195, 195),
    "white": (245, 245, 245),
    "red": (200, 30, 40),
    "dark red": (110, 20, 30),
    "orange": (235, 130, 40),
    "brown": (110, 70, 40),
    "tan": (205, 165, 125),
    "beige": (232, 215, 190),
    "yellow": (240, 220, 60),
    "olive": (115, 115, 45),
    "green": (50, 150, 60),
    "dark green": (25, 70, 40),
    "teal": (30, 130, 130),
    "light blue": (150, 195, 230),
    "blue": (40, 90, 190),
    "navy blue": (20, 30, 80),
    "purple": (120, 60, 150),
    "pink": (235, 150, 180),
}
_MEASURED_SIDE = 96  # pixels; enough for shares of colour, and quick for any image
_NAMED_SHARE = 0.1  # a colour under a tenth of the image is not called dominant
_PROMPT_CHARACTERS = 300
_TITLE_CHARACTERS = 80


@dataclass(frozen=True)
class Measurements:
    """What can be measured in an image without knowing what it shows.

    Attributes:
        width: pixels.
        height: pixels.
        orientation: `portrait`, `landscape` or `square` (sides within 5 percent).
        colours: dominant colour names with their share of the image, 0 to 1, largest first, at most three.
        lightness: mean CIELAB L*, 0 to 100.
        contrast: standard deviation of L*.
        warmth: mean CIELAB b*; above zero is yellowish, below is bluish.
        brightness_word: `dark`, `medium-bright` or `bright`.
        contrast_word: `low`, `medium` or `high`.
        warmth_word: `warm`, `cool` or `neutral`.
    """

    width: int
    height: int
    orientation: str
    colours: list[tuple[str, float]]
    lightness: float
    contrast: float
    warmth: float
    brightness_word: str
    contrast_word: str
    warmth_word: str


class OfflineWriter:
    """Prompts by rules and descriptions by measurement. Same input, same words; nothing is sent anywhere."""

    name = _NAME

    def describe(self) -> dict[str, Any]:
        """The writer's name and the version of its rules."""
        return {"writer": _NAME, "model": None, "rules_version": RULES_VERSION}

    def enhance(self, draft: PromptDraft) -> PromptAnswer:
        """Tidy each prompt and add a few fitting terms that it does not have yet.

        The user's words come first and in their order; only repeated terms and stray commas go. A given
        negative prompt is tidied and gets nothing new; an empty one is filled with technical faults that the
        prompts do not ask for. Tags of one checkpoint (`score_9`) are not added: which one runs is not known.
        """
        asked = f"{draft.pony_prompt} {draft.flux_prompt}"
        negative = tidy(draft.negative_prompt) or ", ".join(_wanted(_NEGATIVES, asked))
        scene, scene_terms = _extended(draft.pony_prompt, _SCENE_TERMS)
        face_terms: list[str] = []

        def extended(words: str) -> str:
            text, terms = _extended(words, _FACE_TERMS)
            face_terms.extend(term for term in terms if term not in face_terms)
            return text

        face = map_parts(draft.flux_prompt, extended)
        added = [*scene_terms, *face_terms]
        notes = f"{_HOW} Added: {'; '.join(added)}." if added else f"{_HOW} Nothing was added."
        if not tidy(draft.negative_prompt):
            notes += " The negative prompt was empty and lists technical faults."
        return PromptAnswer(
            pony_prompt=scene,
            flux_prompt=face,
            negative_prompt=negative,
            notes=notes,
            usage=Usage(model=_NAME),
        )

    def describe_image(self, picture: Picture) -> DescriptionAnswer:
        """Say what is measured and known about an image: nothing about what it might show."""
        measured = measure(picture.pixels)
        sentences = [
            _opening(picture, measured),
            _looks(measured),
            _faces_sentence(picture.faces, measured),
            *_known(picture),
            "This description was written from measurements, without a model.",
        ]
        return DescriptionAnswer(
            text=" ".join(sentences),
            title=_title(picture, measured),
            tags=_tags(picture, measured),
            people=len(picture.faces),
            data={
                "written_by": _HOW,
                "measured": {**asdict(measured), "colours": dict(measured.colours)},
                "faces": [_face_data(face, measured) for face in picture.faces],
                "people_counted_by": "faces found",
                "origin": picture.origin,
                "generator": picture.generator,
                "prompt": picture.prompt,
                "face_prompt": picture.face_prompt,
            },
            usage=Usage(model=_NAME),
        )


def tidy(prompt: str) -> str:
    """One prompt with single spaces, no empty terms, and no term twice in a section; words and their order stay.

    A section ends at `BREAK`, `AND`, `|`, the end of a line, the regions' `ADDCOL`, `ADDROW`, `ADDCOMM`, `ADDBASE`, and
    the tags of face prompts, which all stay; and where a person is named, whose words are that person's own. A comma
    inside brackets or between digits belongs to its term (`(red, blue:1.2)`, `1,000 stars`); terms that differ in case
    only are the same.
    """
    out, comma, space = "", False, False
    seen: set[str] = set()
    for text, mark in _pieces(prompt):
        term = re.sub(r"[^\S\n]+", " ", text).strip()
        if _PERSON.search(term):
            seen.clear()
        if term and term.casefold() not in seen:
            seen.add(term.casefold())
            out += _joint(out, comma=comma, space=space or text[0].isspace()) + term
            comma, space = False, text[-1].isspace()
        else:
            comma, space = comma and not term, space or bool(text)
        if mark == ",":
            comma = True
        elif mark:
            joint = _joint(out, comma=comma, space=space)
            if mark[0] != "\n":
                out += joint + mark
            elif out and not out.endswith("\n"):
                out += joint.rstrip() + "\n"
            comma = space = False
            seen.clear()
    return out.removesuffix("\n").removesuffix(",") if out.endswith("\n") else out


def _joint(out: str, *, comma: bool, space: bool) -> str:
    """What stands between the text so far and what comes next."""
    if not out or out.endswith("\n"):
        return ""
    return ", " if comma else " " if space else ""


def measure(pixels: NDArray[np.uint8]) -> Measurements:
    """Measure an RGB uint8 image of shape (height, width, 3) in CIELAB (D65), at a reduced size."""
    height, width = pixels.shape[:2]
    scale = min(1.0, _MEASURED_SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    lab = _lab(small).reshape(-1, 3)
    lightness, warmth = float(lab[:, 0].mean()), float(lab[:, 2].mean())
    contrast = float(lab[:, 0].std())
    return Measurements(
        width=width,
        height=height,
        orientation=_orientation(width, height),
        colours=_dominant_colours(lab),
        lightness=round(lightness, 1),
        contrast=round(contrast, 1),
        warmth=round(warmth, 1),
        brightness_word=_word(lightness, 35, 70, ("dark", "medium-bright", "bright")),
        contrast_word=_word(contrast, 10, 25, ("low", "medium", "high")),
        warmth_word=_word(warmth, -4, 6, ("cool", "neutral", "warm")),
    )


def _pieces(prompt: str) -> list[tuple[str, str]]:
    """The text before each comma and mark outside brackets, with that; text with unpaired brackets is one piece."""
    pieces: list[tuple[str, str]] = []
    depth = start = at = 0
    while at < len(prompt):
        mark = _MARK.match(prompt, at) if depth == 0 else None
        if mark and not (mark[0] == "," and _between_digits(prompt, at)):
            pieces.append((prompt[start:at], mark[0]))
            start = at = mark.end()
            continue
        depth += (prompt[at] in "([{<") - (prompt[at] in ")]}>")
        if depth < 0:
            return [(prompt, "")]
        at += 1
    return [(prompt, "")] if depth else [*pieces, (prompt[start:], "")]


def _between_digits(text: str, at: int) -> bool:
    return text[at - 1 : at].isdigit() and text[at + 1 : at + 2].isdigit()


def _extended(prompt: str, terms: Sequence[_Term]) -> tuple[str, list[str]]:
    """The tidied prompt with the terms that fit, and which those are. An empty prompt stays empty.

    Nothing is added to prompts for parts of the picture: it would belong to the last of them alone.
    """
    own = tidy(prompt)
    if not own:
        return prompt.strip(), []
    added = [] if _APART.search(own) else _wanted(terms, own)
    if not added:
        return own, []
    separator = " " if own.endswith((".", "!", "?", "BREAK", "]")) else ", "
    return own + separator + ", ".join(added), added


def _wanted(terms: Sequence[_Term], prompt: str) -> list[str]:
    spoken = prompt.casefold()
    return [
        term.text
        for term in terms
        if not any(re.search(rf"(?<![^\W_]){re.escape(stem)}", spoken) for stem in term.unless)
    ]


def _lab(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIELAB of RGB uint8 pixels: L* 0 to 100, a* and b* about -127 to 127."""
    return cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).astype(np.float32)


def _dominant_colours(lab: NDArray[np.float32]) -> list[tuple[str, float]]:
    table = _lab(np.array([list(_COLOURS.values())], dtype=np.uint8))[0]
    distances = sum((lab[:, None, channel] - table[None, :, channel]) ** 2 for channel in range(3))
    shares = np.bincount(distances.argmin(axis=1), minlength=len(_COLOURS)) / len(lab)
    order = np.argsort(-shares, kind="stable")[:3]
    names = list(_COLOURS)
    largest = [(names[i], round(float(shares[i]), 3)) for i in order]
    return [largest[0], *((name, share) for name, share in largest[1:] if share >= _NAMED_SHARE)]


def _orientation(width: int, height: int) -> str:
    if max(width, height) <= 1.05 * min(width, height):
        return "square"
    return "landscape" if width > height else "portrait"


def _word(value: float, low: float, high: float, words: tuple[str, str, str]) -> str:
    return words[0] if value < low else words[1] if value < high else words[2]


def _format(measured: Measurements) -> str:
    return "square" if measured.orientation == "square" else f"{measured.orientation}-format"


def _is_drawn(picture: Picture) -> bool:
    """Whether rules drew it, and no model."""
    return not is_trained(picture.generator)


def _kind(picture: Picture) -> str:
    if picture.origin == "generated":
        return "procedural sketch" if _is_drawn(picture) else "generated image"
    return picture.origin


def _opening(picture: Picture, measured: Measurements) -> str:
    kind = _kind(picture)
    article = "An" if kind[0] in "aeiou" else "A"
    return f"{article} {kind} in {_format(measured)}, {measured.width} by {measured.height} pixels."


def _looks(measured: Measurements) -> str:
    names = [name for name, _ in measured.colours]
    return (
        f"It is {measured.brightness_word}, with {measured.contrast_word} contrast and "
        f"{measured.warmth_word} tones; {_listed(names)} {'dominates' if len(names) == 1 else 'dominate'}."
    )


def _faces_sentence(faces: Sequence[Face], measured: Measurements) -> str:
    if not faces:
        return "No face was found in it."
    places = [_place(face, measured) for face in faces]
    share = f"{_height_share(faces[0], measured):.0%} of the image height"
    if len(faces) == 1:
        return f"One face was found, {places[0]}, {share} tall."
    return f"{len(faces)} faces were found: the largest {places[0]} ({share} tall), {_others(places[1:])}."


def _others(places: Sequence[str]) -> str:
    """Where the further faces are, without a word twice for faces in the same place."""
    counted = {place: places.count(place) for place in places}
    return "then " + _listed([place if n == 1 else f"{n} {place}" for place, n in counted.items()])


def _place(face: Face, measured: Measurements) -> str:
    x, y = face.box.center
    column = _word(x / measured.width, 1 / 3, 2 / 3, ("left", "centre", "right"))
    row = _word(y / measured.height, 1 / 3, 2 / 3, ("upper", "middle", "lower"))
    if row == "middle":
        return "in the centre" if column == "centre" else f"on the {column}"
    return f"in the {row} {column}"


def _height_share(face: Face, measured: Measurements) -> float:
    return face.box.height / measured.height


def _face_data(face: Face, measured: Measurements) -> dict[str, Any]:
    return {
        "box": list(face.box.as_tuple()),
        "score": round(face.score, 4),
        "place": _place(face, measured),
        "height_share": round(_height_share(face, measured), 4),
    }


def _known(picture: Picture) -> list[str]:
    """What is known about how the image was made, as sentences."""
    known = []
    if _is_drawn(picture):
        what = "It" if picture.origin == "generated" else "Its changed part"
        known.append(f"{what} is a procedural sketch drawn by rules, not a photo and not a model's output.")
    elif picture.generator:
        what = "It was made" if picture.origin == "generated" else "It was changed"
        known.append(f"{what} by the generator '{picture.generator}'.")
    if prompt := _one_line(picture.prompt):
        known.append(f'The prompt asked for "{_shortened(prompt, _PROMPT_CHARACTERS)}".')
    if face_prompt := _one_line(picture.face_prompt):
        asked = _shortened(face_prompt, _PROMPT_CHARACTERS)
        known.append(f'The faces were made anew; their prompt asked for "{asked}".')
    return known


def _one_line(prompt: str) -> str:
    return " ".join(tidy(prompt).split())


def _title(picture: Picture, measured: Measurements) -> str:
    kind = _kind(picture).capitalize()
    asked = _one_line(picture.prompt)
    if asked and picture.origin == "generated":
        return _shortened(f"{kind}, asked for: {asked}", _TITLE_CHARACTERS)
    count = len(picture.faces)
    faces = "no face found" if count == 0 else "one face" if count == 1 else f"{count} faces"
    return _shortened(f"{kind}, {_format(measured)}, {faces}", _TITLE_CHARACTERS)


def _tags(picture: Picture, measured: Measurements) -> list[str]:
    count = len(picture.faces)
    tags = [
        _kind(picture),
        _format(measured),
        "no face" if count == 0 else "one face" if count == 1 else "several faces",
        *(name for name, _ in measured.colours),
        measured.brightness_word,
        f"{measured.contrast_word} contrast",
        f"{measured.warmth_word} tones",
    ]
    if _is_drawn(picture):
        tags.append("procedural sketch")
    if picture.face_prompt:
        tags.append("faces made anew")
    return list(dict.fromkeys(tags))


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _shortened(text: str, limit: int) -> str:
    """At most `limit` characters, cut between words, with an ellipsis where something is missing."""
    if len(text) <= limit:
        return text
    head = text[: limit - 1]
    cut = head.rfind(" ")
    return head[: cut if cut > limit // 2 else len(head)].rstrip(" ,;:") + "…"
