"""What the generators on diffusers are told: how they run, and which model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from imaging.errors import SettingsError
from resources.generators.base import NOTHING_CHOSEN, ModelChoice
from resources.models.names import FACE_SETTING, ModelNames
from resources.settings import Settings

Setting = Literal["FC_SDXL_MODEL", "FC_FACE_MODEL"]
"""The variable that names a generator's checkpoint, if the job does not."""

Device = Literal["auto", "cuda", "mps", "cpu"]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a generator runs, whatever its model.

    Attributes:
        device: `auto` is cuda, else mps, else cpu.
        dtype: what it computes in; `auto` is bfloat16 on cuda, else float32.
        compile_mode: torch.compile: `off`, `default` or `max`; SDXL alone.
        memory: GiB that all loaded models may take; 0: what the device has.
        image_timeout: seconds that one image may take.
        batch_size: most images that one pipeline call makes, 1 to 64.
        face_size: side of the face pass in pixels, a multiple of 8; 0: the model's own.

    Raises:
        SettingsError: names each variable whose value cannot be used.
    """

    device: str = "auto"
    dtype: str = "auto"
    compile_mode: str = "off"
    memory: float = 0.0
    image_timeout: float = 300.0
    batch_size: int = 8
    face_size: int = 0

    def __post_init__(self) -> None:
        problems = [
            f"{variable}={value}: it must be one of {', '.join(get_args(allowed))}"
            for variable, value, allowed in (
                ("FC_SDXL_DEVICE", self.device, Device),
                ("FC_SDXL_DTYPE", self.dtype, Dtype),
            )
            if value not in get_args(allowed)
        ]
        if self.face_size % 8:
            problems.append(f"FC_FACE_SIZE={self.face_size}: it must be a multiple of 8")
        if problems:
            raise SettingsError(
                f"These settings cannot be used: {'; '.join(problems)}.",
                "Correct them in the environment or in .env; .env.example explains each.",
            )

    @classmethod
    def from_settings(cls, settings: Settings) -> Options:
        """What the settings say; device, dtype and batch size are those of SDXL.

        Raises:
            SettingsError: names each variable whose value cannot be used.
        """
        return cls(
            device=settings.sdxl_device,
            dtype=settings.sdxl_dtype,
            compile_mode=settings.sdxl_compile,
            memory=settings.model_memory,
            image_timeout=settings.image_timeout,
            batch_size=settings.sdxl_batch_size,
            face_size=settings.face_size,
        )

    @property
    def budget(self) -> int | None:
        """Bytes that all loaded models may take; None: what the device has."""
        return int(self.memory * 2**30) or None


def model_names(
    settings: Settings, setting: Setting, hint: str, choice: ModelChoice = NOTHING_CHOSEN, generator: str = "sdxl"
) -> ModelNames:
    """The model that settings and a job name together.

    Args:
        settings: all settings; VAE, LoRAs and words are added to a model of the face pass too.
        setting: the variable that names the checkpoint. A revision can be set for `FC_SDXL_MODEL` only.
        hint: what may be put into that variable, for the error.
        choice: what the job says in place of the settings.
        generator: its name, for the error.

    Raises:
        SettingsError: neither names a checkpoint.
    """
    faces = setting == FACE_SETTING
    usual, revision = (settings.face_model, "") if faces else (settings.sdxl_model, settings.sdxl_revision)
    checkpoint = choice.checkpoint or usual
    if not checkpoint:
        raise SettingsError(f"{setting} is not set, and the generator {generator} needs a checkpoint.", hint)
    if choice.revision is not None or checkpoint != usual:
        revision = choice.revision or ""
    own = {field.name: getattr(choice, field.name) for field in fields(choice)}
    own = {name: value for name, value in own.items() if value is not None}
    values = {
        "vae": settings.sdxl_vae,
        "loras": tuple(settings.sdxl_loras),
        "embeddings": tuple(map(str, settings.sdxl_embeddings)),
        "clip_skip": settings.sdxl_clip_skip,
        **own,
        "checkpoint": checkpoint,
        "revision": revision,
    }
    return ModelNames(
        config=settings.sdxl_config, lora_dir=settings.lora_dir, setting=setting, own=frozenset(own), **values
    )
