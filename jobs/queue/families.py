"""Jobs that wait for other jobs: a group for its children, a job for the one that it comes after.

Two relations, one rule. `parent_id` names a group (job type `group`), which has no work of its own and waits for all
its children. `after_id` names a job that must be completed before this one may be claimed. Either way, what waits goes
on only if everything it waits for is completed: a group is completed then, a job gets its turn. As soon as that can
no longer come true by itself, it ends: as `needs_review` if a person must look at what it waited for, else as `failed`,
naming it. A person who brings back the job that was waited for brings back those that ended because of it.
"""

from __future__ import annotations

import graphlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from sqlalchemy import ColumnElement, and_, exists, or_, select, text
from sqlalchemy.orm import Session, aliased

from imaging.errors import RejectedError
from jobs.model.transitions import FINAL, JobStatus
from jobs.queue.rows import BROUGHT_BACK, chunks, lock, log, set_status
from resources.database import Database, JobRow, utc_now

if TYPE_CHECKING:
    from jobs.model.job import Job

_RELATIONS_LOCK: Final = 0x66616D696C79  # any fixed number: the key of Postgres' advisory lock around new relations
_MOST_NAMED: Final = 5
_ENDED_FOR_ANOTHER: Final = ("failed", "needs_review", "pending")


# ---- relations


def check_new(session: Session, jobs: Collection[Job]) -> None:
    """Make sure that the jobs about to be added name jobs that exist, and that nobody would wait for himself.

    A group that gets new children is told so: it waits again if it had ended.

    Raises:
        RejectedError: a parent or a job to wait for is unknown, a parent is no group or was archived, or there is a
            cycle; names it.
    """
    children = Counter(job.parent_id for job in jobs if job.parent_id)
    afters = {job.after_id for job in jobs if job.after_id}
    if not children and not afters:
        return
    _one_at_a_time(session)
    new = {job.id: job for job in jobs}
    _check_known(session, "parent", set(children) - set(new))
    _check_known(session, "after", afters - set(new))
    known = lock_with_waiters(session, set(children) - set(new))
    _check_are_groups({parent: (new.get(parent) or known[parent]).job_type for parent in sorted(children)})
    _check_no_cycle(session, _waits(jobs), afters - set(new))
    for parent, number in children.items():
        if parent in new:
            continue
        row = known[parent]
        if row.status == "archived":
            raise RejectedError(f"parent: the group {row.id} was archived.", "Submit a new group.")
        row.children += number
        _wait_again(session, row)
        reopen_waiters(session, row.id, known)


def _check_are_groups(job_types: Mapping[str, str]) -> None:
    for parent, job_type in job_types.items():
        if job_type != "group":
            raise RejectedError(
                f"parent: the job {parent} is a {job_type} job, and only a group has children.",
                "Name a job of the type group; to run behind another job, use `after`.",
            )


def _waits(jobs: Iterable[Job]) -> dict[str, set[str]]:
    """By job, those of the jobs, or those that they name, that it waits for."""
    waits: dict[str, set[str]] = {}
    for job in jobs:
        if job.after_id:
            waits.setdefault(job.id, set()).add(job.after_id)
        if job.parent_id:
            waits.setdefault(job.parent_id, set()).add(job.id)
    return waits


def check_after(session: Session, job_id: str, after_id: str) -> None:
    """Make sure that a job which is there may from now on come after another one.

    Raises:
        RejectedError: there is no such job, or there would be a cycle.
    """
    _one_at_a_time(session)
    _check_known(session, "after", {after_id})
    _check_no_cycle(session, {job_id: {after_id}}, {after_id})


def parents_first(jobs: Iterable[Job]) -> list[Job]:
    """The jobs so that each stands behind its parent, if that is one of them."""
    by_id = {job.id: job for job in jobs}
    order = graphlib.TopologicalSorter[str]()
    for job in by_id.values():
        order.add(job.id, *([job.parent_id] if job.parent_id in by_id else []))
    return [by_id[job_id] for job_id in order.static_order()]


