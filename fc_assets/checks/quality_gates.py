"""What a quality gate means for a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import NeedsReviewError
from imaging.quality.gates import Decision, Gate, decide
from imaging.quality.score import quality_score


@dataclass(frozen=True, slots=True)
class Judged:
    """A picture as a gate saw it.

    Attributes:
        quality: its score, 0 to 1.
        parts: what the score was made of.
        decision: the gate's.
    """

    quality: float
    parts: Mapping[str, float]
    decision: Decision

    @property
    def warnings(self) -> list[str]:
        """What the gate had to say, in a list; empty when it passed."""
        return [self.decision.text] if self.decision.text else []

    @property
    def metadata(self) -> dict[str, Any]:
        """What the Dagster UI shows of it."""
        return {"quality": self.quality, "quality_parts": self.parts, "warnings": self.warnings}

    def turned_down(self, job_id: str, what: str, setting: str) -> NeedsReviewError | None:
        """Why a person must look, if the gate says so.

        Args:
            job_id: the job.
            what: what was looked at, such as `final image`.
            setting: the gate's setting.
        """
        if self.decision.verdict != "review":
            return None
        return NeedsReviewError(
            f"The {what} of job {job_id} is not good enough: {self.decision.text}.",
            f"`fc approve JOB` takes it as it is; `fc retry JOB --seed N` makes another; or lower {setting}.",
        )


def judge(pixels: NDArray[np.uint8], gate: Gate) -> Judged:
    """Measure a picture, RGB uint8 of shape (height, width, 3), and ask a gate."""
    quality, parts = quality_score(pixels)
    return Judged(quality, parts, decide(gate, quality, parts))
