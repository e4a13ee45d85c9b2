"""Who the new faces are: how alike each is to the face before it and to the job's reference face."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import NeedsReviewError, RejectedError, SettingsError
from imaging.faces.identity import judge_identity, similarity
from imaging.geometry.boxes import Face
from jobs.recipes.sections import Checks
from resources.detectors.base import Detector, sure_faces
from resources.encoders.base import FaceEncoder
from resources.sources.photos import load_reference
from resources.store.image_store import ImageStore


def compare_faces(
    job_id: str,
    checks: Checks,
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    faces: list[Face],
    encoder: FaceEncoder | None,
    reference: NDArray[np.float32] | None,
) -> tuple[list[dict[str, Any]], NeedsReviewError | None]:
    """The similarities of every new face, and why a person must look at it, if one is not as the job asks.

    Args:
        job_id: whose faces they are.
        checks: what the job's recipe asks of them, if anything.
        before: the picture before the face pass, RGB uint8.
        after: the merged picture, same shape.
        faces: the faces that were made anew; the new ones lie where the old ones did.
        encoder: tells who a face is; None: nothing is compared.
        reference: the embedding of the job's reference face; None: there is none.

    Raises:
        SettingsError: the job asks for something, and there is no encoder.
        BackendError: a face has no landmarks, or the encoder fails.
    """
    asked = checks.identity
    if encoder is None:
        if asked is not None:
            raise SettingsError(
                f"Job {job_id} asks for identity: {asked}, and FC_SFACE_MODEL is not set.",
                "Run: fc models pull sface --save",
            )
        return [], None
    known = [face for face in faces if face.landmarks is not None] if asked is None else faces
    found, wrong = [], []
    for number, face in enumerate(known, start=1):
        new = encoder.embed(after, face)
        likeness = {"before": round(similarity(encoder.embed(before, face), new), 4)}
        if reference is not None:
            likeness["reference"] = round(similarity(reference, new), 4)
        found.append(likeness)
        if asked is not None:
            compared = likeness["reference" if asked == "match" else "before"]
            verdict = judge_identity(asked, compared, checks.identity_limit)
            if not verdict.passed:
                wrong.append(f"face {number}: {verdict.text}")
    if not wrong:
        return found, None
    return found, NeedsReviewError(
        f"Who the faces of job {job_id} are is not as asked: {'; '.join(wrong)}.",
        "`fc approve JOB` takes them; `fc retry JOB --seed N` or another face_strength makes others.",
    )


def embed_reference(
    job_id: str, kept: str, store: ImageStore, detector: Detector, confidence: float, encoder: FaceEncoder
) -> NDArray[np.float32]:
    """The embedding of the largest sure face in a job's reference photo, named by what its request keeps of it.

    Raises:
        RejectedError: there is no face in it.
    """
    pixels = load_reference(kept, store).pixels
    faces = sure_faces(detector, pixels, confidence)
    if not faces:
        raise RejectedError(
            f"Job {job_id}: reference_face: no face was found in {kept.partition('@sha256:')[0]}.",
            "Give a photo with one clear face.",
        )
    return encoder.embed(pixels, faces[0])
