"""The asset `mask`: which pixels of the picture are made anew.

Belongs here: one mask for all faces of a picture, or the user's own. Does not: the geometry (`imaging.mask`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from fc_assets.asset import stage_asset
from fc_assets.stage import Done, Item, Stage, StageOutput, one_by_one
from imaging.errors import NeedsReviewError
from imaging.mask import combine, face_masks
from jobs.queue import Job, JobQueue
from resources.connections import DatabaseResource, StoreResource
from resources.records import ImageRecord, PortraitRecord
from resources.sources import SourceInfo, load_source
from resources.store import ImageStore


@stage_asset(code_version="1", group="faces", kinds={"opencv"}, ins=("portrait",))
def mask(
    context: dg.AssetExecutionContext,
    portrait: dict[str, PortraitRecord],
    store: StoreResource,
    database: DatabaseResource,
) -> Iterator[StageOutput]:
    """A soft mask per face: an ellipse from brow to chin, turned to the eyes, that fades inwards at its edge.

    White is made anew, black is kept to the last bit. Where faces touch, each pixel belongs to the nearer one. A job
    may have a mask of the user's own instead (`fc retry JOB --mask FILE`).
    """
    images = store.get()
    stage = Stage(context, images, JobQueue(database.get()), {"portrait": portrait})

    def decides(job: Job) -> Mapping[str, Any]:
        return {"user_mask": job.user_mask["sha256"]} if job.user_mask else {}

    yield from stage.run(one_by_one(lambda item: _mask(item, images)), decides)


def _mask(item: Item, store: ImageStore) -> Done:
    record: PortraitRecord = item.needs("portrait")
    faces = [face.face() for face in record.passed_faces()]
    shape = (record.height, record.width)
    if item.job.user_mask:
        whole = _own(item.job, store, shape)
    else:
        whole = combine([np.zeros(shape, np.uint8), *face_masks(faces, shape)])
    return Done(
        ImageRecord(whole),
        {
            "origin": "the user's own" if item.job.user_mask else "automatic",
            "faces": len(faces),
            "width": record.width,
            "height": record.height,
            "masked_share": round(float(np.count_nonzero(whole)) / whole.size, 5),
            "angles": [round(face.roll, 2) for face in faces],
        },
        picture=whole,
        face_boxes=[face.box.as_tuple() for face in faces],
    )


def _own(job: Job, store: ImageStore, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The user's mask: uint8 of `shape` (height, width)."""
    pixels = load_source(SourceInfo.model_validate(job.user_mask), store).pixels[..., 0]
    if pixels.shape != shape:
        raise NeedsReviewError(
            f"The user's mask of job {job.id} is {pixels.shape[1]}x{pixels.shape[0]}, "
            f"but its image is {shape[1]}x{shape[0]} now.",
            "`fc retry JOB --mask FILE` gives it one of that size, `--mask auto` the automatic one.",
        )
    return np.ascontiguousarray(pixels)
