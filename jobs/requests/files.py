"""Reading request files: JSON, JSON Lines, YAML and CSV, each entry with its place in the file for errors."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from imaging.errors import RejectedError, shortened
from jobs.model.ids import check_job_id
from jobs.model.request import ALIASES, JobRequest, field_kinds, parse_request
from jobs.requests.unclear import Unclear, read_number, settle, settled
from jobs.requests.yaml_files import FaultyYamlError, read_yaml

MAX_FILE_BYTES: Final = 20_000_000
MAX_YAML_BYTES: Final = 1_000_000  # some seconds of PyYAML on a busy machine; JSON Lines takes larger files
REQUEST_SUFFIXES: Final = (".json", ".jsonl", ".yaml", ".yml", ".csv")

Entry = tuple[str, Mapping[str, Any]]
"""Where in a file an entry stands, in words, and its fields as they were written."""


class UnreadableFileError(RejectedError):
    """A request file that is not valid JSON, YAML or CSV as a whole; it may be that it is still being written."""


def load_requests(path: Path) -> list[tuple[str | None, JobRequest]]:
    """Read the requests of a file: `.json` and `.yaml` (one or a list), `.jsonl` (one a line), `.csv` (one a row).

    Each entry has the fields of a request and may have `job_id`. In CSV the first row names the fields, an empty cell
    leaves its field out, `tags` are written `key=value;key=value`, and `|` stands between several values of a list.

    Raises:
        RejectedError: names the file, the entry or line, and the field.
    """
    return parse_entries(path.name, read_entries(path.name, read_limited(path)))


def read_limited(path: Path) -> bytes:
    """Read a whole file of at most `MAX_FILE_BYTES`.

    Raises:
        RejectedError: it is too large, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise RejectedError(
            f"{path.name}: cannot be read: {error.strerror or error}.", "Give a file that face-changer may read."
        ) from None
    if len(content) > MAX_FILE_BYTES:
        raise RejectedError(
            f"{path.name}: is larger than {MAX_FILE_BYTES // 1_000_000} MB.", "Split it into several files."
        )
    return content


def read_entries(name: str, content: bytes) -> list[Entry]:
    """Split a file's content into entries by the ending of its `name`; no field is checked yet, but none is unclear.

    Raises:
        UnreadableFileError: it is not what its ending says.
        RejectedError: the ending is unknown, an entry is not an object, or a value can be read in two ways.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in REQUEST_SUFFIXES:
        raise RejectedError(f"{name}: is no request file.", f"Use a name that ends with {', '.join(REQUEST_SUFFIXES)}.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{name}: is not UTF-8 text: {error}.", "Save it as UTF-8.") from None
    found = [(place, _object(f"{name}, {place}", entry)) for place, entry in _entries(name, suffix, text)]
    if not found:
        raise UnreadableFileError(f"{name}: holds no request.", "Write at least one request into it.")
    return found


def _entries(name: str, suffix: str, text: str) -> Iterator[tuple[str, Any]]:
    if suffix == ".csv":
        yield from _csv_entries(name, text)
    elif suffix == ".jsonl":
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"line {number}", _json(f"{name}, line {number}", line)
    else:
        whole = _json(name, text) if suffix == ".json" else _yaml(name, text)
        listed = whole if isinstance(whole, list) else [] if whole is None else [whole]
        for number, entry in enumerate(listed, start=1):
            yield f"entry {number}", entry


def _object(place: str, entry: object) -> Mapping[str, Any]:
    if isinstance(entry, Mapping):
        return settled(place, entry)
    kind = "number" if isinstance(entry, Unclear) else type(entry).__name__
    raise RejectedError(
        f"{place}: is a {kind}, not an object with fields.",
        "Write each request as an object, such as {pony_prompt: ...}.",
    )


def parse_entries(name: str, entries: Sequence[Entry]) -> list[tuple[str | None, JobRequest]]:
    """Check the fields of each entry of the file `name`.

    Raises:
        RejectedError: names the file, the entry or line, and the field.
    """
    parsed: list[tuple[str | None, JobRequest]] = []
    for place, entry in entries:
        given = dict(entry)
        job_id = given.pop("job_id", None)
        try:
            parsed.append((None if job_id is None else check_job_id(job_id), parse_request(given)))
        except RejectedError as error:
            raise RejectedError(f"{name}, {place}: {error.what}", error.hint) from None
    return parsed


def _json(place: str, text: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(text, parse_int=_json_whole, parse_float=read_number)
    except (ValueError, RecursionError) as error:
        raise UnreadableFileError(f"{place}: is not JSON: {error}.", "Correct it and submit it again.") from None


def _json_whole(text: str) -> int | Unclear:
    return int(text) if len(text) < 19 else Unclear(text)  # `read_number`, but quick: a file may hold millions


def _yaml(name: str, text: str) -> Any:  # noqa: ANN401 - any YAML value
    if len(text) > MAX_YAML_BYTES:
        raise RejectedError(
            f"{name}: is larger than {MAX_YAML_BYTES // 1_000_000} MB, too large for YAML.",
            "Write it as JSON Lines (.jsonl).",
        )
    try:
        return read_yaml(text)
    except FaultyYamlError as error:
        raise UnreadableFileError(
            f"{name}: is not YAML that is taken: {error}.", "Correct it and submit it again."
        ) from None


def _csv_entries(name: str, text: str) -> Iterator[Entry]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [cell.strip() for cell in next(rows, [])]
        _check_header(name, header)
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            place = f"line {rows.line_num}"
            if len(row) > len(header):
                raise UnreadableFileError(
                    f"{name}, {place}: has {len(row)} cells, but the first line names {len(header)} fields.",
                    'Put text that holds a comma into double quotes: "...".',
                )
            yield (
                place,
                {
                    field: cell_value(f"{name}, {place}", field, cell)
                    for field, cell in zip(header, row, strict=False)
                    if cell.strip()
                },
            )
    except csv.Error as error:
        raise UnreadableFileError(
            f"{name}, line {rows.line_num}: is not CSV: {error}.", "Correct it and submit it again."
        ) from None


def _check_header(name: str, header: Sequence[str]) -> None:
    known = ["job_id", *JobRequest.model_fields]
    wrong = [field for field in header if field not in known and field not in ALIASES]
    twice = [field for field in dict.fromkeys(header) if header.count(field) > 1]
    if wrong or twice:
        named = repr(shortened((wrong or twice)[0], 60))
        fault = f"there is no field {named}" if wrong else f"the field {named} stands there twice"
        raise RejectedError(
            f"{name}, line 1: {fault}.", "`fc submit -h` names the fields; text with commas needs quotes."
        )


def cell_value(place: str, field: str, cell: str) -> object:
    """A cell as the type of its field; a number that is none stays text and is turned down with its field's name."""
    kinds = set() if field == "job_id" else field_kinds(ALIASES.get(field, field))
    if dict in kinds:
        return _tags(place, cell)
    if list in kinds:
        return [part.strip() for part in cell.split("|") if part.strip()]
    if kinds & {int, float}:
        number = read_number(cell.strip())
        if number is not None:
            return settle(f"{place}: {field}", number, kinds) if isinstance(number, Unclear) else number
    return cell


def _tags(place: str, cell: str) -> dict[str, str]:
    tags: dict[str, str] = {}
    for part in filter(None, map(str.strip, cell.split(";"))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise RejectedError(
                f"{place}: tags: {shortened(part, 60)!r} is no label.", "Write tags as key=value;key=value."
            )
        tags[key.strip()] = value.strip()
    return tags
