"""The asset `portrait`: every face of the image, cut out and checked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from fc_assets.engine.asset import stage_asset
from fc_assets.engine.stage import Done, ExtraImage, Item, Stage, StageOutput, one_by_one
from imaging.errors import NeedsReviewError
from imaging.faces.portrait_checks import SOFT, verify_portrait
from imaging.faces.selection import Selection, select
from imaging.files.debug_picture import debug_picture
from imaging.geometry.align import cut, frame_around
from imaging.geometry.boxes import Face
from imaging.geometry.crop import crop
from imaging.quality.gates import Gate, decide
from jobs.model.job import Job
from jobs.queue.job_queue import JobQueue
from jobs.recipes.face_rules import FacePlan, plan_faces
from resources.artifacts.records import DroppedFace, FaceRecord, PortraitRecord, StoredImage
from resources.connections import DatabaseResource, DetectorResource, StoreResource
from resources.settings import Settings
from resources.writers.face_tags import tags_in


@dataclass(frozen=True, slots=True)
class How:
    """How portraits are cut and judged, by the settings: padding, turned upright or not, which are sharp enough."""

    padding: float
    align: bool
    keep_sharp: int
    gate: Gate

    @classmethod
    def of(cls, settings: Settings) -> "How":
        """What the settings say."""
        return cls(settings.face_padding, settings.face_align, settings.face_keep_sharp, settings.gates["portrait"])

    def decides(self) -> dict[str, Any]:
        """What of it decides the portraits; the gate only decides who looks at them."""
        return {"padding": self.padding, "align": self.align, "keep_sharp": self.keep_sharp}


@stage_asset(code_version="3", group="faces", kinds={"opencv"}, ins=("generated_image",))
def portrait(
    context: dg.AssetExecutionContext,
    generated_image: dict[str, StoredImage],
    store: StoreResource,
    database: DatabaseResource,
    detector: DetectorResource,
) -> Iterator[StageOutput]:
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
    stage = Stage(context, store.get(), JobQueue(database.get()), {"generated_image": generated_image})
    options = stage.settings.face_options

    how = How.of(stage.settings)

    def decides(job: Job) -> Mapping[str, Any]:
        request = job.request
        return {
            "detector": detector.get()[0].describe(),
            "faces": asdict(options),
            "how": how.decides(),
            "rules": request.model_dump(mode="json", include={"face_rules"}),
            "tags": tags_in(request.flux_prompt),
        }

    def find(item: Item) -> Done:
        tool, why = detector.get()
        pixels = item.needs("generated_image").pixels
        chosen = select(tool.detect(pixels), (pixels.shape[1], pixels.shape[0]), options)
        stage.tell_once(f"Faces by {why}")
        return _portraits(item.job, tool.name, pixels, chosen, how)

    yield from stage.run(one_by_one(find), decides)


def _portraits(job: Job, detector: str, pixels: NDArray[np.uint8], chosen: Selection, how: How) -> Done:
    size = (pixels.shape[1], pixels.shape[0])
    plans = plan_faces(job.request.rules(), job.request.flux_prompt, chosen.kept, size)
    records = [_check(pixels, chosen.kept, number, plan, how) for number, plan in enumerate(plans)]
    asked_for = [record for record in records if not record.left]
    passed = [record for record in asked_for if record.passed]
    cuts = [cut(pixels, record.upright(), round(record.upright().side)) for record in records]
    overview = debug_picture(pixels, chosen.kept, chosen.dropped, notes=[record.left for record in records])
    names = [_name(job.id, number) for number in range(1, len(records) + 1)]
    extras = [ExtraImage("1-portraits", f"{job.id}.faces.png", overview)]
    extras += [ExtraImage("1-portraits", name, picture) for name, picture in zip(names, cuts, strict=True)]
    extras += [
        ExtraImage("2-verified", name, picture)
        for name, picture, record in zip(names, cuts, records, strict=True)
        if record.passed
    ]
    gates = [decide(how.gate, record.scores["total"]) for record in records]
    warnings = [decision.text for decision in gates if decision.text]
    turned_down = None
    if not records or (asked_for and not passed):
        turned_down = _turned_down(job.id, detector, asked_for, chosen)
    elif any(gate.verdict == "review" and record in passed for gate, record in zip(gates, records, strict=True)):
        turned_down = NeedsReviewError(
            f"A portrait of job {job.id} is not good enough: {'; '.join(warnings)}.",
            "`fc approve JOB` makes these faces anew all the same; else use a better picture, or lower "
            "FC_GATE_PORTRAIT.",
        )
    # None passed: the stage waits for a person, and what the person would approve is that all are taken.
    taken = records if passed else [record.model_copy(update={"passed": True}) for record in records]
    dropped = tuple(
        DroppedFace(box=other.face.box.as_tuple(), score=other.face.score, reason=other.reason)
        for other in chosen.dropped
    )
    record = PortraitRecord(detector=detector, width=size[0], height=size[1], faces=tuple(taken), dropped=dropped)
    return Done(
        record,
        {
            "detector": detector,
            "faces": len(records),
            "passed": sum(record.passed for record in records),
            "boxes": [list(face.box) for face in records],
            "scores": [face.scores for face in records],
            "turned_down": [list(face.reasons) for face in records if not face.passed],
            "left": [face.left for face in records],
            "rules": [list(plan.rules) for plan in plans],
            "advice": [list(face.advice) for face in records],
            "dropped": [other.model_dump(mode="json") for other in dropped],
            "warnings": warnings,
        },
        picture=cuts[0] if len(cuts) == 1 else overview,
        extras=extras,
        turned_down=turned_down,
    )


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


def _check(pixels: NDArray[np.uint8], faces: Sequence[Face], number: int, plan: FacePlan, how: How) -> FaceRecord:
    face = faces[number]
    size = (pixels.shape[1], pixels.shape[0])
    padding = how.padding if plan.padding is None else plan.padding
    frame = frame_around(face, size, padding, align=how.align)
    others = [other for place, other in enumerate(faces) if place != number]
    verdict = verify_portrait(crop(pixels, face.box), face, size, others)
    left = plan.left
    if not left and how.keep_sharp and face.box.width >= how.keep_sharp and verdict.scores["sharpness"] >= SOFT:
        left = f"it is {face.box.width} px wide and crisp"
    return FaceRecord(
        box=face.box.as_tuple(),
        crop=frame.bounds(size).as_tuple(),
        frame=(frame.x, frame.y, frame.side, frame.angle),
        score=face.score,
        landmarks=face.landmarks,
        passed=verdict.passed,
        left=left,
        scores=verdict.scores,
        reasons=verdict.reasons,
        advice=verdict.advice,
    )


def _name(job_id: str, number: int) -> str:
    """The first face has the job's own file name, the others a number."""
    return f"{job_id}.png" if number == 1 else f"{job_id}.face-{number}.png"
