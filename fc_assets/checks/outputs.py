"""Whether what a back end gave is a picture at all; every scene and every new face goes through here."""

from __future__ import annotations

import numpy as np

from imaging.errors import BackendError, NeedsReviewError
from resources.generators.base import Outcome


def as_picture(outcome: Outcome, what: str) -> Outcome:
    """What a back end gave for one task, or an error when its array is not RGB uint8 of shape (height, width, 3).

    Args:
        outcome: what it gave; an error stays as it is.
        what: what was asked for, and of which job.
    """
    if isinstance(outcome, Exception):
        return outcome
    pixels = outcome.pixels
    if isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3:
        return outcome
    found = f"{getattr(pixels, 'dtype', type(pixels).__name__)} of shape {getattr(pixels, 'shape', 'unknown')}"
    return BackendError(
        f"The back end gave {found} for {what}; RGB uint8 is expected, of shape (height, width, 3).",
        "This is a fault of the back end that FC_GENERATOR names.",
    )


def not_usable(what: str, reasons: str) -> NeedsReviewError:
    """Why a person must look at what a back end gave; `what` says of which job."""
    return NeedsReviewError(
        f"{what} was turned down: {reasons}.",
        "`fc approve JOB` takes it as it is; `fc retry JOB --seed N` or `--set pony_prompt=...` makes another.",
    )
