"""The fixed words that a recipe puts around every prompt, such as the score tags of Pony checkpoints."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from resources.sections import Words

_EDGE: Final = ", \t\r\n"


@dataclass(frozen=True, slots=True)
class FixedWords:
    """What stands before and behind every prompt, and behind every negative prompt; any may be empty."""

    prefix: str
    suffix: str
    negative_suffix: str

    def prompt(self, text: str) -> str:
        """A prompt as the generator gets it."""
        return join_words(join_words(self.prefix, text), self.suffix)

    def negative(self, text: str) -> str:
        """A negative prompt as the generator gets it."""
        return join_words(text, self.negative_suffix)


def scene_words(words: Words) -> FixedWords:
    """Those of the scene."""
    return FixedWords(words.prompt_prefix, words.prompt_suffix, words.negative_prompt_suffix)


def face_words(words: Words) -> FixedWords:
    """Those of the face pass."""
    return FixedWords(words.face_prompt_prefix, words.face_prompt_suffix, words.negative_prompt_suffix)


def join_words(left: str, right: str) -> str:
    """Two texts with one comma between them, or a space beside `BREAK`; the other alone where one says nothing.

    Only commas and spaces at the joint are changed.
    """
    if not left.strip(_EDGE):
        return right
    if not right.strip(_EDGE):
        return left
    left, right = left.rstrip(_EDGE), right.lstrip(_EDGE)
    beside_break = re.search(r"\bBREAK$", left) or re.match(r"BREAK\b", right)
    return f"{left}{' ' if beside_break else ', '}{right}"
