"""`fc faces`: what it finds in real files, tells, writes and refuses, through the real command."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage import data

from imaging.faces.selection import shown_score
from imaging.files.debug_picture import DROPPED, KEPT
from imaging.geometry.align import Frame, cut
from imaging.geometry.boxes import Box
from imaging.geometry.nms import iou
from jobs.cli import faces_files
from jobs.cli.contact_sheet import CAPTION_WIDTH, CELL, GAP, MARGIN, PAPER, _cell_left
from resources.encoders import sface
from resources.settings import PROJECT_ROOT
from tests.support.commands import Fc
from tests.support.tiny_onnx import sface_like

FACE = Box(178, 62, 270, 175)  # brow to chin in the astronaut
SCORES = {"width", "share", "sharpness", "luminance", "burnt", "dark", "confidence", "total"}


@pytest.fixture
def astronaut(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "astronaut.png"
    path.parent.mkdir()
    Image.fromarray(data.astronaut()).save(path)
    return path


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Three faces; from left to right: middle, small, large."""
    canvas = np.full((340, 900, 3), 128, np.uint8)
    head = Image.fromarray(data.astronaut()[0:260, 120:330])
    for left, width in ((0, 210), (300, 130), (520, 273)):
        part = np.asarray(head.resize((width, round(260 * width / 210)), Image.Resampling.LANCZOS))
        canvas[: part.shape[0], left : left + width] = part[:340]
    Image.fromarray(canvas).save(tmp_path / "three.png")
    return tmp_path / "three.png"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    Image.new("RGB", (96, 80), (200, 120, 40)).save(tmp_path / "plain.png")
    return tmp_path / "plain.png"


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.array(image)


def looked_at(fc: Fc, *arguments: str | Path) -> list[dict[str, Any]]:
    """The pictures of a run that ends well."""
    code, out, err = fc("faces", *map(str, arguments), "--json")
    assert (code, err) == (0, "")
    return json.loads(out)["data"]["pictures"]


def green_boxes(picture: np.ndarray) -> bool:
    return bool(np.all(picture == KEPT, axis=2).any())


# ---- what is found


def test_json_has_all_numbers_in_this_shape(fc: Fc, astronaut: Path) -> None:
    code, out, err = fc("faces", str(astronaut), "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)["data"]
    assert set(told) == {"how", "pictures", "sheet"}
    assert set(told["how"]) == {"detector", "why", "choice", "mask", "padding", "align", "reference"}
    assert (told["how"]["detector"]["detector"], told["how"]["padding"], told["how"]["reference"]) == (
        "haar",
        0.6,
        None,
    )
    assert (told["how"]["choice"]["order"], told["how"]["mask"]["kind"]) == ("largest", "ellipse")
    (picture,) = told["pictures"]
    assert set(picture) == {
        "path", "error", "width", "height", "format", "notes", "quality", "faces", "dropped", "masked_share", "files",
    }  # fmt: skip
    assert (picture["path"], picture["error"], picture["files"]) == (str(astronaut), None, None)
    assert (picture["width"], picture["height"], picture["format"], picture["notes"]) == (512, 512, "PNG", [])
    assert set(picture["quality"]) == {"score", "parts", "measured"}
    assert 0.8 < picture["quality"]["score"] <= 1
    (face,) = picture["faces"]
    assert set(face) == {
        "number", "box", "share", "score", "landmarks", "frame", "passed", "reasons", "advice", "portrait",
        "similarity", "same_person",
    }  # fmt: skip
    assert iou(Box(*face["box"]), FACE) > 0.5
    assert face["share"] == round(Box(*face["box"]).area / 512**2, 5)
    assert (face["number"], face["passed"], face["reasons"], face["similarity"]) == (1, True, [], None)
    assert set(face["frame"]) == {"x", "y", "side", "angle"}
    assert face["portrait"].keys() >= SCORES
    assert np.shape(face["landmarks"]) == (5, 2)
    assert 0.02 < picture["masked_share"] < 0.1
    assert list(astronaut.parent.iterdir()) == [astronaut]


def test_the_table_says_the_same(fc: Fc, three: Path, plain: Path) -> None:
    (picture,) = looked_at(fc, three, "--max", "2")
    code, out, err = fc("faces", str(three), str(plain), "--max", "2")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "Faces by haar, as FC_DETECTOR says."
    assert lines[1] == f"{three}: 900x340 PNG, quality {picture['quality']['score']:.2f}, 2 faces, 1 dropped"
    assert lines[2].split() == ["face", "box", "size", "share", "score", "roll", "sharpness", "portrait", "passed"]
    for number, (line, face) in enumerate(zip(lines[3:5], picture["faces"], strict=True), start=1):
        left, top, right, bottom = face["box"]
        measured = face["portrait"]
        assert line.split() == [
            str(number), f"{left},{top}", f"{right},{bottom}", f"{right - left}x{bottom - top}",
            f"{100 * face['share']:.1f}", "%", shown_score(face["score"]), f"{round(measured['roll'])}°",
            f"{measured['sharpness']:.0f}", f"{measured['total']:.2f}", "yes",
        ]  # fmt: skip
    left, top, right, bottom = picture["dropped"][0]["box"]
    at = f"{left},{top} {right},{bottom} ({right - left}x{bottom - top})"
    assert lines[5] == f"  dropped at {at}: not among the 2 largest"
    assert lines[6].startswith(f"{plain}: 96x80 PNG")
    assert lines[6].endswith("0 faces, 0 dropped")
    assert lines[7:] == ["2 pictures, 2 faces."]


def test_a_face_that_a_job_leaves_alone_does_not_pass(fc: Fc, astronaut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FC_FACE_KEEP_SHARP", "40")
    (picture,) = looked_at(fc, astronaut)
    (face,) = picture["faces"]
    width = face["box"][2] - face["box"][0]
    assert (face["passed"], face["reasons"]) == (False, [f"it is {width} px wide and crisp"])
    assert picture["masked_share"] == 0
    code, out, _ = fc("faces", str(astronaut))
    assert code == 0
    assert f"  1 is left as it is: it is {width} px wide and crisp" in out.splitlines()
    monkeypatch.setenv("FC_FACE_KEEP_SHARP", str(width + 1))
    assert looked_at(fc, astronaut)[0]["faces"][0]["passed"] is True


def test_one_order_for_boxes_portraits_masks_and_scores(fc: Fc, three: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (picture,) = looked_at(fc, three, "--order", "right-left", "--max", "2", "--padding", "0.2", "--out", out)
    lefts = [face["box"][0] for face in picture["faces"]]
    assert (len(lefts), lefts) == (2, sorted(lefts, reverse=True))
    assert [face["reason"] for face in picture["dropped"]] == ["not among the 2 largest"]
    assert [Path(path).name for path in picture["files"]["portraits"]] == ["three.face-1.png", "three.face-2.png"]
    whole = pixels(three)
    for face, path in zip(picture["faces"], picture["files"]["portraits"], strict=True):
        frame = Frame(**face["frame"])
        assert np.array_equal(pixels(path), cut(whole, frame, round(frame.side)))
        left, top, right, bottom = face["box"]
        assert frame.side == pytest.approx(max(right - left, bottom - top) * 1.4, abs=1)
    mask = pixels(picture["files"]["mask"])
    assert (mask.shape, mask.dtype) == ((340, 900), np.uint8)
    assert round(np.count_nonzero(mask) / mask.size, 5) == picture["masked_share"]
    for face in picture["faces"]:
        left, top, right, bottom = face["box"]
        assert mask[(top + bottom) // 2, (left + right) // 2] == 255
    left, top, right, bottom = picture["dropped"][0]["box"]
    assert mask[top:bottom, left:right].max() == 0
    seen = pixels(picture["files"]["faces"])
    assert seen.shape == (340, 900, 3)
    assert tuple(seen[(top + bottom) // 2, left]) == DROPPED
    assert sorted(path.name for path in out.iterdir()) == [
        "three.face-1.png", "three.face-2.png", "three.faces.png", "three.mask.png",
    ]  # fmt: skip


def test_a_face_that_does_not_pass_is_told_and_left_out_of_the_mask(fc: Fc, tmp_path: Path) -> None:
    path = tmp_path / "blurred.png"
    Image.fromarray(data.astronaut()).filter(ImageFilter.GaussianBlur(4)).save(path)
    (picture,) = looked_at(fc, path, "--sheet", tmp_path / "sheet.png")
    (face,) = picture["faces"]
    assert (face["passed"], picture["masked_share"]) == (False, 0)
    assert "the face is blurred" in face["reasons"][0]
    assert "  1 does not pass: the face is blurred" in fc("faces", str(path))[1]
    portraits = pixels(tmp_path / "sheet.png")[:, _cell_left(1) :][:, :CELL]
    assert np.all(portraits == DROPPED, axis=2).any()
    assert not green_boxes(portraits)


def test_settings_are_the_defaults_and_options_win(fc: Fc, three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FC_MASK_KIND", "none")
    monkeypatch.setenv("FC_MAX_FACES", "1")
    monkeypatch.setenv("FC_FACES_MAX_SHARE", "5")
    (picture,) = looked_at(fc, three)
    assert (len(picture["faces"]), picture["masked_share"]) == (1, 0)
    (picture,) = looked_at(fc, three, "--mask", "box", "--max", "8", "--max-share", "90", "--min-pixels", "60")
    assert len(picture["faces"]) + len(picture["dropped"]) == 3
    assert picture["masked_share"] > 0


def test_any_picture_is_read(fc: Fc, tmp_path: Path) -> None:
    """A grey 16-bit PNG, and a JPEG that its EXIF data turn upright."""
    grey = np.asarray(Image.fromarray(data.astronaut()).convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    turned = np.rot90(data.astronaut()[:400])
    Image.fromarray(turned).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    sixteen, upright = looked_at(fc, tmp_path / "grey.png", tmp_path / "turned.jpg")
    assert sixteen["notes"] == ["Channels of 16 bits are rounded to 8."]
    assert (upright["width"], upright["height"], upright["format"]) == (512, 400, "JPEG")
    for picture in (sixteen, upright):
        (face,) = picture["faces"]
        assert iou(Box(*face["box"]), FACE) > 0.5
        assert "natural_colour_score" in face["portrait"]


def test_a_turned_face_is_cut_out_upright(fc: Fc, tmp_path: Path, yunet_model: Path, monkeypatch) -> None:
    monkeypatch.setenv("FC_YUNET_MODEL", str(yunet_model))
    head = Image.fromarray(data.astronaut()[0:260, 120:330]).resize((420, 520))
    head.rotate(25, expand=True, fillcolor=(128, 128, 128)).save(tmp_path / "tilted.png")
    (picture,) = looked_at(fc, tmp_path / "tilted.png", "--detector", "yunet", "--out", tmp_path / "out")
    (face,) = picture["faces"]
    assert face["frame"]["angle"] == pytest.approx(-25, abs=10)  # five landmarks tell it to a few degrees
    assert face["frame"]["angle"] == pytest.approx(face["portrait"]["roll"], abs=0.1)
    portrait = tmp_path / "out" / "tilted.face-1.png"
    (again,) = looked_at(fc, portrait, "--detector", "yunet")
    assert abs(again["faces"][0]["portrait"]["roll"]) < 10


# ---- pictures that cannot be looked at


def test_a_corrupt_file_is_told_and_the_others_go_on(fc: Fc, astronaut: Path, tmp_path: Path) -> None:
    folder = astronaut.parent
    (folder / "a-broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and then nothing")
    Image.new("P", (80, 80)).save(folder / "old.gif")
    (folder / "notes.txt").write_text("no picture")
    code, out, err = fc(
        "faces", str(folder), "--json", "--out", str(tmp_path / "out"), "--sheet", str(tmp_path / "s.png")
    )
    assert code == 1
    broken, good, gif = json.loads(out)["data"]["pictures"]
    assert set(broken) == {"path", "error"}
    assert "is a damaged or truncated JPEG file" in broken["error"]["what"]
    assert broken["error"]["hint"].startswith("Export the picture again")
    assert "is a GIF; only PNG" in gif["error"]["what"]
    assert (len(good["faces"]), good["error"]) == (1, None)
    assert err.count("\nFix: ") == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "astronaut.face-1.png", "astronaut.faces.png", "astronaut.mask.png",
    ]  # fmt: skip
    assert green_boxes(pixels(tmp_path / "s.png"))
    code, out, _err = fc("faces", str(folder))
    assert (code, out.splitlines()[-1]) == (1, "3 pictures, 1 face; 2 not looked at.")


def test_a_file_that_may_not_be_read_here(fc: Fc, astronaut: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "allowed").mkdir()
    monkeypatch.setenv("FC_SOURCE_ROOTS", str(tmp_path / "allowed"))
    code, _out, err = fc("faces", str(astronaut))
    assert code == 1
    assert "lies outside the folders that source images may come from" in err


def test_a_full_disk_leaves_nothing_half_written(fc: Fc, astronaut: Path, tmp_path: Path, monkeypatch) -> None:
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for option, path in (("--out", tmp_path / "new" / "out"), ("--sheet", tmp_path / "new" / "sheet.png")):
        code, _out, err = fc("faces", str(astronaut), option, str(path))
        assert code == 1
        assert "cannot be written: No space left on device" in err
        assert [path for path in (tmp_path / "new").rglob("*") if path.is_file()] == []


# ---- folders and names


def test_same_names_in_two_folders_do_not_overwrite_one_another(
    fc: Fc, astronaut: Path, plain: Path, three: Path, tmp_path: Path
) -> None:
    folder = astronaut.parent
    (folder / "sub").mkdir()
    plain.rename(folder / "sub" / "astronaut.png")
    Image.open(three).save(folder / "Astronaut.jpg")
    out = tmp_path / "out"
    pictures = looked_at(fc, folder, "--recursive", "--out", out)
    named = {Path(one["path"]).relative_to(folder).as_posix(): Path(one["files"]["mask"]).name for one in pictures}
    assert named == {
        "Astronaut.jpg": "Astronaut.mask.png",
        "astronaut.png": "astronaut-2.mask.png",
        "sub/astronaut.png": "astronaut-3.mask.png",
    }
    for one in pictures:
        assert pixels(one["files"]["mask"]).shape == (one["height"], one["width"])
        assert [Path(path).exists() for path in one["files"]["portraits"]] == [True] * len(one["faces"])
    written = sorted(out.iterdir())
    assert len(written) == 2 * 3 + sum(len(one["faces"]) for one in pictures)
    assert not [path for path in written if path.name.startswith(".")]
    # Named twice, it is looked at once; and what was written is not taken for pictures.
    assert len(looked_at(fc, folder, astronaut)) == 2
    code, _, err = fc("faces", str(out))
    assert (code, "holds no picture" in err) == (2, True)


# ---- the contact sheet


def test_the_contact_sheet_shows_boxes_portraits_and_mask(fc: Fc, astronaut: Path, plain: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "new" / "sheet.png"
    code, out, err = fc("faces", str(astronaut), str(plain), "--sheet", str(sheet))
    assert (code, err) == (0, "")
    assert f"Contact sheet: {sheet}" in out
    page = pixels(sheet)
    assert page.shape[1] == 2 * MARGIN + CAPTION_WIDTH + 3 * (CELL + GAP)
    boxes, portrait, mask = (page[:, _cell_left(index) :][:, :CELL] for index in range(3))
    assert green_boxes(boxes)
    assert green_boxes(portrait)  # its number
    white = np.all(mask == 255, axis=2)
    assert 0.01 < white.sum() / CELL**2 < 0.1
    columns = np.nonzero(white)[1]
    assert np.median(columns) / CELL == pytest.approx(FACE.center[0] / 512, abs=0.03)
    assert np.all(page[:, -MARGIN:] == PAPER)
    assert list(sheet.parent.iterdir()) == [sheet]


def test_a_long_sheet_has_pages(fc: Fc, plain: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(faces_files, "ROWS", 2)
    folder = tmp_path / "many"
    folder.mkdir()
    for name in "abcde":
        Image.open(plain).save(folder / f"{name}.png")
    code, out, _err = fc("faces", str(folder), "--json", "--sheet", str(tmp_path / "s.png"))
    pages = [str(tmp_path / name) for name in ("s.png", "s-2.png", "s-3.png")]
    assert (code, json.loads(out)["data"]["sheet"]) == (0, pages)
    first, second, last = (pixels(page).shape for page in pages)
    assert first == second
    assert first[0] > last[0]
    # None of them is overwritten.
    (tmp_path / "s.png").unlink()
    code, _out, err = fc("faces", str(folder), "--sheet", str(tmp_path / "s.png"))
    assert (code, "s-2.png is there already" in err) == (2, True)


# ---- whose face it is


@pytest.fixture
def sface_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "sface.onnx"
    path.write_bytes(sface_like())
    monkeypatch.setattr(sface, "MODEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setenv("FC_SFACE_MODEL", str(path))
    return path


def test_faces_are_compared_with_a_reference(fc: Fc, astronaut: Path, three: Path, sface_model: Path) -> None:
    code, out, err = fc("faces", str(astronaut), "--reference", str(astronaut), "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)["data"]
    (face,) = told["pictures"][0]["faces"]
    assert (face["similarity"], face["same_person"]) == (1.0, True)
    reference = told["how"]["reference"]
    assert (reference["path"], reference["box"], reference["other_faces"]) == (str(astronaut), face["box"], 0)
    assert (reference["encoder"]["encoder"], reference["same_person_from"]) == ("sface", 0.363)
    code, out, err = fc("faces", str(astronaut), "--reference", str(three))
    assert code == 0
    assert f"Warning: {three} has 2 more faces; the largest is the one that is compared." in err
    assert out.splitlines()[2].split()[-2:] == ["passed", "alike"]


def test_a_face_without_landmarks_is_compared_with_nobody(
    fc: Fc, astronaut: Path, tmp_path: Path, sface_model: Path, monkeypatch
) -> None:
    """One eye is covered, so the cascades give no landmarks."""
    picture = data.astronaut()
    picture[90:118, 188:218] = picture[80:81, 215:216]
    Image.fromarray(picture).save(tmp_path / "one-eye.png")
    (other,) = looked_at(fc, tmp_path / "one-eye.png", "--reference", astronaut, "--confidence", "0.3")
    assert [(face["landmarks"], face["similarity"], face["same_person"]) for face in other["faces"]] == [
        (None, None, None)
    ]
    code, _out, err = fc("faces", str(astronaut), "--reference", str(tmp_path / "one-eye.png"), "--confidence", "0.3")
    assert (code, "has no landmarks" in err) == (1, True)


def test_a_reference_needs_the_model_and_a_face(fc: Fc, astronaut: Path, plain: Path, request) -> None:
    code, out, err = fc("faces", str(astronaut), "--reference", str(astronaut))
    assert (code, out) == (4, "")
    assert "FC_SFACE_MODEL is not set" in err
    assert "Fix: Run: fc models pull sface --save" in err
    request.getfixturevalue("sface_model")
    code, out, err = fc("faces", str(astronaut), "--reference", str(plain))
    assert (code, out) == (2, "")
    assert f"--reference: no face was found in {plain} by haar" in err


# ---- wrong input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.png"], "does not exist"),
        ([], "Missing argument"),
        (["empty"], "holds no picture"),
        (["in", "--detector", "eyes"], "--detector: 'eyes' is no detector"),
        (["in", "--confidence", "1"], "confidence must be over 0"),
        (["in", "--order", "alphabet"], "--order"),
        (["in", "--max", "0"], "--max"),
        (["in", "--min-pixels", "-1"], "--min-pixels"),
        (["in", "--min-share", "5", "--max-share", "5"], "min_share < max_share"),
        (["in", "--mask", "star"], "--mask"),
        (["in", "--padding", "nan"], "--padding must be 0 to 3"),
        (["in", "--out", "full"], "is not empty"),
        (["in", "--out", "in/astronaut.png"], "is no folder"),
        (["in", "--sheet", "in/astronaut.png"], "is there already"),
        (["in", "--sheet", "sheet.jpg"], "does not end in .png"),
        (["in", "--reference", "none.png"], "does not exist"),
    ],
)
def test_wrong_input_is_told_before_anything_is_done(
    fc: Fc, astronaut: Path, tmp_path: Path, monkeypatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "keep").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    code, out, err = fc("faces", *arguments)
    assert (code, out) == (2, "")
    assert said in " ".join(err.split())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# ---- on a terminal


def test_progress_is_shown_on_a_terminal_and_never_in_the_json(home: Path, astronaut: Path, plain: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "jobs.cli.main", "faces", str(astronaut), str(plain), "--json"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        command, cwd=PROJECT_ROOT, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True
    ) as run:
        os.close(theirs)
        out, _ = run.communicate(timeout=120)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert run.returncode == 0
    assert "/2" in shown
    assert [len(one["faces"]) for one in json.loads(out)["data"]["pictures"]] == [1, 0]
