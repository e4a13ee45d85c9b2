"""What an address of a server may look like."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_plain_url(url: str) -> bool:
    """Whether it is an http or https address without a user name or password, which would end up in logs."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises when it is no number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
