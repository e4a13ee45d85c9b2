"""The files that `fc faces` writes: portraits, masks, pictures with boxes, and the contact sheet."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imaging.errors import BackendError, FaceChangerError
from imaging.files.debug_picture import debug_picture
from imaging.files.montage import montage
from jobs.cli.contact_sheet import CELL, PAPER, Row, write_contact_sheet
from jobs.cli.faces_analysis import Analysis, Compared
from resources.store.whole_file import write_whole

COLUMNS: Final = ("faces", "portraits", "mask")
ROWS: Final = 40  # of one page of the sheet, so that it can be opened and held in memory


def write_files(folder: Path, name: str, found: Analysis) -> dict[str, Any]:
    """Write `NAME.faces.png`, `NAME.face-1.png` ... and `NAME.mask.png`, each whole or not at all.

    Returns:
        Where they lie: `faces`, `portraits` in the order of the faces, and `mask`.

    Raises:
        BackendError: one cannot be written.
    """
    portraits = [
        _write(folder / f"{name}.face-{number}.png", portrait.cut(found.image.pixels))
        for number, portrait in enumerate(found.portraits, start=1)
    ]
    mask = _write(folder / f"{name}.mask.png", found.mask)
    overview = debug_picture(found.image.pixels, found.selection.kept, found.selection.dropped)
    return {"faces": _write(folder / f"{name}.faces.png", overview), "portraits": portraits, "mask": mask}


def _write(path: Path, pixels: NDArray[np.uint8]) -> str:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="PNG")
    try:
        write_whole(path, data.getvalue())
    except OSError as error:
        raise _cannot_be_written(path, error) from error
    return str(path)


def _cannot_be_written(path: Path, error: OSError) -> BackendError:
    return BackendError(
        f"{path} cannot be written: {error.strerror or error}.",
        "Check that this user may write there, and that there is space left.",
    )


class Sheet:
    """A contact sheet that grows by a row for each picture; a page ends after 40 rows, so memory stays flat.

    Args:
        path: of the first page; the next are called `NAME-2.png` and so on.
        note: under the title of each page.
        pictures: all that there will be rows of.

    Attributes:
        pages: those that are written.
    """

    def __init__(self, path: Path, note: str, pictures: Sequence[Path]) -> None:
        self._path = path
        self._root = os.path.commonpath([picture.absolute().parent for picture in pictures])
        self._note = note
        self._rows: list[Row] = []
        self.pages: list[Path] = []

    def add(self, path: Path, found: Analysis) -> None:
        """A row with the picture and its boxes, its portraits, and its mask."""
        overview = debug_picture(
            found.image.pixels, found.selection.kept, found.selection.dropped, longest=CELL, brief=True
        )
        images = (Image.fromarray(overview), _portraits(found), _mask(found))
        self._add(Row(path.name, f"{self._place(path)}{_caption(found)}", images))

    def add_error(self, path: Path, error: FaceChangerError) -> None:
        """A row that says why there is no picture."""
        self._add(Row(path.name, f"{self._place(path)}not looked at", (None,) * len(COLUMNS), error.what))

    def finish(self) -> None:
        """Write the page that is not full yet, if it has a row.

        Raises:
            BackendError: it cannot be written.
        """
        if not self._rows:
            return
        page = sheet_page(self._path, len(self.pages) + 1)
        try:
            write_contact_sheet(page, self._rows, columns=COLUMNS, title="Faces", note=self._note)
        except OSError as error:
            raise _cannot_be_written(page, error) from error
        self.pages.append(page)
        self._rows = []

    def _place(self, path: Path) -> str:
        """A line with the picture's folder, where the pictures do not all lie in one."""
        place = os.path.relpath(path.absolute().parent, self._root)
        return "" if place == "." else f"in {place}\n"

    def _add(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) == ROWS:
            self.finish()


def sheet_page(path: Path, number: int) -> Path:
    """Where a page of the contact sheet lies; the first has the name that was given."""
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _portraits(found: Analysis) -> Image.Image | None:
    if not found.portraits:
        return None
    cuts = [portrait.cut(found.image.pixels) for portrait in found.portraits]
    passed = [portrait.is_to_change for portrait in found.portraits]
    return Image.fromarray(montage(cuts, passed, CELL, PAPER))


def _mask(found: Analysis) -> Image.Image | None:
    if not found.mask.any():
        return None
    mask = Image.fromarray(found.mask)
    mask.thumbnail((CELL, CELL))
    return mask


def _caption(found: Analysis) -> str:
    width, height = found.size
    lines = [f"{width}x{height}, quality {found.quality:.2f}"]
    lines += [_line(number, portrait) for number, portrait in enumerate(found.portraits, start=1)]
    reasons = Counter(other.reason.partition(":")[0] for other in found.selection.dropped)
    lines += [f"{number} dropped: {reason}" for reason, number in reasons.items()]
    return "\n".join(lines if found.portraits or found.selection.dropped else [*lines, "no face"])


def _line(number: int, portrait: Compared) -> str:
    verdict = portrait.verdict
    like = "" if portrait.similarity is None else f", alike {portrait.similarity:.2f}"
    why = "" if portrait.is_to_change else f", {'; '.join(portrait.reasons)}"
    return f"{number}: portrait {verdict.scores['total']:.2f}{like}{why}"
