"""Photos in the inbox: each becomes a job by FC_INBOX_TEMPLATE, unless a request file names it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from imaging.errors import RejectedError, SettingsError
from jobs.model.request import JobRequest, parse_request
from jobs.requests.accept import PATH_FIELDS, anchored
from jobs.requests.files import read_entries, read_limited
from resources.sources.names import PHOTO_ENDINGS

PATIENCE_SECONDS: Final = 600.0
"""How long a photo that no request file names may lie where there is no template: its request file may come yet."""
NAMED: Final = ".named-photos"
"""Holds the names of the photos in the inbox that a request file has named, one a line: they are nobody else's."""


def is_photo(name: str) -> bool:
    """Whether a file is called as a photo is."""
    return Path(name).suffix.lower() in PHOTO_ENDINGS


def read_template(path: Path) -> dict[str, Any]:
    """The fields that every photo's request has, from a request file with one entry. The default is a job of its faces.

    Raises:
        SettingsError: it cannot be read or is no request; names FC_INBOX_TEMPLATE.
    """
    try:
        return _template(path)
    except RejectedError as error:
        raise SettingsError(
            f"FC_INBOX_TEMPLATE: {error.what}", f"{error.hint} Until then photos stay in the inbox."
        ) from error


def _template(path: Path) -> dict[str, Any]:
    entries = read_entries(path.name, read_limited(path))
    if len(entries) != 1:
        raise RejectedError(f"{path.name}: holds {len(entries)} requests.", "Write one into it.")
    fields = {"job_type": "face_processing", **entries[0][1]}
    own = sorted({"job_id", "source_image"} & set(fields))
    if own:
        raise RejectedError(f"{path.name}: {own[0]}: every photo has its own.", "Leave it out of the template.")
    whole = anchored(parse_request({**fields, "source_image": path.name}), path.parent)
    return fields | {name: getattr(whole, name) for name in PATH_FIELDS if fields.get(name)}


def request_of(photo: Path, template: dict[str, Any]) -> JobRequest:
    """The request that a photo makes by the template."""
    return parse_request({**template, "source_image": str(photo)})


def named_photos(folder: Path) -> set[str]:
    """The names of the photos of an inbox that request files have named so far."""
    with suppress(FileNotFoundError):
        return set((folder / NAMED).read_text("utf-8", "surrogateescape").splitlines())
    return set()


def note_named(folder: Path, requests: Iterable[JobRequest]) -> None:
    """Note which photos of the inbox these requests name.

    Raises:
        OSError: it cannot be noted.
    """
    files = (value for one in requests for name in PATH_FIELDS for value in _listed(getattr(one, name)))
    inbox = folder.resolve()
    names = {path.name for path in map(Path, files) if path.parent == inbox}
    new = sorted(names - named_photos(folder))
    if new:
        with (folder / NAMED).open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write("".join(f"{name}\n" for name in new))


def _listed(value: str | list[str] | None) -> list[str]:
    return value if isinstance(value, list) else [value] if value else []
