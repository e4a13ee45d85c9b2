"""The asset `generated_image`: the scene, generated from the prompt, or the imported photo."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg

from fc_assets.checks.quality_gates import judge
from fc_assets.engine.asset import stage_asset
from fc_assets.engine.stage import Done, Item, Stage, StageOutput
from fc_assets.stages.prompts import FixedWords, scene_words
from fc_assets.stages.provenance import generated_provenance, imported_provenance, inherited_provenance
from imaging.errors import BackendError, NeedsReviewError
from imaging.files.decode import decode_image
from imaging.files.exif import clean_exif
from imaging.files.provenance import read_provenance
from imaging.quality.gates import Gate
from imaging.quality.score import verify_output
from jobs.model.job import Job
from jobs.queue.job_queue import JobQueue
from resources.artifacts.records import ImageRecord, PromptRecord, RequestRecord
from resources.connections import DatabaseResource, GeneratorResource, StoreResource
from resources.generators.base import Generator, ImageTask, Outcome
from resources.settings import load_settings
from resources.sources.photos import SourceInfo, read_source
from resources.store.image_store import ImageStore


@stage_asset(
    code_version="3",
    group="image",
    kinds={"diffusers", "pytorch"},
    ins=("job_request", "enhanced_prompt"),
    pool="gpu",
)
def generated_image(
    context: dg.AssetExecutionContext,
    job_request: dict[str, RequestRecord],
    enhanced_prompt: dict[str, PromptRecord],
    store: StoreResource,
    database: DatabaseResource,
    generator: GeneratorResource,
) -> Iterator[StageOutput]:
    """The picture before any face work: generated from the enhanced prompt, or the imported source image.

    Jobs of one run are generated in batches. Each image is checked: it has the size asked for, and is neither blank nor
    noise. Imported photos are turned upright, brought to sRGB, and otherwise left as they are;
    transparency is kept, and EXIF data as FC_EXIF says.
    """
    images, queue = store.get(), JobQueue(database.get())
    settings = load_settings()
    words, gate = scene_words(settings), settings.gates["image"]

    def decides(job: Job) -> Mapping[str, Any]:
        if job.source is None and job.request.source_image is not None:
            raise BackendError(
                f"Job {job.id} has not got its picture {job.request.source_image} yet.",
                "Materialize job_request of this partition first; it takes the picture.",
            )
        if job.source is not None:
            return {"source": job.source["sha256"], "exif": settings.exif}
        request = job.request.model_dump(mode="json", include=_SAMPLING)
        return {"request": request, "words": asdict(words), "generator": generator.get()[0].describe()}

    def make(items: Sequence[Item]) -> Iterator[Done | Exception]:
        wanted = [item for item in items if item.job.source is None]
        outcomes: Iterator[Outcome] = iter(())
        if wanted:
            tool, why = generator.get()
            context.log.info(f"{len(wanted)} images by {why}")
            outcomes = tool.generate([_task(item, words) for item in wanted])
        for item in items:
            if item.job.source is not None:
                yield _imported(item, images, gate, keep_exif=settings.exif == "keep")
            else:
                yield _generated(item, _task(item, words), next(outcomes), tool, gate)

    inputs: dict[str, Mapping[str, Any]] = {"job_request": job_request, "enhanced_prompt": enhanced_prompt}
    yield from Stage(context, images, queue, inputs).run(make, decides)


_SAMPLING = {"seed", "width", "height", "steps", "cfg_scale", "scheduler"}


def _task(item: Item, words: FixedWords) -> ImageTask:
    request = item.job.request
    prompts: PromptRecord = item.needs("enhanced_prompt")
    return ImageTask(
        job_id=item.job.id,
        prompt=words.prompt(prompts.enhanced.pony_prompt),
        negative_prompt=words.negative(prompts.enhanced.negative_prompt),
        seed=request.seed or 0,
        width=request.width,
        height=request.height,
        steps=request.steps,
        cfg_scale=request.cfg_scale,
        scheduler=request.scheduler,
    )


def _generated(item: Item, task: ImageTask, outcome: Outcome, tool: Generator, gate: Gate) -> Done | Exception:
    if isinstance(outcome, Exception):
        return outcome
    verdict = verify_output(outcome.pixels, (task.width, task.height))
    judged = judge(outcome.pixels, gate)
    turned_down = judged.turned_down(item.job.id, "generated image", "FC_GATE_IMAGE")
    if not verdict.passed:
        turned_down = NeedsReviewError(
            f"The generated image of job {item.job.id} was turned down: {'; '.join(verdict.reasons)}.",
            "`fc approve JOB` takes it as it is; `fc retry JOB --seed N` or `--set pony_prompt=...` makes another.",
        )
    made_by = {**tool.describe(), **outcome.details}
    return Done(
        ImageRecord(outcome.pixels, generated_provenance(item.job, task, tool.name, made_by)),
        {
            "generator": tool.name,
            "width": task.width,
            "height": task.height,
            "seed": task.seed,
            "prompt": task.prompt,
            "negative_prompt": task.negative_prompt,
            "made_by": made_by,
            "checks": verdict.scores,
            **judged.metadata,
        },
        picture=outcome.pixels,
        quality=judged.quality,
        turned_down=turned_down,
    )


def _imported(item: Item, store: ImageStore, gate: Gate, *, keep_exif: bool) -> Done:
    source = SourceInfo.model_validate(item.job.source)
    data = read_source(source, store)
    decoded = decode_image(data, name=source.path)
    made = read_provenance(data) if item.job.request.result_of else None
    judged = judge(decoded.pixels, gate)
    return Done(
        ImageRecord(
            decoded.pixels if decoded.rgba is None else decoded.rgba,
            inherited_provenance(item.job, source, made) if made else imported_provenance(item.job, source),
            decoded.exif if keep_exif else clean_exif(decoded.exif),
        ),
        {
            "generator": "none: the picture of another job" if made else "none: imported photo",
            "source_image": source.path,
            "source_sha256": source.sha256,
            "transparent": decoded.had_alpha,
            "notes": list(decoded.notes),
            "width": decoded.pixels.shape[1],
            "height": decoded.pixels.shape[0],
            **judged.metadata,
        },
        picture=decoded.pixels,
        quality=judged.quality,
        turned_down=judged.turned_down(item.job.id, "photo", "FC_GATE_IMAGE"),
    )
