"""`fc models`: real files, real HTTP over loopback, the real diffusers over a tiny checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from imaging.errors import RejectedError, SettingsError
from jobs.cli.main import main
from jobs.cli.models import gigabytes
from resources.detectors import yunet
from resources.encoders import sface
from resources.env_file import save_variable
from resources.models.folders import choose
from resources.models.names import ModelNames
from resources.models.places import read_lora
from resources.settings import PROJECT_ROOT
from tests.support.file_server import FileServer, answer, serving
from tests.support.tiny_sdxl import build_tiny_sdxl

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LORA = save({"lora_unet.lora_down.weight": np.ones((4, 4), np.float16)})
YUNET = b"stands for the model"


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
def fc(home: Path, capsys: pytest.CaptureFixture[str]) -> Fc:
    """Runs `fc models` in this process, on a home of its own."""

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(["models", *arguments])
        said = capsys.readouterr()
        return Result(int(end.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `.env` that is in force."""
    file = tmp_path / ".env"
    file.write_text("# mine\nFC_WRITER=offline\n")
    monkeypatch.setattr("resources.settings.ENV_FILES", (tmp_path / "none", file))
    monkeypatch.setitem(__import__("resources.settings").settings.Settings.model_config, "env_file", (file,))
    return file


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as found:
        yield found


@pytest.fixture
def known_yunet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes pass for YuNet."""
    monkeypatch.setattr(yunet, "MODEL_SHA256", hashlib.sha256(YUNET).hexdigest())


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("diffusers")
    import torch

    torch.set_num_threads(1)
    return build_tiny_sdxl(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def own_tiny(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the checkpoint that a test may change; the settings name it."""
    folder = Path(shutil.copytree(tiny, tmp_path / "own"))
    monkeypatch.setenv("FC_SDXL_MODEL", str(folder))
    monkeypatch.setenv("FC_SDXL_DEVICE", "cpu")
    return folder


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


# ---- list


def test_nothing_named_is_said(fc):
    assert "The settings name no model" in fc("list").out
    assert fc("list", "--json").json == []
    assert fc("check", "--json").json == {"ok": True, "models": [], "load": None}


def test_list_tells_every_model_that_the_settings_name(fc, own_tiny, tmp_path, monkeypatch, hub_cache):
    lora, word = tmp_path / "a=b.safetensors", tmp_path / "zPDXL.safetensors"
    lora.write_bytes(LORA)
    word.write_bytes(LORA)
    monkeypatch.setenv("FC_SDXL_VAE", "somebody/some-vae")
    monkeypatch.setenv("FC_SDXL_LORAS", f"{lora}=0.8;{tmp_path}/none.safetensors")
    monkeypatch.setenv("FC_SDXL_EMBEDDINGS", str(word))
    monkeypatch.setenv("FC_FACE_MODEL", str(tmp_path / "faces.ckpt"))
    monkeypatch.setenv("FC_YUNET_MODEL", str(tmp_path / "none.onnx"))
    monkeypatch.setenv("FC_SFACE_MODEL", str(tmp_path / "none.onnx"))
    result = fc("list", "--json")
    assert result.code == 0
    rows = [(row["setting"], row["purpose"], row["value"], row["there"]) for row in result.json]
    assert rows == [
        ("FC_SDXL_MODEL", "scene", str(own_tiny), True),
        ("FC_SDXL_VAE", "VAE", "somebody/some-vae", False),
        ("FC_SDXL_LORAS", "LoRA, weight 0.8", str(lora), True),
        ("FC_SDXL_LORAS", "LoRA, weight 1", f"{tmp_path}/none.safetensors", False),
        ("FC_SDXL_EMBEDDINGS", "the word zPDXL", str(word), True),
        ("FC_FACE_MODEL", "faces", str(tmp_path / "faces.ckpt"), False),
        ("FC_YUNET_MODEL", "face detector", str(tmp_path / "none.onnx"), False),
        ("FC_SFACE_MODEL", "face encoder", str(tmp_path / "none.onnx"), False),
    ]
    whole = sum(file.stat().st_size for file in own_tiny.rglob("*") if file.is_file())
    assert result.json[0]["bytes"] == whole
    assert result.json[2]["bytes"] == len(LORA)
    assert "fc models pull somebody/some-vae" in result.json[1]["hint"]
    assert "pickle" in result.json[5]["problem"]
    said = fc("list").out
    for row in result.json:
        assert row["value"] in said
        assert row["problem"] is None or row["problem"] in said


def test_list_is_quick_to_start():
    code = (
        "import sys\nfrom jobs.cli.main import main\n"
        "try: main(['models', 'list'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'diffusers', 'transformers', 'cv2', 'dagster') if name in sys.modules])"
    )
    environment = {**os.environ, "FC_SDXL_MODEL": "somebody/some-model", "HF_HUB_CACHE": "/nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert "is not in the Hub cache" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_the_configs_of_a_single_file_are_listed_too(fc, own_tiny, tmp_path, monkeypatch):
    for weights in own_tiny.rglob("*.safetensors"):
        weights.unlink()
    monkeypatch.setenv("FC_SDXL_CONFIG", str(own_tiny))
    single = tmp_path / "pony.safetensors"
    single.write_bytes(LORA)
    monkeypatch.setenv("FC_SDXL_MODEL", str(single))
    assert [(row["setting"], row["there"]) for row in fc("list", "--json").json] == [
        ("FC_SDXL_MODEL", True),
        ("FC_SDXL_CONFIG", True),
    ]
    monkeypatch.setenv("FC_SDXL_CONFIG", "somebody/none")
    assert "fc models pull somebody/none --configs" in fc("list", "--json").json[1]["hint"]


def put_into_hub_cache(hub_cache: Path, hub_id: str, name: str, content: bytes) -> None:
    folder = hub_cache / f"models--{hub_id.replace('/', '--')}"
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    (folder / "snapshots" / COMMIT / name).write_bytes(content)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(COMMIT)


def test_what_the_generator_takes_for_a_lora_is_what_is_listed(fc, hub_cache, tmp_path, monkeypatch):
    """A file of a Hub id, a name, a file that is no LoRA's own in its repository, weights of all kinds."""
    put_into_hub_cache(hub_cache, "owner/name", "file.safetensors", LORA)
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras/grain.safetensors").write_bytes(LORA)
    monkeypatch.setenv("FC_LORA_DIR", str(tmp_path / "loras"))
    entries = ("owner/name/file.safetensors=0.8", "grain=0.8,0.5", "owner/name=nan", "owner/name", "none=1", "a/b.bin")
    monkeypatch.setenv("FC_SDXL_LORAS", ";".join(entries))
    rows = fc("list", "--json").json
    assert [(row["purpose"], row["value"], row["there"]) for row in rows] == [
        ("LoRA, weight 0.8", "owner/name/file.safetensors", True),
        ("LoRA, weight 0.8 and 0.5", "grain", True),
        ("LoRA", "owner/name=nan", False),
        ("LoRA, weight 1", "owner/name", False),
        ("LoRA, weight 1", "none", False),
        ("LoRA, weight 1", "a/b.bin", False),
    ]
    for entry, row in zip(entries, rows, strict=True):
        names = ModelNames("a/b", loras=(entry,), lora_dir=tmp_path / "loras")
        if row["there"]:
            assert str(names.find_addons().loras[0].path) == row["path"]
        elif entry == "owner/name":
            assert names.find_addons().loras[0].path is None
            assert "fc models pull owner/name" in row["hint"]
        else:
            with pytest.raises(SettingsError) as caught:
                names.find_addons()
            assert (caught.value.what, caught.value.hint) == (row["problem"], row["hint"])


@pytest.mark.parametrize(
    ("entry", "parts"),
    [("a/b", ("a/b", 1)), ("/x/y.safetensors=0.5", ("/x/y.safetensors", 0.5)), ("/x/a=b.safetensors", None)],
)
def test_a_lora_may_have_a_weight(entry, parts):
    assert read_lora(entry)[:2] == (parts or (entry, 1))


# ---- check


def test_a_checkpoint_that_is_whole_is_well(fc, own_tiny):
    result = fc("check", "--json")
    assert (result.code, result.json["ok"]) == (0, True)
    files = {Path(file["path"]).relative_to(own_tiny).as_posix(): file for file in result.json["models"][0]["files"]}
    weights = {path.relative_to(own_tiny).as_posix(): path for path in own_tiny.rglob("*.safetensors")}
    assert len(weights) == 4
    for name, path in weights.items():
        assert files[name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert files[name]["tensors"] > 0
    said = fc("check")
    assert files["vae/diffusion_pytorch_model.safetensors"]["sha256"] in said.out


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _replace_by_page(path: Path) -> None:
    path.write_text("<html>Log in</html>")


def _pickle(path: Path) -> None:
    path.rename(path.with_suffix(".bin"))


@pytest.mark.parametrize(
    ("harm", "file", "told"),
    [
        (_truncate, "unet/diffusion_pytorch_model.safetensors", "is cut off"),
        (_replace_by_page, "vae/diffusion_pytorch_model.safetensors", "a web page, not weights"),
        (_pickle, "vae/diffusion_pytorch_model.safetensors", "it has pickles, which are refused"),
        (Path.unlink, "text_encoder/model.safetensors", "lacks the safetensors weights of text_encoder"),
        (Path.unlink, "text_encoder_2/config.json", "lacks text_encoder_2/config.json"),
        (_replace_by_page, "unet/config.json", "is not JSON"),
        (_replace_by_page, "model_index.json", "is not JSON"),
    ],
)
def test_a_damaged_checkpoint_is_told_and_not_loaded(fc, own_tiny, harm, file, told):
    harm(own_tiny / file)
    result = fc("check", "--load", "--json")
    assert (result.code, result.json["ok"], result.json["load"]) == (1, False, None)
    model = result.json["models"][0]
    assert told in json.dumps([model["problem"], *(file["problem"] for file in model["files"])])
    said = fc("check", "--load")
    assert told in said.out
    assert "Fix: " in said.out
    assert "Not loaded" in said.out


def test_half_precision_files_and_shards_are_found(fc, own_tiny):
    for weights in own_tiny.rglob("*.safetensors"):
        weights.rename(weights.with_suffix(".fp16.safetensors"))
    assert fc("check").code == 0
    vae = own_tiny / "vae/diffusion_pytorch_model.fp16.safetensors"
    vae.rename(own_tiny / "vae/diffusion_pytorch_model.fp16-00001-of-00002.safetensors")
    assert "lacks the safetensors weights of vae." in fc("check").out
    shutil.copy(own_tiny / "unet/diffusion_pytorch_model.fp16.safetensors",
                own_tiny / "vae/diffusion_pytorch_model.fp16-00002-of-00002.safetensors")  # fmt: skip
    assert fc("check").code == 0


def test_load_proves_that_it_works(fc, own_tiny):
    result = fc("check", "--load", "--json")
    assert (result.code, result.json["ok"]) == (0, True)
    (proof,) = result.json["load"]
    assert proof["seconds"] > 0
    assert (proof["size"], proof["details"]["device"], proof["details"]["denoising_steps"]) == (64, "cpu", 1)
    assert "loaded, and made an image of 64 pixels" in fc("check", "--load").out


def test_load_proves_the_model_of_the_face_pass_too(fc, own_tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("FC_FACE_MODEL", str(build_tiny_sdxl(tmp_path / "inpaint", in_channels=9)))
    result = fc("check", "--load", "--json")
    assert [(proof["setting"], proof["ok"]) for proof in result.json["load"]] == [
        ("FC_SDXL_MODEL", True),
        ("FC_FACE_MODEL", True),
    ]
    monkeypatch.setenv("FC_SDXL_MODEL", str(tmp_path / "inpaint"))
    result = fc("check", "--load", "--json")
    assert (result.code, [proof["ok"] for proof in result.json["load"]]) == (1, [False, True])
    assert "cannot make an image from text" in result.json["load"][0]["what"]


def test_load_finds_what_the_headers_do_not_show(fc, own_tiny):
    config = own_tiny / "unet/config.json"
    config.write_text(config.read_text().replace('"cross_attention_dim": 64', '"cross_attention_dim": 32'))
    assert fc("check").code == 0
    result = fc("check", "--load", "--json")
    assert (result.code, result.json["load"][0]["ok"]) == (1, False)
    assert "cannot be loaded" in result.json["load"][0]["what"]
    assert "cannot be loaded" in fc("check", "--load").out


def test_load_without_a_checkpoint_is_told(fc):
    result = fc("check", "--load")
    assert (result.code, "Neither FC_SDXL_MODEL nor" in result.err) == (4, True)


def test_yunet_must_be_the_known_file(fc, tmp_path, monkeypatch, known_yunet):
    file = tmp_path / "yunet.onnx"
    file.write_bytes(YUNET)
    monkeypatch.setenv("FC_YUNET_MODEL", str(file))
    assert fc("check").code == 0
    file.write_bytes(YUNET + b".")
    result = fc("check")
    assert (result.code, "another file or damaged: its SHA-256 is" in result.out) == (1, True)


def test_a_file_of_the_hub_cache_must_have_the_sha256_that_names_it(fc, hub_cache, monkeypatch):
    snapshot = hub_cache / "models--somebody--style/snapshots" / COMMIT
    blob = hub_cache / "models--somebody--style/blobs" / hashlib.sha256(LORA).hexdigest()
    snapshot.mkdir(parents=True)
    blob.parent.mkdir()
    blob.write_bytes(LORA)
    (snapshot / "pytorch_lora_weights.safetensors").symlink_to(blob)
    (hub_cache / "models--somebody--style/refs").mkdir()
    (hub_cache / "models--somebody--style/refs/main").write_text(COMMIT)
    monkeypatch.setenv("FC_SDXL_LORAS", "somebody/style=0.5")
    assert fc("check").code == 0
    blob.write_bytes(LORA[:-1] + b"\xff")
    assert "another file or damaged" in fc("check").out


# ---- Which files are loaded

PIPELINE = {
    "_class_name": "StableDiffusionXLPipeline",
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "safety_checker": [None, None],
    "vae": ["diffusers", "AutoencoderKL"],
}
TEXTS = ["model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json", "tokenizer/merges.txt",
         "tokenizer/vocab.json", "unet/config.json", "vae/config.json"]  # fmt: skip
PLAIN = ["text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors",
         "vae/diffusion_pytorch_model.safetensors"]  # fmt: skip
HALF = [name.replace(".safetensors", ".fp16.safetensors") for name in PLAIN]
OTHERS = ["README.md", "sd_xl_base_1.0.safetensors", "vae_1_0/diffusion_pytorch_model.safetensors", "unet/model.onnx",
          "unet/diffusion_pytorch_model.bin", "text_encoder/pytorch_model.bin"]  # fmt: skip


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        (PLAIN, PLAIN),
        (PLAIN + HALF, PLAIN),
        (HALF, HALF),
        (HALF + PLAIN[:1], HALF),
        ([PLAIN[0], HALF[1], PLAIN[2]], [PLAIN[0], HALF[1], PLAIN[2]]),
    ],
)
def test_the_plain_weights_are_chosen_unless_there_are_halves_only(there, chosen):
    found = choose([*TEXTS, *there, *OTHERS], PIPELINE)
    assert found.files == tuple(sorted(TEXTS + chosen))
    assert found.missing == ()
    assert choose([*TEXTS, *there, *OTHERS], PIPELINE, weights=False).files == tuple(TEXTS)


def test_shards_are_chosen_all_or_not_at_all():
    shards = [f"unet/diffusion_pytorch_model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    names = [*TEXTS, *shards, PLAIN[0], PLAIN[2], "unet/diffusion_pytorch_model.safetensors.index.json"]
    assert set(shards) < set(choose(names, PIPELINE).files)
    assert choose([name for name in names if name != shards[1]], PIPELINE).missing == (
        "the safetensors weights of unet",
    )


def test_a_repository_without_an_index_is_one_model_or_loras():
    vae = ["config.json", "diffusion_pytorch_model.safetensors", "sdxl_vae.safetensors", "diffusion_pytorch_model.bin"]
    assert choose(vae, None).files == tuple(vae[:2])
    assert choose(["README.md", "b.safetensors", "a.safetensors"], None).files == ("a.safetensors", "b.safetensors")
    assert choose(["pytorch_lora_weights.safetensors", "a.safetensors"], None).files == (
        "pytorch_lora_weights.safetensors",
    )
    assert choose(["pytorch_lora_weights.bin"], None).missing == (
        "the safetensors weights of the root (it has pickles, which are refused)",
    )


# ---- pull: YuNet and files


def test_yunet_is_fetched_checked_and_saved(fc, home, server, env_file, known_yunet):
    server.files["/yunet.onnx"] = YUNET
    result = fc("pull", "yunet", "--mirror", server.url("/yunet.onnx"), "--save")
    target = home / "models/face_detection_yunet_2023mar.onnx"
    assert (result.code, target.read_bytes()) == (0, YUNET)
    assert env_file.read_text() == f"# mine\nFC_WRITER=offline\nFC_YUNET_MODEL={target}\n"
    assert f"FC_YUNET_MODEL={target}" in result.out
    assert fc("check").code == 0
    again = fc("pull", "yunet", "--mirror", server.url("/yunet.onnx"), "--json")
    assert again.json["settings"] == {"FC_YUNET_MODEL": str(target)}
    assert len(server.seen) == 1


def test_sface_is_fetched_checked_and_saved_as_yunet_is(fc, home, server, env_file, monkeypatch):
    monkeypatch.setattr(sface, "MODEL_SHA256", hashlib.sha256(YUNET).hexdigest())
    server.files["/sface.onnx"] = YUNET
    command = ("pull", "sface", "--mirror", server.url("/sface.onnx"), "--save")
    target = home / "models/face_recognition_sface_2021dec.onnx"
    assert (fc(*command).code, target.read_bytes()) == (0, YUNET)
    assert env_file.read_text() == f"# mine\nFC_WRITER=offline\nFC_SFACE_MODEL={target}\n"
    checked = fc("check", "--json").json
    assert (checked["ok"], checked["models"][0]["setting"]) == (True, "FC_SFACE_MODEL")
    target.write_bytes(YUNET + b".")
    checked = fc("check", "--json").json
    assert not checked["ok"]
    assert "its SHA-256 is" in checked["models"][0]["files"][0]["problem"]
    target.unlink()
    server.files["/sface.onnx"] = YUNET + b"."
    assert (fc(*command).code, list(target.parent.iterdir())) == (1, [])


def test_another_file_than_yunet_is_refused_and_nothing_is_saved(fc, home, server, env_file):
    server.files["/yunet.onnx"] = YUNET
    before = env_file.read_bytes()
    result = fc("pull", "yunet", "--mirror", server.url("/yunet.onnx"), "--save")
    assert (result.code, result.out) == (1, "")
    assert "is another file" in result.err
    assert list((home / "models").iterdir()) == []
    assert env_file.read_bytes() == before


def test_a_file_says_what_it_is_for(fc, server, tmp_path, env_file):
    server.files["/style.safetensors"] = LORA
    result = fc("pull", server.url("/style.safetensors"), "--to", str(tmp_path / "loras"), "--json")
    path = tmp_path / "loras/style.safetensors"
    assert result.json == {
        "from": server.url("/style.safetensors"),
        "value": str(path),
        "path": str(path),
        "bytes": len(LORA),
        "sha256": hashlib.sha256(LORA).hexdigest(),
        "settings": {"FC_SDXL_LORAS": str(path)},
        "saved_in": None,
    }
    assert path.read_bytes() == LORA
    assert "FC_SDXL_LORAS" not in env_file.read_text()


def test_loras_are_added_to_those_that_are_set(fc, server, tmp_path, env_file):
    server.files["/style.safetensors"] = LORA
    env_file.write_text("FC_SDXL_LORAS=a/b=0.5  # mine\n")
    for _ in range(2):
        assert fc("pull", server.url("/style.safetensors"), "--to", str(tmp_path), "--save").code == 0
        assert env_file.read_text() == f"FC_SDXL_LORAS=a/b=0.5;{tmp_path}/style.safetensors\n"


def test_what_a_file_is_for_can_be_said(fc, server, tmp_path, env_file):
    server.files["/x.safetensors"] = save({"weight": np.ones(3, np.float32)})
    command = ("pull", server.url("/x.safetensors"), "--to", str(tmp_path), "--save")
    result = fc(*command)
    assert (result.code, "--setting" in result.err) == (4, True)
    assert (tmp_path / "x.safetensors").is_file()
    assert "Set one of" in fc(*command[:-1]).out
    assert fc(*command, "--setting", "FC_SDXL_VAE").code == 0
    assert dotenv_values(env_file)["FC_SDXL_VAE"] == str(tmp_path / "x.safetensors")


def test_a_variable_of_the_environment_that_wins_is_told(fc, server, env_file, monkeypatch, known_yunet):
    server.files["/yunet.onnx"] = YUNET
    monkeypatch.setenv("FC_YUNET_MODEL", "/elsewhere.onnx")
    result = fc("pull", "yunet", "--mirror", server.url("/yunet.onnx"), "--save")
    assert "also set in the environment, which wins" in result.err


def test_the_token_is_sent_and_never_shown(fc, server, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "secret-1")
    server.files["/12345"] = LORA
    command = (
        "pull",
        server.url("/12345"),
        "--name",
        "s.safetensors",
        "--to",
        str(tmp_path),
        "--token-env",
        "MY_TOKEN",
    )
    server.faults["/12345"] = [answer(403)]
    refused = fc(*command)
    assert (refused.code, "does not take the token" in refused.err) == (1, True)
    result = fc(*command)
    assert (result.code, (tmp_path / "s.safetensors").read_bytes()) == (0, LORA)
    assert [headers["authorization"] for _, _, headers in server.seen] == ["Bearer secret-1"] * 2
    assert "secret-1" not in refused.out + refused.err + result.out + result.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["yunet", "--revision", "main"], 2),
        (["yunet", "--sha256", "a" * 64], 2),
        (["sface", "--name", "x.onnx"], 2),
        (["a/b", "--name", "x.onnx"], 2),
        (["a/b", "--mirror", "https://example.org/x"], 2),
        (["a/b", "--setting", "FC_WRITER"], 2),
        (["nonsense"], 2),
        (["ftp://example.org/x.onnx"], 2),
        (["https://example.org/x.ckpt"], 2),
        (["https://example.org/x.onnx", "--sha256", "abc"], 2),
        (["https://example.org/x.onnx", "--token-env", "NOT_SET"], 4),
        ([], 2),
    ],
)
def test_a_wrong_command_line_is_bad_input(fc, arguments, code):
    result = fc("pull", *arguments)
    assert (result.code, result.out) == (code, "")
    assert result.err


