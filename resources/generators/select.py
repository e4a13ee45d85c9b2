"""Which image generator the settings ask for."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Literal

from imaging.errors import SettingsError
from resources.generators.base import Generator
from resources.plugins import is_dotted_path, load_plugin
from resources.settings import Settings

if TYPE_CHECKING:
    from resources.generators.servers.comfyui import ComfyUIGenerator
    from resources.generators.servers.forge import ForgeGenerator

NAMES = ("sdxl", "forge", "comfyui", "sketch")


def make_generator(settings: Settings) -> tuple[Generator, str]:
    """The generator that `FC_GENERATOR` names, and one sentence that says what was picked and why.

    `auto` is the first that has its setting: `sdxl` (`FC_SDXL_MODEL`), `forge` (`FC_FORGE_URL`), `comfyui`
    (`FC_COMFYUI_URL`); else `sketch`. Nothing is loaded into a GPU yet, and no server is asked.

    Raises:
        SettingsError: an unknown name, a plugin that cannot be loaded, packages that are not installed, or settings
            that are missing or wrong.
    """
    if is_dotted_path(settings.generator):
        generator: Generator = load_plugin(settings.generator, "FC_GENERATOR")(settings)
        return generator, f"{settings.generator}, as FC_GENERATOR says."
    name, why = _choice(settings)
    told = f"{name}, {why}."
    server = make_image_server(settings)
    if server is not None:
        return server, told
    if name == "sketch":
        from sketch.generator import SketchGenerator

        return SketchGenerator(), told
    return _with_diffusers(settings, "FC_SDXL_MODEL", why), told


def make_face_generator(settings: Settings) -> tuple[Generator, str]:
    """The generator of the face pass, and one sentence that says what was picked and why.

    It is over the model that `FC_FACE_MODEL` names, else the one that makes the scene.

    Raises:
        SettingsError: as `make_generator`.
    """
    if not settings.face_model:
        return make_generator(settings)
    generator = _with_diffusers(settings, "FC_FACE_MODEL", "as FC_FACE_MODEL is set")
    return generator, f"{generator.name}, as FC_FACE_MODEL is set."


def _with_diffusers(settings: Settings, setting: Literal["FC_SDXL_MODEL", "FC_FACE_MODEL"], why: str) -> Generator:
    """The generator for the kind of model that a variable names; the name tells of a Hub id that is not here yet."""
    missing = [package for package in ("torch", "diffusers") if importlib.util.find_spec(package) is None]
    if missing:
        raise SettingsError(
            f"The generator sdxl ({why}) needs {' and '.join(missing)}, which cannot be imported.",
            "Run: pip install 'face-changer[sdxl]'",
        )
    from resources.generators.diffusion.flux import FluxGenerator
    from resources.generators.diffusion.sdxl import SdxlGenerator
    from resources.models.flux_checkpoint import model_kind

    faces = setting == "FC_FACE_MODEL"
    model, revision = (settings.face_model, "") if faces else (settings.sdxl_model, settings.sdxl_revision)
    kind = model_kind(model, revision)
    if kind == "flux" or (kind == "unknown" and "flux" in model.lower()):
        return FluxGenerator.from_settings(settings, setting)
    return SdxlGenerator.from_settings(settings, setting)


def make_image_server(settings: Settings) -> ForgeGenerator | ComfyUIGenerator | None:
    """The generator, if the settings ask for one behind a server; its `check_server` says whether that is ready.

    Raises:
        SettingsError: an unknown name, or settings that are missing or wrong.
    """
    name = "" if is_dotted_path(settings.generator) else _choice(settings)[0]
    if name == "forge":
        from resources.generators.servers.forge import ForgeGenerator

        return ForgeGenerator.from_settings(settings)
    if name == "comfyui":
        from resources.generators.servers.comfyui import ComfyUIGenerator

        return ComfyUIGenerator.from_settings(settings)
    return None


def _choice(settings: Settings) -> tuple[str, str]:
    """The generator's name, and why it is this one."""
    choice = settings.generator
    if choice not in ("auto", *NAMES):
        raise SettingsError(
            f"FC_GENERATOR={choice!r} is not a generator.", f"Use auto, {', '.join(NAMES)}, or package.module:Class."
        )
    if choice != "auto":
        return choice, "as FC_GENERATOR says"
    for name, setting in (("sdxl", "sdxl_model"), ("forge", "forge_url"), ("comfyui", "comfyui_url")):
        if getattr(settings, setting):
            return name, f"as FC_{setting.upper()} is set"
    return "sketch", "as FC_SDXL_MODEL, FC_FORGE_URL and FC_COMFYUI_URL are not set; no model makes these pictures"
