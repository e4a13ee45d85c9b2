"""The tags in a face prompt, which say what each face of a picture gets.

The tags are those that users of ADetailer and of Impact Pack know. `[SEP]` parts a face prompt, one part per face in
the faces' order; when there are more faces than parts, the last part goes on. A part may be `[SKIP]` (leave this
face), `[STOP]` (leave this one and all behind it), begin with `[CONCAT]` (put behind the scene's prompt), or hold
`[PROMPT]` (the scene's prompt goes there). An empty part is the scene's prompt. A negative prompt may have `[SEP]` too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_TAG: Final = re.compile(r"\[(SEP|SKIP|STOP|CONCAT|PROMPT)\]")
_EDGE: Final = ", \t\r\n"


@dataclass(frozen=True, slots=True)
class PromptPart:
    """What a face prompt says of one face.

    Attributes:
        text: the words, `[PROMPT]` included; empty: the scene's prompt.
        left: leave this face as it is.
        stop: leave all behind it as well.
        concat: the words come behind the scene's prompt.
    """

    text: str
    left: bool = False
    stop: bool = False
    concat: bool = False

    def prompt(self, scene: str) -> str:
        """The prompt of the face, given the scene's."""
        if self.concat:
            return ", ".join(text for text in (scene.strip(_EDGE), self.text) if text)
        return self.text.replace("[PROMPT]", scene.strip(_EDGE)).strip(_EDGE) or scene


def prompt_parts(text: str) -> list[PromptPart]:
    """The parts of a face prompt, at least one; see the module's text for the tags."""
    return [_part(part) for part in text.split("[SEP]")]


def part_of(parts: Sequence[PromptPart], number: int) -> PromptPart:
    """What is said of face `number`, counted from 0: the last part goes on for all further faces."""
    for part in parts[: number + 1]:
        if part.stop:
            return part
    return parts[min(number, len(parts) - 1)]


def negative_part(text: str, number: int) -> str:
    """What a negative prompt says of face `number`, counted from 0: the last part goes on for all further faces."""
    parts = text.split("[SEP]")
    return parts[min(number, len(parts) - 1)].strip(_EDGE) if len(parts) > 1 else text


def whole_negative(text: str) -> str:
    """What a negative prompt says of all faces, for the scene."""
    parts = text.split("[SEP]")
    return ", ".join(part.strip(_EDGE) for part in parts if part.strip(_EDGE)) if len(parts) > 1 else text


def tags_in(text: str) -> list[str]:
    """The tags of a face prompt in their order; whoever rewrites the words must keep them so."""
    return _TAG.findall(text)


def map_parts(text: str, change: Callable[[str], str]) -> str:
    """The face prompt with the words of each part changed, and its tags in place.

    A part without words stays as it is, and so does one with `[PROMPT]`: what stands beside that is no whole prompt.
    """
    return " [SEP] ".join(_changed(piece.strip(), change) for piece in text.split("[SEP]")).strip()


def _changed(piece: str, change: Callable[[str], str]) -> str:
    head = "[CONCAT] " if piece.startswith("[CONCAT]") else ""
    words = piece.removeprefix("[CONCAT]").strip(_EDGE)
    return piece if not words or tags_in(words) else head + change(words)


def _part(text: str) -> PromptPart:
    words = re.sub(r"\[(SKIP|STOP|CONCAT)\]", "", text).strip(_EDGE)
    stop = "[STOP]" in text
    return PromptPart(words, stop or "[SKIP]" in text, stop, "[CONCAT]" in text)
