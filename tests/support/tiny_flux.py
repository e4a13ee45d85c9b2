"""A complete Flux checkpoint in diffusers format of about 3 MB, with random weights, made without a network.

Its pictures mean nothing; its shapes, dtypes, scheduler and tokenizers are those of the real thing. The VAE scales by
2, so a cell of the transformer is 4 pixels square.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Literal

from tests.support.tiny_sdxl import write_clip_tokenizer

CELL = 4
LATENT_CHANNELS = 4
VAE_SCALE = 2


def build_tiny_flux(folder: Path, kind: Literal["dev", "schnell", "fill"] = "dev") -> Path:
    """Write the checkpoint into `folder` and return the folder; the same weights each time.

    Args:
        folder: made when it is missing.
        kind: `dev` takes a guidance scale, `schnell` none, `fill` takes the mask and the masked image beside the noise.
    """
    import torch
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        FluxFillPipeline,
        FluxPipeline,
        FluxTransformer2DModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    write_clip_tokenizer(folder / "tokenizer")
    pieces = ["<pad>", "</s>", "<unk>", "▁", *string.ascii_letters, *string.digits, *string.punctuation]
    packed = 4 * LATENT_CHANNELS
    random_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=2 * packed + 4 * VAE_SCALE**2 if kind == "fill" else packed,
        out_channels=packed,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=kind != "schnell",
        axes_dims_rope=(4, 4, 8),
    )
    vae = AutoencoderKL(
        block_out_channels=[32, 64],
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D", "DownEncoderBlock2D"],
        up_block_types=["UpDecoderBlock2D", "UpDecoderBlock2D"],
        latent_channels=LATENT_CHANNELS,
        sample_size=128,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=0.3611,
        shift_factor=0.1159,
    )
    clip = CLIPTextConfig(
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        projection_dim=32,
        vocab_size=1000,
    )
    t5 = T5Config(vocab_size=len(pieces), d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    pipeline = (FluxFillPipeline if kind == "fill" else FluxPipeline)(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=kind != "schnell",
            base_shift=0.5,
            max_shift=1.15,
            shift=1.0 if kind == "schnell" else 3.0,
        ),
        vae=vae,
        text_encoder=CLIPTextModel(clip),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", model_max_length=77),
        text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=T5Tokenizer(
            vocab=[(piece, -float(number)) for number, piece in enumerate(pieces)],
            extra_ids=0,
            model_max_length=512,
        ),
        transformer=transformer,
    )
    torch.random.set_rng_state(random_state)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder
