"""Which pictures a command line means, and what is written about them is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.errors import InvalidImageError, RejectedError
from jobs.cli.picture_files import find_pictures, names_for


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "b.PNG", "a.jpg", "c.heic", "d.tiff", "notes.txt", ".hidden.png", "a.faces.png", "a.face-12.png", "a.mask.png",
        "sub/z.webp", "sub/deep/y.png", ".cache/x.png", "team.face.png",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def relative(found: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in found]


def test_a_folders_pictures_are_known_by_their_endings_and_come_by_name(folder: Path) -> None:
    flat = ["a.jpg", "b.PNG", "c.heic", "d.tiff", "team.face.png"]
    assert relative(find_pictures([folder]), folder) == flat
    deep = ["a.jpg", "b.PNG", "c.heic", "d.tiff", "sub/deep/y.png", "sub/z.webp", "team.face.png"]
    assert relative(find_pictures([folder], recursive=True), folder) == deep


def test_named_files_are_taken_as_they_are_in_their_order_and_once(folder: Path) -> None:
    named = [folder / "notes.txt", folder / "c.heic", folder, folder / "a.mask.png", folder / "c.heic"]
    assert relative(find_pictures(named), folder) == [
        "notes.txt", "c.heic", "a.jpg", "b.PNG", "d.tiff", "team.face.png", "a.mask.png",
    ]  # fmt: skip


def test_links_to_folders_are_not_followed_but_dead_links_to_pictures_are_told(folder: Path) -> None:
    (folder / "sub" / "round").symlink_to(folder)
    (folder / "sub" / "dead.png").symlink_to(folder / "nowhere.png")
    assert relative(find_pictures([folder / "sub"], recursive=True), folder) == [
        "sub/dead.png", "sub/deep/y.png", "sub/z.webp",
    ]  # fmt: skip


def test_a_folder_without_pictures_is_refused(folder: Path) -> None:
    (folder / "none" / "sub").mkdir(parents=True)
    (folder / "none" / "sub" / "a.png").touch()
    with pytest.raises(RejectedError, match="none holds no picture") as caught:
        find_pictures([folder / "none"])
    assert "--recursive" in caught.value.hint


def test_a_folder_that_cannot_be_read_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: str) -> object:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(InvalidImageError, match="cannot be read: Permission denied"):
        find_pictures([folder])


@given(st.lists(st.from_regex(r"[abA.ä-]{1,4}(-[23])?\.(png|jpg)", fullmatch=True), max_size=12))
def test_no_two_names_are_the_same(files: list[str]) -> None:
    names = names_for(map(Path, files))
    assert len({name.casefold() for name in names}) == len(names) == len(files)
    assert all(name and not name.startswith(".") and "/" not in name for name in names)


def test_names_fit_the_file_system_and_keep_their_letters() -> None:
    assert names_for([Path("x/Zoë.png"), Path("y/Zoë.png"), Path("ZOË.jpg")]) == ["Zoë", "Zoë-2", "ZOË-3"]
    (long,) = names_for([Path("ä" * 120 + ".png")])
    assert long == "ä" * 90
    assert names_for([Path("\udcff.png")]) == ["?"]
