"""What a person changes when a job is tried again: fields of its request, its mask, the stage to begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from imaging.errors import RejectedError
from jobs.model.job import Job
from jobs.model.job_types import JOB_TYPES
from jobs.model.request import ALIASES, PLACING, JobRequest, parse_request
from jobs.queue.job_queue import JobQueue
from jobs.requests.accept import Accepted, Door, accept, import_mask
from jobs.requests.files import cell_value
from resources.artifacts.records import ARTIFACTS
from resources.settings import Settings
from resources.store.image_store import ImageStore

AUTOMATIC: Final = "auto"
"""In place of a mask's path: the automatic mask again."""


def read_changes(pairs: Sequence[str]) -> dict[str, Any]:
    """Read `field=value` texts; an empty value stands for the field's default.

    Raises:
        RejectedError: names the text or the field.
    """
    changes: dict[str, Any] = {}
    for text in pairs:
        name, equals, value = text.partition("=")
        name = ALIASES.get(name, name)
        if not equals or name not in JobRequest.model_fields:
            raise RejectedError(
                f"--set: {text!r} is no FIELD=VALUE of a request.",
                f"The fields are {', '.join(JobRequest.model_fields)}.",
            )
        new = cell_value("--set", name, value) if value.strip() else None
        if name in changes:
            raise RejectedError(f"--set: {name} is given twice: {changes[name]} and {new}.", "Give it once.")
        changes[name] = new
    return changes


def retry(
    job_id: str,
    *,
    queue: JobQueue,
    store: ImageStore,
    settings: Settings,
    changes: Mapping[str, Any] | None = None,
    from_stage: str | None = None,
    mask: str | None = None,
) -> Job:
    """Put a job that has ended back into the queue, changed as a person says.

    Args:
        job_id: the job; a group stands for those of its jobs that are not completed, and takes no change.
        queue: where it is.
        store: where its images are, and where a mask is copied to.
        settings: the limits of images that are imported.
        changes: new values of fields of the request; None for the field's default.
        from_stage: make this stage and those behind it anew.
        mask: path of a grey image of the generated image's size, white where it is to change; `auto` for none.

    Raises:
        UnknownJobError, JobBusyError: there is no such job, or it has not ended.
        RejectedError: the change is wrong, or there is none and the job needs one; nothing was changed.
    """
    job = queue.get(job_id)
    if job.job_type == "group":
        return _retry_group(job, queue, changed=bool(changes or from_stage or mask))
    plan = JOB_TYPES[job.job_type].stages
    for stage in filter(None, (from_stage, mask and "mask")):
        if stage not in plan:
            raise RejectedError(
                f"Job {job_id}: a {job.job_type} job has no stage {stage}.", f"Its stages are {', '.join(plan)}."
            )
    if job.status in ("completed", "rejected") and not (changes or from_stage or mask):
        raise RejectedError(
            f"Job {job_id} is {job.status}; without a change it would end so again.",
            "Say what shall be different: --set FIELD=VALUE, --seed, --mask, or --from STAGE.",
        )
    user_mask = None if mask is None else {} if mask == AUTOMATIC else _own_mask(job, mask, queue, store, settings)
    if not changes:
        return queue.retry(job_id, from_stage=from_stage, user_mask=user_mask, missing_from=_missing_from(job, store))
    new = changed(job, changes, store, settings)
    if user_mask is None and new.user_mask != job.user_mask:
        user_mask = new.user_mask or {}
    return queue.retry(job_id, request=new.request, source=new.source, from_stage=from_stage, user_mask=user_mask)


def _missing_from(job: Job, store: ImageStore) -> str | None:
    """The first stage that is done and whose file is gone, as after `fc prune --thin`; None: all are there."""
    done = (stage for stage in JOB_TYPES[job.job_type].stages if stage in job.stages_completed)
    return next((stage for stage in done if not store.exists(*ARTIFACTS[stage].place(job.id))), None)


def _retry_group(group: Job, queue: JobQueue, *, changed: bool) -> Job:
    children = [job for job in queue.find(parent_id=group.id) if job.status in ("failed", "cancelled", "needs_review")]
    if changed or not children:
        raise RejectedError(
            f"Group {group.id} " + ("has no request of its own to change." if changed else "has no job to try again."),
            "Retry its jobs one by one, each with its change: `fc show` names them.",
        )
    for child in children:
        if child.job_type == "group":
            _retry_group(child, queue, changed=False)
        else:
            queue.retry(child.id)
    return queue.get(group.id)


def changed(job: Job, changes: Mapping[str, Any], store: ImageStore, settings: Settings) -> Accepted:
    """A job's request with other values, accepted anew; its photo is imported if it is another one.

    Args:
        job: the job; it is not changed.
        changes: new values of fields of the request; None for what holds when it says nothing.
        store: where a source image is copied to.
        settings: the limits of source images.

    Raises:
        RejectedError: the change is wrong; names the job and the field.
    """
    for name in ("job_type", *PLACING):
        if name in changes:
            raise RejectedError(f"Job {job.id}: {name} cannot be changed.", "Submit the request as a new job.")
    fields = job.request.as_given() | {"job_type": job.job_type} | dict(changes)
    try:
        request = parse_request({name: value for name, value in fields.items() if value is not None})
    except RejectedError as error:
        raise RejectedError(f"Job {job.id}: {error.what}", error.hint) from None
    return accept([(job.id, request)], Door(store, settings), known=job)[0]


def _own_mask(job: Job, path: str, queue: JobQueue, store: ImageStore, settings: Settings) -> dict[str, Any]:
    result = queue.stage_result(job.id, "generated_image")
    if result is None or not result.output:
        raise RejectedError(f"Job {job.id}: --mask: it has no generated image yet.", "Retry it without a mask first.")
    height, width = ARTIFACTS["generated_image"].load(store, job.id).pixels.shape[:2]
    return import_mask(job.id, "--mask", path, (width, height), Door(store, settings))
