"""Fetching a file: real HTTP over loopback, with a server that cuts, stalls, lies and changes its mind."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from safetensors.numpy import save

from imaging.errors import BackendError, RejectedError, SettingsError, TransientError
from resources.models import downloads
from resources.models.downloads import Limits, fetch, file_name, token_for
from resources.models.weights import Tensor, read_tensors, setting_of
from resources.settings import PROJECT_ROOT
from tests.support.file_server import FileServer, answer, cut, etag, hold, serving

NAME = "/style.safetensors"
QUICK = Limits(connect=5, silence=5, wait=0)


def weights(seed: int = 0, count: int = 100_000) -> bytes:
    values = np.random.default_rng(seed).normal(size=count).astype(np.float32)
    return save({"lora_unet.weight": values, "scale": np.zeros(0, np.float16)})


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as found:
        found.files[NAME] = weights()
        yield found


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "style.safetensors"


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---- All is well


def test_a_file_comes_whole_and_alone(server, target):
    told = []
    content = server.files[NAME]
    digest = fetch(server.url(NAME), target, sha256=sha256(content), progress=lambda *what: told.append(what))
    assert (digest, target.read_bytes(), left(target)) == (sha256(content), content, [target.name])
    assert told[0] == (f"fetch {target.name}", 0, len(content))
    assert told[-1] == (f"check {target.name}.part", len(content), len(content))


def test_a_file_that_is_there_is_checked_and_not_fetched(server, target):
    digest = fetch(server.url(NAME), target)
    server.seen.clear()
    assert fetch(server.url(NAME), target, sha256=digest.upper()) == digest
    assert server.seen == []
    with pytest.raises(BackendError, match=f"is another file: its SHA-256 is {digest}, not 0000"):
        fetch(server.url(NAME), target, sha256="0" * 64)
    target.write_bytes(target.read_bytes()[:-1])
    with pytest.raises(BackendError, match="is cut off"):
        fetch(server.url(NAME), target)
    assert server.seen == []
    assert target.is_file()


# ---- Cut off, and gone on with


def test_a_connection_that_is_cut_is_taken_up_where_it_broke(server, target):
    content = server.files[NAME]
    server.faults[NAME] = [cut, cut]
    fetch(server.url(NAME), target, limits=QUICK)
    assert target.read_bytes() == content
    half = len(content) // 2
    assert server.ranges() == [None, f"bytes={half}-", f"bytes={half + (len(content) - half) // 2}-"]
    assert server.seen[1][2]["if-range"] == etag(content)


def test_a_later_call_goes_on(server, target):
    server.faults[NAME] = [cut]
    with pytest.raises(TransientError, match="in 1 tries in a row") as caught:
        fetch(server.url(NAME), target, limits=Limits(tries=1))
    assert "goes on where it stopped" in caught.value.hint
    assert left(target) == [target.name + ".part", target.name + ".part.json"]
    fetch(server.url(NAME), target, limits=QUICK)
    assert target.read_bytes() == server.files[NAME]
    assert server.ranges() == [None, f"bytes={len(server.files[NAME]) // 2}-"]


def test_a_killed_process_leaves_what_a_later_one_goes_on_with(server, target):
    server.files[NAME] = content = weights(count=1_000_000)
    server.faults[NAME] = [hold]
    command = [sys.executable, "-m", "jobs.cli.main", "models", "pull", server.url(NAME), "--to", str(target.parent)]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stderr=subprocess.DEVNULL) as process:
        assert server.halfway.wait(60)
        part = target.with_name(target.name + ".part")
        _until(lambda: part.is_file() and part.stat().st_size > 1_000_000)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not target.exists()
    have = part.stat().st_size
    fetch(server.url(NAME), target, limits=QUICK)
    assert server.ranges() == [None, f"bytes={have}-"]
    assert target.read_bytes() == content
    assert left(target) == [target.name]


def _until(is_so) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        os.sched_yield()


def test_a_kill_between_the_last_byte_and_the_name_costs_nothing(server, target, monkeypatch):
    real = downloads.sha256_of
    monkeypatch.setattr(downloads, "sha256_of", _killed)
    with pytest.raises(KeyboardInterrupt):
        fetch(server.url(NAME), target)
    assert not target.exists()
    monkeypatch.setattr(downloads, "sha256_of", real)
    fetch(server.url(NAME), target)
    assert len(server.seen) == 1
    assert target.read_bytes() == server.files[NAME]


def _killed(*_args):
    raise KeyboardInterrupt


def test_a_file_that_changed_on_the_server_starts_over(server, target):
    server.faults[NAME] = [cut]
    with pytest.raises(TransientError):
        fetch(server.url(NAME), target, limits=Limits(tries=1))
    server.files[NAME] = weights(seed=1)
    fetch(server.url(NAME), target, limits=QUICK)
    assert server.ranges()[1] is not None
    assert target.read_bytes() == server.files[NAME]


def test_the_part_of_another_address_is_not_gone_on_with(server, target):
    other = "/mirror" + NAME
    server.files[other] = weights(seed=2)
    server.faults[NAME] = [cut]
    with pytest.raises(TransientError):
        fetch(server.url(NAME), target, limits=Limits(tries=1))
    fetch(server.url(other), target, limits=QUICK)
    assert server.ranges() == [None, None]
    assert target.read_bytes() == server.files[other]


@pytest.mark.parametrize("headers", [{"ETag": None}, {"ETag": 'W/"weak"'}])
def test_without_a_sign_that_it_is_the_same_file_it_starts_over(server, target, headers):
    server.headers[NAME] = headers
    server.faults[NAME] = [cut]
    fetch(server.url(NAME), target, limits=QUICK)
    assert server.ranges() == [None, None]
    assert target.read_bytes() == server.files[NAME]


def test_a_date_is_such_a_sign(server, target):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    server.headers[NAME] = {"ETag": None, "Last-Modified": date}
    server.faults[NAME] = [cut]
    fetch(server.url(NAME), target, limits=QUICK)
    assert server.seen[1][2]["if-range"] == date
    assert server.ranges()[1] is not None
    assert target.read_bytes() == server.files[NAME]


def test_a_server_that_knows_no_ranges_sends_all_of_it_again(server, target):
    content = server.files[NAME]
    server.faults[NAME] = [cut, answer(200, content, ETag=etag(content))]
    fetch(server.url(NAME), target, limits=QUICK)
    assert target.read_bytes() == content


@pytest.mark.parametrize("wrong", ["bytes 7-9/10", "bytes 0-/5", ""])
def test_another_range_than_the_one_asked_for_is_never_appended(server, target, wrong):
    server.faults[NAME] = [cut, answer(206, b"rubbish", Content_Range=wrong), cut]
    fetch(server.url(NAME), target, limits=QUICK)
    assert server.ranges()[1:3] == [f"bytes={len(server.files[NAME]) // 2}-", None]
    assert target.read_bytes() == server.files[NAME]


@pytest.mark.parametrize("notes", ["", "{}", '{"url": 1, "validator"', "[]"])
def test_damaged_notes_mean_starting_over(server, target, notes):
    target.parent.mkdir()
    target.with_name(target.name + ".part").write_bytes(b"x" * 10)
    target.with_name(target.name + ".part.json").write_text(notes)
    fetch(server.url(NAME), target, limits=QUICK)
    assert server.ranges() == [None]
    assert target.read_bytes() == server.files[NAME]


def test_a_part_that_is_longer_than_the_file_starts_over(server, target):
    server.faults[NAME] = [cut]
    with pytest.raises(TransientError):
        fetch(server.url(NAME), target, limits=Limits(tries=1))
    with target.with_name(target.name + ".part").open("ab") as part:
        part.write(bytes(len(server.files[NAME])))
    fetch(server.url(NAME), target, limits=QUICK)
    assert server.ranges() == [None, None]
    assert target.read_bytes() == server.files[NAME]


def test_a_part_that_was_damaged_is_found_out_and_thrown_away(server, target):
    server.faults[NAME] = [cut]
    content = server.files[NAME]
    with pytest.raises(TransientError):
        fetch(server.url(NAME), target, sha256=sha256(content), limits=Limits(tries=1))
    part = target.with_name(target.name + ".part")
    part.write_bytes(bytes(part.stat().st_size))
    with pytest.raises(BackendError, match="another file"):
        fetch(server.url(NAME), target, sha256=sha256(content), limits=QUICK)
    assert left(target) == []
    fetch(server.url(NAME), target, sha256=sha256(content), limits=QUICK)
    assert target.read_bytes() == content


def test_two_at_once_do_not_write_into_one_another(server, target):
    target.parent.mkdir()
    with target.with_name(target.name + ".part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BackendError, match="Another process is fetching"):
            fetch(server.url(NAME), target)
    assert server.seen == []
    fetch(server.url(NAME), target)


# ---- Slow, busy, gone


def test_a_server_that_falls_silent_is_asked_again(server, target):
    server.faults[NAME] = [hold]
    fetch(server.url(NAME), target, limits=Limits(silence=0.2, wait=0))
    assert server.ranges() == [None, f"bytes={len(server.files[NAME]) // 2}-"]
    assert target.read_bytes() == server.files[NAME]


def test_a_busy_server_is_asked_again_and_given_the_time_it_wants(server, target, monkeypatch):
    waits = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    server.faults[NAME] = [answer(503), answer(429, Retry_After="7"), answer(500), answer(429, Retry_After="9999")]
    fetch(server.url(NAME), target)
    assert waits == [1, 7, 4, 60]
    assert target.read_bytes() == server.files[NAME]


def test_tries_count_only_while_nothing_new_comes(server, target):
    server.faults[NAME] = [cut] * 9
    fetch(server.url(NAME), target, limits=Limits(tries=2, wait=0))
    assert len(server.seen) == 10
    assert target.read_bytes() == server.files[NAME]


def test_a_server_that_stays_away_is_told(server, target):
    server.faults[NAME] = [answer(503)] * 9
    with pytest.raises(TransientError, match=r"in 3 tries in a row \(the server answered 503\)"):
        fetch(server.url(NAME), target, limits=Limits(tries=3, wait=0))
    assert len(server.seen) == 3
    with serving() as gone:
        pass
    with pytest.raises(TransientError, match="could not be fetched"):
        fetch(gone.url(NAME), target, limits=Limits(tries=2, wait=0))
    assert not target.exists()


# ---- Not the file


@pytest.mark.parametrize("status", [401, 403])
def test_a_login_is_told(server, target, status):
    server.faults[NAME] = [answer(status), answer(status)]
    with pytest.raises(BackendError, match=f"needs a login: the server answered {status}, and no token was") as caught:
        fetch(server.url(NAME), target)
    assert "--token-env" in caught.value.hint
    with pytest.raises(BackendError, match="does not take the token") as caught:
        fetch(server.url(NAME), target, token="secret-1")
    assert "secret-1" not in str(caught.value)


@pytest.mark.parametrize("status", [404, 410, 400, 204])
def test_an_answer_without_a_file_is_told(server, target, status):
    server.faults[NAME] = [answer(status)]
    with pytest.raises(BackendError, match=f"the server answered {status}") as caught:
        fetch(server.url(NAME), target, limits=QUICK)
    assert not isinstance(caught.value, TransientError)
    assert not target.exists()


PAGE = b"\n<!DOCTYPE html><html><body>Log in</body></html>"


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
@pytest.mark.parametrize("name", ["style.safetensors", "yunet.onnx"])
def test_a_web_page_is_not_weights(server, target, kind, name):
    server.faults[NAME] = [answer(200, PAGE, Content_Type=kind)]
    with pytest.raises(BackendError, match="a web page, not weights: the download needs a login"):
        fetch(server.url(NAME), target.with_name(name))
    assert not target.with_name(name).exists()
    fetch(server.url(NAME), target)


def test_a_key_in_the_address_is_never_shown_or_written_down(server, target):
    keyed = NAME + "?key=hidden"
    server.files[keyed] = server.files[NAME]
    server.faults[keyed] = [cut, answer(404)]
    with pytest.raises(BackendError, match="answered 404") as caught:
        fetch(server.url(keyed), target, limits=QUICK)
    notes = target.with_name(target.name + ".part.json").read_text()
    assert "hidden" not in str(caught.value) + notes
    fetch(server.url(keyed), target)
    assert target.read_bytes() == server.files[NAME]


def test_other_bytes_than_the_sha256_says_are_thrown_away(server, target):
    with pytest.raises(BackendError, match=f"{NAME} is another file: its SHA-256 is .*, not {'a' * 64}"):
        fetch(server.url(NAME), target, sha256="a" * 64)
    assert left(target) == []


def test_a_length_that_is_too_short_is_found_out_by_the_header(server, target):
    content = server.files[NAME]
    server.faults[NAME] = [answer(200, content[:-1000])]
    with pytest.raises(BackendError, match="is cut off"):
        fetch(server.url(NAME), target)
    assert left(target) == []


def test_a_length_that_is_too_long_is_never_reached(server, target):
    content = server.files[NAME]
    server.faults[NAME] = [lambda handler, _: handler.send(200, content, length=len(content) + 1)] * 3
    with pytest.raises(TransientError):
        fetch(server.url(NAME), target, limits=Limits(tries=2, wait=0))
    assert not target.exists()


def test_a_compressed_answer_is_not_kept(server, target):
    server.faults[NAME] = [answer(200, b"zzz", Content_Encoding="gzip")]
    with pytest.raises(BackendError, match="compressed"):
        fetch(server.url(NAME), target)
    assert server.seen[0][2]["accept-encoding"] == "identity"


def test_too_little_space_is_told_before_anything_is_fetched(server, target, monkeypatch):
    usage = type("Usage", (), {"free": downloads.SPARE + 1000})
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage)
    told = []
    with pytest.raises(BackendError, match="GiB free, and the download needs"):
        fetch(server.url(NAME), target, progress=lambda *what: told.append(what))
    assert told == []
    assert not target.exists()


def test_a_folder_that_cannot_be_made_is_told(server, tmp_path):
    (tmp_path / "models").write_text("a file")
    with pytest.raises(BackendError, match="cannot be read or written"):
        fetch(server.url(NAME), tmp_path / "models" / "style.safetensors")
    with pytest.raises(BackendError, match="cannot be read or written: Is a directory"):
        fetch(server.url(NAME), tmp_path)


# ---- Redirects and tokens


def test_redirects_are_followed_and_the_token_stays_with_its_host(server, target):
    with serving() as storage:
        storage.files["/blob"] = server.files[NAME]
        server.faults["/get.safetensors"] = [
            answer(302, Location="/next.safetensors"),
        ]
        server.faults["/next.safetensors"] = [answer(307, Location=storage.url("/blob"))]
        fetch(server.url("/get.safetensors"), target, token="secret-1")
        assert [headers.get("authorization") for _, _, headers in server.seen] == ["Bearer secret-1"] * 2
        assert [headers.get("authorization") for _, _, headers in storage.seen] == [None]
    assert target.read_bytes() == server.files[NAME]


def test_a_cut_behind_a_redirect_is_gone_on_with(server, target):
    server.faults["/get.safetensors"] = [answer(302, Location=NAME)] * 2
    server.faults[NAME] = [cut]
    fetch(server.url("/get.safetensors"), target, limits=QUICK)
    assert server.ranges()[2:] == [f"bytes={len(server.files[NAME]) // 2}-"] * 2
    assert target.read_bytes() == server.files[NAME]


@pytest.mark.parametrize(("location", "told"), [("/a.onnx", "circle"), ("ftp://127.0.0.1/x", "away from http")])
def test_a_redirect_that_leads_nowhere_is_told(server, target, location, told):
    server.faults["/a.onnx"] = [answer(302, Location=location)] * 20
    with pytest.raises(BackendError, match=told):
        fetch(server.url("/a.onnx"), target, limits=QUICK)


def test_a_redirect_from_https_to_http_is_not_followed(target):
    first = httpx2.Response(302, request=httpx2.Request("GET", "https://example.org/a"))
    last = httpx2.Response(200, request=httpx2.Request("GET", "http://example.org/a"), history=[first])
    with pytest.raises(BackendError, match="from https to plain http"):
        downloads._check_answer(last, "https://example.org/a", has_token=False)


def test_the_hub_token_goes_to_the_hub_alone():
    known = {"HF_TOKEN": "hub", "MINE": "own"}
    assert token_for("https://huggingface.co/a/b/resolve/main/c.safetensors", "", known) == "hub"
    for url in ("https://example.org/c", "http://huggingface.co/c", "https://huggingface.co.example.org/c"):
        assert token_for(url, "", known) == ""
    assert token_for("https://example.org/c", "MINE", known) == "own"
    assert token_for("http://127.0.0.1:8000/c", "MINE", known) == "own"
    with pytest.raises(RejectedError, match="in the clear"):
        token_for("http://example.org/c", "MINE", known)
    with pytest.raises(SettingsError, match="NONE is empty"):
        token_for("https://example.org/c", "NONE", known)


@pytest.mark.parametrize(
    "url",
    ["ftp://example.org/a.onnx", "file:///etc/passwd", "https:///a.onnx", "https://[::1/a.onnx", "a.onnx",
     "https://example.org:port/a.onnx", "https://exam\nple.org/a.onnx", "https://user:secret@example.org/a.onnx"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(url, target):
    with pytest.raises(RejectedError) as caught:
        fetch(url, target)
    assert "secret" not in str(caught.value)
    assert not target.parent.exists()


@pytest.mark.parametrize(
    ("url", "told"),
    [("/pony.ckpt", "pickle"), ("/model.bin?download=true", "pickle"), ("/", "--name"), ("/models/12345", "--name"),
     ("/..%2F..%2Fx.onnx", "--name"), ("/.hidden.onnx", "--name")],
)  # fmt: skip
def test_a_name_that_may_not_be_kept_is_refused(url, told):
    with pytest.raises(RejectedError, match=told):
        file_name("https://example.org" + url)


def test_a_name_comes_from_the_address():
    assert file_name("https://example.org/a/My%20Style.safetensors?download=true#x") == "My Style.safetensors"


def test_a_sha256_that_is_none_is_refused(server, target):
    with pytest.raises(RejectedError, match="not a SHA-256"):
        fetch(server.url(NAME), target, sha256="abc")


# ---- Safetensors headers


def test_the_header_says_what_is_in_the_file(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"b": np.zeros((2, 3), np.float16), "a": np.zeros(0, np.float32)}, {"format": "pt"}))
    assert read_tensors(path) == {"b": Tensor("F16", (2, 3)), "a": Tensor("F32", (0,))}


def test_every_other_length_is_found_out(tmp_path):
    path = tmp_path / "a.safetensors"
    content = save({"a": np.zeros(5, np.float16)})
    for wrong in [content[:length] for length in range(len(content))] + [content + b"\0"]:
        path.write_bytes(wrong)
        with pytest.raises(BackendError, match=r"cut off|damaged"):
            read_tensors(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"PK\x03\x04" + bytes(99), "a pickle under another name"), (b"\x80\x02}q\x00." * 9, "a pickle"),
     (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"), (bytes(99), "no such header"),
     (b"\x02" + bytes(7) + b"[]", "no such header"), (b"\xff" * 99, "no such header"),
     (b"\x10" + bytes(7) + b'{"a": {"x": 1}} ', "no such header")],
)  # fmt: skip
def test_what_is_no_safetensors_file_is_told(tmp_path, content, told):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(BackendError, match=told):
        read_tensors(path)


def test_a_gap_between_the_tensors_is_damage(tmp_path):
    path = tmp_path / "a.safetensors"
    header = b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    with pytest.raises(BackendError, match="gaps"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("tensors", "setting"),
    [({"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3)}, "FC_SDXL_MODEL"),
     ({"model.diffusion_model.input_blocks.0.0.weight": (320, 9, 3, 3)}, "FC_FACE_MODEL"),
     ({"lora_unet_down_blocks_0.lora_down.weight": (4, 4)}, "FC_SDXL_LORAS"),
     ({"unet.down_blocks.0.attn.to_q.lora_A.weight": (4, 4)}, "FC_SDXL_LORAS"),
     ({"clip_g": (8, 1280), "clip_l": (8, 768)}, "FC_SDXL_EMBEDDINGS"),
     ({"decoder.conv_in.weight": (512, 4, 3, 3)}, "FC_SDXL_VAE"),
     ({"double_blocks.0.img_attn.qkv.weight": (9216, 3072)}, "FC_FACE_MODEL"), ({"weight": (1,)}, None)],
)  # fmt: skip
def test_a_file_tells_what_it_is_for(tensors, setting):
    assert setting_of({name: Tensor("F16", shape) for name, shape in tensors.items()}) == setting
