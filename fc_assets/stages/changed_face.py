"""The asset `changed_face`: each masked face made anew at the generator's own resolution."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fc_assets.checks.outputs import as_picture, not_usable
from fc_assets.checks.quality_gates import judge
from fc_assets.engine.asset import stage, together
from fc_assets.engine.keys import options_key
from fc_assets.engine.outcome import Done, Item
from fc_assets.engine.tools import Tools, face_settings
from fc_assets.stages.enhanced_prompt import DEFAULT_FACE_PROMPT
from fc_assets.stages.prompts import face_words
from imaging.faces.mask import MASK_MARGIN, mask_bounds, part_of_face
from imaging.geometry.align import Frame, coverage, cut, put_back
from imaging.geometry.boxes import Box, Face
from imaging.geometry.crop import crop, resize
from imaging.quality.score import verify_face
from jobs.recipes.face_rules import FacePlan, denoising_strength, plan_faces
from jobs.recipes.recipe import Recipe
from jobs.recipes.tasks import image_task, sampling_key
from resources.artifacts.images import Patch, PatchesRecord
from resources.artifacts.records import FaceRecord, PortraitRecord, PromptRecord
from resources.generators.base import Generator, ImageTask, InpaintTask, Outcome
from resources.writers.face_tags import negative_part, part_of, prompt_parts


def _decides(item: Item, tools: Tools) -> Mapping[str, Any]:
    recipe = item.recipe
    generator = tools.face_generator(recipe)[0]
    strengths = recipe.face_pass.model_dump(mode="json", include={"face_strength", "large_face_strength", "face_rules"})
    return {
        "request": sampling_key(recipe) | strengths,
        "words": options_key(face_words(recipe.words)),
        "generator": generator.describe(),
        "size": generator.native_size(),
    }


def _by_model(item: Item, _tools: Tools) -> Hashable:
    """What decides which model is loaded, and how it is used."""
    recipe = item.recipe
    own = tuple(face_settings(recipe).items())
    return recipe.own("generator"), recipe.own("face_model"), recipe.face_model(), own


@stage(
    code_version="2",
    group="faces",
    kinds={"diffusers", "pytorch"},
    reads=("enhanced_prompt", "generated_image", "portrait", "mask"),
    uses=("generator",),
    pool="gpu",
    decides=_decides,
)
@together(by=_by_model)
def changed_face(items: Sequence[Item], tools: Tools) -> Iterator[Done | Exception]:
    """Every face that passed its checks, generated anew inside its mask from its prompt.

    Each portrait is turned upright and brought to the generator's own resolution for the pass, so that a small face
    gets as much detail as a large one, and back. What differs between the faces of a picture is said by the tags in
    `flux_prompt` and by `face_rules`. The faces of all jobs of a run are generated in batches. Each is
    checked inside its mask: it has the size asked for, and is neither blank nor noise.
    """
    generator, why = tools.face_generator(items[0].recipe)
    size = generator.native_size()
    tools.log(f"Faces at {size} px by {why}")
    passes = [_passes(item, size) for item in items]
    outcomes = generator.inpaint([face.task for faces in passes for face in faces])
    for item, faces in zip(items, passes, strict=True):
        yield _done(item, faces, [next(outcomes) for _ in faces], generator, size)


@dataclass(frozen=True, slots=True)
class OnePass:
    """One face of one picture on its way through the generator.

    Attributes:
        name: as people are told of it, by its number among the portraits.
        record: the face.
        task: what is asked.
        used: the box that its mask needs.
    """

    name: str
    record: FaceRecord
    task: InpaintTask
    used: Box


def _passes(item: Item, size: int) -> list[OnePass]:
    """The faces of a picture that are made anew, at `size` pixels square."""
    record: PortraitRecord = item.needs("portrait")
    chosen = record.faces_to_change()
    if not chosen:
        return []
    pixels: NDArray[np.uint8] = item.needs("generated_image").pixels
    mask: NDArray[np.uint8] = item.needs("mask").pixels
    plans = _plans(item, record)
    places = [place for place, face in enumerate(record.faces) if face.is_to_change]
    shapes = [face.face() for face in chosen]
    passes = []
    for number, (place, face) in enumerate(zip(places, chosen, strict=True)):
        frame, box = face.upright(), Box(*face.crop)
        inside = replace(frame, x=frame.x - box.left, y=frame.y - box.top)
        own = part_of_face(mask, shapes, number, box)
        used = mask_bounds(own, MASK_MARGIN)
        task = InpaintTask(
            task=_task(item, place, plans[place], size),
            image=cut(pixels, frame, size),
            mask=cut(own, inside, size),
            denoising_strength=_strength(
                item.recipe, plans[place], shapes[number].box.area / (record.width * record.height)
            ),
            face=_in_cut(shapes[number], frame, size),
        )
        name = f"face {place + 1} of {len(record.faces)}"
        passes.append(OnePass(name, face, task, used.moved(box.left, box.top) if used else box))
    return passes


def _plans(item: Item, record: PortraitRecord) -> list[FacePlan]:
    """What the rules ask for each face of the picture, as the portrait stage read them."""
    wishes = [face.wishes for face in record.faces]
    if None not in wishes:
        return [FacePlan(**wish.model_dump()) for wish in wishes if wish]
    rules, flux_prompt = item.recipe.face_pass.rules(), item.job.request.flux_prompt
    return plan_faces(rules, flux_prompt, [face.face() for face in record.faces], (record.width, record.height))


def _task(item: Item, number: int, plan: FacePlan, size: int) -> ImageTask:
    """What is asked for face `number`, from 0."""
    prompt, negative_prompt = _prompts(item, number, plan)
    return image_task(
        item.recipe,
        job_id=item.job.id,
        prompt=prompt,
        negative_prompt=negative_prompt,
        seed_offset=plan.seed_offset,
        size=(size, size),
    )


def _strength(recipe: Recipe, plan: FacePlan, share: float) -> float:
    """The denoising strength of a face that takes this share of the picture."""
    if plan.strength is not None:
        return plan.strength
    return denoising_strength(recipe.face_pass.face_strength, recipe.face_pass.large_face_strength, share)


def _prompts(item: Item, number: int, plan: FacePlan) -> tuple[str, str]:
    """The prompt and the negative prompt of face `number`, from 0."""
    record: PromptRecord = item.needs("enhanced_prompt")
    words, asked = face_words(item.recipe.words), record.enhanced
    scene = asked.pony_prompt or DEFAULT_FACE_PROMPT
    usual = part_of(prompt_parts(asked.flux_prompt or scene), number).prompt(scene)
    negative = plan.negative_prompt or negative_part(asked.negative_prompt, number)
    return words.prompt(plan.words(usual)), words.negative(negative)


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
    item: Item, faces: Sequence[OnePass], outcomes: Sequence[Outcome], generator: Generator, size: int
) -> Done | Exception:
    original: NDArray[np.uint8] = item.needs("generated_image").pixels
    gate = item.recipe.checks.gates["face"]
    patches, details, judgements, wrong = [], [], [], []
    texts: Mapping[str, str] = {}
    for face, outcome in zip(faces, outcomes, strict=True):
        made = as_picture(outcome, f"{face.name} of job {item.job.id}")
        if isinstance(made, Exception):
            return made
        texts = texts or made.texts
        verdict = verify_face(made.pixels, face.task.image, face.task.mask)
        wrong += [f"{face.name}: {reason}" for reason in verdict.reasons]
        judged = judge(made.pixels, gate)
        judgements.append(judged)
        patches.append(_back(original, resize(made.pixels, (size, size)), face))
        asked = face.task.task
        details.append(
            {
                **made.details,
                "prompt": asked.prompt,
                "negative_prompt": asked.negative_prompt,
                "seed": asked.seed,
                "strength": face.task.denoising_strength,
                "angle": round(face.record.upright().angle, 2),
                "checks": verdict.scores,
                "quality": judged.quality,
            }
        )
    first = faces[0].task.task if faces else None
    made_by = {
        "generator": generator.name,
        "prompt": first.prompt if first else "",
        "negative_prompt": first.negative_prompt if first else "",
        "size": size,
        "face_strength": item.recipe.face_pass.face_strength,
        "back_end": generator.describe(),
        "faces": details,
    }
    warnings = [text for judged in judgements for text in judged.warnings]
    unusable = [not_usable(f"A new face of job {item.job.id}", "; ".join(wrong))] if wrong else []
    errors = unusable + [judged.turned_down(item.job.id, "new face", "FC_GATE_FACE") for judged in judgements]
    return Done(
        PatchesRecord(tuple(patches), made_by, texts),
        {**made_by, "faces_changed": len(patches), "warnings": warnings},
        picture=_row([patch.pixels for patch in patches]) if patches else None,
        turned_down=next((error for error in errors if error is not None), None),
    )


def _back(original: NDArray[np.uint8], made: NDArray[np.uint8], face: OnePass) -> Patch:
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
