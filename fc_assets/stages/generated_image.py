"""The asset `generated_image`: the scene, generated from the prompt, or the imported photo."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from fc_assets.checks.outputs import as_picture, not_usable
from fc_assets.checks.quality_gates import judge
from fc_assets.engine.asset import stage, together
from fc_assets.engine.keys import options_key
from fc_assets.engine.outcome import Done, Item
from fc_assets.engine.tools import Tools
from fc_assets.stages.prompts import scene_words
from fc_assets.stages.provenance import generated_provenance, imported_provenance
from imaging.errors import BackendError
from imaging.files.decode import DecodedImage
from imaging.files.exif import clean_exif
from imaging.files.making import Making
from imaging.quality.score import verify_output
from jobs.recipes.tasks import image_task, sampling_key
from resources.artifacts.images import ImageRecord
from resources.artifacts.records import PromptRecord
from resources.generators.base import Generator, ImageTask, Outcome
from resources.sources.photos import SourceInfo, load_source
from resources.store.image_store import ImageStore
from resources.writers.face_tags import whole_negative


def _decides(item: Item, tools: Tools) -> Mapping[str, Any]:
    job, recipe = item.job, item.recipe
    if job.source is None and job.request.source_image is not None:
        raise BackendError(
            f"Job {job.id} has not got its picture {job.request.source_image} yet.",
            "Materialize job_request of this partition first; it takes the picture.",
        )
    if job.source is not None:
        return {"source": job.source["sha256"], "exif": recipe.output.exif}
    return {
        "request": sampling_key(recipe) | {"width": recipe.scene.width, "height": recipe.scene.height},
        "words": options_key(scene_words(recipe.words)),
        "generator": tools.generator(recipe)[0].describe(),
    }


def _by_model(item: Item, _tools: Tools) -> Hashable:
    """What decides which model is loaded; None for a photo, which needs none."""
    return None if item.job.source else (item.recipe.own("generator"), item.recipe.model())


@stage(
    code_version="3",
    group="image",
    kinds={"diffusers", "pytorch"},
    reads=("job_request", "enhanced_prompt"),
    uses=("generator",),
    pool="gpu",
    decides=_decides,
)
@together(by=_by_model)
def generated_image(items: Sequence[Item], tools: Tools) -> Iterator[Done | Exception]:
    """The picture before any face work: generated from the enhanced prompt, or the imported source image.

    Jobs of one run are generated in batches. Each image is checked: it has the size asked for, and is neither blank nor
    noise. Imported photos are turned upright, brought to sRGB, and otherwise left as they are;
    transparency is kept, and EXIF data as FC_EXIF says.
    """
    if items[0].job.source is not None:
        yield from (_imported(item, tools.store) for item in items)
        return
    generator, why = tools.generator(items[0].recipe)
    tools.log(f"{len(items)} images by {why}")
    tasks = [_task(item) for item in items]
    for item, task, outcome in zip(
        items, tasks, generator.generate(tasks), strict=False
    ):  # too few: the engine says so
        yield _generated(item, task, outcome, generator)


def _task(item: Item) -> ImageTask:
    recipe = item.recipe
    prompts: PromptRecord = item.needs("enhanced_prompt")
    words = scene_words(recipe.words)
    return image_task(
        recipe,
        job_id=item.job.id,
        prompt=words.prompt(prompts.enhanced.pony_prompt),
        negative_prompt=words.negative(whole_negative(prompts.enhanced.negative_prompt)),
        size=(recipe.scene.width, recipe.scene.height),
    )


def _generated(item: Item, task: ImageTask, outcome: Outcome, generator: Generator) -> Done | Exception:
    outcome = as_picture(outcome, f"the generated image of job {item.job.id}")
    if isinstance(outcome, Exception):
        return outcome
    verdict = verify_output(outcome.pixels, (task.width, task.height))
    judged = judge(outcome.pixels, item.recipe.checks.gates["image"])
    turned_down = judged.turned_down(item.job.id, "generated image", "FC_GATE_IMAGE")
    if not verdict.passed:
        turned_down = not_usable(f"The generated image of job {item.job.id}", "; ".join(verdict.reasons))
    made_by = {**generator.describe(), **outcome.details}
    return Done(
        ImageRecord(outcome.pixels, generated_provenance(item.job, task, generator.name, made_by, outcome.texts)),
        {
            "generator": generator.name,
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


def _imported(item: Item, store: ImageStore) -> Done:
    source = SourceInfo.model_validate(item.job.source)
    decoded = load_source(source, store)
    judged = judge(decoded.pixels, item.recipe.checks.gates["image"])
    return Done(
        ImageRecord(
            decoded.pixels if decoded.rgba is None else decoded.rgba,
            imported_provenance(item.job, source, decoded.making or Making()),
            decoded.exif if item.recipe.output.exif == "keep" else clean_exif(decoded.exif),
        ),
        {
            "generator": f"none: {_kind_of(item, decoded)}",
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


def _kind_of(item: Item, decoded: DecodedImage) -> str:
    if item.job.request.result_of:
        return "the picture of another job"
    return "imported photo" if decoded.making is None else f"imported picture, {decoded.making.origin} as its file says"
