"""The life of a job as one table: from which status to which it may go, and by whose hand.

`waiting` is a job that other jobs keep from its turn, and a group whose jobs are not over (`jobs.queue.families`).
"""

from __future__ import annotations

from typing import Final, Literal, get_args

JobStatus = Literal[
    "held",
    "waiting",
    "pending",
    "claimed",
    "running",
    "completed",
    "needs_review",
    "failed",
    "cancelled",
    "rejected",
    "archived",
]
Actor = Literal["sensor", "run", "person"]
"""sensor: it claims, and settles runs that are over. run: its stages. person: by a command or in the Dagster UI."""

JOB_STATUSES: Final[tuple[JobStatus, ...]] = get_args(JobStatus)

_SENSOR: Final[frozenset[Actor]] = frozenset({"sensor"})
_RUN: Final[frozenset[Actor]] = frozenset({"run"})
_PERSON: Final[frozenset[Actor]] = frozenset({"person"})

TRANSITIONS: Final[dict[JobStatus, dict[JobStatus, frozenset[Actor]]]] = {
    "held": {"pending": _PERSON, "waiting": _PERSON, "running": _PERSON, "cancelled": _PERSON},
    "waiting": {
        "pending": _SENSOR,
        "completed": _SENSOR,
        "needs_review": _SENSOR,
        "failed": _SENSOR,
        "running": _PERSON,
        "cancelled": _PERSON,
    },
    "pending": {"claimed": _SENSOR, "running": _PERSON, "waiting": _PERSON, "cancelled": _PERSON},
    "claimed": {"running": _RUN, "pending": _SENSOR, "failed": _SENSOR, "cancelled": _SENSOR | _PERSON},
    "running": {
        "completed": _RUN | _SENSOR,
        "needs_review": _RUN,
        "rejected": _RUN,
        "failed": _RUN | _SENSOR,
        "pending": _RUN | _SENSOR,
        "held": _RUN | _SENSOR,
        "cancelled": _SENSOR | _PERSON,
    },
    "completed": {
        "pending": _PERSON,
        "waiting": _PERSON,
        "running": _PERSON,
        "rejected": _PERSON,
        "archived": _PERSON,
    },
    "needs_review": {
        "pending": _PERSON,
        "waiting": _PERSON,
        "running": _PERSON,
        "rejected": _PERSON,
        "archived": _PERSON,
    },
    "failed": {"pending": _PERSON, "waiting": _PERSON, "running": _PERSON, "archived": _PERSON},
    "cancelled": {"pending": _PERSON, "waiting": _PERSON, "running": _PERSON, "archived": _PERSON},
    "rejected": {"pending": _PERSON, "waiting": _PERSON, "archived": _PERSON},
    "archived": {},
}


def sources(status: JobStatus, *, by: Actor) -> tuple[JobStatus, ...]:
    """The statuses from which `by` may bring a job to `status`: what a guarded update asks for."""
    return tuple(before for before, allowed in TRANSITIONS.items() if by in allowed.get(status, ()))


FINAL: Final[frozenset[JobStatus]] = frozenset(
    before for before, allowed in TRANSITIONS.items() if all(actors == _PERSON for actors in allowed.values())
) - {"held"}
"""The statuses of a job that has ended: it leaves them only by a person's hand."""
