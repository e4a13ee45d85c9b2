"""The asset `job_request`: a request as it was accepted."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import dagster as dg
from pydantic import Field, create_model

from fc_assets.engine.asset import stage_asset
from fc_assets.engine.stage import Done, Stage, StageOutput, one_by_one
from imaging.errors import BackendError, RejectedError
from jobs.model.job import Job, JobBusyError
from jobs.model.request import PLACING, RESULT_OF, JobRequest, field_kinds, parse_request
from jobs.model.stages import PLANS
from jobs.queue.job_queue import JobQueue
from jobs.recipes.face_rules import rule_text
from jobs.requests.accept import submit
from jobs.requests.retry import changed
from resources.artifacts import stage_files
from resources.artifacts.records import RequestRecord
from resources.connections import DatabaseResource, StoreResource
from resources.sources.names import without_secrets
from resources.sources.photos import SourceInfo, keep_source


def _config_fields() -> dict[str, Any]:
    """The request's fields for the launchpad: the same names, defaults, descriptions; ranges are checked later.

    Not the placing: who materializes a partition starts the job now.
    """
    fields: dict[str, Any] = {}
    for name, info in JobRequest.model_fields.items():
        if name in PLACING:
            continue
        default = info.get_default(call_default_factory=True)
        kind = _plain(field_kinds(name))
        fields[name] = (kind if default is not None else kind | None, Field(default, description=info.description))
    return fields


def _plain(kinds: set[type]) -> Any:  # noqa: ANN401 - a type
    """What Dagster's config can say of a field's type."""
    if dict in kinds:
        return dict[str, str]
    if list in kinds:
        return list[str]
    return next((kind for kind in (bool, int, float) if kind in kinds), str)


RequestConfig: type[dg.Config] = create_model(
    "RequestConfig",
    __base__=dg.Config,
    __doc__="The fields of a new job's request; of a job that exists, those that are to change.",
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
    inbox is already known; its partition needs no config. For a job that exists, fields of the config change its
    request as `fc retry JOB --set` does; those that are left alone stay as they are.
    """
    stage = Stage(context, store.get(), JobQueue(database.get()))
    _take_config(stage, config)

    def decides(job: Job) -> Mapping[str, Any]:
        request = job.request.model_dump(mode="json")
        if job.request.result_of is None:
            return request
        return request | {"source": _take_result(job, job.request.result_of, stage)["sha256"]}

    yield from stage.run(one_by_one(lambda item: _record(stage.queue.get(item.job.id))), decides)


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


def _take_config(stage: Stage, config: RequestConfig) -> None:
    """Make a job for each partition that has none, and change the request of each that has one and says otherwise.

    What cannot be is the failure of that job.
    """
    fields = {
        name: value for name, value in config.model_dump().items() if value != RequestConfig.model_fields[name].default
    }
    if not fields:
        return
    keys = stage.context.partition_keys
    known = stage.queue.get_many(list(keys))
    for key in keys:
        try:
            if key in known:
                _change(stage, known[key], fields)
            else:
                new = (key, parse_request(fields))
                submit([new], queue=stage.queue, store=stage.store, settings=stage.settings, origin="ui", hold=True)
        except JobBusyError as error:
            stage.failures[key] = error
        except RejectedError as error:
            stage.failures[key] = BackendError(error.what, error.hint)  # the config is at fault, so the run fails


def _change(stage: Stage, job: Job, fields: dict[str, Any]) -> None:
    known = job.request.model_dump(mode="json")
    other = {name: value for name, value in fields.items() if known.get(name) != _as_kept(name, value)}
    if other:
        new = changed(job, other, stage.store, stage.settings)
        stage.start(job)
        stage.queue.change_request(
            job.id, run_id=stage.run_id, request=new.request, source=new.source, fields=list(other)
        )
        stage.changed.add(job.id)


def _as_kept(name: str, value: Any) -> Any:  # noqa: ANN401 - a field's value
    """A field's value as it stands in a stored request; what cannot be one is left for the check to turn down."""
    if name == "source_image":
        return without_secrets(value)
    if name == "face_rules":
        with suppress(ValueError):
            return [rule_text(rule) for rule in value]
    return value
