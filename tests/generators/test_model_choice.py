"""A job's own model: what it says in place of the settings, what generators make of it, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imaging.errors import BackendError, SettingsError
from resources.generators.base import NOTHING_CHOSEN, Generated, ModelChoice
from resources.generators.diffusion.flux import FluxGenerator
from resources.generators.diffusion.model_cache import MODELS
from resources.generators.diffusion.sdxl import SdxlGenerator
from resources.generators.diffusion.sdxl_model import load_model
from resources.settings import Settings
from tests.support.sdxl import pixels, task
from tests.support.tiny_sdxl import build_embedding, build_lora, build_vae

pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def files(tiny_sdxl: Path, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "loras/film").mkdir(parents=True)
    build_lora(tiny_sdxl, tmp_path / "loras/film/grain.safetensors", size=0.2)
    return {
        "vae": str(build_vae(tiny_sdxl, tmp_path / "vae", scale=0.5)),
        "lora": str(tmp_path / "loras/film/grain.safetensors"),
        "word": str(build_embedding(tmp_path / "zPDXL.safetensors", vectors=3)),
    }


def settings_of(**fields: Any) -> Settings:
    return Settings(_env_file=None, **{"sdxl_device": "cpu", **fields})


def sdxl_of(settings: Settings, **choice: Any) -> SdxlGenerator:
    return SdxlGenerator.from_settings(settings, "FC_SDXL_MODEL", ModelChoice(**choice))


def image(generator: SdxlGenerator, prompt: str = "a woman in the rain") -> np.ndarray:
    (made,) = pixels(generator.generate([task(prompt=prompt)]))
    return made


def test_a_job_that_says_nothing_or_what_the_settings_say_is_described_as_ever(
    tiny_sdxl: Path, files: dict[str, str]
) -> None:
    plain = settings_of(sdxl_model=str(tiny_sdxl))
    assert list(SdxlGenerator.from_settings(plain).describe()) == [
        "generator", "model", "commit", "weights", "device", "dtype", "compile", "clip_skip", "soft_inpaint",
        "prompt_syntax", "torch", "diffusers", "transformers",
    ]  # fmt: skip
    settings = settings_of(
        sdxl_model=str(tiny_sdxl),
        sdxl_vae=files["vae"],
        sdxl_loras=f"{files['lora']}=0.5",
        sdxl_embeddings=files["word"],
        sdxl_clip_skip=1,
        lora_dir=Path(files["lora"]).parents[1],
    )
    told = SdxlGenerator.from_settings(settings).describe()
    assert told["loras"][0].keys() == {"name", "weights", "weight"}
    assert SdxlGenerator.from_settings(settings, "FC_SDXL_MODEL", NOTHING_CHOSEN).describe() == told
    same: dict[str, Any] = {
        "checkpoint": str(tiny_sdxl),
        "vae": files["vae"],
        "loras": ("grain=0.5",),
        "embeddings": (files["word"],),
        "clip_skip": 1,
    }
    assert sdxl_of(plain.model_copy(update={"lora_dir": settings.lora_dir}), **same).describe() == told
    assert sdxl_of(settings, **same).describe() == told


def test_each_field_takes_the_place_of_its_setting(tiny_sdxl: Path, files: dict[str, str]) -> None:
    settings = settings_of(sdxl_model="somebody/none", sdxl_revision="v2", sdxl_loras=f"{files['lora']}=0.5")
    names = sdxl_of(settings, checkpoint=str(tiny_sdxl), more_loras=(f"{files['lora']}=0.25",)).names
    assert (names.checkpoint, names.revision) == (str(tiny_sdxl), "")
    assert [lora.weight for lora in names.find_addons().loras] == [0.5, 0.25]
    assert sdxl_of(settings, checkpoint="somebody/none").names.revision == "v2"
    assert sdxl_of(settings, revision="v3").names.revision == "v3"
    assert sdxl_of(settings, loras=()).names.find_addons().loras == ()
    assert sdxl_of(settings_of(), checkpoint="a/b").names.checkpoint == "a/b"
    with pytest.raises(SettingsError, match="FC_SDXL_MODEL is not set"):
        sdxl_of(settings_of(), clip_skip=1)


def test_another_model_per_job_makes_another_picture_and_gives_the_first_one_back(
    tiny_sdxl: Path, files: dict[str, str]
) -> None:
    settings = settings_of(sdxl_model=str(tiny_sdxl))
    plain = image(sdxl_of(settings))
    for choice in ({"vae": files["vae"]}, {"loras": (files["lora"],)}, {"clip_skip": 1}):
        assert np.any(image(sdxl_of(settings, **choice)) != plain), choice
    assert np.any(
        image(sdxl_of(settings, embeddings=(files["word"],)), "a zPDXL") != image(sdxl_of(settings), "a zPDXL")
    )
    np.testing.assert_array_equal(image(sdxl_of(settings)), plain)


def test_one_load_serves_every_clip_skip(own_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    settings = settings_of(sdxl_model=str(own_copy))
    pictures = {skip: image(sdxl_of(settings, clip_skip=skip)) for skip in (1, 2, 3, 2, 1)}
    assert caplog.text.count("Loaded the SDXL checkpoint") == 1
    assert np.any(pictures[1] != pictures[2])
    generator = sdxl_of(settings, clip_skip=3)
    model = load_model(generator.names, generator.options)
    assert model.encoder(3) is model.encoder(3)
    with pytest.raises(SettingsError, match=r"clip_skip=6, and a text encoder of the checkpoint has 5 layers"):
        list(sdxl_of(settings, clip_skip=6).generate([task()]))
    with pytest.raises(SettingsError, match="FC_SDXL_CLIP_SKIP=6"):
        list(sdxl_of(settings.model_copy(update={"sdxl_clip_skip": 6})).generate([task()]))
    MODELS.clear()


@pytest.mark.parametrize(
    ("choice", "job", "setting"),
    [
        ({"checkpoint": "/no/such/folder"}, "checkpoint='/no/such/folder' is neither", "FC_SDXL_MODEL='/no"),
        ({"checkpoint": "/no/such.safetensors"}, "checkpoint: there is no file", "FC_SDXL_MODEL: there is no file"),
        ({"vae": "/no/such.safetensors"}, "vae: there is no file", "FC_SDXL_VAE: there is no file"),
        ({"loras": ("/no/such.safetensors",)}, "loras: there is no file", "FC_SDXL_LORAS: there is no file"),
        ({"loras": ("a/b=much",)}, "loras: 'much' in 'a/b=much' is not a weight", "FC_SDXL_LORAS: 'much'"),
        ({"embeddings": ("/no/x.safetensors",)}, "embeddings: there is no file", "FC_SDXL_EMBEDDINGS: there is no"),
        ({"more_loras": ("/no/such.safetensors",)}, "prompt: there is no file", None),
    ],
)
def test_an_error_names_who_said_it(tiny_sdxl: Path, choice: dict[str, Any], job: str, setting: str | None) -> None:
    plain = settings_of(sdxl_model=str(tiny_sdxl))
    with pytest.raises(SettingsError) as caught:
        sdxl_of(plain, **choice).describe()
    assert caught.value.what.startswith(job)
    assert "FC_SDXL" not in caught.value.what
    if setting:
        fields = {f"sdxl_{'model' if name == 'checkpoint' else name}": value for name, value in choice.items()}
        listed = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
        with pytest.raises(SettingsError) as caught:
            sdxl_of(settings_of(**({"sdxl_model": str(tiny_sdxl)} | listed))).describe()
        assert caught.value.what.startswith(setting)


def test_a_hub_id_of_a_job_that_cannot_be_fetched_names_its_field(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for kind in (SdxlGenerator, FluxGenerator):
        for setting, field in (("FC_SDXL_MODEL", "checkpoint"), ("FC_FACE_MODEL", "face_model")):
            made = kind.from_settings(settings_of(), setting, ModelChoice(checkpoint="a/b", revision="v2"))
            with pytest.raises(BackendError, match=f"^{field}=a/b is not on this machine") as caught:
                list(made.generate([task()]))
            assert "hf download a/b --revision v2" in caught.value.hint
            assert "FC_" not in str(caught.value)


@pytest.mark.parametrize(
    ("choice", "field"),
    [
        ({"vae": "a/b"}, "vae"),
        ({"loras": ("a/b",)}, "loras"),
        ({"embeddings": ("/x/y.safetensors",)}, "embeddings"),
        ({"clip_skip": 1}, "clip_skip"),
        ({"more_loras": ("style",)}, "<lora:...> in a prompt"),
    ],
)
def test_flux_refuses_what_it_cannot_do(choice: dict[str, Any], field: str) -> None:
    settings = settings_of(face_model="somebody/flux")
    with pytest.raises(SettingsError) as caught:
        FluxGenerator.from_settings(settings, "FC_FACE_MODEL", ModelChoice(**choice))
    assert caught.value.what == f"{field}: the generator flux cannot be given this by a job."
    assert "checkpoint, revision" in caught.value.hint
    told = FluxGenerator.from_settings(settings, "FC_FACE_MODEL", ModelChoice(checkpoint="a/flux", loras=()))
    assert told.describe()["model"] == "a/flux"


# --- LoRAs by name --------------------------------------------------------------------------------------------------


def test_a_lora_is_found_by_its_name_at_any_depth(tiny_sdxl: Path, files: dict[str, str]) -> None:
    settings = settings_of(sdxl_model=str(tiny_sdxl), lora_dir=Path(files["lora"]).parents[1])
    by_path = sdxl_of(settings, loras=(f"{files['lora']}=0.5",)).describe()
    for name in ("grain=0.5", "grain.safetensors=0.5"):
        assert sdxl_of(settings, loras=(name,)).describe() == by_path
        assert sdxl_of(settings, more_loras=(name,)).describe() == by_path
        listed = settings.model_copy(update={"sdxl_loras": [name]})
        assert sdxl_of(listed).describe() == by_path


def test_a_name_of_no_file_or_of_several_is_told_with_what_there_is(tiny_sdxl: Path, files: dict[str, str]) -> None:
    folder = Path(files["lora"]).parents[1]
    settings = settings_of(sdxl_model=str(tiny_sdxl), lora_dir=folder)
    with pytest.raises(SettingsError, match=r"loras: no LoRA in .* is called 'grian'") as caught:
        sdxl_of(settings, loras=("grian",)).describe()
    assert "grain" in caught.value.hint
    (folder / "other").mkdir()
    (folder / "other/grain.safetensors").write_bytes(Path(files["lora"]).read_bytes())
    with pytest.raises(SettingsError, match=r"2 files in .* are called 'grain': film/grain\S+, other/grain"):
        sdxl_of(settings, loras=("grain",)).describe()
    with pytest.raises(SettingsError, match=r"FC_LORA_DIR, .* is not set"):
        sdxl_of(settings_of(sdxl_model=str(tiny_sdxl)), loras=("grain",)).describe()
    with pytest.raises(SettingsError, match=r"FC_LORA_DIR: there is no folder /no/such"):
        sdxl_of(settings.model_copy(update={"lora_dir": Path("/no/such")}), loras=("grain",)).describe()


def test_a_lora_may_have_another_weight_for_the_text_encoders(tiny_sdxl: Path, files: dict[str, str]) -> None:
    import torch

    settings = settings_of(sdxl_model=str(tiny_sdxl))

    def weights(*loras: str) -> dict[str, Any]:
        generator = sdxl_of(settings, loras=loras)
        parts = load_model(generator.names, generator.options).parts
        return {
            f"{part}.{name}": weight.clone()
            for part in ("unet", "text_encoder", "text_encoder_2")
            for name, weight in parts[part].state_dict().items()
        }

    plain, both, unet, text, mixed = (
        weights(*loras)
        for loras in ((), *((f"{files['lora']}={numbers}",) for numbers in ("1", "1,0", "0,1", "0.5,-2")))
    )
    for name, before in plain.items():
        added = both[name] - before
        strength = 0.5 if name.startswith("unet.") else -2
        torch.testing.assert_close(mixed[name], before + strength * added, rtol=1e-4, atol=1e-5)
        assert torch.equal(unet[name], both[name] if name.startswith("unet.") else before)
        assert torch.equal(text[name], before if name.startswith("unet.") else both[name])
    told = sdxl_of(settings, loras=(f"{files['lora']}=0.5,-2",)).describe()["loras"]
    assert [(lora["weight"], lora["text_weight"]) for lora in told] == [(0.5, -2)]
    for wrong in ("1,2,3", "1,", "0.5,nan"):
        with pytest.raises(SettingsError, match="is not a weight"):
            sdxl_of(settings, loras=(f"{files['lora']}={wrong}",)).describe()


def test_the_cache_holds_one_model_for_one_checkpoint(own_copy: Path, files: dict[str, str]) -> None:
    MODELS.clear()
    settings = settings_of(sdxl_model=str(own_copy))
    for choice in ({}, {"loras": (files["lora"],)}, {"vae": files["vae"]}, {"clip_skip": 1}):
        (made,) = sdxl_of(settings, **choice).generate([replace(task(), steps=1)])
        assert isinstance(made, Generated)
        assert MODELS.labels() == ["own"]
    MODELS.clear()
