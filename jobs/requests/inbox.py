"""The inbox: a folder in which a dropped request file becomes jobs.

The safe way to drop a file is to write it under another name, such as `.part`, and then rename it. For files that are
written in place: JSON is taken as soon as it is whole, for half a JSON document never parses. YAML, CSV and JSON Lines
can look whole when they are not, so they are taken once they have been left alone for `QUIET_SECONDS`. A photo must
be in place before the file that names it.

A file is submitted first and moved second, and its jobs' ids come from the file itself. So when the process dies in
between, the next look finds the jobs in the queue and only moves the file: nothing is lost and nothing runs twice.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
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
from resources.settings import Settings
from resources.sources.names import is_url
from resources.sources.photos import fetcher
from resources.store.image_store import ImageStore

QUIET_SECONDS: Final = 1.0
UNREADABLE_SECONDS: Final = 5.0
"""How long after its last change a file that cannot be read may still be one that is being written."""
LOOK_SECONDS: Final = 20.0
"""A look that has taken this long leaves further files for the next one: a sensor's tick ends after 60 s."""
FETCH_SECONDS: Final = 30.0
"""For all photos that one file names by URL."""
_SKEW_SECONDS: Final = 60.0  # a change further in the future than this is a wrong date, not a clock that is ahead


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


@dataclass(frozen=True, slots=True)
class _Dropped:
    path: Path
    status: os.stat_result
    age: float  # seconds since the last change

    @property
    def may_be_half_written(self) -> bool:
        return self.path.suffix.lower() != ".json" and -_SKEW_SECONDS < self.age < QUIET_SECONDS

    @property
    def may_be_unfinished(self) -> bool:
        return -_SKEW_SECONDS < self.age < UNREADABLE_SECONDS

    def has_changed(self) -> bool:
        """Whether the file was written to since it was found."""
        try:
            now = self.path.lstat()
        except FileNotFoundError:
            return False  # whoever moves it next will see
        return (now.st_size, now.st_mtime_ns) != (self.status.st_size, self.status.st_mtime_ns)


def take_inbox(folder: Path, *, queue: JobQueue, store: ImageStore, settings: Settings, limit: int = 50) -> InboxReport:
    """Submit up to `limit` request files of a folder, oldest first, and move each to `accepted` or `rejected` in it.

    Hidden files, links, and names that do not end as a request file does are left alone. Beside a rejected file stands
    `<its name>.error.txt`. Nothing is overwritten: a taken name gets a number.

    Raises:
        SettingsError: the folder cannot be read or written; names FC_INBOX.
        BackendError: the store failed; the file stays and is taken the next time.
    """
    report = InboxReport()
    end = time.monotonic() + LOOK_SECONDS
    try:
        for dropped in sorted(_dropped(folder), key=lambda one: (one.status.st_mtime_ns, one.path.name))[:limit]:
            if time.monotonic() > end:
                break
            _take(dropped, report, queue=queue, store=store, settings=settings)
    except OSError as error:
        raise SettingsError(
            f"The inbox {folder} cannot be used: {error}.",
            "Make it a folder in which this process may read, write and make folders, or correct FC_INBOX.",
        ) from error
    return report


def _dropped(folder: Path) -> Iterator[_Dropped]:
    now = time.time()
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith((".", "~")) or path.suffix.lower() not in REQUEST_SUFFIXES:
                continue
            with suppress(FileNotFoundError):  # taken by another process
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield _Dropped(path, status, now - status.st_mtime)


def _take(dropped: _Dropped, report: InboxReport, *, queue: JobQueue, store: ImageStore, settings: Settings) -> None:
    path = dropped.path
    if dropped.may_be_half_written:
        report.waiting.append(path.name)
        return
    try:
        content = read_limited(path)
        if dropped.has_changed():
            report.waiting.append(path.name)
            return
        requests = _requests(dropped, content)
        ids = _submit_once(requests, queue=queue, store=store, settings=settings)
    except RejectedError as error:
        if not path.exists():
            return  # taken by another process
        if isinstance(error, UnreadableFileError) and dropped.may_be_unfinished:
            report.waiting.append(path.name)
            return
        if _move(path, "rejected", error=str(error)):
            report.rejected[path.name] = str(error)
        return
    if _move(path, "accepted"):
        report.accepted[path.name] = ids


def _requests(dropped: _Dropped, content: bytes) -> list[tuple[str, JobRequest]]:
    """The file's requests, each with its id; what they name by a relative path lies beside the file."""
    path = dropped.path
    drop = hashlib.sha256(f"{path.name}\n{dropped.status.st_ctime_ns}\n".encode("utf-8", "surrogateescape") + content)
    parsed = parse_entries(path.name, read_entries(path.name, content))
    return [
        (job_id or f"inbox-{drop.hexdigest()[:24]}-{index}", anchored(request, path.parent))
        for index, (job_id, request) in enumerate(parsed)
    ]


def _submit_once(
    requests: Sequence[tuple[str, JobRequest]], *, queue: JobQueue, store: ImageStore, settings: Settings
) -> list[str]:
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


def _all_known(requests: Sequence[tuple[str, JobRequest]], known: dict[str, Job]) -> bool:
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
    note = target.with_name(f"{target.name}.error.txt")
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
    """Make an empty file under the first free name: `a.json`, `a-1.json`, and so on."""
    number = 0
    while True:
        target = folder / (f"{path.stem}-{number}{path.suffix}" if number else path.name)
        with suppress(FileExistsError):
            target.touch(exist_ok=False)
            return target
        number += 1
