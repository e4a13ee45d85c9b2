"""The word lists of the safety check: read from `words/*.toml` once, and looked for in a text.

`words/README.md` says what stands in them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import resources
from typing import Any, Final, Literal

from resources.writers.disguise import LONGEST_WORD, Word, letters, masks, plain, readings, squeezed, without_marks

Meaning = Literal["explicit", "minor", "suggestive"]
MEANINGS: Final[tuple[Meaning, ...]] = ("explicit", "minor", "suggestive")

_END: Final = ""  # the key of a node under which a pattern's meaning stands
_Node = dict[str, Any]
_ADULT: Final = 18  # years
_AGED: Final = re.compile(r"(\d{1,2})([^\W\d]+)")
_SHARED: Final = (
    "filler",
    "degree",
    "negation",
    "or",
    "why",
    "limit",
    "tens",
    "age",
    "unit",
    "years",
)  # of all languages
_SHORTEST_STEM: Final = 3
_LONGEST_PHRASE: Final = 4  # words of one that makes an explicit word harmless to adults
_LONGEST_PART: Final = 16
_NO_KEYS: Final[frozenset[str]] = frozenset()
_SKIPPED: Final = 3  # words such as `of her` that may stand between those of a phrase


@dataclass
class Lists:
    """All languages that part words with blanks, put together.

    Attributes:
        words: each word of a list, without its star, and the keys that it has in the trees.
        stems: the same for what words may begin with.
        endings: the same for what they may end with.
        phrases: words and phrases by their words, each end with its meaning.
        innocent: those that mean something else.
        alone: single words that mean something by themselves.
        core: words that people try to hide, by what is left of them when each letter stands once.
        sets: single words by what they are for: filler, negation, tens.
        clothes: what a negative prompt may not consist of.
        beginnings: what words of `core` may begin with.
        starts: the keys that phrases begin with.
        innocent_starts: those that innocent phrases begin with.
        hidden: finds the words of `alone` with more than three letters in letters without blanks.
    """

    words: dict[str, set[str]] = field(default_factory=dict)
    stems: dict[str, set[str]] = field(default_factory=dict)
    endings: dict[str, set[str]] = field(default_factory=dict)
    phrases: _Node = field(default_factory=dict)
    innocent: _Node = field(default_factory=dict)
    alone: set[str] = field(default_factory=set)
    core: dict[str, str] = field(default_factory=dict)
    sets: dict[str, set[str]] = field(default_factory=dict)
    clothes: set[str] = field(default_factory=set)
    beginnings: set[str] = field(default_factory=set)
    starts: frozenset[str] = frozenset()
    innocent_starts: frozenset[str] = frozenset()
    hidden: re.Pattern[str] = re.compile("(?!)")

    def name(self, entry: str, key: str) -> None:
        """Give a word, a beginning (`word*`), an ending (`*word`) or a word with its marks (`=word`) a key."""
        word = entry.removeprefix("=").strip("*")
        table = self.stems if entry.endswith("*") else self.endings if entry.startswith("*") else self.words
        table.setdefault(word if entry.startswith("=") else without_marks(word), set()).add(key)


@dataclass(frozen=True, slots=True)
class Found:
    """Words of a text that mean something: from word `start` up to, not including, word `end`."""

    meaning: Meaning
    start: int
    end: int


@cache
def lists() -> Lists:
    """The lists of the languages that part words with blanks."""
    made = Lists()
    for language, data in _files().items():
        if not data.get("unspaced"):
            _add(made, language, data)
    made.beginnings = {word[:end] for word in made.core.values() for end in range(1, len(word))}
    made.starts, made.innocent_starts = frozenset(made.phrases), frozenset(made.innocent)
    long = sorted((word for word in made.alone if len(word) > 3), key=len, reverse=True)
    made.hidden = re.compile("|".join(map(re.escape, long)))
    return made


def find(words: Sequence[Word]) -> list[Found]:
    """Everything in a text that means something, besides what is innocent or negated."""
    made = lists()
    keys = [keys_of(word.text) for word in words]
    found = [
        Found(meaning, start, end)
        for start, own in enumerate(keys)
        if not own.isdisjoint(made.starts)
        for end, meaning in _ends(made.phrases, keys, start)
        if meaning == "minor" or not any(word.after_stop for word in words[start + 1 : end])
    ]
    if not found:
        return []
    reach = 0  # how far an innocent phrase goes that begins here or before
    innocent_until = []
    for start, own in enumerate(keys):
        if not own.isdisjoint(made.innocent_starts):
            reach = max(reach, *_innocent_ends(made, words, keys, start), 0)
        innocent_until.append(reach)
    kept = [one for one in found if one.end > innocent_until[one.start]]
    return _not_negated(words, keys, _without_weakened(kept))


def _without_weakened(found: Sequence[Found]) -> list[Found]:
    """All but explicit words inside a longer phrase that is suggestive only, such as `torse nu`."""
    phrases = {(one.start, one.end) for one in found if one.meaning == "suggestive" and one.end - one.start > 1}
    return [one for one in found if one.meaning != "explicit" or not _inside(one, phrases)]


def _inside(one: Found, spans: set[tuple[int, int]]) -> bool:
    around = (
        (start, end)
        for start in range(one.start - _LONGEST_PHRASE, one.start + 1)
        for end in range(one.end, start + _LONGEST_PHRASE + 1)
    )
    return bool(spans) and any(span in spans and span != (one.start, one.end) for span in around)


def keys_of(text: str) -> frozenset[str]:
    """The keys that a word has in the lists, however it is written."""
    if len(text) <= LONGEST_WORD:
        return _keys_of(text)
    hidden = lists().hidden.search(letters(text))
    return _keys_of(hidden[0]) if hidden else _NO_KEYS


@lru_cache(maxsize=8192)
def _keys_of(text: str) -> frozenset[str]:
    made = lists()
    options = list(dict.fromkeys(readings(text)))
    found: set[str] = set()
    for option in options:
        found |= made.words.get(option, _NO_KEYS)
        for length in range(_SHORTEST_STEM, len(option) + 1):
            found |= made.stems.get(option[:length], _NO_KEYS) | made.endings.get(option[-length:], _NO_KEYS)
        found |= _age_keys(made, option)
    if "*" in text:
        found |= _masked_keys(made, text)
    return frozenset(found or _hidden_keys(made, options))


def _masked_keys(made: Lists, text: str) -> set[str]:
    """The keys of a word with stars for some of its letters."""
    return {key for word in made.core.values() if masks(text.casefold(), word) for key in made.words[word]}


def _hidden_keys(made: Lists, options: Sequence[str]) -> set[str]:
    """The keys of a word that hides another: doubled letters, two words in one."""
    for option in options:
        core = made.core.get(squeezed(option))
        if core is not None:
            return set(made.words[core])
        parts = _parts(made.alone, option)
        if parts:
            return set().union(*(made.words[part] for part in parts))
    return set()


def _parts(known: set[str], word: str) -> list[str]:
    """The words that a word is made of, such as `nude` and `teen` of `nudeteen`; none if some of it is no such word."""
    ways: dict[int, list[str]] = {0: []}  # where a part may begin, and the parts before it
    for start in range(len(word) - 2):
        if start not in ways:
            continue
        for end in range(start + 3, min(len(word), start + _LONGEST_PART) + 1):
            if word[start:end] in known:
                ways.setdefault(end, [*ways[start], word[start:end]])
    return ways.get(len(word), [])


def _age_keys(made: Lists, reading: str) -> set[str]:
    if reading.isdecimal() and len(reading) <= 2:
        return {"<age>"} if 0 < int(reading) < _ADULT else set()
    together = _AGED.fullmatch(reading)
    if together and 0 < int(together[1]) < _ADULT and together[2] in made.sets["years"]:
        return {"<aged>"}
    return set()


def _ends(node: _Node, keys: Sequence[frozenset[str]], at: int, skips: int = 0) -> Iterator[tuple[int, Meaning]]:
    """Where the phrases end that begin at a word, and what each means."""
    if at == len(keys):
        return
    for key in keys[at]:
        if key in node:
            child = node[key]
            yield from ((at + 1, meaning) for meaning in child.get(_END, ()))
            yield from _ends(child, keys, at + 1, _SKIPPED)
    if skips and "<filler>" in keys[at]:
        yield from _ends(node, keys, at + 1, skips - 1)


def _innocent_ends(made: Lists, words: Sequence[Word], keys: Sequence[frozenset[str]], start: int) -> Iterator[int]:
    """Where the innocent phrases end that begin at a word: nothing may stand between their words."""
    nodes, at = [made.innocent], start
    while nodes and at < len(words) and (at == start or not words[at].after_pause):
        nodes = [node[key] for node in nodes for key in keys[at] if key in node]
        at += 1
        if any(_END in node for node in nodes):
            yield at


def _not_negated(words: Sequence[Word], keys: Sequence[frozenset[str]], found: Sequence[Found]) -> list[Found]:
    """What is not said to be absent, nor the end of a greater number."""
    absent: set[int] = set()  # the ends of what is negated
    kept = []
    for one in sorted(found, key=lambda one: one.start):
        before = _before(words, keys, one.start, {"<filler>", "<degree>"})
        joined = before is not None and "<or>" in keys[before] and before in absent
        if joined or (before is not None and "<negation>" in keys[before] and not _asked(keys, before)):
            absent.add(one.end)
        elif not ({"<age>", "<unit>"} & keys[one.start] and _after_tens(words, keys, one.start)):
            kept.append(one)
    return kept


def _before(words: Sequence[Word], keys: Sequence[frozenset[str]], at: int, skipped: set[str]) -> int | None:
    """The word before one, over at most two of the `skipped` kinds; None behind a comma or at the beginning."""
    for step in range(3):
        if at == 0 or words[at].after_pause:
            return None
        at -= 1
        if step == 2 or "<limit>" in keys[at] or not (skipped & keys[at]) or {"<negation>", "<or>"} & keys[at]:
            return at
    return None


def _asked(keys: Sequence[frozenset[str]], at: int) -> bool:
    """`why not` asks for it."""
    return at > 0 and "<why>" in keys[at - 1]


def _after_tens(words: Sequence[Word], keys: Sequence[frozenset[str]], at: int) -> bool:
    """Whether a number is the end of a greater one: `twenty-one`, `treinta y cinco`."""
    before = _before(words, keys, at, {"<filler>", "<or>"})
    return before is not None and "<tens>" in keys[before]


# ---- reading the files


@cache
def _files() -> Mapping[str, dict[str, Any]]:
    folder = resources.files("resources.writers").joinpath("words")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return {file.name.removesuffix(".toml"): tomllib.loads(file.read_text(encoding="utf-8")) for file in files}


def unspaced_files() -> Mapping[str, dict[str, Any]]:
    """The files of the languages that do not part words with blanks; their entries are regular expressions."""
    return {language: data for language, data in _files().items() if data.get("unspaced")}


def garments(negative: str) -> list[str]:
    """The entries of a negative prompt that are clothes and nothing else: such a picture would be one without them."""
    parts = [re.sub(r"[\W\d_]+", " ", part).strip() for part in re.split(r"[,\n]", plain(negative))]
    return [part for part in parts if part.casefold() in lists().clothes]


def entries(text: str) -> list[str]:
    """The entries of a list: parted by commas or lines."""
    return [entry.strip() for entry in re.split(r"[,\n]", text) if entry.strip()]


def _folded(text: str) -> list[str]:
    return [entry.casefold() for entry in entries(text)]


def _add(made: Lists, language: str, data: Mapping[str, Any]) -> None:
    for name, text in data.get("sets", {}).items():
        shared = name in _SHARED
        key = f"<{name}>" if shared else f"{language}<{name}>"
        made.sets.setdefault(name, set()).update(map(without_marks, _folded(text)))
        for entry in _folded(text):
            made.name(entry, key)
    made.clothes.update(_folded(data.get("negative_clothes", "")))
    for meaning in MEANINGS:
        for entry in _folded(data.get(meaning, "")):
            _plant(made, made.phrases, language, entry, meaning)
            if " " not in entry and "<" not in entry and "*" not in entry:
                made.alone.add(without_marks(entry.removeprefix("=")))
    for entry in _folded(data.get("innocent", "")):
        _plant(made, made.innocent, language, entry, "explicit")
    for number in _folded(data.get("sets", {}).get("age", "")):
        for ending in _folded(data.get("age_endings", "")):
            _plant(made, made.phrases, language, number + ending, "minor")
    for entry in _folded(data.get("core", "")):
        made.core[squeezed(entry)] = entry


def _plant(made: Lists, root: _Node, language: str, entry: str, meaning: Meaning) -> None:
    node = root
    for part in entry.split():
        shared = part in ("<age>", "<aged>", "<unit>")
        key = part if shared else f"{language}{part}" if part.startswith("<") else part
        if not part.startswith("<"):
            made.name(part, part)
        node = node.setdefault(key, {})
    node.setdefault(_END, set()).add(meaning)
