"""From what a person wrote to jobs in the queue: reading request files, checking, and adding all or none."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from imaging.errors import BackendError, FaceChangerError, RejectedError, SettingsError
from jobs.model.ids import check_job_id, new_job_id
from jobs.model.job import Job, NewJob, Origin
from jobs.model.request import MAX_SEED, JobRequest, parse_request
from jobs.queue.job_queue import JobQueue
from resources.settings import Settings
from resources.sources.names import kept_name
from resources.sources.photos import Fetch, import_reference, import_source
from resources.store.image_store import ImageStore
from resources.writers.safety import check_prompt_safety

MAX_FILE_BYTES: Final = 20_000_000
MAX_YAML_BYTES: Final = 1_000_000  # PyYAML reads some 100 kB a second
REQUEST_SUFFIXES: Final = (".json", ".jsonl", ".yaml", ".yml", ".csv")

Entry = tuple[str, Mapping[str, Any]]
"""Where in a file an entry stands, in words, and its fields as they were written."""


class UnreadableFileError(RejectedError):
    """A request file that is not valid JSON, YAML or CSV as a whole; it may be that it is still being written."""


def submit(
    requests: Sequence[tuple[str | None, JobRequest]],
    *,
    queue: JobQueue,
    store: ImageStore,
    settings: Settings,
    origin: Origin,
    hold: bool = False,
    fetch: Fetch | None = None,
) -> list[Job]:
    """Check requests, import their source images, draw the missing seeds, and add them: all or none.

    Args:
        requests: job id (None: one is made) and request, in the order in which they shall run.
        queue: where they go.
        store: where source images are copied to.
        settings: the limits of source images.
        origin: who submits.
        hold: leave the jobs for a person to start.
        fetch: fetches source images from URLs; None: the usual way.

    Raises:
        RejectedError: names the job and the field; nothing was added.
        BackendError, SettingsError: the store or the database failed; the requests may be right.
    """
    named = [(new_job_id() if job_id is None else check_job_id(job_id), request) for job_id, request in requests]
    taken = queue.get_many([job_id for job_id, _ in requests if job_id is not None])
    if taken:
        raise RejectedError(
            f"job_id: {', '.join(sorted(taken)[:5])} {'is' if len(taken) == 1 else 'are'} taken.",
            "Choose another id, or leave it out and one is made.",
        )
    for job_id, request in named:
        check_prompts(job_id, request)
    new = [
        NewJob(
            job_id,
            as_kept(with_reference(job_id, request.with_seed(), store, settings, fetch)),
            import_photo(job_id, request, store, settings, fetch),
            origin,
            parent_id=request.parent,
            after_id=request.waits_for,
            not_before=request.at,
            hold=hold,
        )
        for job_id, request in named
    ]
    return queue.add(new)


def variants(group_id: str, fields: Mapping[str, Any], number: int) -> list[tuple[str | None, JobRequest]]:
    """A group, and so many jobs of one request in it, each with a seed of its own: `seed`, `seed + 1`, and so on.

    Raises:
        RejectedError: names the field that is wrong.
    """
    own = {name: value for name, value in fields.items() if name in _OF_THE_GROUP}
    group = parse_request({**own, "job_type": "group"})
    drawn = parse_request({**fields, "parent": group_id}).with_seed()
    children = [
        drawn.model_copy(update={"seed": ((drawn.seed or 0) + index) % (MAX_SEED + 1)}) for index in range(number)
    ]
    return [(group_id, group), *((f"{group_id}-{index}", child) for index, child in enumerate(children, start=1))]


_OF_THE_GROUP: Final = ("pony_prompt", "flux_prompt", "negative_prompt", "priority", "tags", "parent")


def as_kept(request: JobRequest) -> JobRequest:
    """The request as it is kept and shown: the URL of a photo without its query, which may hold a key.

    Its placing is left out: that is a matter of the job's row.
    """
    request = request.without_placing()
    if request.source_image is None:
        return request
    return request.model_copy(update={"source_image": kept_name(request.source_image)})


def check_prompts(job_id: str, request: JobRequest) -> None:
    """Check each prompt, and both together: a word in one may change what the other means."""
    texts = {"pony_prompt": request.pony_prompt, "flux_prompt": request.flux_prompt}
    ruled = [rule.prompt for rule in request.rules() if rule.prompt]
    if ruled:
        texts["face_rules"] = "\n".join(ruled)
    for fields, text in [*texts.items(), (" with ".join(texts), "\n".join(texts.values()))]:
        try:
            check_prompt_safety(text)
        except RejectedError as error:
            raise RejectedError(f"Job {job_id}: {fields}: {error.what}", error.hint) from None


def import_photo(
    job_id: str, request: JobRequest, store: ImageStore, settings: Settings, fetch: Fetch | None = None
) -> dict[str, Any] | None:
    """Copy a request's photo into the store; the `SourceInfo` as JSON, None when the request has no photo.

    None also for the picture of another job, which need not be there yet: the asset `job_request` takes it.

    Raises:
        RejectedError: it cannot be used; names the job.
        BackendError, SettingsError: the store failed.
    """
    if request.source_image is None or request.result_of is not None:
        return None
    with _naming(job_id, "source_image"):
        source = import_source(request.source_image, settings=settings, store=store, fetch=fetch)
    return source.model_dump(mode="json")


def with_reference(
    job_id: str, request: JobRequest, store: ImageStore, settings: Settings, fetch: Fetch | None = None
) -> JobRequest:
    """The request with its reference face imported, if it has one: the text that it keeps names the copy.

    Raises:
        RejectedError: it cannot be used, or nobody can compare faces here; names the job.
        BackendError, SettingsError: the store failed.
    """
    if request.identity is not None and settings.sface_model is None:
        raise RejectedError(
            f"Job {job_id}: identity: faces are compared by SFace, and FC_SFACE_MODEL is not set.",
            "Run: fc models pull sface --save; or leave identity out.",
        )
    if request.reference_face is None:
        return request
    with _naming(job_id, "reference_face"):
        kept = import_reference(request.reference_face, settings=settings, store=store, fetch=fetch)
    return request.model_copy(update={"reference_face": kept})


@contextmanager
def _naming(job_id: str, field: str) -> Iterator[None]:
    """Turn what is wrong with a picture into what is wrong with a request."""
    try:
        yield
    except (BackendError, SettingsError):
        raise
    except FaceChangerError as error:
        raise RejectedError(f"Job {job_id}: {field}: {error.what}", error.hint) from error


def load_requests(path: Path) -> list[tuple[str | None, JobRequest]]:
    """Read the requests of a file: `.json` and `.yaml` (one or a list), `.jsonl` (one a line), `.csv` (one a row).

    Each entry has the fields of a request and may have `job_id`. In CSV the first row names the fields, an empty cell
    leaves its field out, `tags` are written `key=value;key=value`, and `|` stands between several `face_rules`.

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
    """Split a file's content into entries by the ending of its `name`; their fields are not checked yet.

    Raises:
        UnreadableFileError: it is not what its ending says.
        RejectedError: the ending is unknown, or an entry is not an object.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in REQUEST_SUFFIXES:
        raise RejectedError(f"{name}: is no request file.", f"Use a name that ends with {', '.join(REQUEST_SUFFIXES)}.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{name}: is not UTF-8 text: {error}.", "Save it as UTF-8.") from None
    if suffix == ".csv":
        found = list(_csv_entries(name, text))
    elif suffix == ".jsonl":
        found = [
            (f"line {number}", _json(f"{name}, line {number}", line))
            for number, line in enumerate(text.split("\n"), start=1)
            if line.strip()
        ]
    else:
        whole = _json(name, text) if suffix == ".json" else _yaml(name, text)
        listed = whole if isinstance(whole, list) else [] if whole is None else [whole]
        found = [(f"entry {number}", entry) for number, entry in enumerate(listed, start=1)]
    if not found:
        raise UnreadableFileError(f"{name}: holds no request.", "Write at least one request into it.")
    for place, entry in found:
        if not isinstance(entry, Mapping):
            raise RejectedError(
                f"{name}, {place}: is a {type(entry).__name__}, not an object with fields.",
                "Write each request as an object, such as {pony_prompt: ...}.",
            )
    return found


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
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableFileError(f"{place}: is not JSON: {error}.", "Correct it and submit it again.") from None


_YAML_FAULTS: Final = (
    yaml.YAMLError,
    # what PyYAML's own conversions raise for `!!timestamp x`, `!!bool x` and the like
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    ArithmeticError,
    RecursionError,
)


class _YamlLoader(yaml.SafeLoader):
    """The safe loader, with an end to merge keys (`<<`), which can double at every level.

    Not `CSafeLoader`: deep nesting crashes that.
    """

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > 1000:
            raise yaml.YAMLError("a mapping has more than 1000 keys")


def _yaml(name: str, text: str) -> Any:  # noqa: ANN401 - any YAML value
    if len(text) > MAX_YAML_BYTES:
        raise RejectedError(
            f"{name}: is larger than {MAX_YAML_BYTES // 1_000_000} MB, too large for YAML.",
            "Write it as JSON Lines (.jsonl).",
        )
    try:
        return yaml.load(text, Loader=_YamlLoader)  # noqa: S506 - a SafeLoader
    except _YAML_FAULTS as error:
        raise UnreadableFileError(
            f"{name}: is not YAML: {' '.join(str(error).split())}.", "Correct it and submit it again."
        ) from None


_INTEGER: Final = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NUMBERS: Final = frozenset(
    ("seed", "width", "height", "steps", "cfg_scale", "face_strength", "large_face_strength", "identity_limit")
) | {"output_size", "priority"}


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
    wrong = [field for field in header if field not in known]
    twice = [field for field in dict.fromkeys(header) if header.count(field) > 1]
    if wrong or twice:
        fault = f"there is no field {wrong[0]!r}" if wrong else f"the field {twice[0]!r} stands there twice"
        raise RejectedError(f"{name}, line 1: {fault}.", f"The fields are {', '.join(known)}.")


def cell_value(place: str, field: str, cell: str) -> object:
    """A cell as the type of its field; a number that is none stays text and is turned down with its field's name."""
    if field == "tags":
        return _tags(place, cell)
    if field == "face_rules":
        return [rule.strip() for rule in cell.split("|") if rule.strip()]
    if field in _NUMBERS:
        number = cell.strip()
        if _INTEGER.fullmatch(number):
            return int(number)
        if _DECIMAL.fullmatch(number):
            return float(number)
    return cell


def _tags(place: str, cell: str) -> dict[str, str]:
    tags: dict[str, str] = {}
    for part in filter(None, map(str.strip, cell.split(";"))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise RejectedError(f"{place}: tags: {part!r} is no label.", "Write tags as key=value;key=value.")
        tags[key.strip()] = value.strip()
    return tags
