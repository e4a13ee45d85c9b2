"""Words as a reader takes them, however they are written: what a check of words looks at.

Undone are look-alike letters, invisible signs, marks, wide and styled letters, stretched, masked and spelled-out words,
and signs and digits in place of letters.
"""

from __future__ import annotations

import itertools
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

LONGEST_WORD: Final = 64  # characters; what is longer is no word

# Signs that show nothing although Unicode counts them as letters or symbols: fillers of Hangul, an empty braille cell.
_INVISIBLE: Final = frozenset("\u115f\u1160\u3164\uffa0\u2800\u180e")
_LETTER_RANGES: Final = ((0x1F130, 26), (0x1F150, 26), (0x1F170, 26), (0x1F1E6, 26))  # boxed and flag letters, A to Z
_WEIGHT: Final = re.compile(r":\s*[\d.]+(?=\s*[)\]>])")  # of A1111's emphasis
_SIGNS: Final = "@$€!*¡+¢£"
_WORD: Final = re.compile(rf"[@$€]*[^\W_]+(?:[{_SIGNS}]+[^\W_]+)*[$]*|🔞")
_PAUSE: Final = re.compile(r"[,;:!?|\n()\[\]{}<>\"\u3001\u3002]|\.(?=\s|$)")
_STOP: Final = re.compile(r"[,;!?\n\u3001\u3002]|\.(?=\s|$)")
_STRETCHED: Final = re.compile(r"(.)\1{2,}")
_DOUBLED: Final = re.compile(r"(.)\1+")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text.

    Attributes:
        text: as it is written, but without what cannot be seen.
        after_pause: a comma, the end of a sentence or a bracket stands before it.
        after_stop: one of these, and not only a bracket.
    """

    text: str
    after_pause: bool = False
    after_stop: bool = False


class _Visible(dict[int, int | str | None]):
    """For `str.translate`: nothing for signs that cannot be seen, letters for boxed ones; found out once for each."""

    def __missing__(self, code: int) -> int | str | None:
        sign = chr(code)
        seen: int | str | None = code
        if sign in _INVISIBLE or (unicodedata.category(sign) in ("Mn", "Me", "Cf")):
            seen = None
        for first, count in _LETTER_RANGES:
            if first <= code < first + count:
                seen = chr(ord("a") + code - first)
        self[code] = seen
        return seen


_VISIBLE: Final = _Visible()


def plain(text: str) -> str:
    """The text with wide, styled and boxed letters as usual ones, without invisible signs, weights and stray marks."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_VISIBLE)
    return _WEIGHT.sub(" ", text)


def words_in(text: str) -> list[Word]:
    """The words of a text that `plain` gave; single letters in a row, as in `n u d e`, stay apart."""
    words, end = [], 0
    for found in _WORD.finditer(text):
        between = text[end : found.start()]
        pause = _PAUSE.search(between) is not None
        words.append(Word(found[0], pause, pause and _STOP.search(between) is not None))
        end = found.end()
    return words


def without_marks(word: str) -> str:
    """`erotique` for `érotique`: letters without their marks; those of Japanese and Korean stay whole."""
    if word.isascii():
        return word
    apart = unicodedata.normalize("NFD", word)
    return unicodedata.normalize("NFC", re.sub("[\u0300-\u036f]+", "", apart)).replace("æ", "ae").replace("œ", "oe")


def readings(word: str) -> Iterator[str]:
    """Everything that a word of at most `LONGEST_WORD` characters may be meant as, in lower case, the likeliest first.

    A word may come twice.
    """
    folded = word.casefold()
    bare = without_marks(folded)
    for one in (folded, bare, *_as_letters(bare)):
        yield one
        if _STRETCHED.search(one):
            yield _STRETCHED.sub(r"\1", one)
            yield _STRETCHED.sub(r"\1\1", one)
    if not folded.isalnum():
        yield from (part for part in re.split(r"\W+", bare) if part)


@cache
def _look_alikes() -> Mapping[str, str]:
    file = resources.files("resources.writers").joinpath("look_alikes.toml")
    pairs = " ".join(tomllib.loads(file.read_text(encoding="utf-8")).values()).split()
    return {pair[0]: pair[2:] for pair in pairs}


def squeezed(word: str) -> str:
    """The word with each letter once where it stands several times in a row."""
    return _DOUBLED.sub(r"\1", word)


def masks(masked: str, word: str) -> bool:
    """Whether a word such as `p*rn` hides this one: a star for each letter, and two letters that can be seen."""
    shown = len(masked) - masked.count("*")
    return len(masked) == len(word) and shown >= 2 and all(a in ("*", b) for a, b in zip(masked, word, strict=True))


def letters(text: str) -> str:
    """The text in lower case, each sign as the letter that it most likely stands for."""
    return "".join(_look_alikes().get(sign, sign)[0] for sign in without_marks(text.casefold()))


def _as_letters(word: str) -> Iterator[str]:
    """The word with look-alikes as Latin letters, if there is a letter and all of it becomes such."""
    if word.isascii() and word.isalpha():
        return
    choices = [_look_alikes().get(sign, sign) for sign in word]
    if len(word) < 3 or 2 * sum(sign.isalpha() for sign in word) < len(word):
        return
    if not all(choice.isascii() and choice.isalpha() for choice in choices):
        return
    several = sum(len(choice) > 1 for choice in choices)
    if several > 4:
        choices = [choice[0] for choice in choices]
    yield from map("".join, itertools.product(*choices))
