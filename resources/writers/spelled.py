"""Words whose letters or halves stand apart, put together again: `n u d e`, `n.u.d.e`, `nu de`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from resources.writers.disguise import LONGEST_WORD, Word, letters, squeezed
from resources.writers.word_lists import Lists, keys_of

_SHORTEST_RUN: Final = 3  # single letters in a row
_LONGEST_RUN: Final = 400
_MOST_PIECES: Final = 3  # of a word that is cut up


def put_together(words: Sequence[Word], lists: Lists) -> list[Word]:
    """The words, with those that were spelled out or cut up as one each."""
    made: list[Word] = []
    at = 0
    while at < len(words):
        end = _end_of_run(words, at)
        if end - at >= _SHORTEST_RUN:
            made += _spelled(words[at:end], lists)
            at = end
            continue
        pieces = _pieces(words, at, lists)
        made.append(words[at] if pieces == 1 else _one(words[at : at + pieces]))
        at += pieces
    return made


def _end_of_run(words: Sequence[Word], at: int) -> int:
    """Where the single letters and digits that begin at a word end; a comma ends them, unless one is behind each."""
    end = at
    while end < len(words) and end - at < _LONGEST_RUN and len(words[end].text) == 1:
        if end - at >= 2 and words[end].after_pause != words[at + 1].after_pause:
            break
        end += 1
    return end


def _spelled(run: Sequence[Word], lists: Lists) -> list[Word]:
    """The words that single letters spell, and the letters between them.

    The first letter may be the article of `a n u d e man`.
    """
    whole = _one(run)
    if keys_of(whole.text):
        return [whole]
    if keys_of(whole.text[1:]):
        return [run[0], _one(run[1:])]
    made: list[Word] = []
    at = 0
    for found in lists.hidden.finditer(letters(whole.text)):
        made += [*run[at : found.start()], _one(run[found.start() : found.end()])]
        at = found.end()
    return [*made, *run[at:]]


def _pieces(words: Sequence[Word], at: int, lists: Lists) -> int:
    """How many words from here on are the pieces of one that people try to hide; 1: it is a word by itself."""
    joined = ""
    for count in range(1, _MOST_PIECES + 1):
        piece = words[at + count - 1].text if at + count <= len(words) else ""
        if not piece or len(piece) > LONGEST_WORD:
            break
        joined += _letters(piece)
        if count > 1 and lists.core.get(squeezed(joined)) == joined:
            return count
        if joined not in lists.beginnings:
            break
    return 1


@lru_cache(maxsize=8192)
def _letters(piece: str) -> str:
    return letters(piece)


def _one(words: Sequence[Word]) -> Word:
    return Word("".join(word.text for word in words), words[0].after_pause, words[0].after_stop)
