"""The rows of a job's stages, attempts and images, changed inside a transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Table, delete, insert, select, update
from sqlalchemy.orm import Session

from jobs.model.faults import Fault
from jobs.model.job import ImageRow, StageStatus
from jobs.queue.job_rows import image_columns
from resources.database import AttemptRow, ImageMetadataRow, ResultRow, utc_now

# What is written at every stage goes past the ORM, which takes longer to look for objects to keep in step.
_RESULTS, _ATTEMPTS, _IMAGES = (cast("Table", row.__table__) for row in (ResultRow, AttemptRow, ImageMetadataRow))


def stages_in_hand(session: Session, job_ids: Collection[str]) -> dict[str, str]:
    """Those of the jobs that are in a stage, which has begun and not ended, and in which."""
    at_work = (ResultRow.job_id.in_(job_ids), ResultRow.status == "running")
    return dict(session.execute(select(ResultRow.job_id, ResultRow.stage).where(*at_work)).tuples().all())


def end_stages(
    session: Session,
    job_id: str,
    status: StageStatus,
    stage: str | None,
    error: str | None,
    *,
    fault: Fault | None = None,
    output: dict[str, Any] | None = None,
) -> bool:
    """End the job's running stages, and `stage` even if it was never begun; whether an attempt was running."""
    now = utc_now()
    ended = {"status": status, "error": error, "finished_at": now}
    if stage is not None:
        put_result(session, job_id, stage, ended, new=ended | {"cached": False, "runs": 0})
    session.execute(update(ResultRow).where(ResultRow.job_id == job_id, ResultRow.status == "running").values(**ended))
    return end_attempts(session, job_id, status, error, fault=fault, output=output)


def add_attempt(
    session: Session,
    job_id: str,
    stage: str,
    verdict: str,
    reason: str | None,
    *,
    run_id: str | None,
    fault: str | None,
) -> None:
    """An attempt that ended before the stage began."""
    now = utc_now()
    session.add(
        AttemptRow(
            job_id=job_id, stage=stage, verdict=verdict, reason=reason, run_id=run_id, fault=fault, started_at=now,
            finished_at=now,
        )
    )  # fmt: skip


def end_attempts(
    session: Session,
    job_id: str,
    verdict: StageStatus,
    reason: str | None,
    *,
    stage: str | None = None,
    output: dict[str, Any] | None = None,
    fault: Fault | None = None,
) -> bool:
    """End the job's running attempts, or that at one stage; whether there was one."""
    running = [AttemptRow.job_id == job_id, AttemptRow.verdict == "running"]
    if stage is not None:
        running.append(AttemptRow.stage == stage)
    ended = {"verdict": verdict, "reason": reason, "output": output, "fault": fault, "finished_at": utc_now()}
    return session.connection().execute(update(_ATTEMPTS).where(*running).values(**ended)).rowcount > 0


def put_result(session: Session, job_id: str, stage: str, change: Mapping[str, Any], *, new: Mapping[str, Any]) -> None:
    """Change the newest attempt of a job at a stage, or add one with the columns `new`; the job is locked.

    SQLAlchemy compiles an upsert at every call; these two statements once.
    """
    here = (ResultRow.job_id == job_id, ResultRow.stage == stage)
    connection = session.connection()
    if connection.execute(update(_RESULTS).where(*here).values(**change)).rowcount == 0:
        connection.execute(insert(_RESULTS), {"job_id": job_id, "stage": stage, **new})


def put_images(session: Session, job_id: str, images: Sequence[ImageRow]) -> None:
    """Record images in place of those that had the same paths; the job is locked."""
    rows = {image.path: image_columns(job_id, image) for image in images}
    if rows:
        session.connection().execute(delete(_IMAGES).where(ImageMetadataRow.path.in_(rows)))
        session.connection().execute(insert(_IMAGES), list(rows.values()))
