"""Which image generator the settings ask for.

Belongs here: the choice and its reason. Does not: the generators.
"""

from __future__ import annotations

import importlib.util

from imaging.errors import SettingsError
from resources.generators.base import Generator
from resources.plugins import is_dotted_path, load_plugin
from resources.settings import Settings


def make_generator(settings: Settings) -> tuple[Generator, str]:
    """The generator that `FC_GENERATOR` names, and one sentence that says what was picked and why.

    `auto` is `sdxl` when `FC_SDXL_MODEL` is set, else `sketch`. Nothing is loaded into a GPU yet.

    Raises:
        SettingsError: an unknown name, a plugin that cannot be loaded, or packages that are not installed.
    """
    choice = settings.generator
    if is_dotted_path(choice):
        generator: Generator = load_plugin(choice, "FC_GENERATOR")(settings)
        return generator, f"{choice}, as FC_GENERATOR says."
    if choice not in ("auto", "sdxl", "sketch"):
        raise SettingsError(
            f"FC_GENERATOR={choice!r} is not a generator.", "Use auto, sdxl, sketch, or package.module:Class."
        )
    why = "as FC_GENERATOR says"
    if choice == "auto":
        choice, why = (
            ("sdxl", "as FC_SDXL_MODEL is set")
            if settings.sdxl_model
            else ("sketch", "as FC_SDXL_MODEL is not set; no model makes these pictures")
        )
    if choice == "sketch":
        from resources.generators.sketch import SketchGenerator

        return SketchGenerator(), f"sketch, {why}."
    missing = [package for package in ("torch", "diffusers") if importlib.util.find_spec(package) is None]
    if missing:
        raise SettingsError(
            f"The generator sdxl ({why}) needs {' and '.join(missing)}, which cannot be imported.",
            "Run: pip install 'face-changer[sdxl]'",
        )
    from resources.generators.sdxl import SdxlGenerator

    return SdxlGenerator.from_settings(settings), f"sdxl, {why}."
