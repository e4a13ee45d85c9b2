"""A complete SDXL checkpoint of about 3 MB, with random weights, made without a network, and what is added to one.

The pictures mean nothing; shapes, dtypes, schedulers and tokenizers are those of
the real thing. The VAE scales by 2 and the native size is 64 pixels. As in the real SDXL, the two text encoders differ
in width, by which diffusers tells them apart in a single file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from resources.generators.diffusion.sdxl_lora import ldm_name

if TYPE_CHECKING:
    import torch

START, END = "<|startoftext|>", "<|endoftext|>"
NATIVE_SIZE = 64
WIDTHS = (24, 40)  # of the text encoders; 768 and 1280 in the real SDXL


def build_tiny_sdxl(folder: Path, *, in_channels: int = 4) -> Path:
    """Write the checkpoint into `folder` and return the folder; the same weights each time.

    Args:
        folder: made when it is missing.
        in_channels: 4 for a text-to-image UNet, 9 for an inpainting one.
    """
    import torch
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    write_clip_tokenizer(folder / "tokenizer")
    random_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(2, 4),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=80,
        cross_attention_dim=64,
        norm_num_groups=1,
    )
    vae = AutoencoderKL(
        block_out_channels=[32, 64],
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D", "DownEncoderBlock2D"],
        up_block_types=["UpDecoderBlock2D", "UpDecoderBlock2D"],
        latent_channels=4,
        sample_size=128,
    )
    first, second = (
        CLIPTextConfig(
            bos_token_id=512,
            eos_token_id=513,
            pad_token_id=513,
            hidden_size=width,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=5,
            projection_dim=32,
            vocab_size=1000,
        )
        for width in WIDTHS
    )
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(first),
        text_encoder_2=CLIPTextModelWithProjection(second),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", model_max_length=77),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer", model_max_length=77),
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
        add_watermarker=False,
    )
    torch.random.set_rng_state(random_state)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def build_single_file(
    folder: Path,
    file: Path,
    *,
    without: str = "-",
    markers: Mapping[str, torch.Tensor] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write the checkpoint of `folder` as one file in the layout of LDM, as A1111 and ComfyUI read it; return it.

    Args:
        folder: a checkpoint in diffusers format of this architecture.
        file: where to write; its folder is there.
        without: tensors whose name starts so are left out.
        markers: further tensors, such as `v_pred`.
        metadata: text for the file's header.
    """
    import torch
    from safetensors.torch import save_file

    tensors = {
        **{f"model.diffusion_model.{_ldm_unet(name)}": value for name, value in _weights(folder, "unet").items()},
        **{
            f"conditioner.embedders.0.transformer.text_model.{name.removeprefix('text_model.')}": value
            for name, value in _weights(folder, "text_encoder").items()
        },
        **{f"conditioner.embedders.1.model.{name}": value for name, value in _open_clip(folder)},
        **{f"first_stage_model.{name}": value for name, value in ldm_vae(folder).items()},
        # what real files hold beside the weights
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
        "conditioner.embedders.1.model.logit_scale": torch.tensor(4.6),
        "denoiser.sigmas": torch.zeros(1000),
        **(markers or {}),
    }
    kept = {name: value.clone() for name, value in tensors.items() if not name.startswith(without)}
    save_file(kept, file, metadata={"format": "pt", **(metadata or {})})
    return file


def ldm_vae(folder: Path) -> dict[str, torch.Tensor]:
    """The VAE of a checkpoint in the layout of LDM, without a prefix, as VAE files have it."""
    weights = _weights(folder, "vae")
    return {
        _ldm_vae(name): value[:, :, None, None] if _is_projection(name) else value for name, value in weights.items()
    }


def build_vae(checkpoint: Path, folder: Path, scale: float) -> Path:
    """Write the checkpoint's VAE, its output convolution multiplied by `scale`, as a diffusers folder; return it."""
    import torch
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(checkpoint / "vae")
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(scale)
    vae.save_pretrained(folder, safe_serialization=True)
    return folder


def lora_modules(folder: Path) -> dict[str, tuple[int, int]]:
    """Some linear layers of the UNet and of both text encoders, as (outputs, inputs) by part and name in diffusers."""
    names = {
        "unet": ("down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", "up_blocks.0.attentions.2.proj_in"),
        "text_encoder": ("text_model.encoder.layers.0.self_attn.q_proj", "text_model.encoder.layers.3.mlp.fc1"),
        "text_encoder_2": ("text_model.encoder.layers.0.self_attn.out_proj", "text_model.encoder.layers.1.mlp.fc2"),
    }
    found = {}
    for part, modules in names.items():
        weights = _weights(folder, part)
        for module in modules:
            weight = weights.get(f"{module}.weight", weights.get(f"{module.removeprefix('text_model.')}.weight"))
            assert weight is not None, module
            found[f"{part}.{module}"] = (weight.shape[0], weight.shape[1])
    return found


