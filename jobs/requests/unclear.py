"""Values in request files that can be read in two ways, such as `010` or `1.23E+09`: they are refused by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from imaging.errors import RejectedError
from jobs.model.request import ALIASES, JobRequest, field_kinds

DEEPEST: Final = 32
"""Levels of lists and objects in a file; a request needs four."""

MOST_ITEMS: Final = 1000
"""Values of one list or object of a request; no field takes more than 32."""

_WHOLE: Final = r"[+-]?(?:0|[1-9][0-9]{0,17})"
_DECIMAL: Final = r"[+-]?(?:(?:0|[1-9][0-9]{0,17})\.[0-9]{0,40}|\.[0-9]{1,40})"
NUMBER_LIKE: Final = (
    r"[+-]?(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+"
    r"|[0-9][0-9_]*(?::[0-9]+)+(?:\.[0-9_]*)?"
    r"|(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)
"""What YAML 1.1, YAML 1.2 or a spreadsheet take for a number, plain or not."""
DATE_LIKE: Final = r"[0-9]{4,}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9].*)?"
_LONGEST: Final = 60  # characters that may be meant as a number
_EXPONENT: Final = re.compile(r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})[eE][+-]?[0-9]{1,6}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Unclear:
    """A value as it was written, without quotes, which is not plainly a number and not plainly text."""

    text: str


def read_number(text: str) -> int | float | Unclear | None:
    """A number as it is written plainly; what may be one otherwise is unclear, and anything else None."""
    if re.fullmatch(_WHOLE, text, re.ASCII):
        return int(text)
    if re.fullmatch(_DECIMAL, text, re.ASCII):
        number = float(text)
        rounded = number.is_integer() and text.partition(".")[2].strip("0")
        return Unclear(text) if rounded else number
    return Unclear(text) if re.fullmatch(NUMBER_LIKE, text, re.ASCII) else None


def settled(place: str, entry: Mapping[Any, Any]) -> dict[str, Any]:
    """An entry of a file without unclear values; one that its field leaves no doubt about is read.

    Args:
        place: file and entry, for errors.
        entry: may be hostile; containers that stand in it several times are read once.

    Raises:
        RejectedError: names the place and the field.
    """
    seen: dict[int, Any] = {}
    if len(entry) > MOST_ITEMS:
        raise RejectedError(f"{place}: has {len(entry):,} fields.", "`fc submit -h` names those that there are.")
    return {
        _checked_key(place, name): _settled(f"{place}: {name}", value, _kinds(name), seen, DEEPEST)
        for name, value in entry.items()
    }


def _kinds(name: object) -> set[type]:
    field = ALIASES.get(name, name) if isinstance(name, str) else ""
    return field_kinds(field) if field in JobRequest.model_fields else set()


def _checked_key(place: str, key: Any) -> Any:  # noqa: ANN401 - any key of a mapping
    return settle(f"{place}: the name of a field", key, set()) if isinstance(key, Unclear) else key


def _settled(path: str, value: Any, kinds: set[type], seen: dict[int, Any], deeper: int) -> Any:  # noqa: ANN401
    if isinstance(value, Unclear):
        return settle(path, value, kinds)
    if not isinstance(value, dict | list):
        return value
    if id(value) in seen:
        return seen[id(value)]
    if not deeper or len(value) > MOST_ITEMS:
        fault = f"{len(value):,} values" if deeper else f"lists or objects in each other, over {DEEPEST} levels deep"
        raise RejectedError(f"{path}: has {fault}.", "A request has few and flat values; correct the file.")
    if isinstance(value, list):
        items: list[Any] = []
        seen[id(value)] = items
        items += [_settled(path, item, set(), seen, deeper - 1) for item in value]
        return items
    fields: dict[Any, Any] = {}
    seen[id(value)] = fields
    for name, inner in value.items():
        fields[_checked_key(path, name)] = _settled(f"{path}.{name}", inner, set(), seen, deeper - 1)
    return fields


def settle(path: str, value: Unclear, kinds: set[type]) -> object:
    """What an unclear value means to a field of these kinds (`jobs.model.request.field_kinds`).

    Raises:
        RejectedError: that is not known; names the field.
    """
    text = value.text
    shown = text if len(text) <= _LONGEST else f"{text[:40]}... ({len(text)} characters)"
    if datetime in kinds:
        return text
    if _EXPONENT.fullmatch(text):
        number = float(text)
        if float in kinds or (int not in kinds and not number.is_integer()):
            return number
        raise RejectedError(
            f"{path}: {shown} has an exponent, as spreadsheets shorten long numbers; the number that was meant is not "
            "known.",
            "Write all its digits; in a spreadsheet, format the column as a number without decimals first.",
        )
    if re.fullmatch(DATE_LIKE, text, re.ASCII):
        raise RejectedError(f"{path}: {shown} may be a date or a string.", "Put it in quotes if it is text.")
    if len(text) > _LONGEST:
        raise RejectedError(f"{path}: {shown} is too long for a number.", "Write a shorter one; put text in quotes.")
    hint = "Write a plain number: digits, without anything between or before them."
    if not kinds & {int, float}:
        hint = "Put it in quotes if it is text, or write the plain number."
    raise RejectedError(f"{path}: {shown} is not plainly a number and not plainly a string.", hint)
