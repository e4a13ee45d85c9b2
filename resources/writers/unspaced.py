"""The word lists of languages that do not part words with blanks: Japanese, Chinese, and Korean with its endings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from resources.writers.word_lists import MEANINGS, Meaning, entries, unspaced_files

_WIDE: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # kana and Chinese characters
_HANGUL: Final = "\uac00-\ud7a3"
_ANY: Final = re.compile(f"[{_WIDE}{_HANGUL}]")
_GAP: Final = r"[ \t_.\u30fb\u00b7*\-]+"
_APART: Final = re.compile(
    rf"(?<=[{_WIDE}]){_GAP}(?=[{_WIDE}])"
    rf"|(?<=(?<![{_HANGUL}])[{_HANGUL}]){_GAP}(?=[{_HANGUL}](?![{_HANGUL}]))"  # between single syllables
)
_UNIT: Final = re.compile("[歳才岁歲살세]")
_BEFORE_UNIT: Final = 10  # signs that an age may take
_AGE: Final = re.compile(
    r"""
      (?<![\d.])(?:[1-9]|1[0-7])\s?周?(?:歳|才|岁|歲|살|세(?![기대]))
    | (?<![一二三四五六七八九十百])(?:十?[一二三四五六七]|十[一二三四五六七]{2}|[八九十])周?(?:歳|才|岁|歲)
    | (?<![一二三四五六七八九十百])一[〇零一二三四五六七]周?(?:歳|才|岁|歲)
    | (?<![물른흔쉰순])(?:열\s?)?(?:한|두|세|네|다섯|여섯|일곱)\s?살
    | (?<![물른흔쉰순])(?:여덟|아홉|열)\s?살
    | (?<![이삼사오육칠팔구])십[일이삼사오육칠]?\s?세(?![기대])
    """,
    re.VERBOSE,
)
_LOOK_BEHIND: Final = re.compile(r"(?:\(\?<[!=][^()]*\))*")


def find_unspaced(text: str) -> Iterator[tuple[Meaning, str]]:
    """What a text that `plain` gave says in these languages, and the words that say it."""
    if text.isascii() or not _ANY.search(text):
        return
    joined = _APART.sub("", text).casefold()
    covered = 0  # everything before this sign is innocent
    for at, sign in enumerate(joined):
        for _, end in _from("innocent", sign, joined, at):
            covered = max(covered, end)
        for meaning in MEANINGS:
            for found, end in _from(meaning, sign, joined, at):
                if end > covered:
                    yield meaning, found
    for unit in _UNIT.finditer(joined):
        age = _AGE.search(joined[max(0, unit.start() - _BEFORE_UNIT) : unit.end() + 1])
        if age:
            yield "minor", age[0]


def _from(name: str, sign: str, text: str, at: int) -> Iterator[tuple[str, int]]:
    """The entry of a list that stands at a place, and where it ends."""
    if sign in _by_sign(name):
        found = _pattern(name, sign).match(text, at)
        if found:
            yield found[0], found.end()


@cache
def _pattern(name: str, sign: str) -> re.Pattern[str]:
    return re.compile("|".join(sorted(_by_sign(name)[sign], key=len, reverse=True)), re.IGNORECASE)


@cache
def _by_sign(name: str) -> Mapping[str, list[str]]:
    """The entries of a list by the sign that they begin with."""
    found: dict[str, list[str]] = {}
    for entry in _entries(name):
        for spread in _spread(entry):
            behind = _LOOK_BEHIND.match(spread)
            first = spread[behind.end() if behind else 0].casefold()
            found.setdefault(first, []).append(spread)
    return found


def _entries(name: str) -> Iterator[str]:
    """The entries of a list in all files; `<explicit>` in one stands for the explicit entries of its file."""
    for file in unspaced_files().values():
        explicit = "(?:" + "|".join(entries(file["explicit"])) + ")"
        for entry in entries(file.get(name, "")):
            yield entry.replace("<explicit>", explicit)


def _spread(entry: str) -> Iterator[str]:
    """The entry once for each way in which it may begin, so that each begins with a sign of its own.

    What stands before that sign may be look-behinds without brackets inside.
    """
    pieces = _split(entry)
    if len(pieces) > 1:
        for piece in pieces:
            yield from _spread(piece)
        return
    behind = _LOOK_BEHIND.match(entry)
    start = behind.end() if behind else 0
    if entry.startswith("(?:", start):
        end = _closing(entry, start)
        optional = entry.startswith("?", end + 1)
        rest = entry[end + 1 + optional :]
        choices = [*_split(entry[start + 3 : end]), *([""] if optional else [])]
        for choice in choices:
            yield from _spread(entry[:start] + choice + rest)
    elif entry[start] == "[":
        end = entry.index("]", start)
        for sign in entry[start + 1 : end]:
            yield entry[:start] + sign + entry[end + 1 :]
    else:
        yield entry


def _split(entry: str) -> list[str]:
    """The parts of an entry between the bars outside its brackets."""
    parts, depth = [""], 0
    for sign in entry:
        depth += (sign in "([") - (sign in ")]")
        if sign == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _closing(entry: str, start: int) -> int:
    """Where the bracket that opens at `start` is closed."""
    depth = 0
    for at in range(start, len(entry)):
        depth += (entry[at] == "(") - (entry[at] == ")")
        if not depth:
            return at
    raise ValueError(f"{entry!r} is not closed")
