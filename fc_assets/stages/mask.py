"""The asset `mask`: which pixels of the picture are made anew."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fc_assets.engine.asset import stage
from fc_assets.engine.keys import options_key
from fc_assets.engine.outcome import Done, Item
from fc_assets.engine.tools import Tools
from imaging.errors import NeedsReviewError
from imaging.faces.mask import draw_mask
from imaging.faces.shapes import face_hull
from imaging.files.mask_file import read_mask
from imaging.geometry.boxes import Box
from imaging.geometry.crop import crop
from jobs.model.job import Job
from resources.artifacts.images import ImageRecord
from resources.artifacts.records import PortraitRecord
from resources.sources.photos import SourceInfo, read_source
from resources.store.image_store import ImageStore


def _decides(item: Item, _tools: Tools) -> Mapping[str, Any]:
    user_mask = item.job.user_mask
    return {"user_mask": user_mask["sha256"]} if user_mask else {"options": options_key(item.recipe.mask.mask_options)}


@stage(code_version="2", group="faces", kinds={"opencv"}, reads=("generated_image", "portrait"), decides=_decides)
def mask(item: Item, tools: Tools) -> Done:
    """A soft mask for all faces of the picture, each turned to its eyes, that fades inwards at its edge.

    White is made anew, black is kept to the last bit. The settings FC_MASK_* say what it looks like: ellipse from brow
    to chin, rounded box, outline by the landmarks, or none; how large, how soft, and whether it ends where the skin
    does. Where faces touch, each pixel belongs to one of them. A job may have a mask of the user's own instead
    (`fc retry JOB --mask FILE`).
    """
    record: PortraitRecord = item.needs("portrait")
    faces = [face.face() for face in record.faces_to_change()]
    shape = (record.height, record.width)
    options = item.recipe.mask.mask_options
    made: dict[str, Any]
    if item.job.user_mask:
        source = SourceInfo.model_validate(item.job.user_mask)
        whole = _own(item.job, source, tools.store, record)
        made = {"origin": "the user's own", "notes": list(source.notes)}
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


def _own(job: Job, source: SourceInfo, store: ImageStore, record: PortraitRecord) -> NDArray[np.uint8]:
    """The user's mask: uint8 of the picture's shape (height, width)."""
    mask, _ = read_mask(read_source(source, store), name=source.path)
    if mask.shape != (record.height, record.width):
        raise NeedsReviewError(
            f"The user's mask of job {job.id} is {mask.shape[1]}x{mask.shape[0]}, "
            f"but its image is {record.width}x{record.height} now.",
            "`fc retry JOB --mask FILE` gives it one of that size, `--mask auto` the automatic one.",
        )
    places = [Box(*face.crop) for face in record.faces_to_change()]
    if places and not any(crop(mask, place).any() for place in places):
        raise NeedsReviewError(
            f"The user's mask of job {job.id} is black at every face, so nothing would be made anew.",
            "White is made anew: if it is the wrong way round, invert it, and give it by `fc retry JOB --mask FILE`.",
        )
    return mask
