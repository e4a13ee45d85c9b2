"""Schedules: requests that become a job again and again.

A job's id follows from its schedule and the time it was due. It is submitted first, and the schedule is moved on
second, by an update that states the time it moves on from. So two sensors, or a crash in between, make the job once.
However long nothing looked at a schedule, it makes one job, and is next due at its first time from now on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.exc import IntegrityError

from imaging.errors import FaceChangerError, RejectedError
from jobs.model.job import UnknownJobError
from jobs.model.request import JobRequest
from jobs.model.times import next_time
from jobs.queue.job_queue import JobQueue
from jobs.requests.accept import Accepted, Door, accept, submit
from resources.database import Database, ScheduleRow, utc_now
from resources.settings import Settings
from resources.sources.names import without_secrets
from resources.store.image_store import ImageStore

MOST_DUE: Final = 50
"""How many schedules one look serves; the others are served by the next."""
_LONGEST_ID: Final = 63 - len("-20261121101530")


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule as it stood when it was read. Times are aware UTC.

    `error` says why the newest job could not be made.
    """

    id: str
    request: JobRequest
    every: str
    next_at: datetime
    enabled: bool
    last_job_id: str | None
    error: str | None
    created_at: datetime


def add_schedules(
    requests: Sequence[tuple[str, JobRequest]],
    *,
    every: str,
    database: Database,
    store: ImageStore,
    settings: Settings,
) -> list[Schedule]:
    """Check requests as `submit` does, and keep them to be submitted again and again: all or none.

    Args:
        requests: the schedule's id, and the request. Its `at` is the first time; without it, the first is the next
            one that `every` names.
        every: an interval or a cron expression.
        database: where they go.
        store: where source images are copied to.
        settings: the limits of source images.

    Raises:
        RejectedError: names the schedule and the field; nothing was added.
    """
    now = utc_now()
    following = next_time(every, now)
    for schedule_id, request in requests:
        if len(schedule_id) > _LONGEST_ID:
            raise RejectedError(
                f"id: {schedule_id} is too long for a schedule, whose jobs get their time behind it.",
                f"Use at most {_LONGEST_ID} characters.",
            )
        if request.job_type == "group" or request.parent or request.after:
            raise RejectedError(
                f"Schedule {schedule_id}: a scheduled job is no group and has no parent and no after.",
                "Leave these fields out, or submit the job without --every.",
            )
    accepted = accept(requests, Door(store, settings))
    schedules = [
        Schedule(
            id=one.job_id,
            request=_lasting(one),
            every=every.strip(),
            next_at=one.asked.at or following,
            enabled=True,
            last_job_id=None,
            error=None,
            created_at=now,
        )
        for one in accepted
    ]
    try:
        with database.session() as session:
            for one in schedules:
                columns: dict[str, Any] = {name: getattr(one, name) for name in Schedule.__slots__}
                session.add(ScheduleRow(**columns | {"request": one.request.as_given()}))
    except IntegrityError:
        raise RejectedError(
            f"id: {', '.join(one.id for one in schedules[:5])}: there is such a schedule already.",
            "Choose another id, or leave it out and one is made.",
        ) from None
    return schedules


def _lasting(accepted: Accepted) -> JobRequest:
    """The request as it can be submitted later and from another folder: its seed is drawn for each job."""
    request = accepted.asked.without_placing()
    for name in ("source_image", "reference_face"):
        value = getattr(request, name) or ""
        if without_secrets(value) != value:
            raise RejectedError(
                f"Schedule {accepted.job_id}: {name}: the part of the URL that may hold a key is not kept.",
                "Download the photo and give its path.",
            )
    return request


def find_schedules(database: Database) -> list[Schedule]:
    """All schedules, oldest first."""
    return _select(database)


def get_schedule(database: Database, schedule_id: str) -> Schedule:
    """Read one schedule.

    Raises:
        UnknownJobError: there is none with this id.
    """
    found = _select(database, ScheduleRow.id == schedule_id)
    if not found:
        raise UnknownJobError(f"There is no schedule {schedule_id!r}.", "`fc schedule list` shows them.")
    return found[0]


def stop_schedule(database: Database, schedule_id: str) -> None:
    """Make no more jobs from a schedule; those that it made go on.

    Raises:
        UnknownJobError: there is none with this id.
    """
    if not get_schedule(database, schedule_id).enabled:
        return
    with database.session() as session:
        session.execute(update(ScheduleRow).where(ScheduleRow.id == schedule_id).values(enabled=False))


def make_due_jobs(
    database: Database, store: ImageStore, settings: Settings, *, now: datetime | None = None
) -> dict[str, str]:
    """Submit a job for every schedule whose time has come.

    Returns:
        What went wrong, by schedule. A request that is refused is noted in the schedule, which goes on to its next
        time. Any other fault, such as a store that does not answer, leaves the schedule due.
    """
    now = utc_now() if now is None else now
    errors: dict[str, str] = {}
    for one in _select(database, ScheduleRow.enabled, ScheduleRow.next_at <= now, limit=MOST_DUE):
        try:
            error = _submit_once(one, JobQueue(database), store, settings)
            following = next_time(one.every, now, last=one.next_at)
        except FaceChangerError as fault:
            errors[one.id] = str(fault)
            continue
        if error is not None:
            errors[one.id] = error
        _move_on(database, one, following, error)
    return errors


def job_id_of(schedule: Schedule) -> str:
    """The id of the job that is due next."""
    return f"{schedule.id}-{schedule.next_at:%Y%m%d%H%M%S}"


def _submit_once(one: Schedule, queue: JobQueue, store: ImageStore, settings: Settings) -> str | None:
    """Submit the job, unless it is there already; why it was refused, if it was."""
    job_id = job_id_of(one)
    try:
        if not _is_there(queue, job_id):
            submit([(job_id, one.request)], queue=queue, store=store, settings=settings, origin="schedule")
    except RejectedError as error:
        return None if _is_there(queue, job_id) else str(error)  # there: another sensor was quicker
    return None


def _is_there(queue: JobQueue, job_id: str) -> bool:
    job = queue.get_many([job_id]).get(job_id)
    return job is not None and job.origin == "schedule"


def _move_on(database: Database, one: Schedule, following: datetime, error: str | None) -> None:
    made = {} if error else {"last_job_id": job_id_of(one)}
    with database.session() as session:
        session.execute(
            update(ScheduleRow)
            .where(ScheduleRow.id == one.id, ScheduleRow.next_at == one.next_at)
            .values(next_at=following, error=error, **made)
        )


def _select(database: Database, *wanted: ColumnElement[bool] | Any, limit: int | None = None) -> list[Schedule]:  # noqa: ANN401 - a mapped bool column
    query = select(ScheduleRow).where(*wanted).order_by(ScheduleRow.created_at, ScheduleRow.id).limit(limit)
    with database.reader() as session:
        return [
            Schedule(
                **{name: getattr(row, name) for name in Schedule.__slots__}
                | {"request": JobRequest.stored(row.request)}
            )
            for row in session.scalars(query)
        ]
