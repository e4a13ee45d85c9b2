"""How what a stage leaves behind lies in the image store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from imaging.errors import BackendError
from imaging.files.exif import fitted_exif
from imaging.files.provenance import decode_png_exact, encode_png
from resources.artifacts.images import ImageRecord, Patch, PatchesRecord, StoredImage
from resources.store.image_store import ImageStore

R = TypeVar("R", bound=BaseModel)

File = tuple[str, str, bytes]
"""Folder, file name and content."""

Beside = Callable[[str], bytes]
"""Reads the file of the same job and folder that has another ending."""


@dataclass(frozen=True, slots=True)
class JsonCodec(Generic[R]):
    """A record as JSON, and its text alone as `.txt`, if it has one for people."""

    record: type[R]
    text: Callable[[R], str] | None = None
    suffix: ClassVar[str] = ".json"

    def encode(self, value: Any) -> list[tuple[str, bytes]] | None:  # noqa: ANN401 - see `Codec`
        """The text, if it has one, and the record."""
        if not isinstance(value, self.record):
            return None
        texts = [(".txt", self.text(value).encode())] if self.text else []
        return [*texts, (self.suffix, value.model_dump_json(indent=1).encode())]

    def decode(self, data: bytes, beside: Beside) -> R:  # noqa: ARG002 - see `Codec`
        """The record."""
        return self.record.model_validate_json(data)


@dataclass(frozen=True, slots=True)
class PngCodec:
    """An `ImageRecord` as PNG; what is read back is a `StoredImage`."""

    suffix: ClassVar[str] = ".png"

    def encode(self, value: Any) -> list[tuple[str, bytes]] | None:  # noqa: ANN401 - see `Codec`
        """The PNG."""
        if not isinstance(value, ImageRecord):
            return None
        height, width = value.pixels.shape[:2]
        exif = fitted_exif(value.exif, (width, height))
        return [(self.suffix, encode_png(value.pixels, provenance=value.provenance, exif=exif))]

    def decode(self, data: bytes, beside: Beside) -> StoredImage:  # noqa: ARG002 - see `Codec`
        """The picture, not decoded yet."""
        return StoredImage(data)


@dataclass(frozen=True, slots=True)
class PatchesCodec:
    """A `PatchesRecord` as `.face-1.png`, `.face-2.png` ..., and JSON that names them by their SHA-256."""

    suffix: ClassVar[str] = ".json"

    def encode(self, value: Any) -> list[tuple[str, bytes]] | None:  # noqa: ANN401 - see `Codec`
        """The faces, and the JSON."""
        if not isinstance(value, PatchesRecord):
            return None
        files, index = [], []
        for number, patch in enumerate(value.patches, start=1):
            data = encode_png(patch.pixels)
            files.append((f".face-{number}.png", data))
            index.append({"box": patch.box, "sha256": hashlib.sha256(data).hexdigest()})
        whole = {"patches": index, "details": dict(value.details)}
        whole |= {"texts": dict(value.texts)} if value.texts else {}
        text = json.dumps(whole, indent=1, sort_keys=True)
        return [*files, (self.suffix, text.encode())]

    def decode(self, data: bytes, beside: Beside) -> PatchesRecord:
        """The faces, decoded."""
        index = json.loads(data)
        patches = [
            Patch(tuple(entry["box"]), decode_png_exact(beside(f".face-{number}.png")))
            for number, entry in enumerate(index["patches"], start=1)
        ]
        return PatchesRecord(tuple(patches), index["details"], index.get("texts", {}))


Codec = JsonCodec[Any] | PngCodec | PatchesCodec
"""How the value of a stage becomes files.

`encode` gives endings behind the job's id, and contents, the main file last; None for a value of another kind.
"""


@dataclass(frozen=True, slots=True)
class Artifact:
    """What one stage leaves behind.

    Attributes:
        stage: the stage's name.
        folder: where its files lie.
        codec: how its value becomes files.
        beside: further folders, with pictures for people; what is not named here is not stored.
    """

    stage: str
    folder: str
    codec: Codec
    beside: tuple[str, ...] = ()

    @property
    def folders(self) -> tuple[str, ...]:
        """Every folder in which it leaves something."""
        return (self.folder, *self.beside)

    @property
    def is_picture(self) -> bool:
        """Whether its main file is a picture."""
        return isinstance(self.codec, PngCodec)

    def place(self, job_id: str) -> tuple[str, str]:
        """(folder, file name) of the file that stands for the stage's value; it is written last."""
        return (self.folder, job_id + self.codec.suffix)

    def encode(self, job_id: str, value: Any) -> list[File]:  # noqa: ANN401 - any stage's value
        """The value of one job as files. The main one is last: written in this order, it is whole or absent.

        Raises:
            TypeError: when the value is not of the stage's kind.
        """
        files = self.codec.encode(value)
        if files is None:
            raise TypeError(f"The stage {self.stage} does not store a {type(value).__name__}.")
        return [(self.folder, job_id + ending, data) for ending, data in files]

    def load(self, store: ImageStore, job_id: str) -> Any:  # noqa: ANN401 - any stage's value
        """Read back what was written of `encode`.

        Raises:
            FileNotFoundError: when the job has no such value.
            BackendError: when a file is there but cannot be read as the stage's value.
        """
        folder, name = self.place(job_id)
        data = store.read(folder, name)
        try:
            return self.codec.decode(data, lambda ending: store.read(folder, job_id + ending))
        except FileNotFoundError:
            raise
        except Exception as error:
            raise BackendError(
                f"{folder}/{name} of job {job_id} cannot be read: {error}",
                f"Materialize {self.stage} of this job again; the file was changed or damaged outside face-changer.",
            ) from error
