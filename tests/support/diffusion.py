"""Generators on diffusers from plain keywords, as their settings are called without `FC_SDXL_`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from resources.generators.diffusion.flux import FluxGenerator
from resources.generators.diffusion.options import Options
from resources.generators.diffusion.sdxl import SdxlGenerator
from resources.models.names import ModelNames

_NAMES = {field.name for field in fields(ModelNames)}
_OPTIONS = {field.name for field in fields(Options)}


def names(checkpoint: str, **given: Any) -> ModelNames:
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return ModelNames(checkpoint, **(given | lists))


def sdxl(*, model: str, **given: Any) -> SdxlGenerator:
    named, options, rest = _parts(model, given)
    return SdxlGenerator(named, options, **rest)


def flux(*, model: str, **given: Any) -> FluxGenerator:
    named, options, rest = _parts(model, {"setting": "FC_FACE_MODEL", **given})
    return FluxGenerator(named, options, **rest)


def _parts(model: str, given: dict[str, Any]) -> tuple[ModelNames, Options, dict[str, Any]]:
    named = {name: given.pop(name) for name in _NAMES & given.keys()}
    options = {name: given.pop(name) for name in _OPTIONS & given.keys()}
    return names(model, **named), Options(**options), given
