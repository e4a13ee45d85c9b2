"""The asset `final_image`: the new faces put back, and the picture at the size asked for."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fc_assets.checks.identity import compare_faces, embed_reference
from fc_assets.checks.quality_gates import judge
from fc_assets.engine.asset import stage
from fc_assets.engine.outcome import Done, ExtraImage, Item
from fc_assets.engine.tools import Tools
from fc_assets.stages.provenance import final_provenance
from imaging.errors import BackendError
from imaging.faces.blend import match_ring_color, merge_into, without_color
from imaging.faces.mask import MASK_MARGIN, mask_bounds, part_of_face
from imaging.faces.tone import Tone, find_tone
from imaging.files.alpha import on_white, resize_rgba
from imaging.geometry.boxes import Box
from imaging.geometry.crop import crop, fit_within, resize
from resources.artifacts.images import ImageRecord, PatchesRecord, StoredImage
from resources.artifacts.records import MERGED, RESIZED, PortraitRecord
from resources.encoders.base import FaceEncoder

_RGBA = 4  # channels


def _decides(item: Item, _tools: Tools) -> Mapping[str, Any]:
    return {
        "output_size": item.recipe.output.output_size,
        "request": item.job.request.model_dump(mode="json", exclude={"priority"}),
    }


@stage(
    code_version="3",
    group="result",
    kinds={"png"},
    reads=("generated_image", "portrait", "mask", "changed_face"),
    uses=("detector", "encoder"),
    decides=_decides,
)
def final_image(item: Item, tools: Tools) -> Done:
    """The finished picture: each new face matched in colour to its surroundings and blended in, at the size asked for.

    Outside the mask every pixel is that of `generated_image`, byte for byte; the run fails if it is not. The
    transparency of a photo and its EXIF data (FC_EXIF) are carried through. With FC_SFACE_MODEL, each new face is
    compared with the one before it, and with the request's reference face. The merged picture lies in `4-results`, the
    resized one in `5-resized`, the one to deliver, with its provenance, in `6-final`.
    """
    encoder, why = tools.encoder()
    tools.log_once(f"Faces compared by {why}")
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
    output_size = item.recipe.output.output_size
    if output_size is not None:
        size = fit_within(size, output_size)
    finished = merged if alpha is None else np.dstack([merged, alpha])
    extras = [ExtraImage(MERGED, f"{item.job.id}.png", finished)]
    if size != (original.shape[1], original.shape[0]):
        finished = resize(finished, size) if alpha is None else resize_rgba(finished, size)
        extras.append(ExtraImage(RESIZED, f"{item.job.id}.png", finished))
    seen = finished if alpha is None else on_white(finished)
    judged = judge(seen, item.recipe.checks.gates["final"])
    changed = [face.face() for face in record.faces_to_change()]
    similarities, not_as_asked = compare_faces(
        item.job.id, item.recipe.checks, original, merged, changed, encoder, _reference(item, tools, encoder)
    )
    scale = size[0] / original.shape[1]
    boxes = [tuple(round(side * scale) for side in face.box) for face in record.faces]
    return Done(
        ImageRecord(
            finished,
            final_provenance(item.job, item.recipe.sampling, before, patches, size),
            before.exif,
        ),
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


def _reference(item: Item, tools: Tools, encoder: FaceEncoder | None) -> NDArray[np.float32] | None:
    """The embedding of the face that the new ones are compared with; the jobs of a run often share one."""
    photo = item.recipe.checks.reference_face
    if encoder is None or photo is None:
        return None
    confidence = item.recipe.faces.detector_confidence
    detector = tools.detector(item.recipe)[0]
    return tools.once(
        ("reference", photo, detector.name, confidence),
        lambda: embed_reference(item.job.id, photo, tools.store, detector, confidence, encoder),
    )


def _where_opaque(mask: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mask, weaker where the picture is transparent: a new face is made on white, which must not show there."""
    return np.rint(mask * (alpha / np.float32(255))).astype(np.uint8)


def merge_faces(
    original: NDArray[np.uint8], mask: NDArray[np.uint8], record: PortraitRecord, patches: PatchesRecord
) -> NDArray[np.uint8]:
    """The image with every new face blended in; a black-and-white or toned picture gets faces in its own tone.

    Beside the image and the result, only windows of it are held.

    Args:
        original: RGB uint8 of shape (height, width, 3).
        mask: uint8 of shape (height, width), all faces together.
        record: the faces; those that passed, in order, belong to the patches.
        patches: the new faces.
    """
    faces = [face.face() for face in record.faces_to_change()]
    merged = original.copy()
    tone = find_tone(original) if patches.patches else None
    for number, patch in enumerate(patches.patches):
        box = Box(*patch.box)
        own = part_of_face(mask, faces, number, box)
        used = mask_bounds(own, MASK_MARGIN)
        if used is None:
            continue
        place = used.moved(box.left, box.top)
        own = crop(own, used)
        merge_into(merged, _matched(crop(patch.pixels, used), crop(original, place), own, tone), own, place)
    return merged


def _matched(
    new: NDArray[np.uint8], old: NDArray[np.uint8], mask: NDArray[np.uint8], tone: Tone | None
) -> NDArray[np.uint8]:
    """A new face in the colours of the old pixels around it; in a toned photo in grey first, so as to keep the tone."""
    if tone is None or not tone.holds_in(old, mask):
        return match_ring_color(new, old, mask)
    return tone.of(match_ring_color(without_color(new), without_color(old), mask))
