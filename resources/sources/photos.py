"""Source photos: from a path or URL in a request into the image store, checked once and never changed."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from imaging.errors import InvalidImageError
from imaging.files.decode import ACCEPTED, DecodedImage, decode_image
from imaging.files.mask_file import read_mask
from imaging.files.provenance import encode_png
from resources.settings import Settings
from resources.sources.names import is_url, without_secrets
from resources.store.image_store import SOURCES, ImageStore

MAX_BYTES: Final = 50_000_000
_EXTENSIONS: Final = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "HEIF": "heic"}
_REFERENCE: Final = r"(.*)@sha256:([0-9a-f]{64})\.(png|jpg|webp|heic)"

Fetch = Callable[[str], bytes]
"""Fetches the file behind a URL of at most `MAX_BYTES` bytes; raises InvalidImageError."""


class SourceInfo(BaseModel):
    """A source photo in the store.

    Attributes:
        path: the resolved path or the URL that it was read from, for people; it may be gone since.
        sha256: of the file's bytes, as 64 hexadecimal digits.
        stored: its place in the store: `sources/<sha256>.<ext>`.
        width: pixels, upright.
        height: pixels, upright.
        format: `PNG`, `JPEG`, `WEBP` or `HEIF`.
        bytes: size of the file.
        notes: what decoding changed, left out or assumed.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    sha256: str
    stored: str
    width: int
    height: int
    format: str
    bytes: int
    notes: tuple[str, ...] = ()


def import_source(path: str, *, settings: Settings, store: ImageStore, fetch: Fetch | None = None) -> SourceInfo:
    """Check a photo completely and copy its bytes into the store.

    The file is read once: what is checked, hashed and stored are the same bytes.

    Args:
        path: absolute, or relative to the current directory; `~` is the home folder. Links are followed. Or an http or
            https URL.
        settings: `source_roots`, when set, must contain the file that the links lead to; `source_urls` allows URLs.
        store: where the copy goes; one that is already there, whole, is left alone.
        fetch: fetches a URL; None: from public addresses only.

    Raises:
        InvalidImageError: not allowed, not a regular file, too large, or not an image that can be used.
        BackendError: the store cannot be written.
    """
    return keep_source(*_file(path, settings, fetch), store)


def import_mask(path: str, *, settings: Settings, store: ImageStore, fetch: Fetch | None = None) -> SourceInfo:
    """Read a mask as `import_source` reads a photo, and keep the grey PNG that it means.

    Raises:
        InvalidImageError: as for a photo, or no mask: see `read_mask`.
        BackendError: the store cannot be written.
    """
    found, name, data = _file(path, settings, fetch)
    mask, notes = read_mask(data, name=name)
    return keep_source(found, name, encode_png(mask), store).model_copy(update={"notes": notes})


def _file(path: str, settings: Settings, fetch: Fetch | None) -> tuple[str, str, bytes]:
    """Where a picture is, for people; the same as the request has it; and its file."""
    if is_url(path):
        name = without_secrets(path)
        return name, name, _fetch(path, settings, fetch)
    found = _resolve(path, settings)
    return str(found), path, _read(found, path)


def read_picture(path: str, settings: Settings) -> DecodedImage:
    """Read a photo from a path as `import_source` does, and keep no copy.

    Raises:
        InvalidImageError: not allowed, not a regular file, too large, or not an image that can be used.
    """
    return decode_image(_read(_resolve(path, settings), path), name=path)


def keep_source(path: str, name: str, data: bytes, store: ImageStore) -> SourceInfo:
    """Check a photo's bytes and keep them in the store.

    Args:
        path: where they come from, for people.
        name: the same as the request has it, for errors.
        data: the file.
        store: where the copy goes.

    Raises:
        InvalidImageError: not an image that can be used.
        BackendError: the store cannot be written.
    """
    image = decode_image(data, name=name)
    sha256 = hashlib.sha256(data).hexdigest()
    copy = f"{sha256}.{_EXTENSIONS[image.format]}"
    if not (store.exists(SOURCES, copy) and store.sha256_of(SOURCES, copy) == sha256):
        store.write(SOURCES, copy, data=data)
    height, width = image.pixels.shape[:2]
    return SourceInfo(
        path=path.encode("utf-8", "backslashreplace").decode(),  # names on disk need not be UTF-8
        sha256=sha256,
        stored=f"{SOURCES}/{copy}",
        width=width,
        height=height,
        format=image.format,
        bytes=len(data),
        notes=image.notes,
    )


