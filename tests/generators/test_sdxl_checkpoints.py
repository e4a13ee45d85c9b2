"""Checkpoints as single files, and what is added to one: VAE, LoRAs, textual inversions; through the real diffusers."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imaging.errors import BackendError, SettingsError
from resources.generators.base import Generated, ImageTask, InpaintTask
from resources.generators.diffusion.sdxl import SdxlGenerator
from resources.generators.diffusion.sdxl_loading import load_parts
from resources.models import hashes
from resources.models.addons import Addons
from resources.models.checkpoint import find_checkpoint
from resources.settings import PROJECT_ROOT, Settings
from tests.support.diffusion import names, sdxl
from tests.support.tiny_sdxl import (
    NATIVE_SIZE,
    build_embedding,
    build_lora,
    build_single_file,
    build_tiny_sdxl,
    build_vae,
    ldm_vae,
)

pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIDE = 32
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.set_num_threads(1)
    return build_tiny_sdxl(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def single(folder: Path) -> Path:
    return build_single_file(folder, folder.parent / "pony.safetensors")


@pytest.fixture(scope="session")
def configs(folder: Path) -> Path:
    """The checkpoint's folder without its weights."""
    return Path(shutil.copytree(folder, folder.parent / "configs", ignore=shutil.ignore_patterns("*.safetensors")))


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache, and no Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def put_on_hub(hub_cache: Path, repository: str, source: Path, *names: str) -> None:
    cached = hub_cache / f"models--{repository.replace('/', '--')}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text(COMMIT)
    for name in names:
        target = cached / "snapshots" / COMMIT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (source / name).is_dir() else shutil.copy)(source / name, target)


def task(prompt="a woman in the rain", **changes) -> ImageTask:
    fields = {"negative_prompt": "blur", "seed": 7, "width": SIDE, "height": SIDE, "steps": 2, "cfg_scale": 6.0}
    return ImageTask(**{"job_id": "job-1", "prompt": prompt, "scheduler": "Euler", **fields, **changes})


def image(model: Path | str, prompt="a woman in the rain", *, steps=2, scheduler="Euler", **fields) -> np.ndarray:
    generator = sdxl(model=str(model), device="cpu", **fields)
    (outcome,) = generator.generate([task(prompt, steps=steps, scheduler=scheduler)])
    assert isinstance(outcome, Generated), outcome
    return outcome.pixels


def loaded(model: Path, configs: Path, dtype="float32", **addons):
    checkpoint = find_checkpoint(str(model), "", str(configs))
    assert checkpoint is not None
    return load_parts(checkpoint, "cpu", dtype, names(str(model), **addons).find_addons())


# --- A single file --------------------------------------------------------------------------------------------------


def test_a_single_file_gives_the_bytes_of_its_folder_and_needs_no_other_weights(folder, single, configs):
    np.testing.assert_array_equal(image(single, config=str(configs)), image(folder))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_single_file_is_loaded_in_the_dtype_asked_for(single, configs, dtype):
    import torch

    parts = loaded(single, configs, dtype).parts
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        assert {weight.dtype for weight in parts[part].parameters()} == {getattr(torch, dtype)}


