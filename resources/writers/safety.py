"""A word check that turns down texts which ask for sexual content: at the door, and again on what a writer says.

It is a floor and not a judge: it needs no model and no network. A writer with a model gives its own verdict as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from imaging.errors import RejectedError
from resources.writers.disguise import Word, plain, words_in
from resources.writers.spelled import put_together
from resources.writers.unspaced import find_unspaced
from resources.writers.word_lists import MEANINGS, Meaning, find, garments, lists

_SHOWN: Final = 60  # characters of what was found


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found in a field."""

    field: str
    meaning: Meaning
    text: str

    def __str__(self) -> str:
        text = self.text if len(self.text) <= _SHOWN else self.text[: _SHOWN - 1] + "…"
        return f"'{text}'"


def check_prompt_safety(text: str) -> None:
    """Turn down a text that asks for sexual content; see `check_texts`."""
    check_texts({"": text})


def check_texts(texts: Mapping[str, str], negative: Mapping[str, str] | None = None) -> None:
    """Turn down texts that together ask for sexual content.

    Args:
        texts: what the picture is to show, by the names of their fields.
        negative: what it is not to show, likewise. There, `nude` is harmless, and `clothes` alone is not.

    Raises:
        RejectedError: they ask for sexual content, and it says so more sternly when they also name someone under age.
            The message names the fields and the words that decided it.
    """
    found = [one for field, text in texts.items() for one in findings(field, text)]
    found += [Finding(field, "explicit", entry) for field, text in (negative or {}).items() for entry in garments(text)]
    explicit, minor, suggestive = (next((one for one in found if one.meaning == kind), None) for kind in MEANINGS)
    sexual = explicit or (suggestive if minor else None)
    if sexual is None:
        return
    fields = dict.fromkeys(one.field for one in (sexual, minor) if one is not None and one.field)
    where = " with ".join(fields) + ": " if fields else ""
    if minor is not None:
        raise RejectedError(
            f"{where}The words ask for sexual content about someone under age ({sexual} with {minor}).",
            "Such a request is never run. If the words mean something else, write it without them.",
        )
    raise RejectedError(
        f"{where}The words ask for sexual content ({sexual}), which is not made here.",
        "Describe the picture without nudity and sexual content; if the word means something else, use another one.",
    )


def findings(field: str, text: str) -> list[Finding]:
    """All that a text says of undress, sex, seduction, and people under age."""
    seen = plain(text)
    words = put_together(words_in(seen), lists())
    told = [Finding(field, one.meaning, _shown(words[one.start : one.end])) for one in find(words)]
    return told + [Finding(field, meaning, found) for meaning, found in find_unspaced(seen)]


def _shown(words: list[Word]) -> str:
    return re.sub(r"\s+", " ", " ".join(word.text for word in words))
