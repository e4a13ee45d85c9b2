"""The record of a picture as text of a bounded size: what the reader of PNGs takes, and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from imaging.errors import shortened

_SHORT: Final = 200  # characters that are left of a text


def record_text(record: Mapping[str, Any], most: int) -> str:
    """A record as JSON of at most `most` bytes in UTF-8; equal records give equal text.

    ASCII where that fits, else without escapes, which take twice to four times the room. Where that is too much too,
    long texts are shortened, those within lists first, for the request above them has their words; then whole entries
    are left out. `shortened` says how many texts and entries these are.

    Args:
        record: JSON values; half surrogate pairs are kept, as escapes.
        most: bytes, at least 1000.

    Raises:
        ValueError: a value that is no JSON, such as NaN.
    """
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    if len(text) > most:
        text = _plain(record)
    if _size(text) > most:
        text = _plain(_reduced(json.loads(text), most))
    return text


def _plain(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)


def _size(text: str) -> int:
    return len(text.encode())


def _reduced(record: dict[str, Any], most: int) -> dict[str, Any]:
    left = most - len('"shortened":1000000,')
    size, count = _size(_plain(record)), 0
    for holder, key, _ in sorted(_long_texts(record), key=lambda found: found[2]):
        if size > left:
            before = _size(_plain(holder[key]))
            holder[key] = shortened(holder[key], _SHORT)
            size, count = size - before + _size(_plain(holder[key])), count + 1
    for key in sorted(record, key=lambda name: (-_size(_plain(record[name])), name)):
        if size > left:
            size, count = size - _size(_plain({key: record.pop(key)})) + 1, count + 1
    return {**record, "shortened": count}


def _long_texts(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any, tuple[bool, int, tuple[str, ...]]]]:  # noqa: ANN401 - a JSON value
    """Where each long text is, and by what it is sorted: deep before flat, long before short."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        here = (*path, f"{key:08}" if isinstance(key, int) else key)
        if isinstance(inner, str) and len(inner) > _SHORT:
            yield value, key, (len(here) <= 2, -_size(_plain(inner)), here)
        else:
            yield from _long_texts(inner, here)
