"""Fetching from the Hub and loading, with errors that say of what: for SDXL and Flux alike."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from imaging.errors import BackendError, FaceChangerError

_log = logging.getLogger(__name__)

Fetched = TypeVar("Fetched")


def fetch(field: str, wanted: str, get: Callable[[], Fetched], hint: str) -> Fetched:
    """Fetch something into the Hub cache.

    Args:
        field: the variable or the job's field that names it, for messages.
        wanted: what it is, for messages.
        get: fetches it.
        hint: how else it can be brought here.

    Raises:
        BackendError: it cannot be downloaded.
    """
    _log.info("Downloading %s (%s) into the Hub cache.", wanted, field)
    try:
        return get()
    except Exception as error:
        raise BackendError(
            f"{field}={wanted} is not on this machine, and as a Hub id it cannot be downloaded "
            f"({type(error).__name__}: {_first_line(error)}).",
            hint,
        ) from error


@contextmanager
def loading(field: str, path: Path | None, device: str, dtype: str) -> Iterator[None]:
    """Inside, what goes wrong becomes an error that names the file that it went wrong with.

    Raises:
        BackendError: it cannot be loaded.
    """
    try:
        yield
    except FaceChangerError:
        raise
    except Exception as error:
        raise BackendError(
            f"{field}: {path} cannot be loaded on {device} as {dtype} ({type(error).__name__}: {_first_line(error)}).",
            "Download or copy it again if it is damaged; free memory on the device if that was short.",
        ) from error


def without_progress_bars() -> None:
    """Let diffusers and transformers be silent while they load."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _first_line(error: Exception) -> str:
    """What an error says in its first line; libraries add pages."""
    return (str(error).strip().splitlines() or [""])[0]
