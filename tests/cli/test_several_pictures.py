"""Several pictures in one `fc submit` make a group, with a job for each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jobs.queue.job_queue import JobQueue
from tests.support.commands import Fc

FACES = ("submit", "--type", "face_processing", "--flux-prompt", "freckles")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in (10, 2, 1):
        Image.new("RGB", (128, 96), (number, 120, 60)).save(folder / f"img{number}.JPG", format="JPEG")
    monkeypatch.chdir(folder)
    return folder


def names(queue: JobQueue, *ids: str) -> list[str]:
    return [Path(queue.get(job_id).request.source_image or "").name for job_id in ids]


def test_what_a_shell_makes_of_a_star(fc: Fc, queue: JobQueue, photos: Path) -> None:
    code, out, said = fc(*FACES, "--id", "g", "-s", "img1.JPG", "img10.JPG", "img2.JPG", "--tag", "client=a")
    assert code == 0, said
    assert "g is a group of 3 jobs." in out
    assert (queue.get("g").job_type, queue.get("g").children, queue.get("g").status) == ("group", 3, "waiting")
    assert names(queue, "g-1", "g-2", "g-3") == ["img1.JPG", "img2.JPG", "img10.JPG"], "2 comes before 10"
    assert {queue.get(f"g-{index}").parent_id for index in (1, 2, 3)} == {"g"}
    assert {job.request.tags["client"] for job in queue.find()} == {"a"}
    assert len({job.request.seed for job in queue.find(parent_id="g")}) == 3, "each draws its own seed"


def test_the_option_given_several_times(fc: Fc, queue: JobQueue, photos: Path) -> None:
    code, out, _ = fc(*FACES, "-s", "img10.JPG", "-s", "img2.JPG", "--seed", "5", "--json")
    assert code == 0
    group, *jobs = json.loads(out)["data"]
    assert names(queue, *(job["job_id"] for job in jobs)) == ["img10.JPG", "img2.JPG"], "in the order given"
    assert [job["parent_id"] for job in jobs] == [group["job_id"]] * 2
    assert {job["request"]["seed"] for job in jobs} == {5}


def test_a_folder(fc: Fc, queue: JobQueue, photos: Path) -> None:
    (photos / "notes.txt").write_text("x")
    (photos / ".DS_Store").write_text("x")
    (photos / "more").mkdir()
    code, out, said = fc(*FACES, "-s", str(photos), "--id", "g")
    assert code == 0, said
    assert names(queue, "g-1", "g-2", "g-3") == ["img1.JPG", "img2.JPG", "img10.JPG"]
    assert "3 files left out" in said
    for name in ("notes.txt", ".DS_Store", "more"):
        assert str(photos / name) in said, "nothing is left out in silence"
    assert "g is a group of 3 jobs." in out


def test_one_picture_is_one_job_and_a_folder_of_one_is_a_group(fc: Fc, queue: JobQueue, photos: Path) -> None:
    assert fc(*FACES, "-s", "img2.JPG", "--id", "one")[0] == 0
    assert (queue.get("one").job_type, queue.get("one").parent_id) == ("face_processing", None)
    for name in ("img1.JPG", "img10.JPG"):
        (photos / name).unlink()
    assert fc(*FACES, "-s", ".", "--id", "g")[0] == 0
    assert (queue.get("g").children, names(queue, "g-1")) == (1, ["img2.JPG"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-s", "img1.JPG", "broken.jpg"), "broken.jpg"),
        (("-s", "img1.JPG", "none.jpg"), "none.jpg cannot be read"),
        (("-s", "empty"), "the folder empty holds no picture"),
        (("img1.JPG",), "'img1.JPG' belongs to no option"),
        (("-s", "img1.JPG", "img2.JPG", "--variants", "2"), "--variants"),
        (("-s", "img1.JPG", "img2.JPG", "--from-job", "a"), "--from-job"),
        (("-s", "img1.JPG", "img2.JPG", "--every", "1d"), "a scheduled job is no group"),
    ],
)
def test_all_or_none_and_what_is_wrong_is_named(
    fc: Fc, queue: JobQueue, photos: Path, arguments: Any, said: str
) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not more")
    (photos / "empty").mkdir()
    code, _, wrong = fc(*FACES, *arguments)
    assert code == 2
    assert said in " ".join(wrong.replace("│", " ").split())
    assert queue.find() == []