def _one_at_a_time(session: Session) -> None:
    """Two transactions could each add half of a cycle; SQLite has one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _RELATIONS_LOCK})


def _check_known(session: Session, field: str, ids: Collection[str]) -> None:
    known: set[str] = set()
    for some in chunks(ids):
        known.update(session.scalars(select(JobRow.id).where(JobRow.id.in_(some))))
    if missing := sorted(set(ids) - known):
        raise RejectedError(
            f"{field}: there is no job {', '.join(missing[:_MOST_NAMED])}.",
            "Give the id of a job that `fc list` shows, or of one in the same file.",
        )


def _check_no_cycle(session: Session, waits: dict[str, set[str]], start: Collection[str]) -> None:
    """Follow what the jobs wait for, from those in the database on; raise if it leads back to one of them."""
    seen: set[str] = set()
    frontier = set(start)
    while frontier:
        seen |= frontier
        found: set[str] = set()
        for some in chunks(frontier):
            after = select(JobRow.id, JobRow.after_id).where(JobRow.id.in_(some), JobRow.after_id.is_not(None))
            children = select(JobRow.parent_id, JobRow.id).where(JobRow.parent_id.in_(some))
            for waiter, other in [*session.execute(after).tuples(), *session.execute(children).tuples()]:
                if waiter is not None and other is not None:
                    waits.setdefault(waiter, set()).add(other)
                    found.add(other)
        frontier = found - seen
    try:
        graphlib.TopologicalSorter(waits).prepare()
    except graphlib.CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise RejectedError(
            f"parent, after: these jobs would wait for each other for ever: {circle}.",
            "Take one of them out. A group waits for its children, a job for the one that it comes after.",
        ) from None


# ---- coming back


def lock_with_waiters(session: Session, ids: Collection[str]) -> dict[str, JobRow]:
    """Jobs and all that wait for them, near and far, locked in id order."""
    found: set[str] = set()
    frontier = set(ids)
    while frontier:
        found |= frontier
        above: set[str] = set()
        for some in chunks(frontier):
            parents = select(JobRow.parent_id).where(JobRow.id.in_(some), JobRow.parent_id.is_not(None))
            followers = select(JobRow.id).where(JobRow.after_id.in_(some))
            above.update(filter(None, [*session.scalars(parents), *session.scalars(followers)]))
        frontier = above - found
    return {row.id: row for row, _ in lock(session, JobRow.id.in_(found))} if found else {}


def reopen_waiters(session: Session, job_id: str, locked: Mapping[str, JobRow]) -> None:
    """Now that a job is no longer over, let those wait again that went by its end.

    Args:
        session: the transaction.
        job_id: the job.
        locked: it and all its waiters, from `lock_with_waiters`.
    """
    back = [job_id]
    while back:
        current = locked[back.pop()]
        for row in locked.values():
            is_group = row.id == current.parent_id and row.status in FINAL and row.status != "archived"
            follows = row.after_id == current.id and row.started_at is None and row.status in _ENDED_FOR_ANOTHER
            if is_group or follows:
                _wait_again(session, row)
                back.append(row.id)


def _wait_again(session: Session, row: JobRow) -> None:
    if row.status != "waiting":
        set_status(row, utc_now(), "waiting", by="person", **BROUGHT_BACK)
        log(session, [row.id], "waits again")


def descendants(session: Session, ids: Collection[str]) -> set[str]:
    """The children of groups, and theirs; no group gets another one until the transaction ends, if it writes."""
    _one_at_a_time(session)
    found: set[str] = set()
    frontier = set(ids)
    while frontier:
        below: set[str] = set()
        for some in chunks(frontier):
            below.update(session.scalars(select(JobRow.id).where(JobRow.parent_id.in_(some))))
        frontier = below - found
        found |= frontier
    return found


# ---- going on


def settle_waiting(database: Database) -> dict[str, JobStatus]:
    """Let every waiting job go on, or end, for which that is decided; safe to repeat.

    The end of one may decide about the next; after some rounds the rest of a long chain is left to the next look.

    Returns:
        The new status of each job that was changed.
    """
    settled: dict[str, JobStatus] = {}
    for _ in range(_MOST_ROUNDS):
        decided = _decided(database)
        if not decided:
            break
        with database.session() as session:
            changed = {row.id: _settle(session, row) for row, _ in lock(session, _among(decided))}
        settled |= {job_id: status for job_id, status in changed.items() if status is not None}
        if not any(changed.values()):
            break  # another process was quicker
    return settled


_ONE_ROUND: Final = 500
_MOST_ROUNDS: Final = 20


def _among(ids: Collection[str]) -> ColumnElement[bool]:
    return and_(JobRow.id.in_(ids), JobRow.status == "waiting")


def _decided(database: Database) -> list[str]:
    """Waiting jobs whose waiting is over, as far as one can see without a lock."""
    other = aliased(JobRow)
    first = select(other.status).where(other.id == JobRow.after_id).scalar_subquery()
    unfinished = exists().where(other.parent_id == JobRow.id, other.status.not_in(FINAL))
    decided = or_(
        and_(JobRow.after_id.is_not(None), or_(first.is_(None), first.in_(FINAL))),
        and_(JobRow.after_id.is_(None), JobRow.job_type == "group", JobRow.children > 0, ~unfinished),
    )
    query = select(JobRow.id).where(JobRow.status == "waiting", decided).order_by(JobRow.id).limit(_ONE_ROUND)
    with database.reader() as session:
        return list(session.scalars(query))


def _settle(session: Session, row: JobRow) -> JobStatus | None:
    """What a waiting job becomes; None when it waits on after all."""
    where = JobRow.id == row.after_id if row.after_id else JobRow.parent_id == row.id
    columns = select(JobRow.id, JobRow.status, JobRow.error).where(where).order_by(JobRow.created_at, JobRow.id)
    others = session.execute(columns).tuples().all()
    if any(status not in FINAL for _, status, _ in others):
        return None
    expected = 1 if row.after_id else row.children
    bad = {job_id: status for job_id, status, error in others if not _went_well(status, error)}
    missing = max(0, expected - len(others))
    if not bad and not missing:
        return _goes_on(session, row)
    review = not missing and set(bad.values()) == {"needs_review"}
    status: JobStatus = "needs_review" if review else "failed"
    what, hint = _left_alone(row, bad) if row.after_id else _not_whole(row, bad, missing)
    now = utc_now()
    set_status(row, now, status, by="sensor", finished_at=now, error=what, error_hint=hint)
    log(session, [row.id], f"{status}: {what}", level="warning")
    return status


def _went_well(status: str, error: str | None) -> bool:
    return status == "completed" or (status == "archived" and error is None)


def _goes_on(session: Session, row: JobRow) -> JobStatus:
    now = utc_now()
    if row.job_type == "group":
        set_status(row, now, "completed", by="sensor", finished_at=now)
        log(session, [row.id], "completed: all its jobs are")
        return "completed"
    set_status(row, now, "pending", by="sensor")
    log(session, [row.id], f"pending: {row.after_id} is completed")
    return "pending"


def _left_alone(row: JobRow, bad: Mapping[str, str]) -> tuple[str, str]:
    if not bad:
        return (
            f"There is no job {row.after_id} any more, for which this one waited.",
            "Submit it again, without `after`.",
        )
    return (
        f"The job {row.after_id}, for which this one waited, is {next(iter(bad.values()))}.",
        f"`fc show {row.after_id}` says why. When it is retried or approved, this job waits for it again.",
    )


def _not_whole(row: JobRow, bad: Mapping[str, str], missing: int) -> tuple[str, str]:
    named = [f"{job_id} ({status})" for job_id, status in list(bad.items())[:_MOST_NAMED]]
    if len(bad) > _MOST_NAMED:
        named.append(f"and {len(bad) - _MOST_NAMED} more")
    if missing:
        named.append(f"{missing} removed")
    return (
        f"{len(bad) + missing} of {row.children} jobs of the group are not completed: {', '.join(named)}.",
        f"`fc show JOB` says why; `fc retry {row.id}` tries them again."
        if bad
        else "Submit the removed jobs again as a new group.",
    )
