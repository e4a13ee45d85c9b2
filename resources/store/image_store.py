"""The image store: named folders of files, on a local disk or behind any fsspec URL.

A local file is written under a temporary name `.<name>.<random>.tmp` in its own folder, flushed to the disk,
and renamed, so that neither a crash nor a power cut leaves half a file under its real name. The folder itself
is not flushed: after a power cut a name that was written in the last seconds may be missing, and its stage
runs again. Object stores make an object visible only when its upload is complete, so there one put is enough.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from upath import UPath

from imaging.errors import BackendError, SettingsError, TransientError
from resources.store.whole_file import link_whole, write_whole

SOURCES: Final = "sources"
HISTORY: Final = "history"

_LOCAL_PROTOCOLS: Final = ("", "file", "local")
_MAX_NAME_BYTES: Final = 200  # leaves room for the temporary name within the usual 255
_TEMP_NAME: Final = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
_LEFTOVER_AGE: Final = 3600.0  # seconds; longer than any write takes


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in the store.

    Attributes:
        path: its full path or URL.
        sha256: of its bytes, as 64 hexadecimal digits.
        bytes: how many.
    """

    path: str
    sha256: str
    bytes: int


class ImageStore:
    """Files under one root. Safe to use from several threads and processes; the last writer of a name wins.

    Every method takes a file's place as parts, for example `("6-final", "job-1.png")`.

    Attributes:
        root: the absolute folder or URL.
    """

    def __init__(self, root: str) -> None:
        """Open the store; nothing is created before the first write.

        Raises:
            SettingsError: no such kind of URL, or its driver is not installed.
        """
        try:
            path = UPath(root)
            self._local = path.protocol in _LOCAL_PROTOCOLS
            self._root = UPath(Path(path.path).expanduser().absolute()) if self._local else path
            _ = self._root.fs  # loads the driver
        except (ImportError, ValueError) as error:
            raise SettingsError(
                f"The image store {_shown(root)!r} cannot be opened: {error}.",
                "Set FC_DATA_DIR to a folder, or to a URL whose fsspec driver is installed (s3fs for s3://).",
            ) from error
        self.root = str(self._root)

    def path(self, *parts: str) -> UPath:
        """Where a file lies, whether it exists or not.

        Raises:
            ValueError: a part that is empty, too long, hidden, or could lead out of the store.
        """
        if not parts:
            raise ValueError("A place in the store needs at least one name.")
        for part in parts:
            _check_part(part)
        return self._root.joinpath(*parts)

    def url(self, *parts: str) -> str:
        """The address for other programs: `file:///...`, or the URL."""
        return _shown(self.path(*parts).as_uri())

    def as_stored(self, *parts: str, data: bytes) -> StoredFile:
        """What `write` and `replace` will return for the same file; nothing is written."""
        return StoredFile(_shown(str(self.path(*parts))), hashlib.sha256(data).hexdigest(), len(data))

    def write(self, *parts: str, data: bytes, like: tuple[str, ...] | None = None) -> StoredFile:
        """Store a whole file, or none.

        Args:
            parts: its place.
            data: its bytes.
            like: the place of a file of the same bytes that was just written; a local one shares them by a hard link.

        Raises:
            BackendError: no permission, no space, or the store cannot be reached (`TransientError`).
        """
        path = self.path(*parts)
        with _naming(path, "written"):
            if not self._local:
                path.fs.pipe_file(path.path, data)
            elif like is None or not link_whole(Path(self.path(*like).path), Path(path.path)):
                write_whole(Path(path.path), data)
        return self.as_stored(*parts, data=data)

    def replace(self, *parts: str, data: bytes, like: tuple[str, ...] | None = None) -> StoredFile:
        """Store a whole file as `write` does; a different one that was there is put away first (`history_place`).

        Raises:
            BackendError: as `write`, or the old file cannot be read; it is left as it was.
        """
        try:
            old = self.read(*parts)
        except FileNotFoundError:
            old = data
        if old != data:
            self.write(*history_place(*parts, sha256=hashlib.sha256(old).hexdigest()), data=old)
        return self.write(*parts, data=data, like=like)

    def read(self, *parts: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: there is none; the message names it.
            BackendError: it cannot be read.
        """
        path = self.path(*parts)
        with _naming(path, "read"):
            return bytes(path.read_bytes())

    def exists(self, *parts: str) -> bool:
        """Whether there is such a file.

        Raises:
            BackendError: the store cannot be reached.
        """
        path = self.path(*parts)
        with _naming(path, "looked up"):
            return bool(path.is_file())

    def files_of(self, name: str, folders: Iterable[str]) -> list[tuple[str, ...]]:
        """The places of all files in these folders, and below them in `history`, called `name` up to the first dot.

        Raises:
            BackendError: the store cannot be reached.
        """
        self.path(name)  # refuses what is no name
        in_use = [(folder,) for folder in folders]
        return [
            (*folder, file)
            for folder in [*in_use, *((HISTORY, *place) for place in in_use)]
            for file in self.names(*folder)
            if file.partition(".")[0] == name
        ]

    def names(self, *folder: str) -> list[str]:
        """The names of all files in a folder, sorted; none when it is not there.

        Raises:
            BackendError: the store cannot be reached.
        """
        path = self.path(*folder)
        with _naming(path, "looked up"):
            return sorted(file.name for file in path.iterdir() if file.is_file()) if path.is_dir() else []

    def remove(self, *parts: str) -> None:
        """Remove a file; one that is gone is no error.

        Raises:
            BackendError: no permission, or the store cannot be reached.
        """
        path = self.path(*parts)
        with _naming(path, "removed"):
            path.unlink(missing_ok=True)

    def sha256_of(self, *parts: str) -> str:
        """The SHA-256 of a file, read piece by piece; errors as in `read`."""
        path = self.path(*parts)
        with _naming(path, "read"), path.open("rb") as file:
            digest = hashlib.sha256()
            while piece := file.read(1 << 20):
                digest.update(piece)
            return digest.hexdigest()

    def bytes_of(self, *parts: str) -> int:
        """The size of a file in bytes; 0 when it is gone.

        Raises:
            BackendError: the store cannot be reached.
        """
        path = self.path(*parts)
        with _naming(path, "looked up"):
            return int(path.stat().st_size) if path.is_file() else 0

    def remove_temp_leftovers(self, older_than: float = _LEFTOVER_AGE) -> int:
        """Remove the temporary files of writers that were killed. Other files are not touched.

        Args:
            older_than: seconds; younger ones may belong to a write that is under way.

        Returns:
            How many were removed; 0 for object stores, which have none.
        """
        removed = 0
        for path in self.temp_leftovers(older_than):
            with _naming(path, "removed"):
                try:
                    path.unlink()
                except FileNotFoundError:  # its writer has just finished, or another cleaner was faster
                    continue
            removed += 1
        return removed

    def temp_leftovers(self, older_than: float = _LEFTOVER_AGE) -> list[Path]:
        """The temporary files of writers that were killed, as `remove_temp_leftovers` would remove them."""
        found = []
        for path in Path(self.root).rglob(".*.tmp") if self._local else ():
            with _naming(path, "looked up"):
                try:
                    if _TEMP_NAME.fullmatch(path.name) and time.time() - path.stat().st_mtime >= older_than:
                        found.append(path)
                except FileNotFoundError:
                    continue
        return found


def history_place(*parts: str, sha256: str) -> tuple[str, ...]:
    """Where a file that was replaced lies: `history/<folder>/<name>.<start of its SHA-256>.<ending>`."""
    stem, dot, ending = parts[-1].rpartition(".")
    return (HISTORY, *parts[:-1], f"{stem}.{sha256[:16]}{dot}{ending}")


def _check_part(part: str) -> None:
    if not part or part.startswith(".") or re.search(r"[/\\\x00-\x1f\x7f]", part):
        raise ValueError(f"{part!r} cannot be a name in the store: empty, hidden, or with a separator in it.")
    if len(part.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES:
        raise ValueError(f"The name {part[:40]!r}... is longer than {_MAX_NAME_BYTES} bytes.")


@contextmanager
def _naming(path: UPath | Path, doing: str) -> Iterator[None]:
    """Turn any fault of the file system into an error that names the file and the setting."""
    try:
        yield
    except FileNotFoundError as error:
        if doing != "read":
            raise _fault(BackendError, path, doing, error) from error
        raise FileNotFoundError(
            f"{_shown(str(path))} is not in the store. Materialize its stage again, or check FC_DATA_DIR."
        ) from error
    except (ConnectionError, TimeoutError) as error:
        raise _fault(TransientError, path, doing, error) from error
    except Exception as error:  # fsspec's drivers raise the types of their own libraries
        raise _fault(BackendError, path, doing, error) from error


def _fault(kind: type[BackendError], path: UPath | Path, doing: str, error: Exception) -> BackendError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
    return kind(
        f"{_shown(str(path))} cannot be {doing}: {_shown(reason)}.",
        "Check that FC_DATA_DIR is right, that this user may write there, and that there is space left.",
    )


def _shown(text: str) -> str:
    """The text without the user and password of a URL."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", text)
