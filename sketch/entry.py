"""The painter, as the registry of back ends knows it."""

from __future__ import annotations

from typing import Final

from resources.backends import BackEnd
from resources.generators.base import Generator, ModelChoice
from resources.settings import Settings


def _sketch(_settings: Settings, _choice: ModelChoice) -> Generator:
    from sketch.generator import SketchGenerator

    return SketchGenerator()


BACK_END: Final = BackEnd[Generator](
    kind="generator",
    name="sketch",
    about="the embedded painter, without a model; it says so in metadata, PNG and description",
    make=_sketch,
    last_resort="no model makes these pictures",
    trained=False,
)
