"""The asset `mask`: which pixels of the picture are made anew."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from fc_assets.engine.asset import stage_asset
from fc_assets.engine.stage import Done, Item, Stage, StageOutput, one_by_one
from imaging.errors import NeedsReviewError
from imaging.faces.mask import draw_mask
from imaging.faces.mask_options import MaskOptions
from imaging.faces.shapes import face_hull
from jobs.model.job import Job
from jobs.queue.job_queue import JobQueue
from resources.artifacts.records import ImageRecord, PortraitRecord, StoredImage
from resources.connections import DatabaseResource, StoreResource
from resources.sources.photos import SourceInfo, load_source
from resources.store.image_store import ImageStore


@stage_asset(code_version="2", group="faces", kinds={"opencv"}, ins=("generated_image", "portrait"))
def mask(
    context: dg.AssetExecutionContext,
    generated_image: dict[str, StoredImage],
    portrait: dict[str, PortraitRecord],
    store: StoreResource,
    database: DatabaseResource,
) -> Iterator[StageOutput]:
    """A soft mask for all faces of the picture, each turned to its eyes, that fades inwards at its edge.

    White is made anew, black is kept to the last bit. The settings FC_MASK_* say what it looks like: ellipse from brow
    to chin, rounded box, outline by the landmarks, or none; how large, how soft, and whether it ends where the skin
    does. Where faces touch, each pixel belongs to one of them. A job may have a mask of the user's own instead
    (`fc retry JOB --mask FILE`).
    """
    images = store.get()
    inputs: dict[str, Mapping[str, Any]] = {"generated_image": generated_image, "portrait": portrait}
    stage = Stage(context, images, JobQueue(database.get()), inputs)
    options = stage.settings.mask_options

    def decides(job: Job) -> Mapping[str, Any]:
        return {"user_mask": job.user_mask["sha256"]} if job.user_mask else {"options": asdict(options)}

    yield from stage.run(one_by_one(lambda item: _mask(item, images, options)), decides)


def _mask(item: Item, store: ImageStore, options: MaskOptions) -> Done:
    record: PortraitRecord = item.needs("portrait")
    faces = [face.face() for face in record.faces_to_change()]
    shape = (record.height, record.width)
    made: dict[str, Any]
    if item.job.user_mask:
        whole = _own(item.job, store, shape)
        made = {"origin": "the user's own"}
    else:
        pixels = item.needs("generated_image").pixels if options.skin else None
        whole = draw_mask(faces, shape, options, pixels)
        made = {"origin": "automatic", "options": asdict(options)}
        if options.kind == "hull":
            made["faces_without_landmarks"] = sum(face_hull(face) is None for face in faces)
    return Done(
        ImageRecord(whole),
        {
            **made,
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
