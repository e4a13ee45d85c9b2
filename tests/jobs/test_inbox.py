"""The inbox: every dropped file becomes jobs once, or lies in `rejected` with the reason beside it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

import jobs.requests.inbox
from imaging.errors import SettingsError
from jobs.queue.job_queue import JobQueue
from jobs.requests.inbox import InboxReport, lying, take_inbox
from resources.database import open_database
from resources.settings import Settings
from resources.store.image_store import ImageStore

GOOD = {"pony_prompt": "a lighthouse keeper"}


class Inbox:
    """A folder, a queue, and one look into it after the other."""

    def __init__(self, folder: Path, tools: dict[str, Any]) -> None:
        self.folder = folder
        self.tools = tools
        self.queue: JobQueue = tools["queue"]

    def drop(self, name: str, content: Any = GOOD, *, age: float = 60) -> Path:
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        changed = time.time() - age
        os.utime(path, (changed, changed))
        return path

    def take(self, **more: Any) -> InboxReport:
        return take_inbox(self.folder, **self.tools, **more)

    def names(self, folder: str = ".") -> list[str]:
        found = self.folder / folder
        return sorted(path.name for path in found.iterdir() if not path.is_dir()) if found.exists() else []


@pytest.fixture
def inbox(tmp_path: Path) -> Any:
    folder = tmp_path / "inbox"
    folder.mkdir()
    database = open_database(f"sqlite:///{tmp_path / 'a.sqlite'}")
    yield Inbox(
        folder,
        {"queue": JobQueue(database), "store": ImageStore(str(tmp_path / "store")), "settings": Settings()},
    )
    database.dispose()


def test_good_files_of_every_kind(inbox: Inbox) -> None:
    inbox.drop("1.json", [GOOD, GOOD | {"job_id": "mine"}], age=50)
    inbox.drop("2.jsonl", json.dumps(GOOD), age=40)
    inbox.drop("3.yaml", "pony_prompt: p", age=30)
    inbox.drop("4.YML", "pony_prompt: p", age=20)
    inbox.drop("5.csv", "pony_prompt\np\n", age=10)
    report = inbox.take()
    assert list(report.accepted) == ["1.json", "2.jsonl", "3.yaml", "4.YML", "5.csv"]
    assert (report.rejected, report.waiting) == ({}, [])
    assert inbox.names() == []
    assert inbox.names("accepted") == sorted(report.accepted)
    order = [job_id for ids in report.accepted.values() for job_id in ids]
    assert order[1] == "mine"
    claimed = inbox.queue.claim(9)
    assert [job.id for job in claimed] == order
    assert {job.origin for job in claimed} == {"inbox"}


def test_an_empty_inbox(inbox: Inbox) -> None:
    assert inbox.take() == InboxReport()
    assert list(inbox.folder.iterdir()) == []


def test_oldest_first_up_to_the_limit(inbox: Inbox) -> None:
    for name, age in [("new.json", 10), ("oldest.json", 30), ("old.json", 20)]:
        inbox.drop(name, age=age)
    assert list(inbox.take(limit=2).accepted) == ["oldest.json", "old.json"]
    assert inbox.names() == ["new.json"]


def test_other_files_are_left_alone(inbox: Inbox, tmp_path: Path) -> None:
    names = [".hidden.json", "a.json.part", "a.json.tmp", "photo.png", "~$a.csv", "README"]
    for name in names:
        inbox.drop(name)
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps(GOOD))
    (inbox.folder / "link.json").symlink_to(outside)
    (inbox.folder / "folder.json").mkdir()
    os.mkfifo(inbox.folder / "pipe.json")
    assert inbox.take() == InboxReport()
    assert inbox.names() == sorted([*names, "link.json", "pipe.json"])
    assert inbox.queue.find() == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", GOOD | {"width": 3}, "entry 1: width"),
        ("a.jsonl", json.dumps(GOOD) + "\n{}", "line 2: pony_prompt"),
        ("a.csv", "pony_prompt,nope\np,1\n", "'nope'"),
        ("a.yaml", "job_type: description\nsource_image: gone.png", "source_image"),
        ("a.json", {"pony_prompt": "a nude woman"}, "pony_prompt"),
        ("a.json", [GOOD | {"job_id": "twice"}, GOOD | {"job_id": "twice"}], "job_id: twice"),
    ],
)
def test_a_bad_file_is_put_aside_with_its_reason(inbox: Inbox, name: str, content: Any, words: str) -> None:
    text = inbox.drop(name, content).read_text()
    inbox.drop("good.json")
    report = inbox.take()
    assert words in report.rejected[name]
    assert list(report.accepted) == ["good.json"]
    assert inbox.names() == []
    assert inbox.names("rejected") == [name, f"{name}.error.txt"]
    assert (inbox.folder / "rejected" / name).read_text() == text
    assert words in (inbox.folder / "rejected" / f"{name}.error.txt").read_text()
    assert len(inbox.queue.find()) == 1


def test_nothing_is_overwritten(inbox: Inbox) -> None:
    for _ in range(3):
        inbox.drop("a.json", GOOD)
        inbox.drop("b.json", "{")
        inbox.take()
    assert inbox.names("accepted") == ["a-1.json", "a-2.json", "a.json"]
    assert [name for name in inbox.names("rejected") if name.endswith(".json")] == ["b-1.json", "b-2.json", "b.json"]
    assert "b-2.json.error.txt" in inbox.names("rejected")
    assert len(inbox.queue.find()) == 3


def test_a_file_that_is_still_being_written_is_left(inbox: Inbox) -> None:
    whole = json.dumps([GOOD, GOOD])
    path = inbox.drop("a.json", whole[:-10], age=0)
    lines = inbox.drop("b.jsonl", json.dumps(GOOD) + "\n", age=0)
    assert sorted(inbox.take().waiting) == ["a.json", "b.jsonl"]
    assert inbox.names() == ["a.json", "b.jsonl"]
    path.write_text(whole)
    with lines.open("a") as file:
        file.write(json.dumps(GOOD))
    os.utime(lines, (1, 1))
    report = inbox.take()
    assert {name: len(ids) for name, ids in report.accepted.items()} == {"a.json": 2, "b.jsonl": 2}


def test_a_wrong_request_in_a_whole_file_is_rejected_at_once(inbox: Inbox) -> None:
    inbox.drop("a.json", GOOD | {"steps": 0}, age=0)
    assert list(inbox.take().rejected) == ["a.json"]


def test_a_date_in_the_future_does_not_hold_a_file_back(inbox: Inbox) -> None:
    inbox.drop("a.csv", "pony_prompt\np\n", age=-86_400)
    inbox.drop("b.json", "{", age=-86_400)
    report = inbox.take()
    assert (list(report.accepted), list(report.rejected)) == (["a.csv"], ["b.json"])


def test_a_crash_between_submitting_and_moving_submits_once(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox.drop("a.json", [GOOD, GOOD | {"job_id": "mine"}])
    with monkeypatch.context() as patched:
        patched.setattr(
            jobs.requests.inbox, "_move", lambda *_args, **_kwargs: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            inbox.take()
    before = inbox.queue.find()
    assert len(before) == 2
    assert inbox.names() == ["a.json"]
    report = inbox.take()
    assert sorted(report.accepted["a.json"]) == sorted(job.id for job in before)
    assert inbox.queue.find() == before
    assert inbox.names("accepted") == ["a.json"]


def test_the_same_file_again_is_a_new_request(inbox: Inbox) -> None:
    for _ in range(2):
        inbox.drop("a.json")
        inbox.take()
    assert len(inbox.queue.find()) == 2


def test_a_taken_id_is_rejected_unless_it_is_the_same_request(inbox: Inbox) -> None:
    inbox.drop("a.json", GOOD | {"job_id": "mine"})
    inbox.take()
    inbox.drop("b.json", GOOD | {"job_id": "mine"})
    assert inbox.take().accepted == {"b.json": ["mine"]}
    inbox.drop("c.json", {"pony_prompt": "something else", "job_id": "mine"})
    assert "job_id: mine is taken" in inbox.take().rejected["c.json"]
    assert len(inbox.queue.find()) == 1


def test_a_photo_lies_beside_the_request(inbox: Inbox) -> None:
    (inbox.folder / "photos").mkdir()
    Image.effect_noise((128, 96), 50).convert("RGB").save(inbox.folder / "photos/ada.png")
    inbox.drop("a.json", {"job_type": "description", "source_image": "photos/ada.png", "job_id": "a"})
    assert inbox.take().accepted == {"a.json": ["a"]}
    job = inbox.queue.get("a")
    assert job.source["width"] == 128
    assert job.request.source_image == str(inbox.folder / "photos/ada.png")


def test_another_process_may_take_the_same_file(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is quicker at the last moment: it has submitted and moved the file before this one moves it."""
    inbox.drop("a.json")
    move = jobs.requests.inbox._move

    def other_moves_first(path: Path, to: str, **more: Any) -> bool:
        monkeypatch.setattr(jobs.requests.inbox, "_move", move)
        assert list(inbox.take().accepted) == ["a.json"]
        return move(path, to, **more)

    monkeypatch.setattr(jobs.requests.inbox, "_move", other_moves_first)
    assert inbox.take() == InboxReport()
    assert inbox.names("accepted") == ["a.json"]
    assert len(inbox.queue.find()) == 1


