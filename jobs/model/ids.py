"""Job ids: how one is made, and which ones a user may choose.

A job id names a partition, a row and a file, so it holds nothing that a path or a shell would read in its own
way.
"""

from __future__ import annotations

import re
import secrets
import threading
from datetime import UTC, datetime, timedelta
from typing import Final

from imaging.errors import RejectedError

_FORM: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: in the order of ASCII, and without letters that are taken for digits."""
_TICKS: Final = 32**4  # of a minute: 57 microseconds each
_LEAST_STEP: Final = timedelta(microseconds=58)

_lock = threading.Lock()
_last = datetime.min.replace(tzinfo=UTC)


def new_job_id(now: datetime | None = None) -> str:
    """Make an id that sorts by time, such as `261121-1015-8h3kx7`.

    Its parts are the UTC date, hour and minute; four digits of base 32 for the rest of the minute; and two by chance.
    Two calls in one process never go backwards, even when the clock does. Two processes may, once in a thousand
    collisions of a tick, make the same one: whoever adds the second job is told, and takes another (`jobs.requests`).

    Args:
        now: the aware time to use instead of the clock's; taken as it is.
    """
    moment = _next_moment() if now is None else now.astimezone(UTC)
    tick = (moment.second * 1_000_000 + moment.microsecond) * _TICKS // 60_000_000
    rest = "".join(_DIGITS[tick >> shift & 31] for shift in (15, 10, 5, 0))
    return f"{moment:%y%m%d-%H%M}-{rest}{secrets.choice(_DIGITS)}{secrets.choice(_DIGITS)}"


def _next_moment() -> datetime:
    global _last  # noqa: PLW0603 - one clock for the process
    with _lock:
        _last = max(datetime.now(UTC), _last + _LEAST_STEP)
        return _last


def check_job_id(text: str) -> str:
    """Return `text` if it can be a job id.

    Raises:
        RejectedError: names the field `job_id` and the hint.
    """
    if not isinstance(text, str) or not _FORM.fullmatch(text):
        shown = repr(text)
        raise RejectedError(
            f"job_id: {shown if len(shown) <= 80 else shown[:77] + '...'} cannot name a job.",
            "Use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends; or leave it out.",
        )
    return text
