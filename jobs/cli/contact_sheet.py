"""The contact sheet: one row per job or picture, with its images from left to right."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont, ImageOps

from resources.store.whole_file import write_whole

Ink = tuple[int, int, int]

PAPER: Final[Ink] = (250, 249, 246)
INK: Final[Ink] = (33, 37, 41)
FAINT: Final[Ink] = (112, 118, 125)
RULE: Final[Ink] = (222, 219, 212)
PANEL: Final[Ink] = (240, 238, 232)

MARGIN: Final = 48
GAP: Final = 24
CAPTION_WIDTH: Final = 300
CELL: Final = 320
LINE_SPACING: Final = 1.4


@dataclass(frozen=True, slots=True)
class Row:
    """One job or picture.

    Attributes:
        title: the job's type, or the picture's name.
        caption: what was asked for or found, a few lines at most.
        images: files or images, as many as the sheet has columns; None where there is no such image.
        text: written across the cells after the last image, where the result is words.
    """

    title: str
    caption: str
    images: tuple[Path | Image.Image | None, ...]
    text: str = ""


def write_contact_sheet(
    path: Path, rows: Sequence[Row], *, columns: Sequence[str], title: str, note: str = ""
) -> tuple[int, int]:
    """Draw the rows on one page and save it as PNG, whole or not at all.

    Args:
        path: the file; its folder exists.
        rows: from top to bottom, at least one.
        columns: the heads over the images.
        title: of the page.
        note: under the title: how the images were made.

    Returns:
        Width and height of the page in pixels.

    Raises:
        ValueError: no row, or a row with another number of images than columns.
        OSError: an image cannot be read, or the page cannot be written.
    """
    if not rows:
        raise ValueError("A contact sheet needs at least one row.")
    for row in rows:
        if len(row.images) != len(columns):
            raise ValueError(f"The row {row.title!r} has {len(row.images)} images for {len(columns)} columns.")
    cells = [[None if image is None else _fitted(image) for image in row.images] for row in rows]
    captions = [_caption(row) for row in rows]
    heights = [
        max([_height(caption), *(cell.height for cell in line if cell is not None), _text_height(row)])
        for row, caption, line in zip(rows, captions, cells, strict=True)
    ]
    width = 2 * MARGIN + CAPTION_WIDTH + len(columns) * (CELL + GAP)
    head = _Lines([(title, 34, INK)], width - 2 * MARGIN)
    head.add(note, 17, FAINT)
    top = MARGIN + _height(head) + GAP
    body = top + round(17 * LINE_SPACING) + GAP // 2
    page = Image.new("RGB", (width, body + sum(heights) + 2 * GAP * len(rows) + MARGIN), PAPER)
    draw = ImageDraw.Draw(page)
    head.draw(draw, MARGIN, MARGIN)
    for index, name in enumerate(columns):
        draw.text((_cell_left(index), top), name, font=_font(17), fill=FAINT)
    for row, line, caption, height in zip(rows, cells, captions, heights, strict=True):
        draw.line((MARGIN, body, width - MARGIN - 1, body), fill=RULE)
        body += GAP
        caption.draw(draw, MARGIN, body)
        _draw_cells(page, draw, row, line, body, height)
        body += height + GAP
    data = io.BytesIO()
    page.save(data, format="PNG", optimize=True)
    write_whole(path, data.getvalue())
    return page.size


def _cell_left(index: int) -> int:
    return MARGIN + CAPTION_WIDTH + GAP + index * (CELL + GAP)


def _draw_cells(
    page: Image.Image, draw: ImageDraw.ImageDraw, row: Row, cells: Sequence[Image.Image | None], top: int, height: int
) -> None:
    last_image = max((index for index, cell in enumerate(cells) if cell is not None), default=-1)
    for index, cell in enumerate(cells):
        left = _cell_left(index)
        if cell is not None:
            page.paste(cell, (left, top))
            draw.rectangle((left, top, left + cell.width - 1, top + cell.height - 1), outline=RULE)
        elif not row.text or index < last_image:
            draw.rectangle((left, top, left + CELL - 1, top + height - 1), fill=PANEL)
            draw.text((left + CELL / 2, top + height / 2), "none", font=_font(17), fill=FAINT, anchor="mm")
    if row.text and last_image + 1 < len(cells):
        left, right = _cell_left(last_image + 1), _cell_left(len(cells) - 1) + CELL
        draw.rectangle((left, top, right - 1, top + height - 1), fill=PANEL)
        words = _text(row, right - left)
        words.cut_to(height - 2 * GAP)
        words.draw(draw, left + GAP, top + GAP)


def _text(row: Row, width: int) -> _Lines:
    return _Lines([(row.text, 19, INK)], width - 2 * GAP)


def _text_height(row: Row) -> int:
    """What the text of a row without an image takes, up to a cell; beside an image it is cut to that."""
    if not row.text or any(row.images):
        return 0
    return min(CELL, _height(_text(row, _cell_left(len(row.images) - 1) + CELL - _cell_left(0))) + 2 * GAP)


def _fitted(image: Path | Image.Image) -> Image.Image:
    """The image inside a cell: smaller or larger, never cut, its proportions kept."""
    with Image.open(image) if isinstance(image, Path) else image as opened:
        return ImageOps.contain(opened.convert("RGB"), (CELL, CELL), Image.Resampling.LANCZOS)


def _caption(row: Row) -> _Lines:
    lines = _Lines([(row.title, 22, INK)], CAPTION_WIDTH)
    lines.add(row.caption, 17, FAINT)
    lines.cut_to(CELL)
    return lines


class _Lines:
    """Text broken into lines of at most `width` pixels."""

    def __init__(self, parts: Sequence[tuple[str, int, Ink]], width: int) -> None:
        self.width = width
        self.lines: list[tuple[str, int, Ink]] = []
        for text, size, ink in parts:
            self.add(text, size, ink)

    def add(self, text: str, size: int, ink: Ink) -> None:
        """Append a paragraph; each line break in it is kept."""
        for paragraph in filter(None, text.splitlines()):
            line = ""
            for word in paragraph.split():
                longer = f"{line} {word}".strip()
                if line and _font(size).getlength(longer) > self.width:
                    self.lines.append((line, size, ink))
                    longer = word
                line = self._shortened(longer, size)
            self.lines.append((line, size, ink))

    def cut_to(self, height: int) -> None:
        """Drop the lines that do not fit into `height` pixels, and say so by an ellipsis."""
        cut = False
        while len(self.lines) > 1 and _height(self) > height:
            self.lines.pop()
            cut = True
        if cut:
            text, size, ink = self.lines[-1]
            self.lines[-1] = (self._shortened(text + " ...", size), size, ink)

    def draw(self, draw: ImageDraw.ImageDraw, left: int, top: int) -> None:
        """Write the lines below one another."""
        for text, size, ink in self.lines:
            draw.text((left, top), text, font=_font(size), fill=ink)
            top += round(size * LINE_SPACING)

    def _shortened(self, text: str, size: int) -> str:
        """A single word that is wider than the column, cut to fit."""
        if _font(size).getlength(text) <= self.width:
            return text
        while text and _font(size).getlength(text + "...") > self.width:
            text = text[:-1]
        return text + "..."


def _height(lines: _Lines) -> int:
    return sum(round(size * LINE_SPACING) for _, size, _ in lines.lines)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