def import_reference(path: str, *, settings: Settings, store: ImageStore, fetch: Fetch | None = None) -> str:
    """Import a photo that is only looked at: what a request keeps of it, `PATH@sha256:HEX.EXTENSION`.

    A text that `import_reference` gave before is given back, if its copy is there.

    Raises:
        InvalidImageError, BackendError: as `import_source` does.
    """
    known = re.fullmatch(_REFERENCE, path, re.DOTALL)
    if known and store.exists(SOURCES, f"{known[2]}.{known[3]}"):
        return path
    info = import_source(path, settings=settings, store=store, fetch=fetch)
    return f"{info.path}@sha256:{info.stored.removeprefix(f'{SOURCES}/')}"


def load_reference(stored: str, store: ImageStore) -> DecodedImage:
    """Read back what `import_reference` imported.

    Raises:
        InvalidImageError: the copy is missing or was changed.
        BackendError: the store cannot be read.
    """
    path, sha256, extension = re.fullmatch(_REFERENCE, stored, re.DOTALL).groups()  # type: ignore[union-attr]
    return decode_image(_read_copy(path, sha256, f"{SOURCES}/{sha256}.{extension}", store), name=path)


def load_source(info: SourceInfo, store: ImageStore) -> DecodedImage:
    """Read a source photo back and make sure that it is the one that was imported.

    Raises:
        InvalidImageError: the copy is missing or was changed.
        BackendError: the store cannot be read.
    """
    return decode_image(read_source(info, store), name=info.path)


def read_source(info: SourceInfo, store: ImageStore) -> bytes:
    """The file of a source photo, whole and the one that was imported.

    Raises:
        InvalidImageError: the copy is missing or was changed.
        BackendError: the store cannot be read.
    """
    return _read_copy(info.path, info.sha256, info.stored, store)


def _read_copy(path: str, sha256: str, stored: str, store: ImageStore) -> bytes:
    hint = f"Submit the job again, so that {path} is imported anew."
    try:
        data = store.read(*stored.split("/"))
    except FileNotFoundError:
        raise InvalidImageError(f"The stored copy {stored} of {path} is missing.", hint) from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InvalidImageError(f"The stored copy {stored} of {path} was changed or damaged.", hint)
    return data


def _fetch(url: str, settings: Settings, fetch: Fetch | None) -> bytes:
    if not settings.source_urls:
        raise InvalidImageError(
            f"{without_secrets(url)} is a URL, and source images are not fetched from URLs here.",
            "Download the photo and give its path, or set FC_SOURCE_URLS=true.",
        )
    return (fetch or fetcher())(url)


def fetcher(seconds: float | None = None) -> Fetch:
    """Fetches from public addresses only, in at most so many seconds each; None: the usual limit."""
    from resources.sources.urls import SECONDS, fetch_photo

    return functools.partial(fetch_photo, max_bytes=MAX_BYTES, seconds=seconds or SECONDS)


def _resolve(path: str, settings: Settings) -> Path:
    """The real path, inside the allowed roots. Outside them nothing is said about what exists."""
    try:
        found = Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, no home folder, a NUL in the name
        raise InvalidImageError(f"{path!r} is not a usable path: {error}.", "Give the path of an image file.") from None
    roots = [root.expanduser().resolve() for root in settings.source_roots]
    if roots and not any(found.is_relative_to(root) for root in roots):
        allowed = ", ".join(map(str, roots))
        raise InvalidImageError(
            f"{path} lies outside the folders that source images may come from.",
            f"Put it into one of these: {allowed}; or extend FC_SOURCE_ROOTS.",
        )
    return found


def _read(found: Path, path: str) -> bytes:
    """The bytes of a regular file. A pipe or device is refused without waiting for it."""
    try:
        with open(found, "rb", opener=_open_now) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InvalidImageError(f"{path} is not a regular file.", "Give the path of an image file.")
            data = file.read(MAX_BYTES + 1) if status.st_size <= MAX_BYTES else b""
    except OSError as error:
        raise InvalidImageError(
            f"{path} cannot be read: {error.strerror or error}.",
            "Check the path, and that this user may read the file.",
        ) from None
    size = max(status.st_size, len(data))
    if size > MAX_BYTES:
        raise InvalidImageError(
            f"{path} has {size / 1e6:.1f} MB; at most {MAX_BYTES / 1e6:.0f} MB are accepted.",
            f"Make it smaller, or save it as a compressed {ACCEPTED}.",
        )
    return data


def _open_now(path: str, flags: int) -> int:
    """Open without waiting. The path is resolved: a link in its last place was put there after the check."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)