# ---- pull: Hub ids


@pytest.fixture
def hub(
    server: FileServer, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, dict[str, bytes]], None]:
    """A Hub over loopback, as far as huggingface_hub asks it; called with a repository's id and files."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url(""))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        server.url("/{repo_id}/resolve/{revision}/{filename}"),
    )

    def add(hub_id: str, files: dict[str, bytes]) -> None:
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        listed = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
        info = json.dumps({"id": hub_id, "modelId": hub_id, "sha": COMMIT, "siblings": listed}).encode()
        tree = json.dumps([
            {"type": "file", "path": name, "size": len(content), "oid": digests[name][:40]}
            for name, content in files.items()
        ]).encode()  # fmt: skip
        for revision in ("", "/revision/main", f"/revision/{COMMIT}"):
            for query in ("", "?blobs=true"):
                server.files[f"/api/models/{hub_id}{revision}{query}"] = info
        for query in ("?recursive=True&expand=False", "?recursive=true&expand=false", "?recursive=true", ""):
            server.files[f"/api/models/{hub_id}/tree/{COMMIT}{query}"] = tree
        for name, content in files.items():
            for revision in ("main", COMMIT):
                path = f"/{hub_id}/resolve/{revision}/{name}"
                server.files[path] = content
                server.headers[path] = {"X-Repo-Commit": COMMIT, "ETag": f'"{digests[name]}"'}

    return add


def fetched(server: FileServer) -> set[str]:
    """The files whose bytes were asked for."""
    return {path.rpartition(f"{COMMIT}/")[2] for method, path, _ in server.seen if method == "GET" and COMMIT in path
            and "/resolve/" in path}  # fmt: skip


def test_a_hub_id_brings_only_what_is_loaded_and_then_works(fc, server, hub, tiny, hub_cache, env_file, monkeypatch):
    files = {path.relative_to(tiny).as_posix(): path.read_bytes() for path in tiny.rglob("*") if path.is_file()}
    unused = {name.replace(".safetensors", ".fp16.safetensors"): b"half" for name in files if "safetensors" in name}
    hub("somebody/tiny", files | unused | {"unet/model.onnx": b"x", "README.md": b"x", "a.ckpt": b"x"})
    result = fc("pull", "somebody/tiny", "--save", "--json")
    assert result.code == 0, result.err
    assert result.json["settings"] == {"FC_SDXL_MODEL": "somebody/tiny"}
    assert fetched(server) <= set(files)  # of two files of the same content, the Hub cache fetches one
    snapshot = Path(result.json["path"])
    assert {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()} == set(files)
    assert "FC_SDXL_MODEL=somebody/tiny\n" in env_file.read_text()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("FC_SDXL_DEVICE", "cpu")
    assert fc("list", "--json").json[0]["bytes"] == sum(map(len, files.values()))
    proof = fc("check", "--load")
    assert proof.code == 0, proof.out


def test_a_hub_id_into_a_folder_is_named_by_that_folder(fc, server, hub, tmp_path):
    vae = {"config.json": b'{"_class_name": "AutoencoderKL"}', "diffusion_pytorch_model.safetensors": LORA}
    hub("somebody/vae", vae | {"diffusion_pytorch_model.bin": b"pickle"})
    result = fc("pull", "somebody/vae", "--to", str(tmp_path / "vaes"), "--json")
    assert result.json["settings"] == {"FC_SDXL_VAE": str(tmp_path / "vaes/vae")}
    assert fetched(server) == set(vae)
    assert (tmp_path / "vaes/vae/diffusion_pytorch_model.safetensors").read_bytes() == LORA


def test_a_lora_of_the_hub_is_known_by_its_tensors(fc, hub):
    hub("somebody/style", {"pytorch_lora_weights.safetensors": LORA, "README.md": b"x"})
    result = fc("pull", "somebody/style", "--revision", COMMIT, "--json")
    assert result.json["settings"] == {"FC_SDXL_LORAS": "somebody/style"}


def test_a_lora_under_another_name_is_named_with_its_file(fc, hub, tmp_path):
    hub("somebody/style", {"style_v2.safetensors": LORA})
    value = fc("pull", "somebody/style", "--json").json["value"]
    assert value == "somebody/style/style_v2.safetensors"
    assert ModelNames("a/b", loras=(value,)).find_addons().loras[0].path is not None
    value = fc("pull", "somebody/style", "--to", str(tmp_path), "--json").json["value"]
    assert value == f"{tmp_path}/style/style_v2.safetensors"


def test_the_configs_alone_bring_no_weights(fc, server, hub, tiny):
    files = {path.relative_to(tiny).as_posix(): path.read_bytes() for path in tiny.rglob("*") if path.is_file()}
    hub("somebody/tiny", files)
    result = fc("pull", "somebody/tiny", "--configs", "--json")
    assert result.json["settings"] == {"FC_SDXL_CONFIG": "somebody/tiny"}
    assert not any("safetensors" in name for name in fetched(server))


def test_a_repository_of_pickles_is_refused_before_they_are_fetched(fc, server, hub):
    hub("somebody/old", {"config.json": b"{}", "diffusion_pytorch_model.bin": b"pickle"})
    result = fc("pull", "somebody/old")
    assert result.code == 4
    assert "it has pickles, which are refused" in result.err
    assert fetched(server) == set()


def test_a_hub_that_refuses_is_told(fc, server, hub):
    result = fc("pull", "somebody/none")
    assert (result.code, result.out) == (1, "")
    assert "somebody/none cannot be fetched from the Hub" in result.err
    assert "HF_TOKEN" in result.err


def test_too_little_space_for_a_repository_is_told_first(fc, server, hub, monkeypatch):
    hub("somebody/style", {"pytorch_lora_weights.safetensors": LORA})
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("resources.models.downloads.shutil.disk_usage", lambda _: usage)
    result = fc("pull", "somebody/style")
    assert (result.code, "GiB free" in result.err) == (1, True)
    assert fetched(server) == set()


# ---- .env


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "X=/new\n"),
        ("A=1", "A=1\nX=/new\n"),
        ("A=1\r\n", "A=1\r\nX=/new\r\n"),
        ("# X=/old\nX=/old # why\n\nB='x\nX=inside'\n", "# X=/old\nX=/new\n\nB='x\nX=inside'\n"),
        ("X=1\nX=2\n", "X=1\nX=/new\n"),
        ("export X=1\r\nB=2", "export X=/new\r\nB=2"),
        ("XY=1\nX =1\n  \nÄ=\xff", "XY=1\nX=/new\n  \nÄ=\xff"),
        ("X=1", "X=/new"),
        ("not a line\nA=1\n", "not a line\nA=1\nX=/new\n"),
    ],
)
def test_one_line_changes_and_every_other_byte_stays(tmp_path, before, after):
    file = tmp_path / ".env"
    file.write_bytes(before.encode("latin-1"))
    file.chmod(0o640)
    save_variable(file, "X", "/new")
    assert file.read_bytes() == after.encode("latin-1")
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]


def test_a_new_file_is_its_owner_s_alone(tmp_path):
    save_variable(tmp_path / ".env", "X", "1")
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_text("A=1\n")
    (tmp_path / ".env").symlink_to(tmp_path / "real")
    save_variable(tmp_path / ".env", "X", "1")
    assert (tmp_path / ".env").is_symlink()
    assert (tmp_path / "real").read_text() == "A=1\nX=1\n"


@given(st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1))
def test_any_value_is_read_back_as_it_was_written(tmp_path_factory, value):
    file = tmp_path_factory.getbasetemp() / "any.env"
    if "${" in value or not value.isprintable():
        with pytest.raises(RejectedError):
            save_variable(file, "X", value)
    else:
        save_variable(file, "X", value)
        assert dotenv_values(file)["X"] == value


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(SettingsError, match="cannot be written"):
        save_variable(tmp_path / "none" / ".env", "X", "1")


# ---- bench


def test_bench_measures_the_configured_generator(fc):
    result = fc("bench", "--images", "3", "--batch", "1", "--batch", "2", "--size", "64", "--steps", "1", "--json")
    assert result.code == 0
    assert [(row["batch"], row["images"]) for row in result.json["speeds"]] == [(1, 3), (2, 4)]
    for row in result.json["speeds"]:
        assert row["images_per_second"] == pytest.approx(row["images"] / row["seconds"], rel=0.2)
    assert result.json["generator"]["generator"] == "sketch"


def test_bench_measures_sdxl_with_its_batches(fc, own_tiny, monkeypatch):
    monkeypatch.setenv("FC_GENERATOR", "sdxl")
    calls = []
    from resources.generators.diffusion.sdxl_model import Model

    real = Model.generate
    monkeypatch.setattr(
        Model, "generate", lambda self, tasks, *rest: calls.append(len(tasks)) or real(self, tasks, *rest)
    )
    result = fc("bench", "--images", "3", "--batch", "2", "--steps", "1", "--json")
    assert calls == [1, 2, 2, 2]
    told = result.json
    assert (told["size"], told["steps"], told["speeds"][0]["images"]) == (64, 1, 4)
    assert (told["details"]["device"], told["details"]["dtype"]) == ("cpu", "float32")
    assert {"torch", "diffusers", "transformers"} <= told["details"].keys()
    said = fc("bench", "--images", "1", "--batch", "1", "--steps", "1")
    assert "images/s" in said.out
    assert "float32" in said.out


def test_bench_tells_what_goes_wrong(fc, own_tiny, monkeypatch):
    assert fc("bench", "--size", "100").code == 2
    monkeypatch.setenv("FC_GENERATOR", "sdxl")
    (own_tiny / "unet/config.json").unlink()
    result = fc("bench")
    assert (result.code, result.out, "unet/config.json" in result.err) == (4, "", True)


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (6_938_000_000, "6.94 GB")])
def test_bytes_are_told_in_one_unit(size, text):
    assert gigabytes(size) == text