def build_lora(
    checkpoint: Path, file: Path, *, layout: str = "kohya", seed: int = 1, size: float = 1.0
) -> dict[str, torch.Tensor]:
    """Write a LoRA for `lora_modules` of unlike ranks and alphas.

    Args:
        checkpoint: what it is for, in diffusers format.
        file: where to write.
        layout: `kohya` (LDM block names, an alpha for each module) or `diffusers` (PEFT names, no alpha).
        seed: of its weights.
        size: factor on its weights.

    Returns:
        What weight 1 adds to each module, by part and name in diffusers.
    """
    import torch
    from safetensors.torch import save_file

    random = torch.Generator().manual_seed(seed)
    tensors, adds = {}, {}
    for number, (name, (outputs, inputs)) in enumerate(lora_modules(checkpoint).items()):
        rank, alpha = 2 + number % 2, 0.5 + number
        down = torch.randn(rank, inputs, generator=random)
        up = torch.randn(outputs, rank, generator=random) * size
        part, module = name.split(".", 1)
        if layout == "kohya":
            stem = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}[part]
            stem += (str(ldm_name(module)) if part == "unet" else module).replace(".", "_")
            tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
            tensors[f"{stem}.alpha"] = torch.tensor(alpha)
            adds[name] = alpha / rank * up @ down
        else:
            tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
            adds[name] = up @ down
    save_file(tensors, file, metadata={"format": "pt"})
    return adds


def build_embedding(
    file: Path, *, vectors: int = 1, seed: int = 1, names: tuple[str, str] = ("clip_l", "clip_g")
) -> Path:
    """Write a textual inversion of so many vectors for each text encoder, and return the file."""
    import torch
    from safetensors.torch import save_file

    random = torch.Generator().manual_seed(seed)
    save_file(
        {name: torch.randn(vectors, width, generator=random) for name, width in zip(names, WIDTHS, strict=True)}, file
    )
    return file


def _weights(folder: Path, part: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    (file,) = (folder / part).glob("*.safetensors")
    return load_file(file)


def _ldm_unet(name: str) -> str:
    """A tensor's name in the UNet of diffusers -> the same in LDM."""
    module, _, kind = name.rpartition(".")
    return f"{ldm_name(module)}.{kind}"


def _ldm_vae(name: str) -> str:
    """A name in the VAE of diffusers, of two blocks each way -> the same in LDM."""
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda found: f"up.{1 - int(found[1])}.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{1 - int(found[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{1 + int(found[1])}", name)
    name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("conv_shortcut", "nin_shortcut")
    name = name.replace("group_norm", "norm").replace("to_out.0", "proj_out").replace("conv_norm_out", "norm_out")
    return re.sub(r"to_([qkv])", r"\1", name)


def _is_projection(name: str) -> bool:
    return "attentions" in name and name.endswith("weight") and "norm" not in name


def _open_clip(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The second text encoder as OpenCLIP names it."""
    import torch

    weights = {name.removeprefix("text_model."): value for name, value in _weights(folder, "text_encoder_2").items()}
    yield "text_projection", weights.pop("text_projection.weight").T.contiguous()
    for name, value in weights.items():
        if found := re.fullmatch(r"(.+self_attn\.)q_proj\.(\w+)", name):
            triple = torch.cat([weights[f"{found[1]}{letter}_proj.{found[2]}"] for letter in "qkv"])
            yield _open_clip_name(f"{found[1]}in_proj_{found[2]}"), triple
        elif not re.search(r"\.[kv]_proj\.", name):
            yield _open_clip_name(name), value


def _open_clip_name(name: str) -> str:
    name = name.replace("embeddings.position_embedding.weight", "positional_embedding")
    name = name.replace("embeddings.token_embedding", "token_embedding").replace("final_layer_norm", "ln_final")
    name = name.replace("encoder.layers", "transformer.resblocks").replace("self_attn", "attn")
    return name.replace("layer_norm", "ln_").replace("fc1", "c_fc").replace("fc2", "c_proj")


def write_clip_tokenizer(folder: Path) -> None:
    """A CLIP tokenizer that knows single bytes only: 256 of them, each also as the end of a word, and two marks."""
    folder.mkdir(exist_ok=True)
    letters = _byte_letters()
    words = [*letters, *(letter + "</w>" for letter in letters), START, END]
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def _byte_letters() -> list[str]:
    """The visible letter that byte-level BPE writes for each byte: itself if it can be seen, else one from 256 on."""
    seen = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    hidden = [byte for byte in range(256) if byte not in seen]
    return [chr(byte) if byte in seen else chr(256 + hidden.index(byte)) for byte in range(256)]


def build_full_sdxl(folder: Path) -> Path:
    """Write an SDXL of full size with random weights in bfloat16 (7 GB), for benchmarks; needs a GPU to be quick."""
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    write_clip_tokenizer(folder / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", model_max_length=77)
    marks = {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            unet = UNet2DConditionModel(
                sample_size=128,
                block_out_channels=(320, 640, 1280),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 2, 10),
                attention_head_dim=(5, 10, 20),
                cross_attention_dim=2048,
                use_linear_projection=True,
                addition_embed_type="text_time",
                addition_time_embed_dim=256,
                projection_class_embeddings_input_dim=2816,
            )
            vae = AutoencoderKL(
                block_out_channels=(128, 256, 512, 512),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=2,
                latent_channels=4,
                sample_size=1024,
                scaling_factor=0.13025,
            )
            large = CLIPTextConfig(
                hidden_size=768,
                intermediate_size=3072,
                num_attention_heads=12,
                num_hidden_layers=12,
                projection_dim=768,
                **marks,
            )
            huge = CLIPTextConfig(
                hidden_size=1280,
                intermediate_size=5120,
                num_attention_heads=20,
                num_hidden_layers=32,
                projection_dim=1280,
                hidden_act="gelu",
                **marks,
            )
            encoders = CLIPTextModel(large), CLIPTextModelWithProjection(huge)
    finally:
        torch.set_default_dtype(before)
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=scheduler,
        add_watermarker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder
