"""The asset `job_request`: a request as it was accepted, and the recipe that follows from it."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import dagster as dg
from pydantic import Field, create_model

from fc_assets.engine.asset import stage
from fc_assets.engine.opening import start
from fc_assets.engine.outcome import Done, Item
from fc_assets.engine.step import Step
from fc_assets.engine.tools import Tools
from imaging.errors import BackendError, RejectedError
from jobs.model.job import Job, JobBusyError
from jobs.model.job_types import JOB_TYPES
from jobs.model.request import PLACING, RESULT_OF, JobRequest, field_kinds, parse_request
from jobs.recipes.face_rules import rule_text
from jobs.requests.accept import submit
from jobs.requests.retry import changed
from resources.artifacts.records import ARTIFACTS, RequestRecord
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


def _take_config(step: Step, config: dg.Config) -> None:
    """Make a job for each partition that has none, and change the request of each that has one and says otherwise.

    What cannot be is the failure of that job.
    """
    fields = {
        name: value for name, value in config.model_dump().items() if value != RequestConfig.model_fields[name].default
    }
    if not fields:
        return
    keys = step.context.partition_keys
    known = step.queue.get_many(list(keys))
    for key in keys:
        try:
            if key in known:
                _change(step, known[key], fields)
            else:
                new = (key, parse_request(fields))
                submit([new], queue=step.queue, store=step.store, settings=step.settings, origin="ui", hold=True)
        except JobBusyError as error:
            step.failures[key] = error
        except RejectedError as error:
            step.failures[key] = BackendError(error.what, error.hint)  # the config is at fault, so the run fails


def _change(step: Step, job: Job, fields: dict[str, Any]) -> None:
    known = job.request.model_dump(mode="json")
    other = {name: value for name, value in fields.items() if known.get(name) != _as_kept(name, value)}
    if other:
        new = changed(job, other, step.store, step.settings)
        start(step, job)
        step.queue.change_request(
            job.id, run_id=step.run_id, request=new.request, source=new.source, fields=list(other)
        )
        step.changed.add(job.id)


def _as_kept(name: str, value: Any) -> Any:  # noqa: ANN401 - a field's value
    """A field's value as it stands in a stored request; what cannot be one is left for the check to turn down."""
    if name == "source_image":
        return without_secrets(value)
    if name == "face_rules":
        with suppress(ValueError):
            return [rule_text(rule) for rule in value]
    return value


def _decides(item: Item, tools: Tools) -> Mapping[str, Any]:
    job = item.job
    request = job.request.model_dump(mode="json")
    if job.request.result_of is None:
        return request
    return request | {"source": _take_result(job, job.request.result_of, tools)["sha256"]}


def _take_result(job: Job, other_id: str, tools: Tools) -> dict[str, Any]:
    """Give the job the picture of another one, as it is now; its `SourceInfo` as JSON."""
    other = tools.queue.get(other_id)
    made_by = JOB_TYPES[other.job_type].delivers
    if other.status != "completed" or other.final_image is None or made_by is None:
        raise BackendError(
            f"Job {job.id} works on the picture of job {other_id}, which is {other.status} and has none to give.",
            f"Bring {other_id} to its end, such as by `fc retry {other_id}`; then retry this job.",
        )
    try:
        data = tools.store.read(*ARTIFACTS[made_by].place(other_id))
    except FileNotFoundError:
        raise BackendError(
            f"Job {job.id} works on the picture of job {other_id}, whose file {other.final_image} is gone.",
            f"`fc retry {other_id} --from {made_by}` makes it again; then retry this job.",
        ) from None
    name = f"{RESULT_OF}{other_id}"
    source = keep_source(name, name, data, tools.store).model_dump(mode="json")
    tools.queue.set_source(job.id, source, run_id=tools.run_id)
    return source


def _with_this_recipe(item: Item, tools: Tools, record: RequestRecord) -> Done | None:
    """The same request with the recipe of now, where settings have changed; old records, which have none, stay."""
    return None if record.recipe in (None, item.recipe.model_dump(mode="json")) else _done(item, tools)


@stage(
    code_version="1",
    group="prompt",
    kinds={"json"},
    decides=_decides,
    renew=_with_this_recipe,
    prepare=_take_config,
    config=RequestConfig,
)
def job_request(item: Item, tools: Tools) -> Done:
    """What was asked for: the request with every default filled in and its seed drawn.

    Materialize it for a new partition, with the request's fields as run config, to make a job from the Dagster UI: the
    job then runs on by itself, if its other assets are not part of the same run. A request from `fc submit` or the
    inbox is already known; its partition needs no config. For a job that exists, fields of the config change its
    request as `fc retry JOB --set` does; those that are left alone stay as they are.
    """
    return _done(item, tools)


def _done(item: Item, tools: Tools) -> Done:
    job = tools.queue.get(item.job.id)  # its source may have been taken since it was opened
    source = SourceInfo.model_validate(job.source) if job.source else None
    request = job.request.model_dump(mode="json")
    recipe = item.recipe.model_dump(mode="json")
    metadata = {
        "priority": job.request.priority,
        "seed": job.request.seed,
        "origin": job.origin,
        "request": request,
        "recipe": recipe,
    }
    if source is not None:
        metadata["source_image"] = source.model_dump(mode="json")
    return Done(RequestRecord(job_id=job.id, request=request, source=source, recipe=recipe), metadata)
