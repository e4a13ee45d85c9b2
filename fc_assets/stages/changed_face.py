"""The asset `changed_face`: each masked face made anew at the generator's own resolution."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from fc_assets.checks.quality_gates import judge
from fc_assets.engine.asset import stage_asset
from fc_assets.engine.stage import Done, Item, Stage, StageOutput
from fc_assets.stages.enhanced_prompt import DEFAULT_FACE_PROMPT
from fc_assets.stages.prompts import FixedWords, face_words
from imaging.faces.mask import MASK_MARGIN, mask_bounds, part_of_face
from imaging.geometry.align import Frame, coverage, cut, put_back
from imaging.geometry.boxes import Box, Face
from imaging.geometry.crop import crop, resize
from imaging.quality.gates import Gate
from jobs.model.job import Job
from jobs.queue.job_queue import JobQueue
from jobs.recipes.face_rules import FacePlan, denoising_strength, plan_faces
from jobs.recipes.values import MAX_SEED
from resources.artifacts.records import FaceRecord, Patch, PatchesRecord, PortraitRecord, PromptRecord, StoredImage
from resources.connections import DatabaseResource, GeneratorResource, StoreResource
from resources.generators.base import Generator, ImageTask, InpaintTask, Outcome
from resources.settings import load_settings
from resources.writers.face_tags import part_of, prompt_parts


@stage_asset(
    code_version="2",
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
    """Every face that passed its checks, generated anew inside its mask from its prompt.

    Each portrait is turned upright and brought to the generator's own resolution for the pass, so that a small face
    gets as much detail as a large one, and back. What differs between the faces of a picture is said by the tags in
    `flux_prompt` and by `face_rules`. The faces of all jobs of a run are generated in batches.
    """
    inputs: dict[str, Mapping[str, Any]] = {
        "enhanced_prompt": enhanced_prompt,
        "generated_image": generated_image,
        "portrait": portrait,
        "mask": mask,
    }

    settings = load_settings()
    words, gate = face_words(settings), settings.gates["face"]

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
        passes = [_passes(item, words, size) for item in items]
        outcomes = tool.inpaint([face.task for faces in passes for face in faces])
        for item, faces in zip(items, passes, strict=True):
            yield _done(item, faces, [next(outcomes) for _ in faces], tool, gate)

    yield from Stage(context, store.get(), JobQueue(database.get()), inputs).run(make, decides)


_SAMPLING = {"seed", "steps", "cfg_scale", "scheduler", "face_strength", "large_face_strength", "face_rules"}


@dataclass(frozen=True, slots=True)
class FacePass:
    """One face of one picture on its way through the generator: what is asked, and the box that its mask needs."""

    record: FaceRecord
    task: InpaintTask
    used: Box


def _passes(item: Item, words: FixedWords, size: int) -> list[FacePass]:
    """The faces of a picture that are made anew, at `size` pixels square."""
    record: PortraitRecord = item.needs("portrait")
    chosen = record.faces_to_change()
    places = [place for place, face in enumerate(record.faces) if face.is_to_change]
    if not chosen:
        return []
    request = item.job.request
    pixels = item.needs("generated_image").pixels
    mask = item.needs("mask").pixels
    plans = plan_faces(
        request.rules(), request.flux_prompt, [face.face() for face in record.faces], (record.width, record.height)
    )
    shapes = [face.face() for face in chosen]
    passes = []
    for number, place in enumerate(places):
        face = chosen[number]
        frame, box = face.upright(), Box(*face.crop)
        prompt, negative_prompt = _prompts(item, words, place, plans[place])
        task = ImageTask(
            job_id=item.job.id,
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=((request.seed or 0) + plans[place].seed_offset) % (MAX_SEED + 1),
            width=size,
            height=size,
            steps=request.steps,
            cfg_scale=request.cfg_scale,
            scheduler=request.scheduler,
        )
        inside = replace(frame, x=frame.x - box.left, y=frame.y - box.top)
        own = part_of_face(mask, shapes, number, box)
        used = mask_bounds(own, MASK_MARGIN)
        share = shapes[number].box.area / (record.width * record.height)
        usual = denoising_strength(request.face_strength, request.large_face_strength, share)
        strength = plans[place].strength
        passes.append(
            FacePass(
                face,
                InpaintTask(
                    task=task,
                    image=cut(pixels, frame, size),
                    mask=cut(own, inside, size),
                    denoising_strength=usual if strength is None else strength,
                    face=_in_cut(shapes[number], frame, size),
                ),
                used.moved(box.left, box.top) if used else box,
            )
        )
    return passes


def _prompts(item: Item, words: FixedWords, number: int, plan: FacePlan) -> tuple[str, str]:
    """The prompt and the negative prompt of face `number`, from 0."""
    record: PromptRecord = item.needs("enhanced_prompt")
    asked = record.enhanced
    scene = asked.pony_prompt or DEFAULT_FACE_PROMPT
    usual = part_of(prompt_parts(asked.flux_prompt or scene), number).prompt(scene)
    return words.prompt(plan.words(usual)), words.negative(plan.negative_prompt or asked.negative_prompt)


def _in_cut(face: Face, frame: Frame, size: int) -> Face:
    """The face in the coordinates of its cut of `size` x `size`, where it stands upright."""
    scale = size / frame.side
    (x, y) = frame.to_cut(np.array([face.box.center], dtype=np.float64), size)[0]
    width, height = face.box.width * scale, face.box.height * scale
    if frame.quarters % 2:
        width, height = height, width
    left, top = max(0, round(x - width / 2)), max(0, round(y - height / 2))
    box = Box(left, top, min(size, round(x + width / 2)), min(size, round(y + height / 2)))
    points = None
    if face.landmarks is not None:
        found = frame.to_cut(np.array(face.landmarks, dtype=np.float64), size)
        points = tuple((float(across), float(down)) for across, down in found)
    return replace(face, box=box, landmarks=points)


def _done(
    item: Item,
    faces: Sequence[FacePass],
    outcomes: Sequence[Outcome],
    tool: Generator,
    gate: Gate,
) -> Done | Exception:
    original: NDArray[np.uint8] = item.needs("generated_image").pixels
    patches, details, judgements = [], [], []
    for face, outcome in zip(faces, outcomes, strict=True):
        if isinstance(outcome, Exception):
            return outcome
        judged = judge(outcome.pixels, gate)
        judgements.append(judged)
        patches.append(_back(original, outcome.pixels, face))
        asked = face.task.task
        details.append(
            {
                **outcome.details,
                "prompt": asked.prompt,
                "negative_prompt": asked.negative_prompt,
                "seed": asked.seed,
                "strength": face.task.denoising_strength,
                "angle": round(face.record.upright().angle, 2),
                "quality": judged.quality,
            }
        )
    first = faces[0].task.task if faces else None
    made_by = {
        "generator": tool.name,
        "prompt": first.prompt if first else "",
        "negative_prompt": first.negative_prompt if first else "",
        "size": tool.native_size(),
        "face_strength": item.job.request.face_strength,
        "back_end": tool.describe(),
        "faces": details,
    }
    warnings = [text for judged in judgements for text in judged.warnings]
    errors = [judged.turned_down(item.job.id, "new face", "FC_GATE_FACE") for judged in judgements]
    return Done(
        PatchesRecord(tuple(patches), made_by),
        {**made_by, "faces_changed": len(patches), "warnings": warnings},
        picture=_row([patch.pixels for patch in patches]) if patches else None,
        turned_down=next((error for error in errors if error is not None), None),
    )


def _back(original: NDArray[np.uint8], made: NDArray[np.uint8], face: FacePass) -> Patch:
    """The new face where it belongs, as far as its mask goes; the original where the turned square is not."""
    frame, box = face.record.upright(), face.used
    pixels = np.where(coverage(frame, box)[:, :, None] > 0, put_back(made, frame, box), crop(original, box))
    return Patch(box.as_tuple(), pixels)


def _row(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures side by side, as high as the first."""
    height = pictures[0].shape[0]
    return np.hstack(
        [resize(picture, (max(1, round(picture.shape[1] * height / picture.shape[0])), height)) for picture in pictures]
    )
