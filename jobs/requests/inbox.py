"""The inbox: a folder in which a dropped request file becomes jobs.

The safe way to drop a file is to write it under another name, such as `.part`, and then rename it. For files that are
written in place: JSON is taken as soon as it is whole, for half a JSON document never parses. YAML, CSV and JSON Lines
can look whole when they are not, so they are taken once they have been left alone for `QUIET_SECONDS`. A photo must
be in place before the file that names it. Photos that no request file names become jobs by a template, if there is
one; they are looked at when no request file is left.

A file is submitted first and moved second, and its jobs' ids come from the file itself. So when the process dies in
between, the next look finds the jobs in the queue and only moves the file: nothing is lost and nothing runs twice.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from imaging.errors import RejectedError, SettingsError
from jobs.model.job import Job
from jobs.model.request import JobRequest
from jobs.queue.job_queue import JobQueue
from jobs.requests.accept import anchored, for_storage, submit
from jobs.requests.files import REQUEST_SUFFIXES, UnreadableFileError, parse_entries, read_entries, read_limited
from jobs.requests.inbox_photos import (
    PATIENCE_SECONDS,
    is_photo,
    named_photos,
    note_named,
    read_template,
    request_of,
)
from resources.settings import Settings
from resources.sources.names import is_url
from resources.sources.photos import fetcher
from resources.store.image_store import ImageStore

QUIET_SECONDS: Final = 1.0
UNREADABLE_SECONDS: Final = 5.0
"""How long after its last change a file that cannot be read may still be one that is being written."""
LOOK_SECONDS: Final = 20.0
"""A look that has taken this long leaves further files for the next one."""
FETCH_SECONDS: Final = 30.0
"""For all photos that one file names by URL."""
_SKEW_SECONDS: Final = 60.0  # a change further in the future than this is a wrong date, not a clock that is ahead
_MOST_NAME_BYTES: Final = 255  # of a name in a folder, on every usual file system
_NOTE: Final = ".error.txt"


@dataclass(frozen=True, slots=True)
class InboxReport:
    """What one look into the inbox did, by file name.

    Attributes:
        accepted: the ids of the jobs that each file became.
        rejected: what was wrong with each file.
        waiting: the files that were left because they may still be written.
    """

    accepted: dict[str, list[str]] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)


Requests = Sequence[tuple[str, JobRequest]]
"""Requests, each with its id."""


@dataclass(frozen=True, slots=True)
class _Dropped:
    path: Path
    status: os.stat_result
    now: float

    @property
    def age(self) -> float:
        """Seconds since the last change of what it holds."""
        return self.now - self.status.st_mtime

    @property
    def may_be_half_written(self) -> bool:
        return self.path.suffix.lower() != ".json" and -_SKEW_SECONDS < self.age < QUIET_SECONDS

    @property
    def may_be_unfinished(self) -> bool:
        return -_SKEW_SECONDS < self.age < UNREADABLE_SECONDS

    @property
    def has_lain_long(self) -> bool:
        """A photo may be older than its way into the folder, so this goes by the change of its entry."""
        return self.now - self.status.st_ctime > PATIENCE_SECONDS

    def has_changed(self) -> bool:
        """Whether the file was written to since it was found."""
        try:
            now = self.path.lstat()
        except FileNotFoundError:
            return False  # whoever moves it next will see
        return (now.st_size, now.st_mtime_ns) != (self.status.st_size, self.status.st_mtime_ns)

    def job_ids(self, content: bytes = b"") -> Iterator[str]:
        """An id for each job of this file, the same at every look."""
        name = f"{self.path.name}\n{self.status.st_ctime_ns}\n".encode("utf-8", "surrogateescape")
        drop = hashlib.sha256(name + content).hexdigest()[:24]
        return (f"inbox-{drop}-{index}" for index in itertools.count())


@dataclass(frozen=True, slots=True)
class _Look:
    """One look into the inbox: where its files go, and what it has done."""

    queue: JobQueue
    store: ImageStore
    settings: Settings
    report: InboxReport = field(default_factory=InboxReport)
    faults: dict[str, OSError] = field(default_factory=dict)  # by file; the other files go on


def take_inbox(folder: Path, *, queue: JobQueue, store: ImageStore, settings: Settings, limit: int = 50) -> InboxReport:
    """Submit up to `limit` request files of a folder, oldest first, and move each to `accepted` or `rejected` in it.

    When no request file is left, photos become jobs by `settings.inbox_template`. Hidden files, links, and names that
    do not end as a request file or a photo does are left alone. Beside a rejected file stands `<its name>.error.txt`.
    Nothing is overwritten: a taken name gets a number; one that is too long for that is shortened.

    Raises:
        SettingsError: the folder cannot be read or written, or the template is wrong, once all other files are done;
            names FC_INBOX or FC_INBOX_TEMPLATE.
        BackendError: the store failed; the file stays and is taken the next time.
    """
    look = _Look(queue, store, settings)
    try:
        dropped = sorted(_dropped(folder), key=lambda one: (one.status.st_mtime_ns, one.path.name))
    except OSError as error:
        raise _unusable(folder, error) from error
    files = [one for one in dropped if one.path.suffix.lower() in REQUEST_SUFFIXES]
    done = _take_each(files[:limit], _requests, look)
    if done == len(files) and not look.report.waiting and not look.faults:
        _take_photos(folder, [one for one in dropped if is_photo(one.path.name)][:limit], look)
    for fault in look.faults.values():
        raise _unusable(folder, fault) from fault
    return look.report


def lying(folder: Path, settings: Settings) -> dict[str, tuple[float, str]]:
    """What lies in an inbox and is not hidden: its age in seconds, and why it lies there, by name.

    Raises:
        OSError: the folder cannot be read.
    """
    found, named, now = {}, named_photos(folder), time.time()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in ("accepted", "rejected") or entry.name.startswith((".", "~")) or entry.name in named:
                continue
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                found[entry.name] = (now - status.st_ctime, _why_lying(entry.name, status, settings))
    return found


def _why_lying(name: str, status: os.stat_result, settings: Settings) -> str:
    if stat.S_ISDIR(status.st_mode):
        return "folder; only what request files name in it is read"
    if not stat.S_ISREG(status.st_mode):
        return "no regular file; it is never taken"
    if Path(name).suffix.lower() in REQUEST_SUFFIXES:
        return "request file; the daemon takes it"
    if not is_photo(name):
        return f"neither a request file ({', '.join(REQUEST_SUFFIXES)}) nor a photo; it is never taken"
    if settings.inbox_template is None:
        return "photo that no request file has named; FC_INBOX_TEMPLATE, which makes jobs of photos, is not set"
    return "photo; the daemon takes it by FC_INBOX_TEMPLATE"


def _unusable(folder: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"The inbox {folder} cannot be used: {error}.",
        "Make it a folder in which this process may read, write and make folders, or correct FC_INBOX.",
    )


def _dropped(folder: Path) -> Iterator[_Dropped]:
    now = time.time()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "~")):
                continue
            with suppress(FileNotFoundError):  # taken by another process
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield _Dropped(Path(entry.path), status, now)


def _take_each(dropped: Sequence[_Dropped], read: Callable[[_Dropped], Requests | None], look: _Look) -> int:
    """Take one file after the other while there is time; how many were looked at."""
    end = time.monotonic() + LOOK_SECONDS
    for number, one in enumerate(dropped):
        if time.monotonic() > end:
            return number
        try:
            _take(one, read, look)
        except OSError as fault:
            look.faults[one.path.name] = fault
    return len(dropped)


def _take(dropped: _Dropped, read: Callable[[_Dropped], Requests | None], look: _Look) -> None:
    path, report = dropped.path, look.report
    if dropped.may_be_half_written:
        report.waiting.append(path.name)
        return
    try:
        requests = read(dropped)
        if requests is None:
            report.waiting.append(path.name)
            return
        ids = _submit_once(requests, queue=look.queue, store=look.store, settings=look.settings)
    except RejectedError as error:
        if not path.exists():
            return  # taken by another process
        # A photo's faults come from the door, which cannot tell half a picture from a damaged one.
        unreadable = isinstance(error, UnreadableFileError) or is_photo(path.name)
        if unreadable and dropped.may_be_unfinished:
            report.waiting.append(path.name)
            return
        if _move(path, "rejected", error=str(error)):
            report.rejected[path.name] = str(error)
        return
    if not is_photo(path.name):
        note_named(path.parent, [request for _, request in requests])
    if _move(path, "accepted"):
        report.accepted[path.name] = ids


def _requests(dropped: _Dropped) -> Requests | None:
    """The file's requests; what they name by a relative path lies beside the file. None: it is being written."""
    path = dropped.path
    content = read_limited(path)
    if dropped.has_changed():
        return None
    parsed = parse_entries(path.name, read_entries(path.name, content))
    return [
        (job_id or made, anchored(request, path.parent))
        for made, (job_id, request) in zip(dropped.job_ids(content), parsed, strict=False)
    ]


