"""The asset `enhanced_prompt`: the user's words, improved by the writer."""

from collections.abc import Mapping
from typing import Any

from fc_assets.engine.asset import stage
from fc_assets.engine.outcome import Done, Item
from fc_assets.engine.tools import Tools
from imaging.errors import RejectedError
from jobs.model.job import Job
from jobs.requests.accept import check_prompts
from resources.artifacts.records import PromptRecord
from resources.lora_tags import take_loras
from resources.writers.base import PromptAnswer, PromptDraft

DEFAULT_FACE_PROMPT = "natural portrait of the same person, detailed face, clear eyes"


def _decides(item: Item, tools: Tools) -> Mapping[str, Any]:
    return {
        "draft": _draft(item.job).model_dump(mode="json"),
        "writer": tools.writer(item.recipe)[0].describe(),
    }


@stage(code_version="1", group="prompt", kinds={"claude"}, reads=("job_request",), uses=("writer",), decides=_decides)
def enhanced_prompt(item: Item, tools: Tools) -> Done:
    """The prompts that the image and the faces are made from.

    The writer (Claude, or rules without a model) improves `pony_prompt` and `flux_prompt`. The original words, the new
    ones, the model, its token use and cost are kept.
    """
    writer, why = tools.writer(item.recipe)
    tools.log_once(f"Prompts by {why}")
    draft = _draft(item.job)
    answer = writer.enhance(draft)
    _check(item, writer.name, answer)
    record = PromptRecord(writer=writer.name, original=draft, enhanced=answer)
    tools.queue.record_ideation(
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
            "writer": writer.name,
            "prompt": answer.pony_prompt,
            "face_prompt": answer.flux_prompt,
            "negative_prompt": answer.negative_prompt,
            "original": draft.model_dump(mode="json"),
            **answer.usage.model_dump(mode="json", exclude={"seconds"}),
        },
    )


def _check(item: Item, writer: str, answer: PromptAnswer) -> None:
    """The door's check once more, on the words that the picture is really made from."""
    words = answer.model_dump(include={"pony_prompt", "flux_prompt", "negative_prompt"})
    try:
        check_prompts(item.job.id, item.job.request.model_copy(update=words), item.recipe)
    except RejectedError as error:
        raise RejectedError(f"As the writer {writer} put it: {error.what}", error.hint) from error


def _draft(job: Job) -> PromptDraft:
    """The user's words as the writer gets them: without LoRA tags, and with words for the faces in any case."""
    request = job.request
    flux_prompt = request.flux_prompt
    if not request.face_prompt:
        flux_prompt = DEFAULT_FACE_PROMPT
    return PromptDraft(
        job_id=job.id,
        pony_prompt=take_loras(request.pony_prompt)[0],
        flux_prompt=take_loras(flux_prompt)[0],
        negative_prompt=request.negative_prompt,
    )
