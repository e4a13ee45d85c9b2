"""The asset `enhanced_prompt`: the user's words, improved by the writer."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from fc_assets.engine.asset import stage_asset
from fc_assets.engine.stage import Done, Item, Stage, StageOutput, one_by_one
from jobs.model.job import Job
from jobs.queue.job_queue import JobQueue
from resources.artifacts.records import PromptRecord, RequestRecord
from resources.connections import DatabaseResource, StoreResource, WriterResource
from resources.writers.base import PromptDraft

DEFAULT_FACE_PROMPT = "natural portrait of the same person, detailed face, clear eyes"


@stage_asset(code_version="1", group="prompt", kinds={"claude"}, ins=("job_request",))
def enhanced_prompt(
    context: dg.AssetExecutionContext,
    job_request: dict[str, RequestRecord],
    store: StoreResource,
    database: DatabaseResource,
    writer: WriterResource,
) -> Iterator[StageOutput]:
    """The prompts that the image and the faces are made from.

    The writer (Claude, or rules without a model) improves `pony_prompt` and `flux_prompt`. The original words, the new
    ones, the model, its token use and cost are kept.
    """
    queue = JobQueue(database.get())
    stage = Stage(context, store.get(), queue, {"job_request": job_request})

    def decides(job: Job) -> Mapping[str, Any]:
        return {"draft": _draft(job).model_dump(mode="json"), "writer": writer.get()[0].describe()}

    def improve(item: Item) -> Done:
        tool, why = writer.get()
        stage.tell_once(f"Prompts by {why}")
        draft = _draft(item.job)
        answer = tool.enhance(draft)
        record = PromptRecord(writer=tool.name, original=draft, enhanced=answer)
        queue.record_ideation(
            item.job.id,
            1,
            prompt=draft.pony_prompt or draft.flux_prompt,
            enhanced_prompt=answer.pony_prompt or answer.flux_prompt,
            score=None,
            selected=True,
        )
        return Done(
            record,
            {
                "writer": tool.name,
                "prompt": answer.pony_prompt,
                "face_prompt": answer.flux_prompt,
                "negative_prompt": answer.negative_prompt,
                "original": draft.model_dump(mode="json"),
                **answer.usage.model_dump(mode="json", exclude={"seconds"}),
            },
        )

    yield from stage.run(one_by_one(improve), decides)


def _draft(job: Job) -> PromptDraft:
    request = job.request
    flux_prompt = request.flux_prompt
    if not request.face_prompt:
        flux_prompt = DEFAULT_FACE_PROMPT
    return PromptDraft(
        job_id=job.id,
        pony_prompt=request.pony_prompt,
        flux_prompt=flux_prompt,
        negative_prompt=request.negative_prompt,
    )