def _take_photos(folder: Path, photos: Sequence[_Dropped], look: _Look) -> None:
    named = named_photos(folder)
    unnamed = [one for one in photos if one.path.name not in named]
    if look.settings.inbox_template is None:
        _take_each([one for one in unnamed if one.has_lain_long], _no_template, look)
    elif unnamed:
        template = read_template(look.settings.inbox_template)
        _take_each(unnamed, lambda one: [(next(one.job_ids()), request_of(one.path.resolve(), template))], look)


def _no_template(dropped: _Dropped) -> Requests:
    raise RejectedError(
        f"{dropped.path.name}: no request file has named this photo.",
        "Drop a request file that names it as its source_image, or set FC_INBOX_TEMPLATE to one whose fields every "
        "photo takes.",
    )


def _submit_once(requests: Requests, *, queue: JobQueue, store: ImageStore, settings: Settings) -> list[str]:
    """Submit the requests, unless these very ones are in the queue already."""
    ids = [job_id for job_id, _ in requests]
    if not _all_known(requests, queue.get_many(ids)):
        try:
            urls = sum(is_url(request.source_image or "") for _, request in requests)
            fetch = fetcher(FETCH_SECONDS / urls) if urls else None
            submit(requests, queue=queue, store=store, settings=settings, origin="inbox", fetch=fetch)
        except RejectedError:
            if not _all_known(requests, queue.get_many(ids)):  # else another process was quicker
                raise
    return ids


