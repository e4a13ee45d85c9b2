"""One look into the inbox at a time, in a thread beside the ticks: a long file or a slow disk keeps no job waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Final

from jobs.requests.inbox import InboxReport

WAIT_SECONDS = 3.0
"""How long a tick waits for the look; nearly every one is over by then."""

_going_on: Final[dict[Path, Future[InboxReport]]] = {}


def look_beside(inbox: Path, take: Callable[[], InboxReport]) -> InboxReport | None:
    """Begin a look, unless one is going on, and wait a little for it.

    Args:
        inbox: which one.
        take: looks into it; what it raises is raised here.

    Returns:
        What the look did; None: it is still going on, and a later call tells of it.
    """
    look = _going_on.get(inbox)
    if look is None:
        look = _going_on[inbox] = _begun(take)
    if not wait([look], WAIT_SECONDS).done:
        return None
    _going_on.pop(inbox, None)
    return look.result()


def _begun(take: Callable[[], InboxReport]) -> Future[InboxReport]:
    """Run it in a thread that the end of the process does not wait for: the next look finds what was submitted."""
    look: Future[InboxReport] = Future()

    def run() -> None:
        try:
            look.set_result(take())
        except BaseException as error:  # noqa: BLE001 - the tick that hears of it raises it
            look.set_exception(error)

    threading.Thread(target=run, name="inbox", daemon=True).start()
    return look
