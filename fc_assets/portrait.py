"""The asset `portrait`: every face of the image, cut out and checked.

Belongs here: which faces go on. Does not: how faces are found (`resources.detectors`), chosen
(`imaging.face_selection`) or measured (`imaging.portrait_checks`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from fc_assets.asset import stage_asset
from fc_assets.stage import Done, ExtraImage, Item, Stage, StageOutput, one_by_one
from imaging.boxes import Box, Face
from imaging.crop import PADDING, crop, portrait_box
from imaging.debug_picture import debug_picture
from imaging.errors import NeedsReviewError
from imaging.face_selection import Selection, select
from imaging.portrait_checks import verify_portrait
from jobs.queue import Job, JobQueue
from resources.connections import DatabaseResource, DetectorResource, StoreResource
from resources.records import DroppedFace, FaceRecord, PortraitRecord, StoredImage


@stage_asset(code_version="2", group="faces", kinds={"opencv"}, ins=("generated_image",))
def portrait(
    context: dg.AssetExecutionContext,
    generated_image: dict[str, StoredImage],
    store: StoreResource,
    database: DatabaseResource,
    detector: DetectorResource,
) -> Iterator[StageOutput]:
    """Every face of the picture, cut out as a square with padding, and checked for size, sharpness, light and pose.

    Which faces are worked on, and in which order, is said by the settings; each face that they drop is in the metadata
    with its reason. The order is the same for portraits, masks and results. `1-portraits/JOB.faces.png` shows all of
    them in the picture.

    A face that is turned down keeps its reason and is left as it is. A picture without a face, or with none that
    passed, ends its job as `needs_review`. If a person approves it, faces that were turned down are made anew all the
    same, and a picture without a face goes on as it is. The portraits lie in `1-portraits`, those that passed also in
    `2-verified`.
    """
    stage = Stage(context, store.get(), JobQueue(database.get()), {"generated_image": generated_image})
    options = stage.settings.face_options

    def decides(_job: Job) -> Mapping[str, Any]:
        return {"detector": detector.get()[0].describe(), "faces": asdict(options), "padding": PADDING}

    def find(item: Item) -> Done:
        tool, why = detector.get()
        pixels = item.needs("generated_image").pixels
        chosen = select(tool.detect(pixels), (pixels.shape[1], pixels.shape[0]), options)
        stage.tell_once(f"Faces by {why}")
        return _portraits(item.job.id, tool.name, pixels, chosen)

    yield from stage.run(one_by_one(find), decides)


def _portraits(job_id: str, detector: str, pixels: NDArray[np.uint8], chosen: Selection) -> Done:
    size = (pixels.shape[1], pixels.shape[0])
    records = [_check(pixels, face, size) for face in chosen.kept]
    passed = [record for record in records if record.passed]
    cuts = [crop(pixels, Box(*record.crop)) for record in records]
    overview = debug_picture(pixels, chosen.kept, chosen.dropped)
    extras = [ExtraImage("1-portraits", f"{job_id}.faces.png", overview)]
    extras += [ExtraImage("1-portraits", _name(job_id, number), cut) for number, cut in enumerate(cuts, start=1)]
    extras += [
        ExtraImage("2-verified", _name(job_id, number), cut)
        for number, (record, cut) in enumerate(zip(records, cuts, strict=True), start=1)
        if record.passed
    ]
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
            "passed": len(passed),
            "boxes": [list(face.box) for face in records],
            "scores": [face.scores for face in records],
            "turned_down": [list(face.reasons) for face in records if not face.passed],
            "advice": [list(face.advice) for face in records],
            "dropped": [other.model_dump(mode="json") for other in dropped],
        },
        picture=cuts[0] if len(cuts) == 1 else overview,
        extras=extras,
        turned_down=None if passed else _turned_down(job_id, detector, records, dropped),
    )


def _turned_down(
    job_id: str, detector: str, records: list[FaceRecord], dropped: tuple[DroppedFace, ...]
) -> NeedsReviewError:
    """Why a person must look at a picture without a portrait that passed."""
    if records:
        reasons = "; ".join(reason for record in records for reason in record.reasons)
        return NeedsReviewError(
            f"No portrait of job {job_id} passed its checks: {reasons}.",
            "`fc approve JOB` makes these faces anew all the same; else use a larger, sharper or better lit picture.",
        )
    seen = f" Dropped: {'; '.join(face.reason for face in dropped)}." if dropped else ""
    return NeedsReviewError(
        f"No face was found in the image of job {job_id} by {detector}.{seen}",
        "`fc approve JOB` takes the picture as it is, without face work; `fc retry JOB` with another photo, prompt or "
        "seed makes another; or widen FC_DETECTOR_CONFIDENCE and the FC_FACES_ settings.",
    )


def _check(pixels: NDArray[np.uint8], face: Face, size: tuple[int, int]) -> FaceRecord:
    box = portrait_box(face.box, size, PADDING)
    verdict = verify_portrait(crop(pixels, face.box), face, size)
    return FaceRecord(
        box=face.box.as_tuple(),
        crop=box.as_tuple(),
        score=face.score,
        landmarks=face.landmarks,
        passed=verdict.passed,
        scores=verdict.scores,
        reasons=verdict.reasons,
        advice=verdict.advice,
    )


def _name(job_id: str, number: int) -> str:
    """The first face has the job's own file name, the others a number."""
    return f"{job_id}.png" if number == 1 else f"{job_id}.face-{number}.png"
