"""What a crash may leave behind: where the databases, Dagster, the partition set and the image store disagree.

No picture is deleted but those of a job that a person was removing: a job whose picture is missing or was changed goes
back into the queue, and what lies in its place is kept under `history` when the new one is stored. Run it on the
machine of the daemon: only there can be told whether a run's process lives.

The stores cannot be looked at in one moment, and the work goes on meanwhile. So each check asks first for what claims
and then for what must bear it out, in the order opposite to that of writing; and what it finds counts only when it is
found once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import dagster as dg

from jobs.model.job import ImageRow, StageResult
from jobs.model.job_types import JOB_TYPES
from jobs.model.stages import PARTITIONS, STAGES
from jobs.queue.job_queue import JobQueue
from jobs.runs.lifecycle import BATCH_TAG, dead_runs, fail_dead_runs, lost_jobs, settle_lost_runs
from jobs.runs.retention import remove
from jobs.runs.shown import materialization_of
from resources.artifacts.records import ARTIFACTS
from resources.database import utc_now
from resources.settings import Settings
from resources.store.image_store import ImageStore

RECENT: Final = timedelta(days=1)
"""The files and stages of jobs that changed longer ago are looked at only when all are asked for."""

_PATIENCE: Final = timedelta(minutes=10)  # a claimed job is in a run within seconds, when the daemon works
_FEW: Final = 10  # so many pictures may be missing before the store as a whole is in doubt


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of disagreement.

    Attributes:
        name: its name, two or three words.
        found: what is wrong, in words, without the ids.
        ids: which: jobs, runs, or files.
        hint: what was done about it; or, when nothing was, what to do.
        fixed: whether it was fixed.
    """

    name: str
    found: str
    ids: tuple[str, ...]
    hint: str
    fixed: bool


@dataclass(frozen=True, slots=True)
class Stores:
    """What is compared; `all_jobs`: look at the files and stages of all jobs, not only of those that changed lately."""

    instance: dg.DagsterInstance
    queue: JobQueue
    store: ImageStore
    settings: Settings
    all_jobs: bool = False


@dataclass(frozen=True, slots=True)
class _Check:
    """A kind of disagreement: how it is found, and how it is repaired.

    Attributes:
        name: its name, two or three words.
        found: what is wrong, in words, without the ids.
        look: finds it, as id and what `repair` needs to know of it.
        repair: puts these right.
        will: what `repair` would do, in words.
        did: what it has done, in words.
        doubt: why so many of so many cannot be believed, and what to do; None: they can.
    """

    name: str
    found: str
    look: Callable[[Stores], Mapping[str, Any]]
    repair: Callable[[Stores, Mapping[str, Any]], object]
    will: str
    did: str
    doubt: Callable[[Stores, int], tuple[str, str] | None] = lambda _stores, _number: None


def find_disagreements(stores: Stores, *, fix: bool) -> Iterator[Finding]:
    """Every disagreement there is, in the order in which they depend on one another; fixed at once if `fix`."""
    for check in _CHECKS:
        seen = check.look(stores)
        found = {key: one for key, one in check.look(stores).items() if key in seen} if seen else {}
        if not found:
            continue
        doubt = check.doubt(stores, len(found))
        if doubt is not None:
            yield Finding(check.name, doubt[0], tuple(found), doubt[1], fixed=False)
            continue
        if fix:
            check.repair(stores, found)
        hint = check.did if fix else f"`fc doctor --fix` {check.will}."
        yield Finding(check.name, check.found, tuple(found), hint, fix)


def _dead_runs(stores: Stores) -> dict[str, None]:
    return {run.run_id: None for run in dead_runs(stores.instance)}


def _cut_removals(stores: Stores) -> dict[str, None]:
    return dict.fromkeys(stores.queue.cut_removals(utc_now() - _PATIENCE))


def _end_removals(stores: Stores, ids: Mapping[str, None]) -> None:
    for job_id in ids:
        remove(stores.instance, stores.queue, stores.store, job_id)


def _lost_jobs(stores: Stores) -> dict[str, None]:
    return dict.fromkeys(lost_jobs(stores.instance, stores.queue, stores.settings))


def _forgotten_claims(stores: Stores) -> dict[str, None]:
    long_ago = utc_now() - _PATIENCE
    claimed = [job for job in stores.queue.find(statuses=["claimed"]) if (job.claimed_at or job.updated_at) < long_ago]
    asked = {
        batch_id
        for batch_id in {job.batch_id for job in claimed if job.batch_id}
        if stores.instance.get_runs_count(dg.RunsFilter(tags={BATCH_TAG: batch_id}))
    }
    return {job.id: None for job in claimed if job.batch_id not in asked}


def _cut_stages(stores: Stores) -> dict[str, str]:
    return {f"{job_id} {stage}": job_id for job_id, stage in stores.queue.cut_stages(_since(stores))}


def _end_cut_stages(stores: Stores, cut: Mapping[str, str]) -> None:
    stores.queue.end_cut_stages(set(cut.values()), reason="ended by fc doctor: it was cut")


def _missing_partitions(stores: Stores) -> dict[str, None]:
    active = stores.queue.find(statuses=["claimed", "running"], newest_first=False)
    there = set(stores.instance.get_dynamic_partitions(PARTITIONS))
    return {job.id: None for job in active if job.id not in there and (job.status == "running" or job.batch_id)}


def _unshown_stages(stores: Stores) -> dict[str, tuple[str, str]]:
    """Only of jobs that have a partition: the others are shown nowhere in the UI."""
    completed = stores.queue.stages_completed(stores.instance.get_dynamic_partitions(PARTITIONS))
    shown = {stage: set(stores.instance.get_materialized_partitions(dg.AssetKey(stage))) for stage in STAGES}
    return {
        f"{job_id} {stage}": (job_id, stage)
        for job_id, stages in completed.items()
        for stage in stages
        if job_id not in shown[stage]
    }


