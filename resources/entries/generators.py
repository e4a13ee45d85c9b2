"""The generators that need a model or a server, as the registry knows them; each is imported when it is made."""

from __future__ import annotations

import importlib.util
from typing import Final, Literal

from imaging.errors import SettingsError
from resources.backends import BackEnd, Finding, Inspection
from resources.generators.base import Generator, ModelChoice
from resources.settings import Settings


def _diffusers(
    settings: Settings, choice: ModelChoice, setting: Literal["FC_SDXL_MODEL", "FC_FACE_MODEL"]
) -> Generator:
    """The generator for the kind of model that is named; the name tells of a Hub id that is not here yet."""
    missing = [package for package in ("torch", "diffusers") if importlib.util.find_spec(package) is None]
    if missing:
        raise SettingsError(
            f"The generator sdxl needs {' and '.join(missing)}, which cannot be imported.",
            "Run: pip install 'face-changer[sdxl]'",
        )
    from resources.generators.diffusion.flux import FluxGenerator
    from resources.generators.diffusion.sdxl import SdxlGenerator
    from resources.models.flux_checkpoint import model_kind

    scene = (settings.sdxl_model, settings.sdxl_revision)
    model, revision = scene if setting == "FC_SDXL_MODEL" else (settings.face_model, "")
    if choice.checkpoint:
        model, revision = choice.checkpoint, choice.revision or ""
    kind = model_kind(model, revision)
    if kind == "flux" or (kind == "unknown" and "flux" in model.lower()):
        return FluxGenerator.from_settings(settings, setting, choice)
    return SdxlGenerator.from_settings(settings, setting, choice)


def _forge(settings: Settings, choice: ModelChoice) -> Generator:
    from resources.generators.servers.forge import ForgeGenerator

    return ForgeGenerator.from_settings(settings, choice)


def _comfyui(settings: Settings, choice: ModelChoice) -> Generator:
    from resources.generators.servers.comfyui import ComfyUIGenerator

    return ComfyUIGenerator.from_settings(settings, choice)


def _check_forge(settings: Settings, used: bool) -> Finding | None:  # noqa: FBT001 - as `Inspection`
    from resources.generators.servers.forge import ForgeGenerator

    return Finding("OK", ForgeGenerator.from_settings(settings).check_server()) if used else None


def _check_comfyui(settings: Settings, used: bool) -> Finding | None:  # noqa: FBT001 - as `Inspection`
    from resources.generators.servers.comfyui import ComfyUIGenerator

    return Finding("OK", ComfyUIGenerator.from_settings(settings).check_server()) if used else None


SDXL: Final = BackEnd[Generator](
    kind="generator",
    name="sdxl",
    about="SDXL or Flux through diffusers, on this machine; needs: pip install 'face-changer[sdxl]'",
    make=lambda settings, choice: _diffusers(settings, choice, "FC_SDXL_MODEL"),
    place="gpu",
    key="sdxl_model",
    rank=10,
    settings=(
        "sdxl_model",
        "sdxl_revision",
        "sdxl_config",
        "sdxl_vae",
        "sdxl_loras",
        "lora_dir",
        "sdxl_embeddings",
        "sdxl_clip_skip",
        "sdxl_device",
        "sdxl_dtype",
        "sdxl_batch_size",
        "sdxl_compile",
        "model_memory",
    ),
    chooses_model=True,
    for_faces=BackEnd(
        kind="generator",
        name="sdxl",
        about="SDXL or Flux for the face pass alone",
        make=lambda settings, choice: _diffusers(settings, choice, "FC_FACE_MODEL"),
        place="gpu",
        key="face_model",
        chooses_model=True,
    ),
)

FORGE: Final = BackEnd[Generator](
    kind="generator",
    name="forge",
    about="a Forge or A1111 server, started with --api",
    make=_forge,
    place="network",
    key="forge_url",
    rank=20,
    settings=("forge_url", "forge_auth", "forge_model", "forge_distilled_cfg"),
    chooses_model=True,
    inspection=Inspection("image server", _check_forge),
)

COMFYUI: Final = BackEnd[Generator](
    kind="generator",
    name="comfyui",
    about="a ComfyUI server, with workflows of your own in API format, their inputs marked as docs/models.md says",
    make=_comfyui,
    place="network",
    key="comfyui_url",
    rank=30,
    settings=("comfyui_url", "comfyui_auth", "comfyui_workflow", "comfyui_face_workflow", "comfyui_pack"),
    chooses_model=True,
    inspection=Inspection("image server", _check_comfyui),
)