def test_a_single_file_for_inpainting_inpaints(configs, tmp_path):
    nine = build_tiny_sdxl(tmp_path / "nine", in_channels=9)
    file = build_single_file(nine, tmp_path / "nine.safetensors")
    pixels = np.full((SIDE, SIDE, 3), 90, np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[8:24, 8:24] = 255
    asked = InpaintTask(task(), pixels, mask, 1.0)
    made = []
    for fields in ({"model": str(file), "config": str(configs)}, {"model": str(nine)}):
        (outcome,) = sdxl(device="cpu", **fields).inpaint([asked])
        assert isinstance(outcome, Generated), outcome
        made.append(outcome.pixels)
    np.testing.assert_array_equal(*made)


def test_a_single_file_is_described_by_its_name_and_content(single, configs, tmp_path):
    generator = sdxl(model=str(single), config=str(configs))
    told = generator.describe()
    assert (told["model"], told["commit"]) == ("pony", None)
    assert str(single.parent) not in json.dumps(told)
    assert generator.native_size() == NATIVE_SIZE
    copy = shutil.copytree(configs, tmp_path / "elsewhere")
    again = Path(shutil.copy(single, tmp_path / "pony.safetensors"))
    assert sdxl(model=str(again), config=str(copy)).describe() == told
    vocabulary = copy / "scheduler/scheduler_config.json"
    vocabulary.write_text(vocabulary.read_text().replace("leading", "trailing"))
    assert sdxl(model=str(again), config=str(copy)).describe()["weights"] != told["weights"]
    content = bytearray(again.read_bytes())
    content[-4] ^= 1
    again.write_bytes(content)
    assert sdxl(model=str(again), config=str(configs)).describe()["weights"] != told["weights"]


def test_its_picture_says_by_which_hashes_others_know_the_files(folder, single, configs, tmp_path):
    build_lora(folder, tmp_path / "style.safetensors")
    fields = {"config": str(configs), "loras": [f"{tmp_path}/style.safetensors=0.5"], "device": "cpu"}

    def told():
        (outcome,) = sdxl(model=str(single), **fields).generate([task()])
        return outcome.details["infotext"]

    lora = (tmp_path / "style.safetensors").read_bytes()
    tensors = hashlib.sha256(lora[8 + int.from_bytes(lora[:8], "little") :]).hexdigest()[:12]
    hashes._hashes_of.cache_clear()
    wanted = {
        "Model hash": hashlib.sha256(single.read_bytes()).hexdigest()[:10],
        "Lora hashes": f"style: {tensors}",
    }
    assert told() == wanted
    kept = tmp_path / "data/model-hashes.json"
    assert len(json.loads(kept.read_text())) == 2
    kept.write_text("{")  # cut off: made again
    hashes._hashes_of.cache_clear()
    assert told() == wanted
    assert len(json.loads(kept.read_text())) == 2


def test_the_weights_of_the_config_folder_play_no_part(folder, single, configs):
    one, other = (sdxl(model=str(single), config=str(config)).describe() for config in (folder, configs))
    assert one == other


def test_the_marks_of_a_v_prediction_file_are_honoured(folder, single, configs, tmp_path):
    import torch

    marks = {name: torch.tensor([]) for name in ("v_pred", "ztsnr")}
    plain = loaded(single, configs).scheduler_config
    assert plain["prediction_type"] == "epsilon"
    marked = build_single_file(folder, tmp_path / "v.safetensors", markers=marks)
    schedule = loaded(marked, configs).scheduler_config
    expected = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    assert schedule == {**plain, **expected}
    spec = build_single_file(folder, tmp_path / "spec.safetensors", metadata={"modelspec.prediction_type": "v"})
    assert loaded(spec, configs).scheduler_config == {**plain, "prediction_type": "v_prediction"}
    assert np.any(image(spec, config=str(configs)) != image(single, config=str(configs)))


def tensors(*names):
    import torch

    return {name: torch.zeros(1) for name in names}


@pytest.mark.parametrize(
    ("names", "what", "hint"),
    [
        (["cond_stage_model.x", "model.diffusion_model.input_blocks.0.0.weight"], "Stable Diffusion 1 or 2", "SDXL"),
        (["lora_unet_down_blocks_0.lora_down.weight"], "a LoRA", "FC_SDXL_LORAS"),
        (["clip_l", "clip_g"], "a textual inversion", "FC_SDXL_EMBEDDINGS"),
        (["conditioner.embedders.0.model.ln_final.bias"], "the refiner", "base"),
        (["double_blocks.0.img_attn.norm.key_norm.scale"], "a Flux model", "SDXL"),
        (["down_blocks.0.resnets.0.conv1.weight"], "one part of a diffusers folder", "whole folder"),
        (["some", "tensors"], "not an SDXL checkpoint, as it has no UNet, first text encoder", "full SDXL"),
    ],
)
def test_another_kind_of_file_is_told_with_its_name(tmp_path, configs, names, what, hint):
    from safetensors.torch import save_file

    file = tmp_path / "other.safetensors"
    save_file(tensors(*names), file)
    with pytest.raises(SettingsError, match=what) as caught:
        sdxl(model=str(file), config=str(configs)).describe()
    assert str(file) in caught.value.what
    assert hint in caught.value.hint


def test_damaged_files_and_pickles_are_told(single, configs, tmp_path):
    import torch

    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(single.read_bytes()[:-100])
    pickle = tmp_path / "old.ckpt"
    torch.save({}, pickle)
    renamed = Path(shutil.copy(pickle, tmp_path / "renamed.safetensors"))
    wrong = (
        (cut, "is cut off", "Fetch it again"),
        (renamed, "is a pickle under another name", "safetensors file"),
        (pickle, "is a pickle", ".safetensors file"),
    )
    for file, what, hint in wrong:
        for settings in ({"model": str(file)}, *({"model": str(single), **more} for more in _as_addon(file))):
            with pytest.raises(SettingsError, match=what) as caught:
                sdxl(config=str(configs), **settings).describe()
            assert str(file) in caught.value.what
            assert hint in caught.value.hint


def _as_addon(file):
    return {"vae": str(file)}, {"loras": [f"{file}=0.5"]}, {"embeddings": [str(file)]}


@pytest.mark.parametrize(
    "left_out",
    [
        "model.diffusion_model.middle_block.0.in_layers.0.weight",
        "conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.bias",
        "conditioner.embedders.1.model.text_projection",
        "first_stage_model.decoder.conv_in.weight",
    ],
)
def test_a_missing_tensor_stops_the_loading(folder, configs, tmp_path, left_out):
    file = build_single_file(folder, tmp_path / "less.safetensors", without=left_out)
    with pytest.raises(BackendError, match=r"less\.safetensors cannot be loaded"):
        loaded(file, configs)


def test_a_file_without_a_vae_needs_one(folder, single, configs, tmp_path):
    file = build_single_file(folder, tmp_path / "bare.safetensors", without="first_stage_model.")
    with pytest.raises(SettingsError, match="has no VAE in it") as caught:
        image(file, config=str(configs))
    assert "FC_SDXL_VAE" in caught.value.hint
    np.testing.assert_array_equal(image(file, config=str(configs), vae=str(folder)), image(folder))


@pytest.mark.parametrize(
    ("config", "match"),
    [("/no/such/folder", "FC_SDXL_CONFIG='/no/such/folder'"), ("{empty}", "FC_SDXL_CONFIG: .* no model_index.json")],
)
def test_a_config_that_is_not_there_is_told_by_its_own_name(single, tmp_path, config, match):
    with pytest.raises(SettingsError, match=match):
        sdxl(model=str(single), config=config.format(empty=tmp_path)).describe()


def test_the_configs_come_from_the_hub_cache_and_are_asked_for_when_needed(single, configs, folder, hub_cache):
    generator = sdxl(model=str(single), config="somebody/base", device="cpu")
    told = generator.describe()
    assert (told["model"], told["weights"]) == ("pony", None)
    assert generator.native_size() == 1024
    with pytest.raises(BackendError, match="FC_SDXL_CONFIG=somebody/base") as caught:
        next(generator.generate([task()]))
    assert "hf download somebody/base --include" in caught.value.hint
    put_on_hub(hub_cache, "somebody/base", configs, *(path.name for path in configs.iterdir()))
    assert generator.describe() == sdxl(model=str(single), config=str(configs), device="cpu").describe()
    np.testing.assert_array_equal(image(single, config="somebody/base"), image(folder))


def test_a_relative_path_is_not_taken_for_a_hub_id():
    with pytest.raises(SettingsError, match=r"FC_SDXL_MODEL='models/pony.safetensors' is neither the whole path"):
        sdxl(model="models/pony.safetensors").describe()
    with pytest.raises(SettingsError, match=r"FC_SDXL_LORAS='models/style.safetensors' is neither the whole path"):
        sdxl(model="a/b", loras=["models/style.safetensors"]).describe()


# --- Another VAE ----------------------------------------------------------------------------------------------------


def test_another_vae_is_used_from_a_folder_a_file_or_the_hub(folder, single, configs, tmp_path, hub_cache):
    from safetensors.torch import save_file

    vae = build_vae(folder, tmp_path / "vae", scale=0.5)
    changed = image(folder, vae=str(vae))
    assert np.any(changed != image(folder))
    (tmp_path / "again").mkdir()
    shutil.copytree(vae, tmp_path / "again/vae")
    ldm, diffusers = tmp_path / "ldm.safetensors", tmp_path / "diffusers.safetensors"
    save_file(ldm_vae(tmp_path / "again"), ldm)
    shutil.copy(vae / "diffusion_pytorch_model.safetensors", diffusers)
    put_on_hub(hub_cache, "somebody/vae", vae, "config.json", "diffusion_pytorch_model.safetensors")
    for other in (ldm, diffusers, "somebody/vae"):
        np.testing.assert_array_equal(image(folder, vae=str(other)), changed)
    np.testing.assert_array_equal(image(single, config=str(configs), vae=str(vae)), changed)
    assert sdxl(model=str(folder), vae=str(ldm)).describe()["vae"]["name"] == "ldm"


def test_a_file_that_is_no_vae_is_told(folder, tmp_path):
    from safetensors.torch import save_file

    file = tmp_path / "none.safetensors"
    save_file(tensors("some", "tensors"), file)
    with pytest.raises(BackendError, match=r"FC_SDXL_VAE: .*none\.safetensors cannot be loaded"):
        image(folder, vae=str(file))


# --- LoRAs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["kohya", "diffusers"])
def test_a_lora_adds_weight_times_its_product_to_its_modules_and_nothing_to_others(folder, tmp_path, layout):
    import torch

    adds = build_lora(folder, tmp_path / "style.safetensors", layout=layout)
    before = loaded(folder, folder).parts
    after = loaded(folder, folder, loras=[f"{tmp_path}/style.safetensors=0.5"]).parts
    changed = {}
    for part in ("unet", "text_encoder", "text_encoder_2"):
        new = dict(after[part].named_parameters())
        for name, old in before[part].named_parameters():
            if not torch.equal(old, new[name]):
                module = name.removesuffix(".weight")
                wrapped = module if part == "unet" or module.startswith("text_model.") else f"text_model.{module}"
                changed[f"{part}.{wrapped}"] = (new[name] - old).detach()
    assert set(changed) == set(adds)
    for name, added in changed.items():
        torch.testing.assert_close(added, 0.5 * adds[name], rtol=1e-4, atol=1e-5)


def test_a_lora_changes_the_pixels_and_weight_0_does_not(folder, tmp_path):
    build_lora(folder, tmp_path / "style.safetensors", size=0.2)
    plain = image(folder)
    assert np.any(image(folder, loras=[f"{tmp_path}/style.safetensors"]) != plain)
    np.testing.assert_array_equal(image(folder, loras=[f"{tmp_path}/style.safetensors=0"]), plain)


def test_two_loras_add_up(folder, tmp_path):
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    first, second = build_lora(folder, one, seed=1), build_lora(folder, other, seed=2, layout="diffusers")
    name = "unet.up_blocks.0.attentions.2.proj_in"

    def weight(loras):
        return loaded(folder, folder, loras=loras).parts["unet"].get_submodule(name.removeprefix("unet.")).weight

    import torch

    added = weight([str(one), f"{other}=-0.25"]) - weight([])
    torch.testing.assert_close(added.detach(), first[name] - 0.25 * second[name], rtol=1e-4, atol=1e-5)


def test_a_lora_works_on_a_single_file_in_half_precision(folder, single, configs, tmp_path):
    import torch

    build_lora(folder, tmp_path / "style.safetensors")
    lora = f"{tmp_path}/style.safetensors"
    one = loaded(single, configs, "bfloat16", loras=[lora]).parts["unet"].state_dict()
    other = loaded(folder, folder, "bfloat16", loras=[lora]).parts["unet"].state_dict()
    assert {weight.dtype for weight in one.values()} == {torch.bfloat16}
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_old_names_and_alphas_in_the_metadata_are_read(folder, tmp_path):
    import torch
    from safetensors.torch import save_file

    module = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
    up, down = torch.ones(4, 2), torch.ones(2, 4)
    file = tmp_path / "old.safetensors"

    def added(names, metadata=None):
        save_file(dict(zip(names, (up, down), strict=True)), file, metadata=metadata)
        weights = [loaded(folder, folder, loras=loras).parts["unet"].state_dict() for loras in ([str(file)], [])]
        return sorted(
            (name, round(float((weights[0][name] - weights[1][name]).mean()), 4))
            for name in weights[0]
            if not torch.equal(weights[0][name], weights[1][name])
        )

    old = [f"unet.{module}.processor.to_out_lora.{way}.weight" for way in ("up", "down")]
    assert added(old) == [(f"{module}.to_out.0.weight", 2.0)]
    peft = [f"unet.{module}.to_q.lora_{letter}.weight" for letter in "BA"]
    told = json.dumps({"unet.r": 2, "unet.lora_alpha": 1})
    assert added(peft, {"lora_adapter_metadata": told}) == [(f"{module}.to_q.weight", 1.0)]


@pytest.mark.parametrize(
    ("shapes", "what"),
    [
        ({"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (1, 24)}, "SDXL has no layer lora_te_text"),
        ({"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (1, 4)}, "one of its two factors"),
        (
            {f"lora_unet_mid_block_attentions_0_proj_in.lora_{way}.weight": (1, 9) for way in ("down", "up")},
            r"factors \(1, 9\) and \(1, 9\)",
        ),
        ({"decoder.weight": (1,)}, "it holds decoder.weight"),
        ({"lora_unet_mid_block_attentions_0_proj_in.hada_w1_a": (1, 4)}, "it holds .*hada_w1_a, which is no part"),
    ],
)
def test_what_is_no_lora_for_sdxl_is_told_with_its_file(folder, tmp_path, shapes, what):
    import torch
    from safetensors.torch import save_file

    file = tmp_path / "odd.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, file)
    with pytest.raises(SettingsError, match=what) as caught:
        image(folder, loras=[str(file)])
    assert str(file) in caught.value.what


def test_a_lora_on_the_hub_is_told_when_it_cannot_be_fetched_and_used_from_the_cache(folder, tmp_path, hub_cache):
    build_lora(folder, tmp_path / "style.safetensors", size=0.2)
    lora = "somebody/loras/style.safetensors=0.5"
    generator = sdxl(model=str(folder), loras=[lora], device="cpu")
    name = "somebody/loras/style.safetensors"
    assert generator.describe()["loras"] == [{"name": name, "weights": None, "weight": 0.5}]
    with pytest.raises(BackendError, match=f"FC_SDXL_LORAS={name}") as caught:
        next(generator.generate([task()]))
    assert "hf download somebody/loras style.safetensors" in caught.value.hint
    put_on_hub(hub_cache, "somebody/loras", tmp_path, "style.safetensors")
    assert generator.describe()["loras"][0]["weights"]
    local = image(folder, loras=[f"{tmp_path}/style.safetensors=0.5"])
    np.testing.assert_array_equal(image(folder, loras=[lora]), local)


@pytest.mark.parametrize("weight", ["much", "", "nan", "inf"])
def test_a_weight_that_is_no_number_is_told(folder, weight):
    with pytest.raises(SettingsError, match="is not a weight") as caught:
        sdxl(model=str(folder), loras=[f"/models/style.safetensors={weight}"]).describe()
    assert "style.safetensors=0.8" in caught.value.hint


# --- Textual inversions ---------------------------------------------------------------------------------------------


def test_a_word_is_known_in_any_case_as_a_whole_word_and_in_the_negative_prompt(folder, tmp_path):
    build_embedding(tmp_path / "zPDXL.safetensors", vectors=3)
    fields = {"embeddings": [f"{tmp_path}/zPDXL.safetensors"]}
    known = image(folder, "a zPDXL, cat", **fields)
    assert np.any(known != image(folder, "a zPDXL, cat"))
    np.testing.assert_array_equal(image(folder, "a ZpdXl, cat", **fields), known)
    within = "a zPDXLs cat, xzPDXL"
    np.testing.assert_array_equal(image(folder, within, **fields), image(folder, within))


@pytest.mark.parametrize("names", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
def test_each_text_encoder_gets_its_own_vectors_in_their_order(folder, tmp_path, names):
    import torch
    from safetensors.torch import load_file

    file = build_embedding(tmp_path / "word.safetensors", vectors=2, names=names)
    parts = loaded(folder, folder, embeddings=[str(file)]).parts
    vectors = load_file(file)
    for tokenizer, encoder, name in (
        ("tokenizer", "text_encoder", names[0]),
        ("tokenizer_2", "text_encoder_2", names[1]),
    ):
        ids = parts[tokenizer]("a (word:1)").input_ids
        rows = parts[encoder].get_input_embeddings()(torch.tensor(ids))
        torch.testing.assert_close(rows[3:5], vectors[name])
        assert len(ids) == len(parts[tokenizer]("a (:1)").input_ids) + 2


def test_words_of_which_one_begins_another_are_kept_apart(folder, tmp_path):
    files = [
        str(build_embedding(tmp_path / f"{name}.safetensors", vectors=2, seed=seed))
        for seed, name in enumerate(("neg", "negative", "neg-4"))
    ]
    tokenizer = loaded(folder, folder, embeddings=files).parts["tokenizer"]
    new = {word: [token for token in tokenizer(word).input_ids if token > 513] for word in ("neg", "negative")}
    assert new == {"neg": [514, 515], "negative": [516, 517]}


def test_the_table_grows_when_it_is_full_and_the_end_of_the_text_is_still_found(folder, tmp_path):
    """As in the real SDXL: as many rows as tokens, and configs that say that a text ends with token 2."""
    import torch
    from safetensors.torch import load_file, save_file

    own = Path(shutil.copytree(folder, tmp_path / "own"))
    for part in ("text_encoder", "text_encoder_2"):
        config = own / part / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "vocab_size": 514, "eos_token_id": 2}))
        weights = load_file(own / part / "model.safetensors")
        (table,) = (name for name in weights if name.endswith("token_embedding.weight"))
        weights[table] = weights[table][:514].clone()
        save_file(weights, own / part / "model.safetensors", metadata={"format": "pt"})
    plain = image(own)
    file = build_embedding(tmp_path / "word.safetensors", vectors=2)
    np.testing.assert_array_equal(image(own, embeddings=[str(file)]), plain)
    parts = loaded(own, own, embeddings=[str(file)]).parts
    encoder, ids = parts["text_encoder_2"], parts["tokenizer_2"]("a word here", return_tensors="pt").input_ids
    assert encoder.get_input_embeddings().num_embeddings == 516
    with torch.inference_mode():
        told = encoder(ids)
        expected = encoder.text_projection(told.last_hidden_state[:, -1])
    torch.testing.assert_close(told.text_embeds, expected)


def test_an_embedding_for_another_model_is_told(folder, tmp_path):
    from safetensors.torch import save_file

    file = tmp_path / "old.safetensors"
    save_file(tensors("emb_params"), file)
    with pytest.raises(SettingsError, match=r"old\.safetensors holds emb_params \(1, 1\)") as caught:
        image(folder, embeddings=[str(file)])
    assert "24 and 40 wide" in caught.value.what
    (tmp_path / "sub").mkdir()
    twice = [str(build_embedding(tmp_path / name)) for name in ("word.safetensors", "sub/WORD.safetensors")]
    with pytest.raises(SettingsError, match="two files for the word 'word'"):
        sdxl(model=str(folder), embeddings=twice).describe()


# --- What is told ---------------------------------------------------------------------------------------------------


def test_what_is_added_is_described_and_changes_with_its_files_and_weights(folder, tmp_path):
    vae, lora, word = (
        build_vae(folder, tmp_path / "vae", 0.5),
        tmp_path / "style.safetensors",
        tmp_path / "word.safetensors",
    )
    build_lora(folder, lora)
    build_embedding(word)
    plain = sdxl(model=str(folder)).describe()
    fields = {"vae": str(vae), "loras": [f"{lora}=0.8"], "embeddings": [str(word)]}
    told = sdxl(model=str(folder), **fields).describe()
    assert {name: told[name] for name in plain} == plain
    assert set(told) - set(plain) == {"vae", "loras", "embeddings"}
    assert str(tmp_path) not in json.dumps(told)
    assert told["loras"][0]["name"] == "style"
    assert told["embeddings"][0]["word"] == "word"
    seen = [told, sdxl(model=str(folder), **{**fields, "loras": [f"{lora}=0.7"]}).describe()]
    build_lora(folder, lora, seed=5)
    seen.append(sdxl(model=str(folder), **fields).describe())
    build_embedding(word, seed=5)
    seen.append(sdxl(model=str(folder), **fields).describe())
    shutil.rmtree(vae)
    build_vae(folder, vae, 0.25)
    seen.append(sdxl(model=str(folder), **fields).describe())
    assert len({json.dumps(one) for one in seen}) == 5


def test_describing_it_all_imports_no_torch_and_is_equal_across_processes(folder, single, configs, tmp_path):
    build_lora(folder, tmp_path / "style.safetensors")
    word = build_embedding(tmp_path / "word.safetensors")
    fields = {"model": str(single), "config": str(configs), "vae": str(folder), "embeddings": [str(word)]}
    fields["loras"] = [f"{tmp_path}/style.safetensors=0.5"]
    program = (
        "import sys, json\n"
        "from tests.support.diffusion import sdxl\n"
        f"print(json.dumps(sdxl(**{fields!r}).describe()))\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == sdxl(**fields).describe()


def test_another_weight_is_loaded_anew(folder, tmp_path):
    build_lora(folder, tmp_path / "style.safetensors", size=0.2)
    one, other = (image(folder, loras=[f"{tmp_path}/style.safetensors={weight}"]) for weight in (0.5, 1))
    assert np.any(one != other)


@pytest.mark.parametrize("field", ["vae", "loras", "embeddings"])
def test_a_file_that_is_not_there_is_told(folder, field):
    file = "/no/such/file.safetensors"
    with pytest.raises(SettingsError, match=f"FC_SDXL_{field.upper()}: there is no file {file}"):
        sdxl(model=str(folder), **{field: file if field == "vae" else [file]}).describe()


def test_addons_come_from_the_settings(folder, tmp_path):
    build_lora(folder, tmp_path / "style=1.safetensors")
    build_embedding(tmp_path / "word.safetensors")
    settings = Settings(
        _env_file=None,
        sdxl_model="a/b",
        sdxl_vae=str(folder),
        sdxl_loras=f"{tmp_path}/style=1.safetensors; {tmp_path}/style=1.safetensors=-0.5",
        sdxl_embeddings=f"{tmp_path}/word.safetensors",
    )
    addons = SdxlGenerator.from_settings(settings).names.find_addons()
    assert addons.vae is not None
    assert addons.vae.label == "tiny"
    assert [(lora.label, lora.weight) for lora in addons.loras] == [("style=1", 1.0), ("style=1", -0.5)]
    assert [embedding.label for embedding in addons.embeddings] == ["word"]
    assert SdxlGenerator.from_settings(Settings(_env_file=None, sdxl_model="a/b")).names.find_addons() == Addons()