def test_a_folder_that_is_not_there(inbox: Inbox, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="FC_INBOX"):
        take_inbox(tmp_path / "nowhere", **inbox.tools)


def test_what_a_file_holds_is_hashed_once_however_many_requests_it_holds(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox.drop("many.json", [GOOD] * 5)
    hashed: list[int] = []

    def sha256(data: bytes) -> Any:
        hashed.append(len(data))
        return hashlib.sha256(data)

    monkeypatch.setattr(jobs.requests.inbox, "hashlib", SimpleNamespace(sha256=sha256))
    assert len(inbox.take().accepted["many.json"]) == 5
    assert len(hashed) == 1


# ---- names that are too long


@pytest.mark.parametrize("name", ["n" * 250 + ".json", "顔" * 83 + ".json", "n" * 240 + ".json"])
def test_a_long_name_stops_no_other_file(inbox: Inbox, name: str) -> None:
    for _ in range(2):
        inbox.drop(name, "{", age=90)
        inbox.drop("good.json", age=60)
        report = inbox.take()
        assert list(report.rejected) == [name]
        assert list(report.accepted) == ["good.json"]
        assert inbox.names() == []
    kept = inbox.names("rejected")
    assert len(kept) == 4
    assert all(one.endswith((".json", ".json.error.txt")) for one in kept)
    assert all(len(os.fsencode(one)) <= 255 for one in kept)
    assert {(inbox.folder / "rejected" / one).read_text() for one in kept if one.endswith(".json")} == {"{"}


@pytest.mark.parametrize("name", ["n" * 250 + ".json", "é" * 125 + ".json"])
def test_a_long_name_is_accepted_again_and_again(inbox: Inbox, name: str) -> None:
    for _ in range(3):
        inbox.drop(name)
        assert list(inbox.take().accepted) == [name]
    assert len(inbox.names("accepted")) == 3
    assert len(inbox.queue.find()) == 3


def test_a_file_that_cannot_be_moved_stops_no_other(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    move = jobs.requests.inbox._move

    def failing(path: Path, to: str, **more: Any) -> bool:
        if path.name == "a.json":
            raise OSError(28, "No space left on device")
        return move(path, to, **more)

    monkeypatch.setattr(jobs.requests.inbox, "_move", failing)
    inbox.drop("a.json", age=90)
    inbox.drop("b.json", age=60)
    for _ in range(2):
        with pytest.raises(SettingsError, match="No space left"):
            inbox.take()
    assert inbox.names() == ["a.json"]
    assert inbox.names("accepted") == ["b.json"]
    assert len(inbox.queue.find()) == 2


# ---- photos


def noise(path: Path, size: tuple[int, int] = (128, 96)) -> Path:
    Image.effect_noise(size, 50).convert("RGB").save(path)
    os.utime(path, (time.time() - 60,) * 2)
    return path


@pytest.fixture
def templated(inbox: Inbox, tmp_path: Path) -> Inbox:
    template = tmp_path / "photo.yaml"
    template.write_text("flux_prompt: a woman with red hair\nnegative_prompt: blurry\ntags: {from: camera}\n")
    inbox.tools["settings"] = Settings(inbox_template=template)
    return inbox


def test_a_template_with_a_number_that_is_none_is_named(templated: Inbox, tmp_path: Path) -> None:
    (tmp_path / "photo.yaml").write_text("flux_prompt: a woman\nsteps: 010\n")
    noise(templated.folder / "ada.png")
    with pytest.raises(SettingsError, match=r"FC_INBOX_TEMPLATE: photo\.yaml, entry 1: steps: 010"):
        templated.take()


def test_photos_become_jobs_by_the_template(templated: Inbox) -> None:
    noise(templated.folder / "ada.png")
    noise(templated.folder / "IDA.JPG")
    templated.drop("notes.txt", "no photo")
    report = templated.take()
    assert sorted(report.accepted) == ["IDA.JPG", "ada.png"]
    assert templated.names() == ["notes.txt"]
    assert templated.names("accepted") == ["IDA.JPG", "ada.png"]
    (job,) = (templated.queue.get(job_id) for job_id in report.accepted["ada.png"])
    assert (job.job_type, job.origin) == ("face_processing", "inbox")
    assert job.request.flux_prompt == "a woman with red hair"
    assert job.request.tags == {"from": "camera"}
    assert (job.source["width"], job.source["height"]) == (128, 96)
    assert templated.take() == InboxReport()


def test_a_photo_is_submitted_once_though_its_move_was_cut(templated: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    noise(templated.folder / "ada.png")

    def crash(*_: Any, **__: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(jobs.requests.inbox, "_move", crash)
        with pytest.raises(KeyboardInterrupt):
            templated.take()
    assert list(templated.take().accepted) == ["ada.png"]
    assert len(templated.queue.find()) == 1


def test_a_photo_that_a_request_file_names_is_no_job_of_its_own(templated: Inbox) -> None:
    noise(templated.folder / "ada.png")
    noise(templated.folder / "me.png", (300, 300))
    noise(templated.folder / "alone.png")
    request = {"job_type": "description", "source_image": "ada.png", "reference_face": "me.png", "job_id": "a"}
    templated.drop("a.yaml", "\n".join(f"{name}: {value}" for name, value in request.items()), age=0)
    assert templated.take().waiting == ["a.yaml"]
    assert len(templated.queue.find()) == 0, "the request file may name any of them"
    os.utime(templated.folder / "a.yaml", (1, 1))
    assert sorted(templated.take().accepted) == ["a.yaml", "alone.png"]
    assert templated.names() == [".named-photos", "ada.png", "me.png"]
    assert templated.take() == InboxReport()
    templated.drop("b.json", request | {"job_id": "b"})
    assert list(templated.take().accepted) == ["b.json"], "a photo may be named again"


def test_what_a_request_file_names_lies_beside_it(inbox: Inbox) -> None:
    noise(inbox.folder / "photo.png")
    noise(inbox.folder / "me.png", (300, 300))
    Image.new("L", (128, 96), 255).save(inbox.folder / "mask.png")
    fields = {"source_image": "photo.png", "reference_face": "me.png", "mask": "mask.png", "flux_prompt": "a man"}
    inbox.drop("a.json", fields | {"job_type": "face_processing", "job_id": "a"})
    report = inbox.take()
    assert report.rejected == {}
    job = inbox.queue.get("a")
    assert (job.request.reference_face or "").startswith(str(inbox.folder / "me.png"))
    assert job.request.mask == str(inbox.folder / "mask.png")


def test_a_photo_that_is_no_picture_is_put_aside(templated: Inbox) -> None:
    templated.drop("new.png", "half a picture", age=2)
    templated.drop("old.png", "half a picture", age=90)
    report = templated.take()
    assert list(report.rejected) == ["old.png"]
    assert report.waiting == ["new.png"]
    assert "old.png" in (templated.folder / "rejected/old.png.error.txt").read_text()
    assert templated.queue.find() == []


def test_without_a_template_a_photo_waits_for_its_request_and_is_put_aside(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise(inbox.folder / "ada.png")
    noise(inbox.folder / "ida.png")
    inbox.drop("a.json", {"job_type": "description", "source_image": "ida.png"})
    assert list(inbox.take().accepted) == ["a.json"]
    assert inbox.names() == [".named-photos", "ada.png", "ida.png"]
    now = time.time() + jobs.requests.inbox.PATIENCE_SECONDS + 1
    monkeypatch.setattr(jobs.requests.inbox.time, "time", lambda: now)
    assert "FC_INBOX_TEMPLATE" in inbox.take().rejected["ada.png"]
    assert inbox.names("rejected") == ["ada.png", "ada.png.error.txt"]
    assert inbox.names() == [".named-photos", "ida.png"]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("[", "is not YAML"),
        ("- flux_prompt: p\n- flux_prompt: q", "holds 2 requests"),
        ("flux_prompt: p\nsource_image: a.png", "source_image"),
        ("flux_prompt: p\nsteps: 100000", "steps"),
        ("flux_promt: p", "flux_promt"),
    ],
)
def test_a_wrong_template_stops_no_request_file(templated: Inbox, template: str, words: str) -> None:
    file = templated.tools["settings"].inbox_template
    file.write_text(template)
    noise(templated.folder / "ada.png")
    templated.drop("a.json", GOOD)
    with pytest.raises(SettingsError, match="FC_INBOX_TEMPLATE") as error:
        templated.take()
    assert words in str(error.value)
    assert templated.names() == ["ada.png"]
    assert templated.names("accepted") == ["a.json"]


def test_what_lies_in_the_inbox_and_why(inbox: Inbox) -> None:
    noise(inbox.folder / "ada.png")
    noise(inbox.folder / "ida.png")
    for name in ("a.json", "a.json.part", ".hidden.json"):
        inbox.drop(name)
    (inbox.folder / "link.json").symlink_to(inbox.folder / "a.json")
    (inbox.folder / "photos").mkdir()
    found = {name: why for name, (_, why) in lying(inbox.folder, inbox.tools["settings"]).items()}
    assert set(found) == {"ada.png", "ida.png", "a.json", "a.json.part", "link.json", "photos"}
    assert found["a.json"] == "request file; the daemon takes it"
    assert "FC_INBOX_TEMPLATE" in found["ada.png"]
    assert "neither a request file" in found["a.json.part"]
    assert "no regular file" in found["link.json"]
    assert min(age for age, _ in lying(inbox.folder, inbox.tools["settings"]).values()) >= 0
    inbox.drop("b.json", {"job_type": "description", "source_image": "ida.png"})
    inbox.take()
    assert set(lying(inbox.folder, inbox.tools["settings"])) == {"ada.png", "a.json.part", "link.json", "photos"}
