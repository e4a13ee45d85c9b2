"""The kinds of faults that end an attempt: how often a job of each is tried, and how long it waits in between."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from imaging.errors import OutOfMemoryError, TransientError
from resources.settings import Settings

Fault = Literal["service", "crash", "memory", "permanent"]
"""service: busy, down or too slow. crash: the run died. memory: too short, for one image alone. permanent: a wrong
request, a wrong setting, a bug: it would fail again."""

LONGEST_WAIT: Final = 86400.0
"""Seconds; a server that asks for more patience than a day is asked again after a day."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done about one kind of fault.

    Attributes:
        setting: the field of `Settings` with the most attempts; None: one.
        first_delay: seconds before the second attempt; each further wait is twice as long.
        longest_delay: the most that doubling comes to, in seconds.
    """

    setting: str | None
    first_delay: float = 0.0
    longest_delay: float = 600.0


POLICIES: Final[Mapping[Fault, Policy]] = {
    "service": Policy("service_attempts", first_delay=10.0),
    "crash": Policy("max_attempts"),  # noticing that a run died has taken some seconds already
    "memory": Policy("memory_attempts", first_delay=60.0),  # time for the neighbours to leave the device
    "permanent": Policy(None),
}


def fault_of(error: Exception) -> Fault:
    """Which kind an error of a stage is; torch's and Python's own errors of short memory count as such."""
    if isinstance(error, OutOfMemoryError | MemoryError) or type(error).__name__ == OutOfMemoryError.__name__:
        return "memory"
    return "service" if isinstance(error, TransientError) else "permanent"


def most_attempts(fault: Fault, settings: Settings) -> int:
    """How often a job is tried that ends with this kind of fault each time."""
    setting = POLICIES[fault].setting
    return 1 if setting is None else int(getattr(settings, setting))


def seconds_before_next(fault: Fault, failed: int, retry_after: float | None = None) -> float:
    """How long a job waits: twice as long each time, at least as long as the server asks, and up to a quarter more.

    The part by chance keeps jobs that failed together from coming back together.

    Args:
        fault: the kind.
        failed: attempts that ended with this kind so far, at least 1.
        retry_after: seconds that the server asked for.
    """
    policy = POLICIES[fault]
    doubled = min(policy.first_delay * 2.0 ** min(failed - 1, 30), policy.longest_delay)
    least = min(max(doubled, retry_after or 0.0), LONGEST_WAIT)
    return least * random.uniform(1.0, 1.25)  # noqa: S311 - spreads jobs out; not a secret


def counted(faults: Mapping[str, int]) -> str:
    """How often each kind came, for people: `2 service, 1 crash`."""
    return ", ".join(f"{number} {fault}" for fault, number in faults.items())
