"""A job's recipe: every value that decides its pictures, whole, in sections, each with where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imaging.errors import RejectedError
from jobs.recipes.sections import DEFAULTS, SECTION_OF, SECTIONS, Checks, FacePass, Output, Sampling, Scene
from resources.generators.base import ModelChoice
from resources.sections import Faces, Mask, RecipeDefaults, Section, Words
from resources.settings import Settings

REQUEST: Final = "request"
SETTINGS: Final = "settings"
DEFAULT: Final = "default"
_INSTALLATION: Final = (SETTINGS, DEFAULT)
INSTALLED: Final = tuple(one.name for one in dataclass_fields(ModelChoice) if one.name in SECTION_OF)
"""The fields of which None means: what the settings of the back end name."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A partial recipe: what a request, a style, a character or a preset says, by flat name; and what it is called."""

    name: str
    values: Mapping[str, Any]


class Recipe(BaseModel):
    """All that decides a job's pictures.

    Attributes:
        prompt_loras: LoRAs that the scene's prompt names by `<lora:name:weight>`, as `NAME=WEIGHT`.
        face_prompt_loras: those of the face prompt; of the scene's where there is none.
        sources: where a value came from, by flat name: `request`, another layer's name, or `settings`; what is missing
            is the product's default.
    """

    model_config = ConfigDict(frozen=True)

    scene: Scene = Scene()
    sampling: Sampling = Sampling()
    faces: Faces = Faces()
    mask: Mask = Mask()
    face_pass: FacePass = FacePass()
    checks: Checks = Checks()
    words: Words = Words()
    output: Output = Output()
    prompt_loras: tuple[str, ...] = ()
    face_prompt_loras: tuple[str, ...] = ()
    sources: dict[str, str] = Field(default_factory=dict)

    def source(self, field: str) -> str:
        """Where the value of a field came from."""
        return self.sources.get(field, DEFAULT)

    def value(self, field: str) -> Any:  # noqa: ANN401 - a field's value
        """The value of a field, by its flat name."""
        return getattr(getattr(self, SECTION_OF[field]), field)

    def own(self, field: str) -> Any:  # noqa: ANN401 - a field's value
        """The value of a field if the job itself says it; None where the installation does.

        What belongs to an installation, such as a back end or a checkpoint, may be another one on each machine, so it
        is read from the settings of the machine that uses it.
        """
        return None if self.source(field) in _INSTALLATION else self.value(field)

    def over_settings(self) -> dict[str, Any]:
        """The fields of `Settings` that the job itself says otherwise."""
        return {name: self.value(name) for name in RecipeDefaults.model_fields if self.own(name) is not None}

    def model(self) -> ModelChoice:
        """What the job says of the model of its scene."""
        return self._choice(self.sampling.checkpoint, self.prompt_loras)

    @property
    def has_face_model(self) -> bool:
        """Whether the faces are made by another model than the scene."""
        return bool(self.face_pass.face_model)

    def face_model(self) -> ModelChoice:
        """What the job says of the model of its face pass."""
        checkpoint = self.own("face_model") if self.has_face_model else self.sampling.checkpoint
        return self._choice(checkpoint, self.face_prompt_loras)

    def _choice(self, checkpoint: str | None, more_loras: tuple[str, ...]) -> ModelChoice:
        own = self.sampling
        return ModelChoice(
            checkpoint=checkpoint,
            revision=own.revision if checkpoint == own.checkpoint else None,
            vae=own.vae,
            loras=None if own.loras is None else tuple(own.loras),
            embeddings=None if own.embeddings is None else tuple(own.embeddings),
            clip_skip=own.clip_skip,
            more_loras=more_loras,
        )


def resolve(
    layers: Sequence[Layer],
    settings: Settings,
    *,
    prompt_loras: Sequence[str] = (),
    face_prompt_loras: Sequence[str] = (),
) -> Recipe:
    """The recipe that partial recipes and the settings give together.

    Args:
        layers: the strongest first: request, style, character, preset. A value of None says nothing.
        settings: the installation's defaults.
        prompt_loras: those that the scene's prompt names.
        face_prompt_loras: those that the face prompt names.

    Raises:
        RejectedError: values that cannot be together, or a layer's value that cannot be; names the field.
    """
    installed = _installed(settings)
    sources = dict(installed.sources)
    changed: dict[str, dict[str, Any]] = {}
    for layer in reversed(layers):
        for field, value in layer.values.items():
            if value is not None:
                changed.setdefault(SECTION_OF[field], {})[field] = value
                sources[field] = layer.name
    made = {name: _section(name, vars(getattr(installed, name)) | fields, sources) for name, fields in changed.items()}
    said = {"prompt_loras": tuple(prompt_loras), "face_prompt_loras": tuple(face_prompt_loras), "sources": sources}
    return installed.model_copy(update=made | said)


def _installed(settings: Settings) -> Recipe:
    """What holds when nobody says anything; worked out once for the newest settings."""
    global _newest  # noqa: PLW0603 - one for the process; each is whole when it is put there
    known = _newest
    if known is not None and known[0] is settings:
        return known[1]
    sources = {name: SETTINGS for name in RecipeDefaults.model_fields if name in settings.model_fields_set}
    own = {name: getattr(settings, name) for name in RecipeDefaults.model_fields}
    values = {
        name: {field: own.get(field, DEFAULTS[field]) for field in SECTIONS[name].model_fields} for name in SECTIONS
    }
    recipe = Recipe(
        **{name: _section(name, fields, sources) for name, fields in values.items()},
        sources=sources,
    )
    _newest = (settings, recipe)
    return recipe


_newest: tuple[Settings, Recipe] | None = None


def _section(name: str, fields: Mapping[str, Any], sources: Mapping[str, str]) -> Section:
    try:
        return SECTIONS[name].model_validate(fields)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(map(str, problem["loc"]))
        said = str(problem["msg"]).removeprefix("Value error, ")
        where = f" (from {sources[field]})" if field in sources else ""
        raise RejectedError(f"{field}{': ' if field else ''}{said}{where}.", "Correct these values.") from None
