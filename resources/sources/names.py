"""How a request names its photo: as a path or a URL, and what of a URL is stored."""

from __future__ import annotations

import re
from typing import Final

PHOTO_ENDINGS: Final = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".heic", ".heif", ".hif")
"""What files are called, in lower case, of the kinds that are read; the bytes decide."""


def is_url(source: str) -> bool:
    """Whether a request means a URL by its `source_image`, of any scheme, and not a path."""
    return re.match(r"[a-z][a-z0-9+.-]*://", source, re.IGNORECASE) is not None


def without_secrets(source: str) -> str:
    """What is stored of a `source_image`: a URL without user and query, which may hold a key; a path as it is."""
    return re.sub(r"(?<=://)[^/?#]*@|[?#].*", "", source, flags=re.DOTALL) if is_url(source) else source
