"""The asset `mask`: which pixels of the picture are made anew.

Belongs here: one mask for all faces of a picture. Does not: the geometry (`imaging.mask`).
"""

from collections.abc import Iterator

import dagster as dg
import numpy as np

from fc_assets.asset import stage_asset
from fc_assets.stage import Done, Item, Stage, StageOutput, one_by_one
from imaging.mask import combine, face_masks
from jobs.queue import JobQueue
from resources.connections import DatabaseResource, StoreResource
from resources.records import ImageRecord, PortraitRecord


@stage_asset(code_version="1", group="faces", kinds={"opencv"}, ins=("portrait",))
def mask(
    context: dg.AssetExecutionContext,
    portrait: dict[str, PortraitRecord],
    store: StoreResource,
    database: DatabaseResource,
) -> Iterator[StageOutput]:
    """A soft mask per face: an ellipse from brow to chin, turned to the eyes, that fades inwards at its edge.

    White is made anew, black is kept to the last bit. Where faces touch, each pixel belongs to the nearer one.
    """
    stage = Stage(context, store.get(), JobQueue(database.get()), {"portrait": portrait})
    yield from stage.run(one_by_one(_mask), lambda _job: {})


def _mask(item: Item) -> Done:
    record: PortraitRecord = item.needs("portrait")
    faces = [face.face() for face in record.passed_faces()]
    whole = combine(face_masks(faces, (record.height, record.width)))
    return Done(
        ImageRecord(whole),
        {
            "faces": len(faces),
            "width": record.width,
            "height": record.height,
            "masked_share": round(float(np.count_nonzero(whole)) / whole.size, 5),
            "angles": [round(face.roll, 2) for face in faces],
        },
        picture=whole,
        face_boxes=[face.box.as_tuple() for face in faces],
    )
