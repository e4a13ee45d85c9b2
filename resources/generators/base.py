"""What every image generator promises: a batch of tasks in, one outcome per task out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from imaging.errors import BackendError, NeedsReviewError
from imaging.geometry.boxes import Face


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """What one job says of the model, in place of the installation's settings. None: what the settings say.

    Attributes:
        checkpoint: of the back end that makes the image: Hub id, folder, file, or a server's name for it.
        revision: branch, tag or commit of a Hub id.
        vae: another VAE.
        loras: LoRAs as `FILE_OR_HUB_ID_OR_NAME[=WEIGHT]`, in place of those of the settings; empty: none.
        embeddings: textual inversions, files; in place of those of the settings.
        clip_skip: 1 to 12, as A1111 counts.
        more_loras: those that the prompt names by `<lora:name:weight>`, added to the others.
    """

    checkpoint: str | None = None
    revision: str | None = None
    vae: str | None = None
    loras: tuple[str, ...] | None = None
    embeddings: tuple[str, ...] | None = None
    clip_skip: int | None = None
    more_loras: tuple[str, ...] = ()

    def given(self) -> dict[str, Any]:
        """The fields that say something."""
        values = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: value for name, value in values if value not in (None, ())}


NOTHING_CHOSEN: Final = ModelChoice()


@dataclass(frozen=True, slots=True)
class ImageTask:
    """One image to generate from text.

    Attributes:
        job_id: whose image it is; for messages, and to tell who is in hand (`resources.generators.in_hand`).
        prompt: what to show; never empty.
        negative_prompt: what to avoid; may be empty.
        seed: 0 to 2**32 - 1.
        width: pixels, a multiple of 8, 64 to 2048.
        height: pixels, a multiple of 8, 64 to 2048.
        steps: denoising steps, 1 to 150.
        cfg_scale: classifier-free guidance scale, 1 to 30.
        scheduler: the sampler's name as A1111 shows it, for example `Euler a`.
    """

    job_id: str
    prompt: str
    negative_prompt: str
    seed: int
    width: int
    height: int
    steps: int
    cfg_scale: float
    scheduler: str


SAMPLING_FIELDS: Final = tuple(
    one.name for one in fields(ImageTask) if one.name not in ("job_id", "prompt", "negative_prompt", "seed")
)
"""What the images of one pipeline call share."""


@dataclass(frozen=True, slots=True)
class InpaintTask:
    """One masked area to generate anew. `width` and `height` of the task are those of `image`.

    Attributes:
        task: prompt, seed and sampling settings; its size is the size of `image`.
        image: RGB, uint8, shape (height, width, 3).
        mask: uint8, shape (height, width); 255 is generated anew, 0 is kept.
        denoising_strength: 0 (nothing changes) to 1 (nothing of the old face is left).
        face: where the face lies in `image`, as a hint; a back end may ignore it.
    """

    task: ImageTask
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    denoising_strength: float
    face: Face | None = None


@dataclass(frozen=True, slots=True)
class Generated:
    """One finished image.

    Attributes:
        pixels: RGB, uint8, shape (height, width, 3), exactly the size asked for.
        details: what the record should keep: device, dtype, batch size, seconds. JSON values only. Under `infotext`,
            what A1111's text is to say of the model's files, by its keys.
        texts: what the back end's own PNG says and others read: ComfyUI's `prompt` and `workflow`.
    """

    pixels: NDArray[np.uint8]
    details: Mapping[str, Any]
    texts: Mapping[str, str] = field(default_factory=dict)


Outcome = Generated | BackendError | NeedsReviewError


class Generator(Protocol):
    """A back end that makes images. One instance may be used by one thread at a time."""

    @property
    def name(self) -> str:
        """The back end's name, as the settings and the records write it."""
        ...

    def describe(self) -> dict[str, Any]:
        """Everything that decides the pixels besides the task: model, its hash, versions, dtype. JSON values.

        It is part of each image's content key, so it must be cheap, equal across processes, and free of secrets.
        """
        ...

    def native_size(self) -> int:
        """The side, in pixels and a multiple of 8, of the square at which a face is generated best."""
        ...

    def generate(self, tasks: Sequence[ImageTask]) -> Iterator[Outcome]:
        """Yield one outcome per task, in order, as each is finished.

        A task that fails yields its error; the tasks beside it are not touched. Only a fault that stops the whole
        back end is raised. One that makes several images in one call tells of each call before it begins
        (`resources.generators.in_hand`), so that a call that kills its process is held against all of its jobs.
        """
        ...

    def inpaint(self, tasks: Sequence[InpaintTask]) -> Iterator[Outcome]:
        """Like `generate`, for masked areas. Pixels outside the mask may change; the caller puts them back."""
        ...