def _show_stages(stores: Stores, missing: Mapping[str, tuple[str, str]]) -> None:
    for job_id, stage in missing.values():
        result = stores.queue.stage_result(job_id, stage)
        if result is not None and result.output:
            event = materialization_of(stage, job_id, result.output, description="Shown again by fc doctor.")
            stores.instance.report_runless_asset_event(event)


def _missing_pictures(stores: Stores) -> dict[str, tuple[str, ImageRow]]:
    images = stores.queue.final_images(_since(stores))
    return {f"{job_id} {image.path}": (job_id, image) for job_id, image in images if not _is_whole(stores.store, image)}


def _is_not_mounted(stores: Stores, number: int) -> tuple[str, str] | None:
    if number <= _FEW or number <= len(stores.queue.final_images(_since(stores))) / 2:
        return None
    return (
        f"most pictures are missing or changed, which looks as if {stores.store.root} is not the right store",
        "Check FC_DATA_DIR, and that its disk is mounted. Nothing was done about them.",
    )


def _make_again(stores: Stores, missing: Mapping[str, tuple[str, ImageRow]]) -> None:
    for job_id, image in missing.values():
        results = {result.stage: result for result in stores.queue.stage_results(job_id)}
        plan = JOB_TYPES[stores.queue.get(job_id).job_type].stages
        # A stage reads the files of those before it, so it begins with the first whose file is another one.
        first = next(one for one in plan if one == image.stage or not _has_file(stores.store, results.get(one)))
        stores.queue.make_again(job_id, first, reason="put back by fc doctor: its picture is missing or changed")


def _records_without_file(stores: Stores) -> dict[str, None]:
    images = stores.queue.other_images(_since(stores))
    return {image.path: None for _, image in images if not stores.store.exists(*_parts(image))}


_CHECKS: Final = (
    _Check(
        "dead runs",
        "Dagster takes these runs for going on, but their process is gone; each holds a slot",
        _dead_runs,
        lambda stores, _: fail_dead_runs(stores.instance),
        will="reports them as failed",
        did="They were reported as failed.",
    ),
    _Check(
        "cut removals",
        "`fc remove` was cut while it removed these jobs",
        _cut_removals,
        _end_removals,
        will="removes what is left of them",
        did="What was left of them was removed.",
    ),
    _Check(
        "lost jobs",
        "the queue waits for these jobs, but their run is over or gone",
        _lost_jobs,
        lambda stores, _: settle_lost_runs(stores.instance, stores.queue, stores.settings),
        will="settles them as the sensor does: most go back into the queue",
        did="They were settled; most are pending again.",
    ),
    _Check(
        "forgotten claims",
        "these jobs were claimed minutes ago, and Dagster has no run for them",
        _forgotten_claims,
        lambda stores, ids: stores.queue.give_back(list(ids), reason="given back by fc doctor: no run was asked for"),
        will="puts them back into the queue",
        did="They are pending again.",
    ),
    _Check(
        "cut stages",
        "these stages count as running, but no run has their job",
        _cut_stages,
        _end_cut_stages,
        will="ends their records",
        did="Their records were ended.",
    ),
    _Check(
        "missing partitions",
        "these jobs are at work, but are not in Dagster's partition set",
        _missing_partitions,
        lambda stores, ids: stores.instance.add_dynamic_partitions(PARTITIONS, list(ids)),
        will="adds them",
        did="They were added.",
    ),
    _Check(
        "unshown stages",
        "these stages are done, but Dagster does not show them as materialized",
        _unshown_stages,
        _show_stages,
        will="tells Dagster of them, with their pictures and numbers",
        did="Dagster was told of them.",
    ),
    _Check(
        "missing pictures",
        "these jobs are completed, but their picture is missing or is not the one that was stored",
        _missing_pictures,
        _make_again,
        will="puts the jobs back into the queue, to make the picture again; a changed one is kept under history",
        did="The jobs are pending again; a changed picture will be kept under history.",
        doubt=_is_not_mounted,
    ),
    _Check(
        "records without file",
        "these pictures of steps on the way are recorded, but not in the store",
        _records_without_file,
        lambda stores, paths: stores.queue.forget_images(list(paths)),
        will="removes the records",
        did="The records were removed.",
    ),
    _Check(
        "leftovers",
        "temporary files of writes that were cut",
        lambda stores: {str(path): None for path in stores.store.temp_leftovers()},
        lambda stores, _: stores.store.remove_temp_leftovers(),
        will="removes them",
        did="They were removed.",
    ),
)


def _since(stores: Stores) -> datetime | None:
    return None if stores.all_jobs else utc_now() - RECENT


def _parts(image: ImageRow) -> tuple[str, str]:
    """Where an image lies in the store, wherever the store is now."""
    folder, name = image.path.split("/")[-2:]
    return folder, name


def _is_whole(store: ImageStore, image: ImageRow) -> bool:
    return _is_there(store, *_parts(image), sha256=image.sha256)


def _has_file(store: ImageStore, result: StageResult | None) -> bool:
    """Whether the file of a stage's result is the one that was recorded."""
    if result is None or not result.output:
        return False
    return _is_there(store, *ARTIFACTS[result.stage].place(result.job_id), sha256=result.output["sha256"])


def _is_there(store: ImageStore, *parts: str, sha256: str) -> bool:
    try:
        return store.sha256_of(*parts) == sha256
    except FileNotFoundError:
        return False
