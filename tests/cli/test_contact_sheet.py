"""The contact sheet: where things stand on the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.cli.contact_sheet import CELL, GAP, MARGIN, PAPER, Row, _cell_left, _font, _Lines, write_contact_sheet

COLUMNS = ("before", "mask", "after")


def solid(path: Path, size: tuple[int, int], colour: object, mode: str = "RGB") -> Path:
    Image.new(mode, size, colour).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.array(image)


def test_images_stand_in_their_columns_uncut_and_in_proportion(tmp_path):
    images = (
        solid(tmp_path / "a.png", (1024, 768), (200, 0, 0)),
        solid(tmp_path / "b.png", (1024, 768), 255, "L"),
        solid(tmp_path / "c.png", (100, 75), (0, 0, 200)),
    )
    size = write_contact_sheet(
        tmp_path / "sheet.png", [Row("pony_flux", "a prompt", images)], columns=COLUMNS, title="Demo"
    )
    page = pixels(tmp_path / "sheet.png")
    assert page.shape == (size[1], size[0], 3)
    for index, colour in enumerate([(200, 0, 0), (255, 255, 255), (0, 0, 200)]):
        left = _cell_left(index)
        inside = np.all(page[:, left + 1 : left + CELL - 1] == colour, axis=2)
        rows = np.flatnonzero(inside.all(axis=1))
        assert len(rows) == CELL * 3 // 4 - 2  # without the frame
    assert tuple(page[0, 0]) == PAPER
    assert np.all(page[:, :MARGIN] == PAPER)
    assert np.all(page[:, -MARGIN:] == PAPER)


def test_each_row_is_as_high_as_its_highest_image(tmp_path):
    wide = solid(tmp_path / "wide.png", (640, 320), "red")
    tall = solid(tmp_path / "tall.png", (320, 640), "red")
    heights = [
        write_contact_sheet(tmp_path / "sheet.png", rows, columns=["one"], title="Demo")[1]
        for rows in (
            [Row("a", "", (wide,))],
            [Row("a", "", (tall,))],
            [Row("a", "", (wide,)), Row("a", "", (tall,))],
        )
    ]
    assert heights[1] - heights[0] == CELL // 2
    assert heights[2] - heights[1] == CELL // 2 + 2 * GAP  # and the space around a row


def test_a_missing_image_is_said_to_be_missing(tmp_path):
    image = solid(tmp_path / "a.png", (64, 64), "red")
    write_contact_sheet(
        tmp_path / "sheet.png", [Row("pony_flux", "", (image, None, image))], columns=COLUMNS, title="Demo"
    )
    middle = pixels(tmp_path / "sheet.png")[-200:-100, _cell_left(1) + 2 : _cell_left(1) + CELL - 2]
    assert not np.all(middle == PAPER, axis=2).any()


def test_images_need_not_be_files(tmp_path):
    held = Image.new("RGB", (640, 320), (200, 0, 0))
    file = solid(tmp_path / "a.png", (640, 320), (200, 0, 0))
    for name, image in (("held.png", held), ("file.png", file)):
        write_contact_sheet(tmp_path / name, [Row("a", "", (image,))], columns=["one"], title="Demo")
    assert np.array_equal(pixels(tmp_path / "held.png"), pixels(tmp_path / "file.png"))
    assert held.getpixel((0, 0)) == (200, 0, 0)  # it is still open


def test_words_without_an_image_have_the_room_they_need(tmp_path):
    rows = [Row("broken.jpg", "", (None,) * 3, words) for words in ("short", "many words " * 40, "no end " * 2000)]
    short, long, endless = (
        write_contact_sheet(tmp_path / "s.png", [row], columns=COLUMNS, title="Demo")[1] for row in rows
    )
    assert short < long < endless
    assert endless - CELL < short
    write_contact_sheet(tmp_path / "s.png", [rows[1]], columns=COLUMNS, title="Demo")
    panel = pixels(tmp_path / "s.png")[:, _cell_left(0) :]
    ink = np.flatnonzero((panel < 100).all(axis=2).any(axis=1))
    grey = np.flatnonzero((panel == (240, 238, 232)).all(axis=2).any(axis=1))
    assert grey[0] + GAP <= ink[ink > grey[0]][0]
    assert ink[-1] <= grey[-1] - GAP // 2


def test_long_text_stays_inside_the_page_and_the_row(tmp_path):
    image = solid(tmp_path / "a.png", (64, 64), "red")
    words = "a very long description " * 200 + "x" * 500
    row = Row("description", words, (image, None, None), words)
    usual = Row("description", "short", (image, None, None), "short")
    long = write_contact_sheet(tmp_path / "long.png", [row], columns=COLUMNS, title="Demo")
    short = write_contact_sheet(tmp_path / "short.png", [usual], columns=COLUMNS, title="Demo")
    assert long == short
    page = pixels(tmp_path / "long.png")
    assert np.all(page[:, -MARGIN:] == PAPER)
    assert np.all(page[-MARGIN:] == PAPER)


def test_lines_are_never_wider_than_their_column():
    lines = _Lines([("some words and onelongwordthatdoesnotfitatall here\nand a new line", 20, (0, 0, 0))], 150)
    assert all(_font(size).getlength(text) <= 150 for text, size, _ in lines.lines)
    assert [text for text, _, _ in lines.lines][-2:] == ["here", "and a new line"]
    lines.cut_to(28)
    assert [text for text, _, _ in lines.lines] == ["some words an..."]


@pytest.mark.parametrize("rows", [[], [Row("a", "", (None,))]])
def test_rows_must_fit_the_columns(tmp_path, rows):
    with pytest.raises(ValueError, match="row"):
        write_contact_sheet(tmp_path / "sheet.png", rows, columns=COLUMNS, title="Demo")
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "sheet.png").mkdir()
    (tmp_path / "sheet.png" / "x").write_text("")
    image = solid(tmp_path / "a.png", (8, 8), "red")
    with pytest.raises(OSError, match=r"sheet\.png"):
        write_contact_sheet(tmp_path / "sheet.png", [Row("a", "", (image,))], columns=["one"], title="Demo")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "sheet.png"]