def _all_known(requests: Requests, known: dict[str, Job]) -> bool:
    return all(job_id in known and _same(known[job_id], request) for job_id, request in requests)


def _same(job: Job, request: JobRequest) -> bool:
    drawn: dict[str, object] = {"seed": job.request.seed} if request.seed is None else {}
    kept = job.request.reference_face or ""
    if request.reference_face and "@sha256:" in kept:
        drawn["reference_face"] = kept
    return job.origin == "inbox" and job.request == for_storage(request).model_copy(update=drawn)


def _move(path: Path, to: str, *, error: str | None = None) -> bool:
    """Move a file into a folder beside it under a free name; False when another process has moved it already."""
    folder = path.parent / to
    folder.mkdir(exist_ok=True)
    target = _reserve(folder, path)
    note = target.with_name(target.name + _NOTE)
    try:
        if error is not None:
            note.write_text(f"{error}\n", encoding="utf-8", errors="backslashreplace")
        path.replace(target)
    except OSError as fault:  # the file is still where it was
        target.unlink()
        note.unlink(missing_ok=True)
        if isinstance(fault, FileNotFoundError):
            return False
        raise
    return True


def _reserve(folder: Path, path: Path) -> Path:
    """Make an empty file under the first free name: `a.json`, `a-1.json`, and so on, with room for a note's name."""
    number = 0
    while True:
        tail = f"-{number}{path.suffix}" if number else path.suffix
        room = _MOST_NAME_BYTES - len(os.fsencode(tail + _NOTE))
        stem = os.fsencode(path.stem)
        target = folder / ((path.stem if len(stem) <= room else stem[:room].decode("utf-8", "ignore")) + tail)
        with suppress(FileExistsError):
            target.touch(exist_ok=False)
            return target
        number += 1
