"""One look into the inbox at a time, in a thread beside the ticks: a long file or a slow disk keeps no job waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jobs.requests.inbox import InboxReport

WAIT_SECONDS = 3.0
"""How long a tick waits for the look; nearly every one is over by then."""

_going_on: Final[dict[Path, _Look]] = {}


class _Look(threading.Thread):
    """A look that is going on. Its process may end in the middle: the next look finds what was submitted."""

    def __init__(self, take: Callable[[], InboxReport]) -> None:
        super().__init__(name="inbox", daemon=True)
        self._take = take
        self._report: InboxReport | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._report = self._take()
        except BaseException as error:  # noqa: BLE001 - raised again by the tick that hears of it
            self._error = error

    def result(self) -> InboxReport | None:
        if self._error is not None:
            raise self._error
        return self._report


def look_beside(inbox: Path, take: Callable[[], InboxReport]) -> InboxReport | None:
    """Begin a look, unless one is going on, and wait a little for it.

    Args:
        inbox: which one.
        take: looks into it.

    Returns:
        What the look did; None: it is still going on, and a later call tells of it.
    """
    if inbox not in _going_on:
        _going_on[inbox] = _Look(take)
        _going_on[inbox].start()
    look = _going_on[inbox]
    look.join(WAIT_SECONDS)
    if look.is_alive():
        return None
    _going_on.pop(inbox, None)
    return look.result()
