"""The `fc` command: what it stores, what it prints, and its exit codes. Real SQLite, real Dagster instances."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from PIL import Image

from imaging.errors import BackendError, RejectedError
from jobs.cli import demo_home, doctor
from jobs.cli.dagster_side import heartbeat_ages, is_alive, materialize_command, prepare_home, selection
from jobs.cli.main import main
from jobs.cli.output import printable, short
from jobs.cli.up import answers, webserver_command
from jobs.cli.waiting import wait_until_over
from jobs.model.job import ImageRow, NewJob
from jobs.model.request import PLACING, JobRequest
from jobs.model.stages import STAGES
from jobs.model.transitions import JobStatus
from jobs.queue.job_queue import JobQueue
from jobs.recipes.sections import SECTION_OF
from resources.settings import load_settings


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)["data"]


Fc = Callable[..., Result]


@pytest.fixture
def fc(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Fc:
    """Runs the command in this process, on a home of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: str | None = None) -> Result:
        if stdin is not None:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(arguments)
        said = capsys.readouterr()
        return Result(int(end.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (128, 96), (90, 120, 60)).save(path)
    return path


def add(queue: JobQueue, job_id: str, **fields: Any) -> None:
    request = JobRequest(**{"pony_prompt": "a knight", "seed": 1, **fields})
    queue.add([NewJob(job_id, request, None, "cli")])


def run_to(queue: JobQueue, job_id: str, status: JobStatus, stage: str = "mask") -> None:
    """Bring a pending job to a status, as a run would."""
    queue.claim(100)
    assert queue.assign_batch(f"batch-{job_id}", [job_id])
    queue.start(job_id, run_id=f"run-{job_id}", batch_id=f"batch-{job_id}")
    queue.begin_stage(job_id, stage, run_id=f"run-{job_id}", content_key="k", input={})
    if status == "failed":
        queue.fail(job_id, run_id=f"run-{job_id}", stage=stage, what="The disk is full.", hint="Free some space.")
    elif status == "completed":
        queue.complete(job_id, run_id=f"run-{job_id}")


# ---- fc itself


def test_help_names_every_command_the_exit_codes_and_the_trap(fc):
    result = fc("--help")
    assert result.code == 0
    for word in ("submit", "list", "show", "status", "doctor", "up", "demo", "130 Ctrl-C", "face-changer", "builtin"):
        assert word in result.out


def test_help_of_submit_shows_each_field_with_the_models_own_words(fc, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    said = " ".join(fc("submit", "--help").out.split())
    for name, info in JobRequest.model_fields.items():
        assert info.description is not None
        assert info.description in said, name


def test_starting_does_not_import_what_is_slow():
    code = (
        "import sys, jobs.cli.main\n"
        "print([name for name in ('dagster', 'cv2', 'torch', 'sqlalchemy', 'anthropic') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("arguments", [["--nothing"], ["nothing"], ["submit", "--width", "big"], ["list", "-n", "0"]])
def test_a_wrong_command_line_is_bad_input(fc, arguments):
    result = fc(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "Error" in result.err


# ---- fc submit


def test_submit_stores_only_what_was_given_and_the_models_defaults(fc, queue):
    result = fc("submit", "--id", "knight", "-p", "a knight", "--steps", "12", "--tag", "client=x=y", "--priority", "2")
    assert result.code == 0
    job = queue.get("knight")
    expected = JobRequest(pony_prompt="a knight", steps=12, tags={"client": "x=y"}, priority=2, seed=job.request.seed)
    assert (job.request, job.status, job.origin) == (expected, "pending", "cli")
    assert "knight" in result.out


def test_submit_takes_every_field(fc, queue, photo, monkeypatch, tmp_path):
    mask = tmp_path / "mask.png"
    Image.new("L", Image.open(photo).size, 255).save(mask)
    flags = {
        "--type": "face_processing", "--pony-prompt": "a", "--flux-prompt": "b", "--negative-prompt": "c",
        "--source-image": "photo.png", "--seed": "7", "--width": "512", "--height": "256", "--steps": "3",
        "--cfg-scale": "4.5", "--scheduler": "DDIM", "--face-strength": "0.25", "--output-size": "640",
        "--priority": "9", "--tag": "k=v", "--face-rule": "largest: skip", "--large-face-strength": "0.1",
        "--identity": "match", "--identity-limit": "0.5", "--reference-face": "photo.png", "--mask": str(mask),
        "--checkpoint": "owner/name", "--revision": "main", "--vae": "owner/vae", "--lora": "owner/lora=0.5",
        "--embedding": "word.safetensors", "--clip-skip": "1", "--generator": "sdxl", "--detector": "haar",
        "--detector-confidence": "0.7", "--max-faces": "2", "--faces-order": "left-right", "--faces-min-pixels": "9",
        "--faces-min-share": "1", "--faces-max-share": "90", "--face-padding": "0.4", "--no-face-align": None,
        "--face-keep-sharp": "300", "--mask-kind": "box", "--mask-grow": "5", "--mask-feather": "4",
        "--mask-offset-x": "1", "--mask-offset-y": "2", "--mask-skin": None, "--face-model": "owner/face",
        "--face-size": "512", "--face-soft-inpaint": "off", "--gate-image": "off", "--gate-portrait": "warn 0.1",
        "--gate-face": "review 0.2", "--gate-final": "off", "--writer": "offline", "--prompt-prefix": "p",
        "--prompt-suffix": "q", "--face-prompt-prefix": "r", "--face-prompt-suffix": "s",
        "--negative-prompt-suffix": "t", "--exif": "keep",
    }  # fmt: skip
    monkeypatch.setenv("FC_SFACE_MODEL", str(photo))
    assert len(flags) == len(set(JobRequest.model_fields) - set(PLACING))
    assert fc("submit", "--id", "all", *(part for pair in flags.items() for part in pair if part)).code == 0
    assert queue.get("all").request.model_dump() == {
        "job_type": "face_processing", "pony_prompt": "a", "flux_prompt": "b", "negative_prompt": "c",
        "source_image": str(photo), "seed": 7, "width": 512, "height": 256, "steps": 3, "cfg_scale": 4.5,
        "scheduler": "DDIM", "face_strength": 0.25, "output_size": 640, "priority": 9, "tags": {"k": "v"},
        "face_rules": ["largest: skip=True"], "large_face_strength": 0.1, "identity": "match", "identity_limit": 0.5,
        "reference_face": f"{photo}@sha256:{hashlib.sha256(photo.read_bytes()).hexdigest()}.png", "mask": str(mask),
        "checkpoint": "owner/name", "revision": "main", "vae": "owner/vae", "loras": ["owner/lora=0.5"],
        "embeddings": [str(photo.parent / "word.safetensors")], "clip_skip": 1, "generator": "sdxl",
        "detector": "haar", "detector_confidence": 0.7, "max_faces": 2, "faces_order": "left-right",
        "faces_min_pixels": 9, "faces_min_share": 1.0, "faces_max_share": 90.0, "face_padding": 0.4,
        "face_align": False, "face_keep_sharp": 300, "mask_kind": "box", "mask_grow": 5.0, "mask_feather": 4.0,
        "mask_offset_x": 1.0, "mask_offset_y": 2.0, "mask_skin": True, "face_model": "owner/face", "face_size": 512,
        "face_soft_inpaint": "off", "gate_image": "off", "gate_portrait": "warn 0.1", "gate_face": "review 0.2",
        "gate_final": "off", "writer": "offline", "prompt_prefix": "p", "prompt_suffix": "q",
        "face_prompt_prefix": "r", "face_prompt_suffix": "s", "negative_prompt_suffix": "t", "exif": "keep",
    }  # fmt: skip
    assert queue.get("all").source["path"] == str(photo)
    assert queue.get("all").user_mask["path"] == str(mask)


BAD = {
    "no prompt": ([], "pony_prompt"),
    "type": (["--type", "video", "-p", "x"], "job_type"),
    "size": (["-p", "x", "--width", "1001"], "width"),
    "too many steps": (["-p", "x", "--steps", "151"], "steps"),
    "cfg": (["-p", "x", "--cfg-scale", "nan"], "cfg_scale"),
    "scheduler": (["-p", "x", "--scheduler", "Magic"], "scheduler"),
    "strength": (["-p", "x", "--face-strength", "1.5"], "face_strength"),
    "priority": (["-p", "x", "--priority", "0"], "priority"),
    "seed": (["-p", "x", "--seed", "-1"], "seed"),
    "output size": (["-p", "x", "--output-size", "1"], "output_size"),
    "tag": (["-p", "x", "--tag", "red"], "tags"),
    "id": (["-p", "x", "--id", "../x"], "job_id"),
    "missing photo": (["--type", "description", "-s", "none.png"], "source_image"),
    "no image": (["--type", "description", "-s", "bad.json"], "source_image"),
    "missing file": (["-f", "none.json"], "none.json"),
    "bad file": (["-f", "bad.json"], "bad.json, entry 2: steps"),
    "unknown ending": (["-f", "requests.txt"], "requests.txt"),
    "file and flag": (["-f", "bad.json", "--steps", "3"], "--file: steps"),
    "file and id": (["-f", "bad.json", "--id", "x"], "--file: id"),
    "hold and wait": (["-p", "x", "--hold", "--wait"], "--hold"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_nothing_is_stored(fc, queue, tmp_path, case):
    (tmp_path / "bad.json").write_text('[{"pony_prompt": "good"}, {"pony_prompt": "x", "steps": 0}]')
    (tmp_path / "requests.txt").write_text("x")
    arguments, named = BAD[case]
    result = fc("submit", *arguments)
    assert (result.code, result.out) == (2, "")
    assert named in result.err
    assert "Traceback" not in result.err
    assert queue.find() == []


@pytest.mark.parametrize("stdin", ["", "{", "7", "[1]", '{"steps": 3}', '{"pony_prompt": "x", "hight": 64}'])
def test_bad_json_on_stdin(fc, queue, stdin):
    result = fc("submit", "--file", "-", stdin=stdin)
    assert (result.code, result.out) == (2, "")
    assert "Error: stdin" in result.err
    assert "Fix: " in result.err
    assert queue.find() == []


def test_a_taken_id_is_bad_input(fc, queue):
    assert fc("submit", "-p", "x", "--id", "one").code == 0
    result = fc("submit", "-p", "y", "--id", "one")
    assert (result.code, "job_id: one is taken" in result.err) == (2, True)
    assert len(queue.find()) == 1


def test_submit_from_stdin_and_as_json(fc, queue):
    requests = [{"pony_prompt": "x", "job_id": "first"}, {"pony_prompt": "y", "seed": 3}]
    result = fc("submit", "-f", "-", "--json", stdin=json.dumps(requests))
    assert result.code == 0
    first, second = result.json
    assert (first["job_id"], first["status"], second["request"]["seed"]) == ("first", "pending", 3)
    assert {job.id for job in queue.find()} == {"first", second["job_id"]}


def test_submit_from_a_file(fc, queue, tmp_path):
    (tmp_path / "two.csv").write_text("job_id,pony_prompt,width\none,a knight,512\ntwo,a queen,\n")
    assert fc("submit", "-f", "two.csv").code == 0
    assert queue.get("one").request.width == 512
    assert queue.get("two").request.width == 1024


def test_hold_leaves_the_queue_alone_and_prints_a_command_that_runs(fc, queue, home, instance, photo):
    result = fc("submit", "--hold", "--id", "mine", "--type", "description", "-s", "photo.png")
    assert result.code == 0
    assert queue.get("mine").status == "held"
    assert queue.claim(10) == []
    assert instance.get_dynamic_partitions("jobs") == ["mine"]
    assert f"export DAGSTER_HOME={home}" in result.out
    command = "asset materialize --select 'job_request,generated_image,description' --partition mine"
    assert command in result.out


def test_hold_as_json_has_the_command(fc, queue):
    described = fc("submit", "--hold", "--id", "mine", "-p", "x", "--json").json[0]
    assert described["command"] == materialize_command(queue.get("mine"))
    assert "--select '*' --partition mine" in described["command"]


def test_selection_is_a_star_only_where_it_is_the_whole_plan():
    assert selection("pony_flux") == selection("face_processing") == "*"
    assert selection("sdxl_generation") == ",".join(STAGES[:3])


def test_a_database_that_cannot_be_reached_is_an_environment_problem(fc, monkeypatch):
    monkeypatch.setenv("FC_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/none")
    result = fc("submit", "-p", "x")
    assert result.code == 4
    assert "FC_DATABASE_URL" in result.err
    assert "secret" not in result.err


def test_a_setting_that_cannot_be_used_is_an_environment_problem(fc, monkeypatch):
    monkeypatch.setenv("FC_BATCH_SIZE", "many")
    result = fc("list")
    assert (result.code, "FC_BATCH_SIZE" in result.err) == (4, True)


def test_waiting_ends_with_1_unless_every_job_completed(fc, queue, monkeypatch):
    def end(status: JobStatus) -> Callable[..., list[Any]]:
        def wait(queue: JobQueue, jobs: list[Any], **_: Any) -> list[Any]:
            run_to(queue, jobs[0].id, status)
            return wait_until_over(queue, jobs)

        return wait

    monkeypatch.setattr("jobs.cli.waiting.wait_until_over", end("completed"))
    good = fc("submit", "--wait", "-p", "x", "--id", "good")
    assert (good.code, "completed" in good.out) == (0, True)
    assert "No Dagster daemon runs" in good.err
    monkeypatch.setattr("jobs.cli.waiting.wait_until_over", end("failed"))
    bad = fc("submit", "--wait", "--json", "-p", "x", "--id", "bad")
    assert (bad.code, bad.json[0]["error"]) == (1, "The disk is full.")


# ---- waiting


def test_waiting_sees_every_change_and_ends_when_all_are_over(queue, monkeypatch, capsys):
    monkeypatch.setattr("jobs.cli.waiting.POLL_SECONDS", 0)
    for job_id in ("one", "two"):
        add(queue, job_id)
    changes = iter(
        [
            lambda: run_to(queue, "one", "running"),
            lambda: queue.fail("one", run_id="run-one", stage="mask", what="Wrong.", hint="Repair."),
            lambda: queue.assign_batch("batch", ["two"]),
            lambda: queue.start("two", run_id="run-two", batch_id="batch"),
            lambda: queue.complete("two", run_id="run-two"),
        ]
    )

    def check() -> None:
        next(changes)()

    jobs = wait_until_over(queue, [queue.get("one"), queue.get("two")], check=check)
    assert [job.status for job in jobs] == ["failed", "completed"]
    assert capsys.readouterr().err.splitlines() == [
        "one: pending", "two: pending", "one: running at mask", "two: claimed", "one: failed at mask", "two: running",
        "two: completed",
    ]  # fmt: skip


def test_what_the_check_raises_ends_the_wait(queue):
    def check() -> None:
        raise BackendError("The daemon died.", "Start it.")

    add(queue, "one")
    with pytest.raises(BackendError, match="daemon died"):
        wait_until_over(queue, [queue.get("one")], check=check)


def test_waiting_has_an_end(queue):
    add(queue, "one")
    with pytest.raises(BackendError, match="one \\(pending\\)"):
        wait_until_over(queue, [queue.get("one")], most_seconds=0)


def test_a_held_job_and_a_removed_one_are_not_waited_for(queue):
    queue.add([NewJob("mine", JobRequest(pony_prompt="x", seed=1), None, "cli", hold=True)])
    add(queue, "gone")
    jobs = [queue.get("gone"), queue.get("mine")]
    from sqlalchemy import delete

    from resources.database import JobRow

    with queue._database.session() as session:
        session.execute(delete(JobRow).where(JobRow.id == "gone"))
    assert [job.id for job in wait_until_over(queue, jobs)] == ["mine"]


# ---- fc list, show, status


def test_list_shows_newest_first_and_filters(fc, queue):
    add(queue, "old")
    add(queue, "new", job_type="sdxl_generation")
    assert [job["job_id"] for job in fc("list", "--json").json] == ["new", "old"]
    assert [job["job_id"] for job in fc("list", "--json", "--type", "pony_flux").json] == ["old"]
    assert [job["job_id"] for job in fc("list", "--json", "-n", "1").json] == ["new"]
    assert fc("list", "--json", "--status", "failed", "--status", "held").json == []
    assert "No such job" in fc("list", "--status", "failed").out
    lines = fc("list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["job", "new", "old"]
    assert queue.counts()["pending"] == 2  # nothing was claimed


def test_list_of_nothing_says_how_to_begin(fc):
    assert "fc submit" in fc("list").out


@pytest.mark.parametrize(("flag", "known"), [("--status", "needs_review"), ("--type", "face_processing")])
def test_list_names_what_can_be_asked_for(fc, flag, known):
    result = fc("list", flag, "odd")
    assert result.code == 2
    assert "'odd'" in result.err
    assert known in result.err


def test_show_tells_everything(fc, queue, home):
    add(queue, "bad")
    run_to(queue, "bad", "running", stage="generated_image")
    image = ImageRow("/data/0-generated/bad.png", "generated_image", 64, 32, "PNG", 100, "ab", face_count=2)
    queue.finish_stage(
        "bad", "generated_image", run_id="run-bad", output={"path": image.path}, milliseconds=41, content_key="k",
        images=[image],
    )  # fmt: skip
    queue.begin_stage("bad", "portrait", run_id="run-bad", content_key="k", input={})
    queue.fail("bad", run_id="run-bad", stage="portrait", what="The disk is full.", hint="Free some space.")
    result = fc("show", "bad")
    assert result.code == 0
    for text in (
        "failed at portrait", "The disk is full.", "Fix: Free some space.", "a knight", "/data/0-generated/bad.png",
        "64x32", "41", "/runs/run-bad", "failed: The disk is full.",
    ):  # fmt: skip
        assert text in result.out, text
    shown = fc("show", "bad", "--json", "--log", "1").json
    assert shown["error_hint"] == "Free some space."
    assert [stage["stage"] for stage in shown["stages"]] == ["generated_image", "portrait"]
    assert (shown["images"][0]["face_count"], shown["images"][0]["width"]) == (2, 64)
    assert len(shown["log"]) == 1
    assert shown["run_ids"] == ["run-bad"]


def test_show_of_an_unknown_job_is_not_found(fc):
    result = fc("show", "nobody")
    assert (result.code, result.out) == (3, "")
    assert "nobody" in result.err


def test_markup_and_control_characters_in_a_prompt_are_only_text(fc, queue):
    add(queue, "odd", pony_prompt="[bold]x[/nope] \x1b[31mred\x07")
    for said in (fc("show", "odd").out, fc("list").out):
        assert "[bold]x[/nope]" in said
        assert "\x1b" not in said
        assert "\x07" not in said


def test_status_counts_and_names_what_runs_and_what_failed(fc, queue):
    for job_id in ("runs", "fails", "waits"):
        add(queue, job_id)
        if job_id != "waits":
            run_to(queue, job_id, "failed" if job_id == "fails" else "running")
    result = fc("status")
    assert result.code == 0
    for text in ("pending 1", "running 1", "failed 1", "mask", "The disk is full.", "Daemon: not running"):
        assert text in result.out, text
    found = fc("status", "--json").json
    assert (found["counts"]["running"], found["daemon_running"]) == (1, False)
    assert [job["job_id"] for job in found["failures"]] == ["fails"]
    assert [job["current_stage"] for job in found["running"]] == ["mask"]


def test_status_without_a_home_still_shows_the_queue(fc, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("FC_DATABASE_URL", f"sqlite:///{tmp_path / 'queue.sqlite'}")
    result = fc("status")
    assert (result.code, "Daemon: unknown" in result.out) == (0, True)


def test_status_knows_a_living_daemon_from_a_dead_one(fc, instance):
    from dagster._daemon.types import DaemonHeartbeat

    names = list(instance.get_required_daemon_types())
    for name in names:
        instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), name, "d", []))
    assert "Daemon: running" in fc("status").out
    assert all(map(is_alive, heartbeat_ages(instance).values()))
    instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - 600, names[0], "d", []))
    assert f"without heartbeat: {names[0].lower()}" in fc("status").out


def test_status_as_json_cannot_be_watched(fc):
    assert fc("status", "--json", "--watch").code == 2


# ---- fc doctor


def levels(checks: list[doctor.Check]) -> dict[str, str]:
    return {check.name: check.level for check in checks}


def test_doctor_on_a_sound_home(fc, home):
    result = fc("doctor", "--json")
    found = {check["name"]: check for check in result.json["checks"]}
    assert found["database"]["level"] == found["data"]["level"] == found["dagster storage"]["level"] == "OK"
    assert found["daemon"]["level"] == "WARN"
    assert found["daemon"]["hint"] == "Run `fc up`."
    assert (found["sface"]["level"], found["sface"]["found"][:3]) == ("OK", "off")
    assert str(home) in found["dagster home"]["found"]
    assert result.json["ok"] == all(check["level"] != "FAIL" for check in found.values())
    assert result.code == (0 if result.json["ok"] else 1)


def test_doctor_fails_where_nothing_can_work(fc, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FC_DATA_DIR", str(tmp_path / "file" / "data"))
    monkeypatch.setenv("FC_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/none")
    monkeypatch.setenv("FC_DETECTOR", "eyes")
    monkeypatch.setenv("FC_YUNET_MODEL", str(tmp_path / "none.onnx"))
    monkeypatch.setenv("FC_SFACE_MODEL", str(tmp_path / "none.onnx"))
    monkeypatch.setenv("FC_SOURCE_ROOTS", str(tmp_path / "nowhere"))
    monkeypatch.setenv("FC_INBOX", str(tmp_path / "no-inbox"))
    result = fc("doctor")
    assert result.code == 1
    assert "secret" not in result.out
    found = levels(list(doctor.run_checks()))
    assert {name for name in ("data", "database", "detector", "yunet", "sface") if found[name] == "FAIL"} == {
        "data", "database", "detector", "yunet", "sface",
    }  # fmt: skip
    assert (found["source roots"], found["inbox"]) == ("WARN", "FAIL")
    assert result.out.count("Fix: ") >= 6


def test_doctor_tells_what_lies_in_the_inbox_and_why(fc, tmp_path, monkeypatch):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    monkeypatch.setenv("FC_INBOX", str(inbox))
    (inbox / "ada.jpg").write_bytes(b"")
    (inbox / "a.json").write_text("{}")
    assert doctor.check_inbox(load_settings()).level == "OK", "what came just now is taken soon"
    monkeypatch.setattr(doctor, "LYING_SECONDS", 0.0)
    monkeypatch.setenv("FC_INBOX_TEMPLATE", str(tmp_path / "none.yaml"))
    found = doctor.check_inbox(load_settings())
    assert found.level == "WARN"
    assert "a.json (request file; the daemon takes it)" in found.found
    assert "ada.jpg (photo; the daemon takes it by FC_INBOX_TEMPLATE)" in found.found
    assert "FC_INBOX_TEMPLATE: none.yaml: cannot be read" in found.found


def test_doctor_never_prints_the_key(fc, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-very-secret")
    result = fc("doctor")
    assert "ANTHROPIC_API_KEY is set" in result.out
    assert "very-secret" not in result.out


def test_doctor_names_settings_that_cannot_be_read(fc, monkeypatch):
    monkeypatch.setenv("FC_MAX_FACES", "none")
    result = fc("doctor")
    assert (result.code, "FC_MAX_FACES" in result.out) == (1, True)


def test_doctor_tells_leftovers_but_not_what_is_being_written(fc, home):
    folder = home / "data" / "6-final"
    folder.mkdir(parents=True)
    old, new = folder / ".a.png.0123456789abcdef.tmp", folder / ".b.png.0123456789abcdef.tmp"
    for path in (old, new):
        path.write_text("")
    os.utime(old, (0, 0))
    told = fc("doctor")
    assert (told.code, str(old) in told.out, "b.png" in told.out, old.exists()) == (1, True, False, True)
    fixed = fc("doctor", "--fix", "--json")
    leftovers = next(check for check in fixed.json["checks"] if check["name"] == "leftovers")
    assert leftovers["level"] == "OK"
    assert "They were removed." in leftovers["found"]
    assert (old.exists(), new.exists()) == (False, True)
    assert "records  the databases, Dagster and the image store agree" in fc("doctor", "--fix").out


def test_doctor_sees_a_stopped_sensor(home, instance):
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
    from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    assert doctor.check_sensors(instance).level == "WARN"
    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="x"))
    repository = RemoteRepositoryOrigin(location, "defs")
    for name, status in (("good", InstigatorStatus.DECLARED_IN_CODE), ("job_requests", InstigatorStatus.STOPPED)):
        origin = RemoteInstigatorOrigin(repository, name)
        instance.add_instigator_state(InstigatorState(origin, InstigatorType.SENSOR, status))
        level = doctor.check_sensors(instance).level
        assert level == ("OK" if name == "good" else "WARN")
    assert "job_requests" in doctor.check_sensors(instance).found


@pytest.mark.parametrize(("shell", "level"), [("/bin/zsh", "WARN"), ("/usr/bin/fish", "OK")])
def test_doctor_knows_the_builtin(monkeypatch, tmp_path, shell, level):
    monkeypatch.setenv("SHELL", shell)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.check_shell_builtin().level == level


# ---- fc up


def test_up_refuses_a_taken_port(fc):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = fc("up", "--port", str(port))
    assert (result.code, f"--port {port}" in result.err) == (4, True)


def test_a_server_that_is_no_webserver_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not answers("127.0.0.1", port)


def test_a_home_is_made_with_the_projects_dagster_yaml_and_then_left_alone(tmp_path):
    prepare_home(tmp_path / "new" / "home")
    config = tmp_path / "new" / "home" / "dagster.yaml"
    assert "QueuedRunCoordinator" in config.read_text()
    config.write_text("# mine\n")
    prepare_home(tmp_path / "new" / "home")
    assert config.read_text() == "# mine\n"


def test_several_commands_may_open_a_new_home_at_once(home):
    code = "from jobs.cli.dagster_side import open_instance as o; i = o(); i.add_dynamic_partitions('jobs', ['a'])"
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=60)[1] for process in running] == [""] * 3


def test_commands_come_from_this_environment():
    assert Path(webserver_command("127.0.0.1", 1)[0]).parent == Path(sys.executable).parent


# ---- fc demo


def test_demo_leaves_a_folder_alone_that_is_not_its_own(fc, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("x")
    result = fc("demo", "--home", "work")
    assert (result.code, "--home" in result.err) == (2, True)
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["thesis.txt"]


def test_demo_wipes_its_own_home_unless_it_shall_keep_it(tmp_path):
    home = tmp_path / "demo"
    demo_home.prepare(home, keep=False)
    (home / "old.png").write_text("x")
    demo_home.prepare(home, keep=True)
    assert (home / "old.png").exists()
    demo_home.prepare(home, keep=False)
    assert not (home / "old.png").exists()
    assert (home / "dagster.yaml").exists()
    with pytest.raises(RejectedError):
        demo_home.prepare(home / "dagster.yaml", keep=False)


def test_demo_keeps_to_its_home_and_to_what_the_user_chose(home, tmp_path, monkeypatch):
    monkeypatch.delenv("FC_WRITER")
    monkeypatch.setenv("FC_GENERATOR", "sdxl")
    variables = demo_home.demo_environment(tmp_path / "demo")
    assert variables["FC_WRITER"] == "offline"
    assert "FC_GENERATOR" not in variables
    places = [value for name, value in variables.items() if name != "FC_WRITER"]
    assert all(str(tmp_path / "demo") in value for value in places)


def test_a_demos_home_is_opened_by_its_name_alone_or_from_inside(home, tmp_path, monkeypatch):
    made = tmp_path / "a demo"
    demo_home.prepare(made, keep=False)
    monkeypatch.setenv("DAGSTER_HOME", str(made))
    for name in ("FC_DATA_DIR", "FC_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    settings, variables = load_settings(), demo_home.demo_environment(made)
    assert (settings.resolved_data_dir, settings.resolved_database_url) == (
        variables["FC_DATA_DIR"],
        variables["FC_DATABASE_URL"],
    )
    program = Path(sys.executable).parent / "face-changer"
    assert demo_home.command_that_opens(made) == f"DAGSTER_HOME='{made}' {program} up"
    monkeypatch.setenv("FC_DATABASE_URL", "postgresql://127.0.0.1:1/other")
    command = demo_home.command_that_opens(made)
    assert command == f"DAGSTER_HOME='{made}' FC_DATABASE_URL='{variables['FC_DATABASE_URL']}' {program} up"
    assert dotenv_values(made / ".env") == variables


# ---- the installed command, as a process of its own


def run_program(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "face-changer"
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    return subprocess.run([program, *arguments], env=environment, cwd=home, capture_output=True, text=True, check=False)


def test_exit_codes_of_the_installed_command(home):
    assert run_program(home, "list").returncode == 0
    assert run_program(home, "submit", "-p", "x", "--steps", "0").returncode == 2
    assert run_program(home, "show", "nobody").returncode == 3
    (home / "data").rename(home / "gone")
    (home / "data").write_text("no folder")
    broken = run_program(home, "list", "--json")
    assert (broken.returncode, broken.stdout) == (4, "")
    assert "Traceback" not in broken.stderr


def test_ctrl_c_while_waiting_leaves_the_job_and_says_so(home, queue):
    program = Path(sys.executable).parent / "face-changer"
    command = [program, "submit", "-p", "x", "--id", "patient", "--wait"]
    with subprocess.Popen(
        command, env={**os.environ}, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stderr is not None
        while "patient: pending" not in waiting.stderr.readline():
            assert waiting.poll() is None
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert "the jobs go on: patient" in said
    assert queue.get("patient").status == "pending"


# ---- small parts


def test_short_and_printable():
    assert short("a\n b\tc") == "a b c"
    assert short("x" * 10, 5) == "xxxx…"
    assert printable("a\x1b\n\x7fb") == "a \n b"


def test_show_tells_each_value_and_where_it_came_from(fc, queue, monkeypatch):
    monkeypatch.setenv("FC_MASK_GROW", "4")
    given = ("--generator", "sdxl", "--lora", "owner/name=0.5")
    assert fc("submit", "-p", "a knight", "--id", "k", "--steps", "30", *given).code == 0
    recipe = fc("show", "k", "--json").json["recipe"]
    assert recipe.keys() == SECTION_OF.keys()
    assert recipe["steps"] == {"value": 30, "from": "request"}
    assert recipe["mask_grow"] == {"value": 4.0, "from": "settings"}
    assert recipe["cfg_scale"] == {"value": 6.0, "from": "default"}
    shown = [line.split() for line in fc("show", "k").out.splitlines()]
    assert ["sampling", "loras", "['owner/name=0.5']", "request"] in shown
    assert ["sampling", "checkpoint", "as", "set", "up", "default"] in shown
    assert ["output", "output_size", "-", "default"] in shown
