"""What a crash may leave behind: where the databases, Dagster, the partition set and the image store disagree.

No picture is deleted but those of a job that a person was removing: a job whose picture is missing or was changed goes
back into the queue, and what lies in its place is kept under `history` when the new one is stored. Run it on the
machine of the daemon: only there can be told whether a run's process lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


def find_disagreements(stores: Stores, *, fix: bool) -> Iterator[Finding]:
    """Every disagreement there is, in the order in which they depend on one another; fixed at once if `fix`."""
    for check in (
        _dead_runs,
        _cut_removals,
        _lost_jobs,
        _forgotten_claims,
        _cut_stages,
        _missing_partitions,
        _unshown_stages,
        _missing_pictures,
        _records_without_file,
        _leftovers,
    ):
        finding = check(stores, fix=fix)
        if finding is not None:
            yield finding


def _finding(
    name: str, found: str, ids: Sequence[str], *, fix: bool, repair: Callable[[], object], will: str, did: str
) -> Finding | None:
    """Nothing when there are no ids; else the finding, after it was fixed if `fix`."""
    if not ids:
        return None
    if fix:
        repair()
    return Finding(name, found, tuple(ids), did if fix else f"`fc doctor --fix` {will}.", fix)


def _dead_runs(stores: Stores, *, fix: bool) -> Finding | None:
    return _finding(
        "dead runs",
        "Dagster takes these runs for going on, but their process is gone; each holds a slot",
        [run.run_id for run in dead_runs(stores.instance)],
        fix=fix,
        repair=lambda: fail_dead_runs(stores.instance),
        will="reports them as failed",
        did="They were reported as failed.",
    )


def _cut_removals(stores: Stores, *, fix: bool) -> Finding | None:
    ids = stores.queue.cut_removals(utc_now() - _PATIENCE)

    def end() -> None:
        for job_id in ids:
            remove(stores.instance, stores.queue, stores.store, job_id)

    return _finding(
        "cut removals",
        "`fc remove` was cut while it removed these jobs",
        ids,
        fix=fix,
        repair=end,
        will="removes what is left of them",
        did="What was left of them was removed.",
    )


def _lost_jobs(stores: Stores, *, fix: bool) -> Finding | None:
    return _finding(
        "lost jobs",
        "the queue waits for these jobs, but their run is over or gone",
        lost_jobs(stores.instance, stores.queue, stores.settings),
        fix=fix,
        repair=lambda: settle_lost_runs(stores.instance, stores.queue, stores.settings),
        will="settles them as the sensor does: most go back into the queue",
        did="They were settled; most are pending again.",
    )


def _forgotten_claims(stores: Stores, *, fix: bool) -> Finding | None:
    long_ago = utc_now() - _PATIENCE
    claimed = [job for job in stores.queue.find(statuses=["claimed"]) if (job.claimed_at or job.updated_at) < long_ago]
    asked = {
        batch_id
        for batch_id in {job.batch_id for job in claimed if job.batch_id}
        if stores.instance.get_runs_count(dg.RunsFilter(tags={BATCH_TAG: batch_id}))
    }
    ids = [job.id for job in claimed if job.batch_id not in asked]
    return _finding(
        "forgotten claims",
        "these jobs were claimed minutes ago, and Dagster has no run for them",
        ids,
        fix=fix,
        repair=lambda: stores.queue.give_back(ids, reason="given back by fc doctor: no run was asked for"),
        will="puts them back into the queue",
        did="They are pending again.",
    )


def _cut_stages(stores: Stores, *, fix: bool) -> Finding | None:
    cut = stores.queue.cut_stages(_since(stores))
    return _finding(
        "cut stages",
        "these stages count as running, but no run has their job",
        [f"{job_id} {stage}" for job_id, stage in cut],
        fix=fix,
        repair=lambda: stores.queue.end_cut_stages(
            {job_id for job_id, _ in cut}, reason="ended by fc doctor: it was cut"
        ),
        will="ends their records",
        did="Their records were ended.",
    )


def _missing_partitions(stores: Stores, *, fix: bool) -> Finding | None:
    there = set(stores.instance.get_dynamic_partitions(PARTITIONS))
    active = stores.queue.find(statuses=["claimed", "running"], newest_first=False)
    ids = [job.id for job in active if job.id not in there and (job.status == "running" or job.batch_id)]
    return _finding(
        "missing partitions",
        "these jobs are at work, but are not in Dagster's partition set",
        ids,
        fix=fix,
        repair=lambda: stores.instance.add_dynamic_partitions(PARTITIONS, ids),
        will="adds them",
        did="They were added.",
    )


def _unshown_stages(stores: Stores, *, fix: bool) -> Finding | None:
    """Only of jobs that have a partition: the others are shown nowhere in the UI."""
    shown = {stage: set(stores.instance.get_materialized_partitions(dg.AssetKey(stage))) for stage in STAGES}
    completed = stores.queue.stages_completed(stores.instance.get_dynamic_partitions(PARTITIONS))
    missing = [
        (job_id, stage) for job_id, stages in completed.items() for stage in stages if job_id not in shown[stage]
    ]

    def show() -> None:
        for job_id, stage in missing:
            result = stores.queue.stage_result(job_id, stage)
            if result is not None and result.output:
                stores.instance.report_runless_asset_event(_materialization(job_id, stage, result.output))

    return _finding(
        "unshown stages",
        "these stages are done, but Dagster does not show them as materialized",
        [f"{job_id} {stage}" for job_id, stage in missing],
        fix=fix,
        repair=show,
        will="tells Dagster of them",
        did="Dagster was told of them.",
    )


def _materialization(job_id: str, stage: str, output: dict[str, Any]) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        stage,
        partition=job_id,
        description="Shown again by fc doctor.",
        metadata={"path": dg.MetadataValue.path(output["path"])},
        tags={"dagster/data_version": output["sha256"][:16]},
    )


def _missing_pictures(stores: Stores, *, fix: bool) -> Finding | None:
    images = stores.queue.final_images(_since(stores))
    wrong = [(job_id, image) for job_id, image in images if not _is_whole(stores.store, image)]
    ids = [f"{job_id} {image.path}" for job_id, image in wrong]
    if len(wrong) > _FEW and len(wrong) > len(images) / 2:
        return Finding(
            "missing pictures",
            f"most pictures are missing or changed, which looks as if {stores.store.root} is not the right store",
            tuple(ids),
            "Check FC_DATA_DIR, and that its disk is mounted. Nothing was done about them.",
            fixed=False,
        )

    def make_again() -> None:
        for job_id, image in wrong:
            results = {result.stage: result for result in stores.queue.stage_results(job_id)}
            plan = JOB_TYPES[stores.queue.get(job_id).job_type].stages
            # A stage reads the files of those before it, so it begins with the first whose file is another one.
            first = next(one for one in plan if one == image.stage or not _has_file(stores.store, results.get(one)))
            stores.queue.make_again(job_id, first, reason="put back by fc doctor: its picture is missing or changed")

    return _finding(
        "missing pictures",
        "these jobs are completed, but their picture is missing or is not the one that was stored",
        ids,
        fix=fix,
        repair=make_again,
        will="puts the jobs back into the queue, to make the picture again; a changed one is kept under history",
        did="The jobs are pending again; a changed picture will be kept under history.",
    )


def _records_without_file(stores: Stores, *, fix: bool) -> Finding | None:
    images = stores.queue.other_images(_since(stores))
    paths = [image.path for _, image in images if not stores.store.exists(*_parts(image))]
    return _finding(
        "records without file",
        "these pictures of steps on the way are recorded, but not in the store",
        paths,
        fix=fix,
        repair=lambda: stores.queue.forget_images(paths),
        will="removes the records",
        did="The records were removed.",
    )


def _leftovers(stores: Stores, *, fix: bool) -> Finding | None:
    return _finding(
        "leftovers",
        "temporary files of writes that were cut",
        [str(path) for path in stores.store.temp_leftovers()],
        fix=fix,
        repair=stores.store.remove_temp_leftovers,
        will="removes them",
        did="They were removed.",
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
