"""The result of a stage for one job, as files and as rows of `image_metadata`; nothing is written yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fc_assets.engine.outcome import Done
from fc_assets.engine.step import Step
from imaging.files.provenance import encode_png
from jobs.model.job import ImageRow
from resources.artifacts.artifact import File
from resources.artifacts.images import ImageRecord
from resources.store.image_store import ImageStore, StoredFile


@dataclass(frozen=True, slots=True)
class Result:
    """A result, ready to be written.

    Attributes:
        files: in the order in which they are written, the main one last.
        file: the main one, as it will be stored.
        images: a row for each picture.
    """

    files: Sequence[File]
    file: StoredFile
    images: Sequence[ImageRow]

    def write(self, store: ImageStore) -> None:
        """Write every file; one that was there and differs is kept under `history`. Equal ones share their bytes."""
        written: dict[bytes, tuple[str, str]] = {}
        for folder, name, data in self.files:
            store.replace(folder, name, data=data, like=written.get(data))
            written.setdefault(data, (folder, name))


def encode_result(step: Step, job_id: str, done: Done) -> Result:
    """Encode a result.

    Raises:
        TypeError: the value is not of the stage's kind.
        ValueError: a picture would lie in a folder that the stage's artifact does not name.
    """
    artifact = step.stage.artifact
    main = artifact.encode(job_id, done.value)
    # One picture may be kept in two folders; what is the main file's own picture is the same file.
    pngs = {id(done.value.pixels): main[-1][2]} if isinstance(done.value, ImageRecord) else {}
    for extra in done.extras:
        if id(extra.pixels) not in pngs:
            pngs[id(extra.pixels)] = encode_png(extra.pixels)
    files, images = [], []
    for extra in done.extras:
        if extra.folder not in artifact.folders:
            raise ValueError(f"The artifact of {step.name} does not name the folder {extra.folder}.")
        data = pngs[id(extra.pixels)]
        files.append((extra.folder, extra.name, data))
        images.append(_image_row(step.store.as_stored(extra.folder, extra.name, data=data), step.name, extra.pixels))
    files += main
    folder, name, data = files[-1]
    file = step.store.as_stored(folder, name, data=data)
    if done.picture is not None and artifact.is_picture:
        images.append(_image_row(file, step.name, done.picture, done.face_boxes, done.quality))
    return Result(files, file, images)


def _image_row(
    file: StoredFile,
    stage: str,
    pixels: NDArray[np.uint8],
    face_boxes: Sequence[tuple[int, int, int, int]] | None = None,
    quality: float | None = None,
) -> ImageRow:
    return ImageRow(
        path=file.path,
        stage=stage,
        width=pixels.shape[1],
        height=pixels.shape[0],
        format="PNG",
        bytes=file.bytes,
        sha256=file.sha256,
        face_count=None if face_boxes is None else len(face_boxes),
        face_boxes=None if face_boxes is None else [list(box) for box in face_boxes],
        quality_score=quality,
    )
