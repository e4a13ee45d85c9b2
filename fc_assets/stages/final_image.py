"""The asset `final_image`: the new faces put back, and the picture at the size asked for."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from fc_assets.checks.identity import compare_faces, embed_reference
from fc_assets.checks.quality_gates import judge
from fc_assets.engine.asset import stage_asset
from fc_assets.engine.stage import Done, ExtraImage, Item, Stage, StageOutput, one_by_one
from fc_assets.stages.provenance import final_provenance
from imaging.errors import BackendError
from imaging.faces.blend import has_color, match_ring_color, merge_into, without_color
from imaging.faces.mask import MASK_MARGIN, mask_bounds, part_of_face
from imaging.files.alpha import on_white, resize_rgba
from imaging.geometry.boxes import Box
from imaging.geometry.crop import crop, fit_within, resize
from imaging.quality.gates import Gate
from jobs.model.job import Job
from jobs.queue.job_queue import JobQueue
from resources.artifacts.records import ImageRecord, PatchesRecord, PortraitRecord, StoredImage
from resources.connections import DatabaseResource, DetectorResource, EncoderResource, StoreResource
from resources.encoders.base import FaceEncoder

_RGBA = 4  # channels


@stage_asset(
    code_version="3",
    group="result",
    kinds={"png"},
    ins=("generated_image", "portrait", "mask", "changed_face"),
)
def final_image(
    context: dg.AssetExecutionContext,
    generated_image: dict[str, StoredImage],
    portrait: dict[str, PortraitRecord],
    mask: dict[str, StoredImage],
    changed_face: dict[str, PatchesRecord],
    store: StoreResource,
    database: DatabaseResource,
    detector: DetectorResource,
    encoder: EncoderResource,
) -> Iterator[StageOutput]:
    """The finished picture: each new face matched in colour to its surroundings and blended in, at the size asked for.

    Outside the mask every pixel is that of `generated_image`, byte for byte; the run fails if it is not. The
    transparency of a photo and its EXIF data (FC_EXIF) are carried through. With FC_SFACE_MODEL, each new face is
    compared with the one before it, and with the request's reference face. The merged picture lies in `4-results`, the
    resized one in `5-resized`, the one to deliver, with its provenance, in `6-final`.
    """
    inputs: dict[str, Mapping[str, Any]] = {
        "generated_image": generated_image,
        "portrait": portrait,
        "mask": mask,
        "changed_face": changed_face,
    }

    def decides(job: Job) -> Mapping[str, Any]:
        return {
            "output_size": job.request.output_size,
            "request": job.request.model_dump(mode="json", exclude={"priority"}),
        }

    images = store.get()
    stage = Stage(context, images, JobQueue(database.get()), inputs)
    gate = stage.settings.gates["final"]

    embedded: dict[str, NDArray[np.float32]] = {}  # of the references; the jobs of a run often share one

    def finish(item: Item) -> Done:
        tool, why = encoder.get()
        stage.tell_once(f"Faces compared by {why}")
        kept = item.job.request.reference_face
        if tool is not None and kept is not None and kept not in embedded:
            confidence = stage.settings.detector_confidence
            embedded[kept] = embed_reference(item.job.id, kept, images, detector.get()[0], confidence, tool)
        return _final(item, gate, tool, embedded.get(kept or ""))

    yield from stage.run(one_by_one(finish), decides)


def _final(item: Item, gate: Gate, encoder: FaceEncoder | None, reference: NDArray[np.float32] | None) -> Done:
    request = item.job.request
    before: StoredImage = item.needs("generated_image")
    whole: NDArray[np.uint8] = item.needs("mask").pixels
    patches: PatchesRecord = item.needs("changed_face")
    record: PortraitRecord = item.needs("portrait")
    stored = before.as_stored
    original = np.ascontiguousarray(stored[..., :3])
    alpha = stored[..., 3] if stored.shape[2] == _RGBA else None
    merged = merge_faces(original, whole if alpha is None else _where_opaque(whole, alpha), record, patches)
    outside = int(np.count_nonzero(np.any(merged != original, axis=2) & (whole == 0)))
    if outside:
        raise BackendError(
            f"{outside} pixels outside the mask of job {item.job.id} were changed.",
            "This is a fault of face-changer.",
        )
    size = (original.shape[1], original.shape[0])
    if request.output_size is not None:
        size = fit_within(size, request.output_size)
    finished = merged if alpha is None else np.dstack([merged, alpha])
    extras = [ExtraImage("4-results", f"{item.job.id}.png", finished)]
    if size != (original.shape[1], original.shape[0]):
        finished = resize(finished, size) if alpha is None else resize_rgba(finished, size)
        extras.append(ExtraImage("5-resized", f"{item.job.id}.png", finished))
    seen = finished if alpha is None else on_white(finished)
    judged = judge(seen, gate)
    changed = [face.face() for face in record.faces_to_change()]
    similarities, not_as_asked = compare_faces(item.job, original, merged, changed, encoder, reference)
    scale = size[0] / original.shape[1]
    boxes = [tuple(round(side * scale) for side in face.box) for face in record.faces]
    return Done(
        ImageRecord(finished, final_provenance(item.job, before.details, patches.details, size), before.exif),
        {
            "width": size[0],
            "height": size[1],
            "faces_changed": len(patches.patches),
            "pixels_changed_outside_mask": outside,
            "transparent": alpha is not None,
            **judged.metadata,
            "similarities": similarities,
        },
        picture=seen,
        extras=extras,
        face_boxes=boxes,
        quality=judged.quality,
        turned_down=not_as_asked or judged.turned_down(item.job.id, "final image", "FC_GATE_FINAL"),
    )


def _where_opaque(mask: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mask, weaker where the picture is transparent: a new face is made on white, which must not show there."""
    return np.rint(mask * (alpha / np.float32(255))).astype(np.uint8)


def merge_faces(
    original: NDArray[np.uint8], mask: NDArray[np.uint8], record: PortraitRecord, patches: PatchesRecord
) -> NDArray[np.uint8]:
    """The image with every new face blended in; a picture without any colour gets faces without colour.

    Beside the image and the result, only windows of it are held.

    Args:
        original: RGB uint8 of shape (height, width, 3).
        mask: uint8 of shape (height, width), all faces together.
        record: the faces; those that passed, in order, belong to the patches.
        patches: the new faces.
    """
    faces = [face.face() for face in record.faces_to_change()]
    merged = original.copy()
    is_grey = bool(patches.patches) and not has_color(original)
    for number, patch in enumerate(patches.patches):
        box = Box(*patch.box)
        own = part_of_face(mask, faces, number, box)
        used = mask_bounds(own, MASK_MARGIN)
        if used is None:
            continue
        place = used.moved(box.left, box.top)
        pixels = crop(patch.pixels, used)
        pixels = without_color(pixels) if is_grey else pixels
        own = crop(own, used)
        merge_into(merged, match_ring_color(pixels, crop(original, place), own), own, place)
    return merged
