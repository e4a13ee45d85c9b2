"""Which pictures a command line means, and what is written about them is called."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

from imaging.errors import InvalidImageError, RejectedError
from resources.sources.names import PHOTO_ENDINGS

ENDINGS: Final = frozenset((*PHOTO_ENDINGS, ".gif", ".bmp", ".tif", ".tiff", ".avif"))
"""The last five are told as refused when they are read: a picture is never left out in silence."""
OURS: Final = re.compile(r"\.(faces|mask|face-\d+)\.png$")
"""What `fc faces --out` writes; left out when a folder is looked through."""
_MOST_BYTES: Final = 180  # of a name, so that what is put behind it fits into the usual 255


def find_pictures(named: Iterable[Path], *, recursive: bool = False) -> list[Path]:
    """The files that are named, and the pictures of the folders that are, each once; a folder's in order of names.

    A folder's pictures are known by their endings. Hidden files and folders, and what `fc faces --out` wrote, are left
    out; so are links to folders.

    Raises:
        RejectedError: a folder without a picture.
        InvalidImageError: a folder that cannot be read.
    """
    found: dict[Path, Path] = {}
    for path in named:
        pictures = sorted(_pictures_in(path, recursive=recursive)) if path.is_dir() else [path]
        if not pictures:
            more = "Name another one." if recursive else "--recursive looks into its folders too."
            raise RejectedError(f"{path} holds no picture.", more)
        for picture in pictures:
            found.setdefault(picture.absolute(), picture)
    return list(found.values())


def pictures_of(named: Sequence[str]) -> tuple[list[str], list[str]]:
    """What `--source-image` names, each folder replaced by its pictures in natural order (`2.jpg` before `10.jpg`).

    A folder's pictures are known by their endings, as in `find_pictures`; what lies in its folders is not looked at.

    Returns:
        The pictures, and all else that lies in the folders.

    Raises:
        RejectedError: a folder without a picture.
        InvalidImageError: a folder that cannot be read.
    """
    pictures: list[str] = []
    left_out: list[str] = []
    for name in named:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            pictures.append(name)
            continue
        try:
            inside = in_natural_order(str(path) for path in folder.iterdir())
        except OSError as error:
            _cannot_be_read(error)
        wanted = [path for path in inside if _is_picture(Path(path).name) and not Path(path).is_dir()]
        if not wanted:
            raise RejectedError(f"source_image: the folder {name} holds no picture.", "Name another one.")
        pictures += wanted
        left_out += [path for path in inside if path not in wanted]
    return pictures, left_out


def in_natural_order(paths: Iterable[str]) -> list[str]:
    """Paths by their names, with numbers in them by their size."""
    return sorted(paths, key=lambda path: [(not part.isdigit(), part.zfill(20)) for part in _parts(path)])


def _parts(path: str) -> list[str]:
    return re.findall(r"[0-9]+|[^0-9]+", path.casefold())


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in ENDINGS and not OURS.search(name)


def _pictures_in(folder: Path, *, recursive: bool) -> Iterator[Path]:
    for at, folders, files in os.walk(folder, onerror=_cannot_be_read):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        for name in files:
            if _is_picture(name):
                yield Path(at, name)


def _cannot_be_read(error: OSError) -> NoReturn:
    raise InvalidImageError(
        f"The folder {error.filename} cannot be read: {error.strerror or error}.",
        "Correct its rights, or name the pictures themselves.",
    )


def names_for(pictures: Iterable[Path]) -> list[str]:
    """A name for each picture: that of its file without the ending, and a number where that is taken.

    No two are the same, on file systems that do not tell upper from lower case either.
    """
    names: list[str] = []
    taken: set[str] = set()
    for picture in pictures:
        stem = picture.stem.lstrip(".").encode("utf-8", "replace")[:_MOST_BYTES].decode("utf-8", "ignore")
        stem = stem or "picture"
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names
