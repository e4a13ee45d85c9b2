"""The asset `changed_face`: each masked face made anew at the generator's own resolution.

Belongs here: what is asked of the generator for each face. Does not: putting faces back (`fc_assets.final_image`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from fc_assets.asset import stage_asset
from fc_assets.prompts import FixedWords, face_words
from fc_assets.stage import Done, Item, Stage, StageOutput
from imaging.boxes import Box, Face
from imaging.crop import crop, resize
from imaging.mask import part_of_face
from jobs.queue import Job, JobQueue
from jobs.request import MAX_SEED
from resources.connections import DatabaseResource, GeneratorResource, StoreResource
from resources.generators.base import Generator, ImageTask, InpaintTask, Outcome
from resources.records import FaceRecord, Patch, PatchesRecord, PortraitRecord, PromptRecord, StoredImage
from resources.settings import load_settings


@stage_asset(
    code_version="1",
    group="faces",
    kinds={"diffusers", "pytorch"},
    ins=("enhanced_prompt", "generated_image", "portrait", "mask"),
    pool="gpu",
)
def changed_face(
    context: dg.AssetExecutionContext,
    enhanced_prompt: dict[str, PromptRecord],
    generated_image: dict[str, StoredImage],
    portrait: dict[str, PortraitRecord],
    mask: dict[str, StoredImage],
    store: StoreResource,
    database: DatabaseResource,
    generator: GeneratorResource,
) -> Iterator[StageOutput]:
    """Every face that passed its checks, generated anew inside its mask from the face prompt.

    Each portrait is brought to the generator's own resolution for the pass, so that a small face gets as much detail as
    a large one, and back. The faces of all jobs of a run are generated in batches.
    """
    inputs: dict[str, Mapping[str, Any]] = {
        "enhanced_prompt": enhanced_prompt,
        "generated_image": generated_image,
        "portrait": portrait,
        "mask": mask,
    }

    words = face_words(load_settings())

    def decides(job: Job) -> Mapping[str, Any]:
        tool = generator.for_faces()[0]
        request = job.request.model_dump(mode="json", include=_SAMPLING)
        return {
            "request": request,
            "words": asdict(words),
            "generator": tool.describe(),
            "size": tool.native_size(),
        }

    def make(items: Sequence[Item]) -> Iterator[Done | Exception]:
        tool, why = generator.for_faces()
        size = tool.native_size()
        context.log.info(f"Faces at {size} px by {why}")
        outcomes = tool.inpaint([task for item in items for task in _tasks(item, words, size)])
        for item in items:
            faces = _faces(item)
            yield _done(item, words, faces, [next(outcomes) for _ in faces], tool)

    yield from Stage(context, store.get(), JobQueue(database.get()), inputs).run(make, decides)


_SAMPLING = {"seed", "steps", "cfg_scale", "scheduler", "face_strength"}


def _faces(item: Item) -> list[FaceRecord]:
    record: PortraitRecord = item.needs("portrait")
    return record.faces_to_change()


def _prompts(item: Item, words: FixedWords) -> tuple[str, str]:
    """The prompt and the negative prompt of the face pass."""
    record: PromptRecord = item.needs("enhanced_prompt")
    asked = record.enhanced
    return words.prompt(asked.flux_prompt or asked.pony_prompt), words.negative(asked.negative_prompt)


def _tasks(item: Item, words: FixedWords, size: int) -> list[InpaintTask]:
    """One task per face, at `size` pixels square."""
    request = item.job.request
    prompt, negative_prompt = _prompts(item, words)
    pixels = item.needs("generated_image").pixels
    faces = _faces(item)
    mask = item.needs("mask").pixels
    tasks = []
    for number, face in enumerate(faces):
        box = Box(*face.crop)
        task = ImageTask(
            job_id=item.job.id,
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=((request.seed or 0) + number) % (MAX_SEED + 1),
            width=size,
            height=size,
            steps=request.steps,
            cfg_scale=request.cfg_scale,
            scheduler=request.scheduler,
        )
        tasks.append(
            InpaintTask(
                task=task,
                image=resize(crop(pixels, box), (size, size)),
                mask=resize(part_of_face(mask, [face.face() for face in faces], number, box), (size, size)),
                denoising_strength=request.face_strength,
                face=_in_crop(face.face(), box, size),
            )
        )
    return tasks


def _in_crop(face: Face, box: Box, size: int) -> Face:
    """The face in the coordinates of its crop, brought to `size`."""
    across, down = size / box.width, size / box.height
    inside = Box(
        max(0, round((face.box.left - box.left) * across)),
        max(0, round((face.box.top - box.top) * down)),
        min(size, round((face.box.right - box.left) * across)),
        min(size, round((face.box.bottom - box.top) * down)),
    )
    points = face.landmarks and tuple(((x - box.left) * across, (y - box.top) * down) for x, y in face.landmarks)
    return replace(face, box=inside, landmarks=points)


def _done(
    item: Item, words: FixedWords, faces: Sequence[FaceRecord], outcomes: Sequence[Outcome], tool: Generator
) -> Done | Exception:
    patches = []
    details = []
    for face, outcome in zip(faces, outcomes, strict=True):
        if isinstance(outcome, Exception):
            return outcome
        box = Box(*face.crop)
        patches.append(Patch(face.crop, resize(outcome.pixels, (box.width, box.height))))
        details.append(dict(outcome.details))
    prompt, negative_prompt = _prompts(item, words)
    made_by = {
        "generator": tool.name,
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "size": tool.native_size(),
        "face_strength": item.job.request.face_strength,
        "back_end": tool.describe(),
        "faces": details,
    }
    return Done(
        PatchesRecord(tuple(patches), made_by),
        {**made_by, "faces_changed": len(patches)},
        picture=_row([patch.pixels for patch in patches]) if patches else None,
    )


def _row(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures side by side, as high as the first."""
    height = pictures[0].shape[0]
    return np.hstack(
        [resize(picture, (max(1, round(picture.shape[1] * height / picture.shape[0])), height)) for picture in pictures]
    )
