"""The asset `job_request`: a request as it was accepted.

Belongs here: the request's record, and making a job from run config when its partition has none yet. Does not: how a
request is checked (`jobs.request`) or submitted (`jobs.submit`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field, create_model

from fc_assets.asset import stage_asset
from fc_assets.stage import Done, Stage, StageOutput, one_by_one
from imaging.errors import BackendError, RejectedError
from jobs.queue import Job, JobQueue
from jobs.request import PLACING, RESULT_OF, JobRequest, parse_request
from jobs.stages import PLANS
from jobs.submit import submit
from resources import stage_files
from resources.connections import DatabaseResource, StoreResource
from resources.records import RequestRecord
from resources.settings import Settings
from resources.sources import SourceInfo, keep_source, kept_name
from resources.store import ImageStore


def _config_fields() -> dict[str, Any]:
    """The request's fields for the launchpad: the same names, defaults, descriptions; ranges are checked later.

    Not the placing: who materializes a partition starts the job now.
    """
    simple = {"job_type": str, "scheduler": str, "width": int, "height": int, "tags": dict[str, str]}
    return {
        name: (
            simple.get(name, info.annotation),
            Field(info.get_default(call_default_factory=True), description=info.description),
        )
        for name, info in JobRequest.model_fields.items()
        if name not in PLACING
    }


RequestConfig: type[dg.Config] = create_model(
    "RequestConfig",
    __base__=dg.Config,
    __doc__="The fields of a new job's request. Leave all of them alone for a job that exists.",
    **_config_fields(),
)


@stage_asset(code_version="1", group="prompt", kinds={"json"})
def job_request(
    context: dg.AssetExecutionContext,
    config: RequestConfig,
    store: StoreResource,
    database: DatabaseResource,
) -> Iterator[StageOutput]:
    """What was asked for: the request with every default filled in and its seed drawn.

    Materialize it for a new partition, with the request's fields as run config, to make a job from the Dagster UI: the
    job then runs on by itself, if its other assets are not part of the same run. A request from `fc submit` or the
    inbox is already known; its partition needs no config.
    """
    images, queue = store.get(), JobQueue(database.get())
    stage = Stage(context, images, queue)
    stage.failures |= _make_new_jobs(context.partition_keys, config, queue, images, stage.settings)

    def decides(job: Job) -> Mapping[str, Any]:
        request = job.request.model_dump(mode="json")
        if job.request.result_of is None:
            return request
        return request | {"source": _take_result(job, job.request.result_of, stage)["sha256"]}

    yield from stage.run(one_by_one(lambda item: _record(queue.get(item.job.id))), decides)


def _take_result(job: Job, other_id: str, stage: Stage) -> dict[str, Any]:
    """Give the job the picture of another one, as it is now; its `SourceInfo` as JSON."""
    other = stage.queue.get(other_id)
    if other.status != "completed" or other.final_image is None:
        raise BackendError(
            f"Job {job.id} works on the picture of job {other_id}, which is {other.status} and has none to give.",
            f"Bring {other_id} to its end, such as by `fc retry {other_id}`; then retry this job.",
        )
    made_by = "final_image" if "final_image" in PLANS[other.job_type] else "generated_image"
    try:
        data = stage.store.read(*stage_files.main_file(made_by, other_id))
    except FileNotFoundError:
        raise BackendError(
            f"Job {job.id} works on the picture of job {other_id}, whose file {other.final_image} is gone.",
            f"`fc retry {other_id} --from {made_by}` makes it again; then retry this job.",
        ) from None
    name = f"{RESULT_OF}{other_id}"
    source = keep_source(name, name, data, stage.store).model_dump(mode="json")
    stage.queue.set_source(job.id, source, run_id=stage.run_id)
    return source


def _record(job: Job) -> Done:
    source = SourceInfo.model_validate(job.source) if job.source else None
    request = job.request.model_dump(mode="json")
    metadata = {
        "priority": job.request.priority,
        "seed": job.request.seed,
        "origin": job.origin,
        "request": request,
    }
    if source is not None:
        metadata["source_image"] = source.model_dump(mode="json")
    return Done(RequestRecord(job_id=job.id, request=request, source=source), metadata)


def _make_new_jobs(
    keys: Sequence[str], config: dg.Config, queue: JobQueue, store: ImageStore, settings: Settings
) -> dict[str, Exception]:
    """Submit a job for each partition that has none; the errors, by partition, of those that could not be."""
    fields = {
        name: value for name, value in config.model_dump().items() if value != RequestConfig.model_fields[name].default
    }
    known = queue.get_many(list(keys))
    errors: dict[str, Exception] = {}
    for key in keys:
        try:
            if key in known:
                _check_same(known[key], fields)
            elif fields:
                new = (key, parse_request(fields))
                submit([new], queue=queue, store=store, settings=settings, origin="ui", hold=True)
        except RejectedError as error:
            errors[key] = BackendError(error.what, error.mend)  # the run config is at fault, so the run fails
    return errors


def _check_same(job: Job, fields: dict[str, Any]) -> None:
    known = job.request.model_dump(mode="json")
    if "source_image" in fields:
        fields = fields | {"source_image": kept_name(fields["source_image"])}
    other = [name for name, value in fields.items() if known[name] != value]
    if other:
        raise RejectedError(
            f"Job {job.id} exists, and its request says otherwise about: {', '.join(other)}.",
            "Change it with `fc retry JOB --set FIELD=VALUE`, or add a new partition; here leave the config empty.",
        )
