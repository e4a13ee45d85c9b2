"""The `Retry-After` header: how long a server asks to be left alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a `retry-after` header asks for, as a number or as a date (RFC 9110, section 10.2.3).

    Args:
        headers: those of an answer; their names are found in any case, or in lower case.

    Returns:
        At least 0, and it may be infinite; None when there is no such header, or it says nothing.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # not a date either; TypeError: a date without a zone
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)
