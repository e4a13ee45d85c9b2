"""How the value of each stage lies in the image store.

job_request      requests/JOB.json
enhanced_prompt  prompts/JOB.json
generated_image  0-generated/JOB.png
portrait         1-portraits/JOB.json
mask             3-masks/JOB.png
changed_face     4-results/JOB.json, and JOB.face-1.png, JOB.face-2.png ...
final_image      6-final/JOB.png
description      descriptions/JOB.json, and the text alone as JOB.txt
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from imaging.errors import BackendError
from imaging.files.provenance import decode_png_exact, encode_png
from resources.artifacts.records import (
    DescriptionRecord,
    ImageRecord,
    Patch,
    PatchesRecord,
    PortraitRecord,
    PromptRecord,
    Record,
    RequestRecord,
    StoredImage,
)
from resources.store.image_store import ImageStore, StoredFile

JSON_STAGES: Final[dict[str, tuple[str, type[Record]]]] = {
    "job_request": ("requests", RequestRecord),
    "enhanced_prompt": ("prompts", PromptRecord),
    "portrait": ("1-portraits", PortraitRecord),
    "description": ("descriptions", DescriptionRecord),
}
PNG_STAGES: Final = {"generated_image": "0-generated", "mask": "3-masks", "final_image": "6-final"}
PATCH_FOLDER: Final = "4-results"

File = tuple[str, str, bytes]
"""Folder, file name and content."""


def main_file(stage: str, job_id: str) -> tuple[str, str]:
    """(folder, file name) of the file that stands for the stage's value; it is written last."""
    if stage in JSON_STAGES:
        return (JSON_STAGES[stage][0], f"{job_id}.json")
    if stage in PNG_STAGES:
        return (PNG_STAGES[stage], f"{job_id}.png")
    return (PATCH_FOLDER, f"{job_id}.json")


def encode(stage: str, job_id: str, value: Any) -> list[File]:  # noqa: ANN401 - any stage's value
    """The value of one stage of one job as files. The main one is last: written in this order, it is whole or absent.

    Raises:
        TypeError: when the value is not of the stage's kind.
    """
    folder, name = main_file(stage, job_id)
    if stage in JSON_STAGES and isinstance(value, JSON_STAGES[stage][1]):
        files = [(folder, name, value.model_dump_json(indent=1).encode())]
        if isinstance(value, DescriptionRecord):
            files.insert(0, (folder, f"{job_id}.txt", f"{value.answer.text}\n".encode()))
        return files
    if stage in PNG_STAGES and isinstance(value, ImageRecord):
        return [(folder, name, encode_png(value.pixels, provenance=value.provenance, exif=value.exif))]
    if stage == "changed_face" and isinstance(value, PatchesRecord):
        files, index = [], []
        for number, patch in enumerate(value.patches, start=1):
            data = encode_png(patch.pixels)
            files.append((folder, f"{job_id}.face-{number}.png", data))
            index.append({"box": patch.box, "sha256": hashlib.sha256(data).hexdigest()})
        text = json.dumps({"patches": index, "details": dict(value.details)}, indent=1, sort_keys=True)
        return [*files, (folder, name, text.encode())]
    raise TypeError(f"The stage {stage} does not store a {type(value).__name__}.")


def save(store: ImageStore, stage: str, job_id: str, value: Any) -> StoredFile:  # noqa: ANN401 - any stage's value
    """Write what `encode` makes, and return the main file. A different file of an earlier attempt is kept (`history`).

    Raises:
        TypeError: when the value is not of the stage's kind.
        BackendError: when the store cannot be written.
    """
    return [store.replace(folder, name, data=data) for folder, name, data in encode(stage, job_id, value)][-1]


def load(store: ImageStore, stage: str, job_id: str) -> Any:  # noqa: ANN401 - any stage's value
    """Read back what `save` wrote.

    Raises:
        FileNotFoundError: when the job has no such value.
        BackendError: when a file is there but cannot be read as the stage's value.
    """
    folder, name = main_file(stage, job_id)
    data = store.read(folder, name)
    try:
        if stage in JSON_STAGES:
            return JSON_STAGES[stage][1].model_validate_json(data)
        if stage in PNG_STAGES:
            return StoredImage(data)
        index = json.loads(data)
        patches = [
            Patch(tuple(entry["box"]), decode_png_exact(store.read(folder, f"{job_id}.face-{number}.png")))
            for number, entry in enumerate(index["patches"], start=1)
        ]
        return PatchesRecord(tuple(patches), index["details"])
    except FileNotFoundError:
        raise
    except Exception as error:
        raise BackendError(
            f"{folder}/{name} of job {job_id} cannot be read: {error}",
            f"Materialize {stage} of this job again; the file was changed or damaged outside face-changer.",
        ) from error
