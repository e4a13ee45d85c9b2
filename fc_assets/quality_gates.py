"""What a quality gate means for a job.

Belongs here: the words for the person who must look. Does not: the decision (`imaging.gates`), or measuring.
"""

from __future__ import annotations

from imaging.errors import NeedsReviewError
from imaging.gates import Decision


def low_quality(job_id: str, what: str, decision: Decision, setting: str) -> NeedsReviewError | None:
    """Why a person must look, if the gate says so.

    Args:
        job_id: the job.
        what: what was looked at, such as `final image`.
        decision: the gate's.
        setting: the gate's setting.
    """
    if decision.verdict != "review":
        return None
    return NeedsReviewError(
        f"The {what} of job {job_id} is not good enough: {decision.text}.",
        f"`fc approve JOB` takes it as it is; `fc retry JOB --seed N` makes another; or lower {setting}.",
    )
