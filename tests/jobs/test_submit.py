"""Submitting: every file format, every fault named with file, line and field, and all jobs or none."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imaging.errors import BackendError, RejectedError
from jobs.model.ids import check_job_id
from jobs.model.request import JobRequest, parse_request
from jobs.queue.job_queue import JobQueue
from jobs.requests.accept import submit
from jobs.requests.files import MAX_FILE_BYTES, load_requests, parse_entries, read_entries
from resources.database import open_database
from resources.settings import Settings
from resources.store.image_store import ImageStore


@pytest.fixture
def tools(tmp_path: Path) -> Any:
    """What `submit` needs beside the requests; photos may lie in `photos`."""
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.effect_noise((128, 96), 50).convert("RGB").save(photos / "ada.png")
    database = open_database(f"sqlite:///{tmp_path / 'a.sqlite'}")
    yield {
        "queue": JobQueue(database),
        "store": ImageStore(str(tmp_path / "store")),
        "settings": Settings(source_roots=[photos]),
        "origin": "cli",
    }
    database.dispose()


def prompt(text: str = "a lighthouse keeper", **fields: Any) -> JobRequest:
    return parse_request({"pony_prompt": text} | fields)


def photo(path: Path, **fields: Any) -> JobRequest:
    return parse_request({"job_type": "face_processing", "source_image": str(path)} | fields)


def refused(requests: list[tuple[str | None, JobRequest]], tools: Any) -> str:
    before = tools["queue"].find()
    with pytest.raises(RejectedError) as caught:
        submit(requests, **tools)
    assert caught.value.hint
    assert tools["queue"].find() == before
    return caught.value.what


class TestSubmit:
    def test_ids_seeds_and_order(self, tools: Any) -> None:
        first, second = submit([(None, prompt()), ("mine", prompt(seed=0))], **tools)
        assert check_job_id(first.id) == first.id
        assert first.request.seed is not None
        assert (second.id, second.request.seed, second.status, second.origin) == ("mine", 0, "pending", "cli")
        assert [job.id for job in tools["queue"].claim(2)] == [first.id, "mine"]

    def test_held_jobs_wait_for_a_person(self, tools: Any) -> None:
        assert submit([(None, prompt())], **tools, hold=True)[0].status == "held"

    def test_a_photo_is_imported(self, tools: Any, tmp_path: Path) -> None:
        (job,) = submit([("a", photo(tmp_path / "photos/ada.png"))], **tools)
        assert (job.source["width"], job.source["height"], job.source["format"]) == (128, 96, "PNG")
        stored = tools["store"].read(*job.source["stored"].split("/"))
        assert stored == (tmp_path / "photos/ada.png").read_bytes()
        assert tools["queue"].get("a").source == job.source

    def test_a_bad_photo_stops_all(self, tools: Any, tmp_path: Path) -> None:
        outside = tmp_path / "outside.png"
        Image.new("RGB", (64, 64)).save(outside)
        for path in (tmp_path / "photos/gone.png", outside):
            what = refused([("good", prompt()), ("bad", photo(path))], tools)
            assert "Job bad: source_image: " in what

    def test_a_store_that_is_down_is_not_the_requests_fault(self, tools: Any, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(BackendError):
            submit(
                [(None, photo(tmp_path / "photos/ada.png"))], **tools | {"store": ImageStore(str(tmp_path / "file"))}
            )

    def test_taken_and_repeated_ids(self, tools: Any) -> None:
        submit([("a", prompt())], **tools)
        assert "job_id: a is taken" in refused([("b", prompt()), ("a", prompt())], tools)
        assert "job_id: c is taken" in refused([("c", prompt()), ("c", prompt())], tools)

    def test_a_bad_id(self, tools: Any) -> None:
        assert "job_id" in refused([(None, prompt()), ("../x", prompt())], tools)

    def test_unsafe_prompts_are_named_by_their_field(self, tools: Any) -> None:
        assert "pony_prompt" in refused([(None, prompt("a nude woman"))], tools)
        assert "flux_prompt" in refused([(None, prompt(flux_prompt="porn star"))], tools)
        submit([(None, prompt(negative_prompt="nsfw, nude"))], **tools)

    @pytest.mark.parametrize(
        "fields",
        [
            {"prompt_prefix": "nude"},
            {"prompt_suffix": "nude"},
            {"face_prompt_prefix": "nude"},
            {"face_prompt_suffix": "nude"},
            {"face_rules": ["largest: prompt=nude"]},
            {"face_rules": ["largest: negative_prompt=clothes"]},
            {"negative_prompt": "blurry, clothes"},
            {"negative_prompt_suffix": "clothes"},
        ],
    )
    def test_every_field_whose_words_reach_a_picture_is_checked(self, tools: Any, fields: dict[str, Any]) -> None:
        assert f"Job x: {next(iter(fields))}: " in refused([("x", prompt(**fields))], tools)

    def test_what_the_fields_say_together_counts(self, tools: Any) -> None:
        what = refused([("x", prompt("a schoolgirl", face_prompt_suffix="in lingerie"))], tools)
        assert "face_prompt_suffix with pony_prompt: " in what

    def test_nothing(self, tools: Any) -> None:
        assert submit([], **tools) == []


CSV = """job_id,pony_prompt,seed,cfg_scale,tags,output_size
first,"a keeper, at night",12,6.5,client=x; project = y=z,
,another,,,,
"""


class TestFormats:
    def load(self, folder: Path, name: str, text: str | bytes) -> list[tuple[str | None, JobRequest]]:
        path = folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_requests(path)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a.json", '{"job_id": "x", "pony_prompt": "p", "steps": 9}'),
            ("a.JSON", '[{"job_id": "x", "pony_prompt": "p", "steps": 9}]'),
            ("a.jsonl", '\n{"job_id": "x", "pony_prompt": "p", "steps": 9}\r\n\n'),
            ("a.yaml", "job_id: x\npony_prompt: p\nsteps: 9\n"),
            ("a.yml", "- {job_id: x, pony_prompt: p, steps: 9}\n"),
            ("a.csv", "job_id,pony_prompt,steps\nx,p,9\n"),
            ("a.csv", "\ufeffjob_id, pony_prompt ,steps\r\nx,p, 9 \r\n\r\n"),
        ],
    )
    def test_all_say_the_same(self, tmp_path: Path, name: str, text: str) -> None:
        assert self.load(tmp_path, name, text) == [("x", prompt("p", steps=9))]

    def test_many_keep_their_order(self, tmp_path: Path) -> None:
        lines = "".join(json.dumps({"pony_prompt": f"p{number}"}) + "\n" for number in range(2000))
        loaded = self.load(tmp_path, "a.jsonl", lines)
        assert [request.pony_prompt for _, request in loaded] == [f"p{number}" for number in range(2000)]
        assert {job_id for job_id, _ in loaded} == {None}

    def test_csv_cells(self, tmp_path: Path) -> None:
        first, second = self.load(tmp_path, "a.csv", CSV)
        tags = {"client": "x", "project": "y=z"}
        assert first == ("first", prompt("a keeper, at night", seed=12, cfg_scale=6.5, tags=tags))
        assert second == (None, prompt("another"))

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("a.json", "{", ["a.json", "not JSON"]),
            ("a.json", "[" * 100_000, ["a.json", "not JSON"]),
            ("a.json", "", ["a.json", "not JSON"]),
            ("a.json", "[]", ["a.json", "no request"]),
            ("a.json", '[{"pony_prompt": "p"}, 3]', ["a.json, entry 2", "int"]),
            ("a.json", '[{"pony_prompt": "p"}, {"width": 3}]', ["a.json, entry 2: width", "64"]),
            ("a.json", '{"pony_prompt": "p", "job_id": "A/B"}', ["a.json, entry 1: job_id"]),
            ("a.json", '{"pony_prompt": "p", "job_id": 7}', ["a.json, entry 1: job_id"]),
            ("a.json", b"\xff\xfe{\0}\0", ["a.json", "UTF-8"]),
            ("a.jsonl", '{"pony_prompt": "p"}\n\n{"pony', ["a.jsonl, line 3", "not JSON"]),
            ("a.jsonl", '\n{"pony_prompt": ""}', ["a.jsonl, line 2: pony_prompt"]),
            ("a.jsonl", "[]\n", ["a.jsonl, line 1", "list"]),
            ("a.yaml", "a: [", ["a.yaml", "not YAML"]),
            ("a.yaml", "", ["a.yaml", "no request"]),
            ("a.yaml", "just text", ["a.yaml, entry 1", "str"]),
            ("a.yaml", "[" * 50_000, ["a.yaml", "not YAML"]),
            ("a.yaml", "!!python/object/apply:os.system [id]", ["a.yaml", "not YAML"]),
            ("a.yaml", "pony_prompt: !!timestamp x", ["a.yaml", "not YAML"]),
            ("a.yaml", "pony_prompt: p\nseed: &a [*a]", ["entry 1: seed"]),
            ("a.yaml", "pony_prompt: p\ntags: {when: 2026-01-01}", ["entry 1: tags.when", "string"]),
            ("a.csv", "", ["a.csv", "no request"]),
            ("a.csv", "pony_prompt\n", ["a.csv", "no request"]),
            ("a.csv", "pony_prompt,colour\np,\n", ["a.csv, line 1", "'colour'"]),
            ("a.csv", "seed,seed\n1,2\n", ["a.csv, line 1", "'seed'", "twice"]),
            ("a.csv", "pony_prompt,seed\np,1,2\n", ["a.csv, line 2", "3 cells"]),
            ("a.csv", "pony_prompt,seed\n\np,twelve\n", ["a.csv, line 3: seed", "'twelve'"]),
            ("a.csv", "pony_prompt,seed\np,1.5\n", ["a.csv, line 2: seed"]),
            ("a.csv", "pony_prompt,tags\np,loose\n", ["a.csv, line 2: tags", "'loose'"]),
            ("a.csv", 'pony_prompt\n"open', ["a.csv", "not CSV"]),
            ("a.csv", "pony_prompt\n" + "x" * 200_000, ["a.csv", "not CSV"]),
            ("a.txt", "{}", ["a.txt", "no request file"]),
            ("a.yaml", "#" * 1_000_001, ["a.yaml", "too large for YAML"]),
            ("a.json", b" " * (MAX_FILE_BYTES + 1), ["a.json", "20 MB"]),
        ],
    )
    def test_faults_are_named(self, tmp_path: Path, name: str, text: str | bytes, words: list[str]) -> None:
        with pytest.raises(RejectedError) as caught:
            self.load(tmp_path, name, text)
        assert [word for word in words if word not in caught.value.what] == []
        assert caught.value.hint
        assert len(str(caught.value)) < 1500

    def test_merge_keys_cannot_blow_up(self, tmp_path: Path) -> None:
        levels = [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 40)]
        with pytest.raises(RejectedError, match="1000 keys"):
            self.load(tmp_path, "a.yaml", "\n".join(["a0: &a0 {x: 1}", *levels]))

    def test_what_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "folder.json").mkdir()
        for name in ("gone.json", "folder.json"):
            with pytest.raises(RejectedError, match=f"{name}: cannot be read"):
                load_requests(tmp_path / name)

    @given(
        st.sampled_from(["a.json", "a.jsonl", "a.yaml", "a.csv"]), st.binary(max_size=200) | st.text().map(str.encode)
    )
    def test_any_content_is_loaded_or_rejected(self, name: str, content: bytes) -> None:
        with suppress(RejectedError):
            assert parse_entries(name, read_entries(name, content))

    @given(st.text(alphabet="ab01:[]{}&*!<>-?|#'\", \n.", max_size=60))
    def test_any_yaml_is_loaded_or_rejected(self, text: str) -> None:
        with suppress(RejectedError):
            assert parse_entries("a.yaml", read_entries("a.yaml", text.encode()))


def test_an_id_that_another_process_made_too_is_made_once_more(
    queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = iter(["same", "same", "other", "same", "third"])
    monkeypatch.setattr("jobs.requests.accept.new_job_id", lambda: next(made))
    request = parse_request({"pony_prompt": "x"})
    both = [submit([(None, request)], queue=queue, store=store, settings=Settings(), origin="cli") for _ in range(3)]
    assert [job.id for (job,) in both] == ["same", "other", "third"]
    with pytest.raises(RejectedError, match="same is taken"):
        submit([("same", request)], queue=queue, store=store, settings=Settings(), origin="cli")
