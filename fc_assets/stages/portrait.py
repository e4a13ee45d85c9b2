"""The asset `portrait`: every face of the image, cut out and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fc_assets.engine.asset import stage
from fc_assets.engine.keys import options_key
from fc_assets.engine.outcome import Done, ExtraImage, Item
from fc_assets.engine.tools import Tools
from imaging.errors import NeedsReviewError
from imaging.faces.portraits import Portrait, make_portrait
from imaging.faces.selection import Selection, select
from imaging.files.debug_picture import debug_picture
from imaging.quality.gates import decide
from jobs.recipes.face_rules import FacePlan, plan_faces
from jobs.recipes.recipe import Recipe
from resources.artifacts.records import ARTIFACTS, VERIFIED, DroppedFace, FaceRecord, FaceWishes, PortraitRecord
from resources.writers.face_tags import tags_in


def _decides(item: Item, tools: Tools) -> Mapping[str, Any]:
    recipe = item.recipe
    return {
        "detector": tools.detector(recipe)[0].describe(),
        "faces": options_key(recipe.faces.face_options),
        "how": options_key(recipe.faces.portrait_options),  # the gate only decides who looks at them
        "rules": {"face_rules": recipe.face_pass.face_rules},
        "tags": tags_in(item.job.request.flux_prompt),
    }


@stage(
    code_version="3",
    group="faces",
    kinds={"opencv"},
    reads=("generated_image",),
    uses=("detector",),
    decides=_decides,
)
def portrait(item: Item, tools: Tools) -> Done:
    """Every face of the picture, cut out upright with padding, and checked for size, sharpness, light and pose.

    Which faces are worked on, and in which order, is said by the settings; each face that they drop is in the metadata
    with its reason. The order is the same for portraits, masks and results. `1-portraits/JOB.faces.png` shows all of
    them in the picture.

    A face that is turned down keeps its reason and is left as it is, as is one that a rule or a tag of the request
    leaves alone, or that is sharp already (FC_FACE_KEEP_SHARP). A picture without a face, or with none that
    passed, ends its job as `needs_review`. If a person approves it, faces that were turned down are made anew all the
    same, and a picture without a face goes on as it is. The portraits lie in `1-portraits`, those that passed also in
    `2-verified`.
    """
    detector, why = tools.detector(item.recipe)
    pixels: NDArray[np.uint8] = item.needs("generated_image").pixels
    size = (pixels.shape[1], pixels.shape[0])
    chosen = select(detector.detect(pixels), size, item.recipe.faces.face_options)
    tools.log_once(f"Faces by {why}")
    plans = plan_faces(item.recipe.face_pass.rules(), item.job.request.flux_prompt, chosen.kept, size)
    portraits = [_portrait(pixels, chosen, number, plan, item.recipe) for number, plan in enumerate(plans)]
    records = [_record(one, plan, size) for one, plan in zip(portraits, plans, strict=True)]
    cuts = [one.cut(pixels) for one in portraits]
    overview = debug_picture(pixels, chosen.kept, chosen.dropped, notes=[record.left for record in records])
    warnings, turned_down = _judged(item, detector.name, records, chosen)
    dropped = tuple(
        DroppedFace(box=other.face.box.as_tuple(), score=other.face.score, reason=other.reason)
        for other in chosen.dropped
    )
    taken = _taken(records)
    return Done(
        PortraitRecord(detector=detector.name, width=size[0], height=size[1], faces=taken, dropped=dropped),
        {
            "detector": detector.name,
            "faces": len(records),
            "passed": sum(record.passed for record in records),
            "boxes": [list(record.box) for record in records],
            "scores": [record.scores for record in records],
            "turned_down": [list(record.reasons) for record in records if not record.passed],
            "left": [record.left for record in records],
            "rules": [list(plan.rules) for plan in plans],
            "advice": [list(record.advice) for record in records],
            "dropped": [other.model_dump(mode="json") for other in dropped],
            "warnings": warnings,
        },
        picture=cuts[0] if len(cuts) == 1 else overview,
        extras=_extras(item.job.id, overview, cuts, records),
        turned_down=turned_down,
    )


def _portrait(pixels: NDArray[np.uint8], chosen: Selection, number: int, plan: FacePlan, recipe: Recipe) -> Portrait:
    """The portrait of face `number`, with the padding that its rules ask for; left alone also where they say so."""
    options = recipe.faces.portrait_options
    if plan.padding is not None:
        options = replace(options, padding=plan.padding)
    made = make_portrait(pixels, chosen.kept, number, options)
    return replace(made, left=plan.left or made.left)


def _record(portrait: Portrait, plan: FacePlan, size: tuple[int, int]) -> FaceRecord:
    face, frame, verdict = portrait.face, portrait.frame, portrait.verdict
    return FaceRecord(
        box=face.box.as_tuple(),
        crop=frame.bounds(size).as_tuple(),
        frame=(frame.x, frame.y, frame.side, frame.angle),
        score=face.score,
        landmarks=face.landmarks,
        passed=verdict.passed,
        left=portrait.left,
        scores=verdict.scores,
        reasons=verdict.reasons,
        advice=verdict.advice,
        wishes=FaceWishes(
            prompt=plan.prompt,
            negative_prompt=plan.negative_prompt,
            strength=plan.strength,
            seed_offset=plan.seed_offset,
        ),
    )


def _taken(records: Sequence[FaceRecord]) -> tuple[FaceRecord, ...]:
    """The faces as the next stages see them.

    Where none passed, the stage waits for a person, and what the person would approve is that all are taken.
    """
    if any(record.is_to_change for record in records):
        return tuple(records)
    return tuple(record.model_copy(update={"passed": True}) for record in records)


def _extras(
    job_id: str, overview: NDArray[np.uint8], cuts: Sequence[NDArray[np.uint8]], records: Sequence[FaceRecord]
) -> list[ExtraImage]:
    """The picture with all boxes and every portrait; those that passed also in their own folder."""
    folder = ARTIFACTS["portrait"].folder
    named = [(_name(job_id, number), picture) for number, picture in enumerate(cuts, start=1)]
    return [
        ExtraImage(folder, f"{job_id}.faces.png", overview),
        *(ExtraImage(folder, name, picture) for name, picture in named),
        *(
            ExtraImage(VERIFIED, name, picture)
            for (name, picture), record in zip(named, records, strict=True)
            if record.passed
        ),
    ]


def _judged(
    item: Item, detector: str, records: Sequence[FaceRecord], chosen: Selection
) -> tuple[list[str], NeedsReviewError | None]:
    """What the gate has to say of the portraits, and why a person must look at them first, if one must."""
    job_id, gate = item.job.id, item.recipe.checks.gates["portrait"]
    decisions = [decide(gate, record.scores["total"]) for record in records]
    warnings = [decision.text for decision in decisions if decision.text]
    asked_for = [record for record in records if not record.left]
    if not records or (asked_for and not any(record.passed for record in asked_for)):
        return warnings, _turned_down(job_id, detector, asked_for, chosen)
    if any(one.verdict == "review" and record.is_to_change for one, record in zip(decisions, records, strict=True)):
        return warnings, NeedsReviewError(
            f"A portrait of job {job_id} is not good enough: {'; '.join(warnings)}.",
            "`fc approve JOB` makes these faces anew all the same; else use a better picture, or lower "
            "FC_GATE_PORTRAIT.",
        )
    return warnings, None


def _turned_down(job_id: str, detector: str, records: Sequence[FaceRecord], chosen: Selection) -> NeedsReviewError:
    """Why a person must look at a picture without a portrait that passed."""
    if records:
        reasons = "; ".join(reason for record in records for reason in record.reasons)
        return NeedsReviewError(
            f"No portrait of job {job_id} passed its checks: {reasons}.",
            "`fc approve JOB` makes these faces anew all the same; else use a larger, sharper or better lit picture.",
        )
    seen = f" Dropped: {'; '.join(face.reason for face in chosen.dropped)}." if chosen.dropped else ""
    return NeedsReviewError(
        f"No face was found in the image of job {job_id} by {detector}.{seen}",
        "`fc approve JOB` takes the picture as it is, without face work; `fc retry JOB` with another photo, prompt or "
        "seed makes another; or widen FC_DETECTOR_CONFIDENCE and the FC_FACES_ settings.",
    )


def _name(job_id: str, number: int) -> str:
    """The first face has the job's own file name, the others a number."""
    return f"{job_id}.png" if number == 1 else f"{job_id}.face-{number}.png"
