"""What a stage is given for each job, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import BackendError, NeedsReviewError
from jobs.model.job import Job
from jobs.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True)
class ExtraImage:
    """A picture that is kept beside the stage's value, for people to look at: uint8, RGB or grey.

    `folder` is one of those of the stage's `Artifact`.
    """

    folder: str
    name: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Done:
    """The result of one stage for one job.

    Attributes:
        value: what the next stages read; see `resources.artifacts.records`.
        metadata: what the Dagster UI shows for this partition; JSON values.
        picture: uint8 pixels of the thumbnail, RGB or grey; None for a stage without a picture.
        extras: further pictures to keep.
        face_boxes: (left, top, right, bottom) of the faces in `picture`, when they are known.
        quality: 0 to 1, when it was measured.
        turned_down: why a person must look at it first; the value is kept, and taken if the person approves.
    """

    value: Any
    metadata: Mapping[str, Any] = field(default_factory=dict)
    picture: NDArray[np.uint8] | None = None
    extras: Sequence[ExtraImage] = ()
    face_boxes: Sequence[tuple[int, int, int, int]] | None = None
    quality: float | None = None
    turned_down: NeedsReviewError | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One job at one stage.

    Attributes:
        job: the job.
        recipe: all that decides its pictures.
        inputs: the values of earlier stages, by stage; a stage that the job does not have is missing.
        input_hashes: SHA-256 of the same stages' files.
    """

    job: Job
    recipe: Recipe
    inputs: Mapping[str, Any]
    input_hashes: Mapping[str, str]

    def needs(self, stage: str) -> Any:  # noqa: ANN401 - the value of any stage
        """The value of an earlier stage.

        Raises:
            BackendError: when the job does not have it yet.
        """
        if stage not in self.inputs:
            raise BackendError(
                f"Job {self.job.id} has no {stage} yet.", f"Materialize {stage} of this partition first."
            )
        return self.inputs[stage]
