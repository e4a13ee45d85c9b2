"""The asset `job_request`: a request as it was accepted.

Belongs here: the request's record, and making a job from run config when its partition has none yet. Does not: how a
request is checked (`jobs.request`) or submitted (`jobs.submit`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from pydantic import Field, create_model

from fc_assets.asset import stage_asset
from fc_assets.stage import Done, Item, Stage, StageOutput, one_by_one
from imaging.errors import BackendError, RejectedError
from jobs.face_rules import FaceRule
from jobs.queue import Job, JobQueue
from jobs.request import JobRequest, parse_request
from jobs.submit import submit
from resources.connections import DatabaseResource, StoreResource
from resources.records import RequestRecord
from resources.settings import Settings
from resources.sources import SourceInfo, kept_name
from resources.store import ImageStore


def _config_fields() -> dict[str, Any]:
    """The request's fields for the launchpad: the same names, defaults, descriptions; ranges are checked later."""
    simple = {
        "job_type": str,
        "scheduler": str,
        "width": int,
        "height": int,
        "tags": dict[str, str],
        "face_rules": list[str],
    }
    lists: dict[str, Any] = {"face_rules": []}  # Dagster's config knows no tuples
    return {
        name: (
            simple.get(name, info.annotation),
            Field(lists.get(name, info.get_default(call_default_factory=True)), description=info.description),
        )
        for name, info in JobRequest.model_fields.items()
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
    yield from stage.run(one_by_one(_record), lambda job: job.request.model_dump(mode="json"))


def _record(item: Item) -> Done:
    job = item.job
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
    if "face_rules" in fields:
        fields = fields | {"face_rules": [str(FaceRule.model_validate(rule)) for rule in fields["face_rules"]]}
    other = [name for name, value in fields.items() if known[name] != value]
    if other:
        raise RejectedError(
            f"Job {job.id} exists, and its request says otherwise about: {', '.join(other)}.",
            "Change it with `fc retry JOB --set FIELD=VALUE`, or add a new partition; here leave the config empty.",
        )
