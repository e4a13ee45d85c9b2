"""Times as people write them: a moment (`--at`), and what comes again and again (`--every`).

Times without a zone are this machine's local time, and so are cron expressions: 9 o'clock stays 9 o'clock when the
clocks change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from typing import Final

from cronsim import CronSim, CronSimError

from imaging.errors import RejectedError

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LENGTH: Final = re.compile(r"(\d{1,6})([mhdw])", re.ASCII)
_LONGEST_CRON: Final = 200  # characters
_FIRST_YEAR, _LAST_YEAR = 2, 9998  # in these, every local time can be told
_CLOCK: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)", re.ASCII)


def read_moment(written: str | datetime, *, now: datetime | None = None) -> datetime:
    """Read a moment: ISO 8601, `HH:MM` (the next such time), or `+2h` from now (m, h, d, w).

    Args:
        written: the text; or a time, as YAML reads one.
        now: the aware time to count from; None: the clock's.

    Returns:
        An aware UTC time.

    Raises:
        ValueError: it is none of these.
    """
    now = datetime.now(UTC) if now is None else now
    with suppress(ValueError, OverflowError, OSError):
        moment = _moment(written, now)
        if moment is not None and _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            return moment
    raise ValueError("is no time; write 2026-11-30T09:00, 2026-11-30T09:00+01:00, 09:00, or +2h (m, h, d, w)")


def _moment(written: str | datetime, now: datetime) -> datetime | None:
    if isinstance(written, datetime):
        return written.astimezone(UTC)
    text = written.strip()
    if text.startswith("+"):
        length = _length(text[1:])
        return None if length is None else now + length
    if clock := _CLOCK.fullmatch(text):
        return _next_clock(time(int(clock[1]), int(clock[2])), now)
    return datetime.fromisoformat(text).astimezone(UTC)


def next_time(every: str, after: datetime, *, last: datetime | None = None) -> datetime:
    """The first time later than `after`.

    Args:
        every: an interval, or a cron expression of five fields (minute, hour, day of the month, month, weekday), read
            as Debian's cron does.
        after: aware.
        last: an earlier time of the same series, for intervals to count from; None: `after`.

    Returns:
        An aware UTC time.

    Raises:
        RejectedError: `every` is neither, or there is no such time.
    """
    length = _length(every.strip())
    if length is not None:
        if not length:
            raise RejectedError("--every: 0 is no interval.", "Write an interval such as 90m, 1h or 1d.")
        start = after if last is None else last
        with suppress(OverflowError):
            return start + length * max(1, (after - start) // length + 1)
        raise RejectedError(f"--every: {every!r} never comes.", "Write a shorter interval, such as 90m, 1h or 1d.")
    for local in _cron_times(every, after):
        moment = local.astimezone(UTC)
        exists = moment.astimezone().replace(tzinfo=None) == local  # not left out when the clocks go forward
        if exists and moment > after:
            return moment
    raise RejectedError(f"--every: {every!r} never comes.", "Correct the day of the month or the month.")


def _length(text: str) -> timedelta | None:
    found = _LENGTH.fullmatch(text)
    return timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None


def _next_clock(clock: time, now: datetime) -> datetime:
    today = now.astimezone().date()
    moments = (datetime.combine(today + timedelta(days=day), clock).astimezone(UTC) for day in (0, 1, 2))
    return next(moment for moment in moments if moment > now)


def _cron_times(text: str, after: datetime) -> Iterator[datetime]:
    """The local times, without a zone."""
    if len(text) > _LONGEST_CRON or len(text.split()) != 5:
        raise RejectedError(
            f"--every: {text!r} is neither an interval nor a cron expression.",
            "Write an interval such as 90m, 1h or 1d, or five fields such as '0 9 * * mon-fri'.",
        )
    try:
        return CronSim(text, after.astimezone().replace(tzinfo=None))
    except CronSimError as error:
        raise RejectedError(
            f"--every: {text!r} is no cron expression: {str(error).lower()}.",
            "Write for each field *, a number, a range a-b, a step */n, or several of these with commas.",
        ) from None
