"""How a request names its photo: as a path or a URL, and what of a URL is stored."""

from __future__ import annotations

import re


def is_url(source: str) -> bool:
    """Whether a request means a URL by its `source_image`, of any scheme, and not a path."""
    return re.match(r"[a-z][a-z0-9+.-]*://", source, re.IGNORECASE) is not None


def without_secrets(source: str) -> str:
    """What is stored of a `source_image`: a URL without user and query, which may hold a key; a path as it is."""
    return re.sub(r"(?<=://)[^/?#]*@|[?#].*", "", source, flags=re.DOTALL) if is_url(source) else source
