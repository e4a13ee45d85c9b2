"""Every setting of face-changer, read from the environment and from `.env`.

A variable that is set in the environment wins over `.env`.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from imaging.errors import SettingsError
from resources.sections import RecipeDefaults

PROJECT_ROOT = Path(__file__).resolve().parent.parent
ENV_FILES = (PROJECT_ROOT / ".env", Path(".env"))  # the later one wins; Dagster's own commands read the second


def dagster_home() -> Path:
    """The Dagster home: `DAGSTER_HOME`, or the folder of the project itself, which holds `dagster.yaml`."""
    named = os.environ.get("DAGSTER_HOME")
    for file in () if named else ENV_FILES:
        named = dotenv_values(file).get("DAGSTER_HOME") or named
    return Path(named or PROJECT_ROOT).expanduser().resolve()


def environment() -> dict[str, str]:
    """This process's environment, completed from `.env`: what a child needs to see the same settings anywhere."""
    found: dict[str, str] = {}
    for file in ENV_FILES:
        found |= {name: value for name, value in dotenv_values(file).items() if value is not None}
    return found | os.environ


def _hosts(value: object) -> object:
    hosts = [part.strip().lower() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    for host in hosts if isinstance(hosts, list) else ():
        if not re.fullmatch(r"((\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:\d{1,5})?", str(host)):
            raise ValueError(f"{host} is no host: give names or addresses, such as faces.example.org or [fd00::1]")
    return hosts


class Settings(RecipeDefaults, BaseSettings):
    """The settings, one field per environment variable `FC_<NAME>` (the two Anthropic ones keep their own names).

    What belongs to the installation stands here; the defaults for recipes are inherited.
    """

    model_config = SettingsConfigDict(
        frozen=False,
        env_prefix="FC_",
        env_file=ENV_FILES,
        env_file_encoding="utf-8",
        extra="ignore",
        env_ignore_empty=True,
    )

    data_dir: str = Field(
        "",
        description=(
            "Image store: a folder, or an fsspec URL (s3://bucket/prefix needs s3fs). "
            "Default: data/ in the Dagster home."
        ),
        examples=["/srv/face-changer/data"],
    )
    database_url: SecretStr = Field(
        SecretStr(""),
        description="Queue and records: SQLite, or Postgres as postgresql://... Default: SQLite in the Dagster home.",
        examples=["postgresql://user:password@127.0.0.1:5432/face_changer"],
    )
    inbox: Path | None = Field(
        None,
        description="Folder in which a dropped JSON, JSONL, YAML or CSV file becomes jobs. Default: none.",
        examples=["/srv/face-changer/inbox"],
    )
    inbox_template: Path | None = Field(
        None,
        description="Request file whose fields every photo takes that is dropped into FC_INBOX. Default: none.",
        examples=["/srv/face-changer/photo.yaml"],
    )
    source_roots: Annotated[list[Path], NoDecode] = Field(
        default_factory=list,
        description=f"Folders from which source images may be read, separated by '{os.pathsep}'. Default: anywhere.",
        examples=[os.pathsep.join(["/srv/photos", "/home/me/pictures"])],
    )
    source_urls: bool = Field(
        False,  # noqa: FBT003
        description=(
            "Whether source images may be fetched from http(s) URLs; only public addresses are. See docs/security.md."
        ),
    )
    allowed_hosts: Annotated[list[str], NoDecode, BeforeValidator(_hosts)] = Field(
        default_factory=list,
        description=(
            "Names under which the web UI may be opened besides localhost and the address it listens on, separated by "
            "','; *.NAME for all below it. A proxy needs it. See docs/security.md."
        ),
        examples=["faces.example.org,*.lan.example.org,backup.example.org:8443"],
    )
    batch_size: int = Field(
        64, ge=1, le=256, description="Most jobs that one run carries; fewer let an urgent job in sooner."
    )
    max_attempts: int = Field(3, ge=1, le=20, description="How often a job may kill its run, alone in it.")
    service_attempts: int = Field(
        6,
        ge=1,
        le=50,
        description=(
            "How often a job is tried whose service is busy, down or too slow; the waits grow: 10 s, 20 s, 40 s ..."
        ),
    )
    memory_attempts: int = Field(
        2,
        ge=1,
        le=20,
        description="How often a job is tried for which the device's memory is too short; alone, a minute later.",
    )
    stage_timeout: float = Field(600.0, gt=0, description="Seconds that one job may spend in one stage.")
    image_timeout: float = Field(300.0, gt=0, description="Seconds that one image may take in the generator.")
    redis_url: SecretStr = Field(
        SecretStr(""),
        description=(
            "Many machines: the Redis that hands runs to `fc worker`, see docs/operations.md; over TLS as rediss://..."
        ),
        examples=["redis://127.0.0.1:6379/0"],
    )
    worker_silence: float = Field(
        60.0, ge=3, description="Seconds without a sign of life after which a worker's run counts as lost."
    )
    keep_days: int = Field(
        30,
        ge=0,
        le=36500,
        description=(
            "Days after its end for which a job keeps its partition in the Dagster UI; its records and images stay."
        ),
    )
    keep_jobs: int = Field(
        5000, ge=0, description="Most finished jobs that keep their partition, the newest; those beyond either leave."
    )
    keep_log_days: int = Field(
        14,
        ge=0,
        le=36500,
        description="Days after its end for which a run keeps its log lines in Dagster; materializations always stay.",
    )

    sdxl_model: str = Field(
        "",
        description="SDXL checkpoint: Hub id, folder in diffusers format, or single .safetensors file.",
        examples=["stabilityai/stable-diffusion-xl-base-1.0"],
    )
    sdxl_revision: str = Field("", description="Branch, tag or commit of a Hub id; empty: main.")
    sdxl_config: str = Field(
        "stabilityai/stable-diffusion-xl-base-1.0",
        description="Configs and tokenizers for a single file: Hub id or diffusers folder; its weights are not used.",
    )
    sdxl_vae: str = Field(
        "",
        description="Another VAE: Hub id, diffusers folder, or single .safetensors file.",
        examples=["madebyollin/sdxl-vae-fp16-fix"],
    )
    sdxl_loras: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="LoRAs, separated by ';': file, Hub id, or name in FC_LORA_DIR, then =WEIGHT when it is not 1.",
        examples=["/models/style.safetensors=0.8;owner/name=0.5;film-grain"],
    )
    lora_dir: Path | None = Field(
        None,
        description="Folder in which LoRAs are looked up by name, at any depth: STYLE, or <lora:STYLE:0.8>.",
        examples=["/models/loras"],
    )
    sdxl_embeddings: Annotated[list[Path], NoDecode] = Field(
        default_factory=list,
        description=f"Textual inversions, .safetensors files separated by '{os.pathsep}'; a file's name is its word.",
        examples=[os.pathsep.join(["/models/zPDXL.safetensors", "/models/other.safetensors"])],
    )
    sdxl_clip_skip: int = Field(2, ge=1, le=12, description="Clip skip as A1111 counts; 2 is what SDXL was made with.")
    sdxl_device: str = Field("auto", description="auto, cuda, mps or cpu.")
    sdxl_dtype: str = Field("auto", description="auto (bfloat16 on cuda, else float32), or a torch dtype.")
    sdxl_batch_size: int = Field(8, ge=1, le=64, description="Most images that one pipeline call makes.")
    sdxl_compile: Literal["off", "default", "max"] = Field(
        "off", description="torch.compile: off; default; max: slower to start, fastest after."
    )
    model_memory: float = Field(
        0.0, ge=0, description="GiB that loaded models may take on the device; 0: as much as there is."
    )
    forge_url: str = Field(
        "", description="Address of a Forge or A1111 server with --api.", examples=["http://127.0.0.1:7860"]
    )
    forge_auth: SecretStr = Field(SecretStr(""), description="user:password of --api-auth.")
    forge_model: str = Field("", description="Checkpoint to use, by its title or name there; empty: the loaded one.")
    forge_distilled_cfg: float = Field(
        0.0, ge=0, le=30, description="Distilled CFG scale of Flux on Forge; 0: the server's own, 3.5."
    )
    comfyui_url: str = Field("", description="Address of a ComfyUI server.", examples=["http://127.0.0.1:8188"])
    comfyui_auth: SecretStr = Field(
        SecretStr(""), description="user:password, or Bearer TOKEN, of a log-in before ComfyUI."
    )
    comfyui_workflow: Path | None = Field(
        None,
        description="Workflow of the scene: JSON in API format, inputs marked.",
        examples=["/srv/workflows/scene.json"],
    )
    comfyui_face_workflow: Path | None = Field(
        None, description="Workflow of the face pass.", examples=["/srv/workflows/face.json"]
    )
    comfyui_pack: Path | None = Field(
        None,
        description="Pack: JSON that lists the models and nodes that are needed.",
        examples=["/srv/workflows/pack.json"],
    )

    anthropic_api_key: SecretStr = Field(
        SecretStr(""), validation_alias="ANTHROPIC_API_KEY", description="Key for Claude."
    )
    anthropic_base_url: str = Field(
        "", validation_alias="ANTHROPIC_BASE_URL", description="Another address of the API."
    )
    claude_model: str = Field("claude-sonnet-5-5", description="Model that writes prompts and descriptions.")
    claude_timeout: float = Field(60.0, gt=0, description="Seconds for one request to Claude.")
    claude_max_retries: int = Field(4, ge=0, le=20, description="Further tries when Claude is busy or not reached.")

    yunet_model: Path | None = Field(
        None,
        description="The face_detection_yunet_2023mar.onnx file of opencv_zoo (MIT).",
        examples=["/srv/models/face_detection_yunet_2023mar.onnx"],
    )
    sface_model: Path | None = Field(
        None,
        description="The face_recognition_sface_2021dec.onnx file of opencv_zoo (Apache-2.0).",
        examples=["/srv/models/face_recognition_sface_2021dec.onnx"],
    )

    @classmethod
    def named(cls, field: str) -> str:
        """The environment variable of a field."""
        alias = cls.model_fields[field].validation_alias
        return alias if isinstance(alias, str) else f"FC_{field.upper()}"

    @field_validator("sdxl_loras", mode="before")
    @classmethod
    def _split_loras(cls, value: object) -> object:
        return [part.strip() for part in value.split(";") if part.strip()] if isinstance(value, str) else value

    @field_validator("source_roots", "sdxl_embeddings", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        if isinstance(value, str):
            return [part for part in value.split(os.pathsep) if part]
        return value

    @field_validator(
        "inbox",
        "inbox_template",
        "yunet_model",
        "sface_model",
        "lora_dir",
        "source_roots",
        "sdxl_embeddings",
        "comfyui_workflow",
        "comfyui_face_workflow",
        "comfyui_pack",
    )
    @classmethod
    def _absolute(cls, value: Path | list[Path] | None) -> Path | list[Path] | None:
        if isinstance(value, list):
            return [_absolute(path).resolve() for path in value]
        return value and _absolute(value)

    @field_validator("data_dir")
    @classmethod
    def _absolute_or_url(cls, value: str) -> str:
        return value if not value or "://" in value else str(_absolute(Path(value)))

    @field_validator("database_url")
    @classmethod
    def _absolute_file(cls, value: SecretStr) -> SecretStr:
        file = re.match(r"sqlite[^:]*:///([^?]+)", value.get_secret_value())
        if file and file[1] != ":memory:":
            _absolute(Path(file[1]))
        return value

    @property
    def resolved_data_dir(self) -> str:
        """The image store's address: `FC_DATA_DIR`, or `data` in the Dagster home."""
        return self.data_dir or str(dagster_home() / "data")

    @property
    def resolved_database_url(self) -> str:
        """The database's SQLAlchemy URL; it may carry a password, so never log it."""
        return self.database_url.get_secret_value() or f"sqlite:///{dagster_home() / 'data' / 'face-changer.sqlite'}"


def _absolute(path: Path) -> Path:
    """The path with `~` resolved. A relative one would be another place for each process, so it is refused."""
    path = path.expanduser()
    if not path.is_absolute():
        raise ValueError(f"{path} is a relative path; give the whole path, from the root")
    return path


def _variable(field: str) -> str:
    return field if field.isupper() else f"FC_{field.upper()}"


def load_settings() -> Settings:
    """The settings as they are now; read anew only when the environment or a `.env` has changed.

    Raises:
        SettingsError: names each variable that cannot be used, and why.
    """
    return _read(*environment_state())


def environment_state() -> tuple[tuple[tuple[str, str], ...], tuple[object, ...]]:
    """What the settings are read from, as it is now: equal as long as none of them can have changed."""
    names = ("FC_", "ANTHROPIC_", "HOME")
    variables = tuple(sorted(item for item in os.environ.items() if item[0].upper().startswith(names)))
    return variables, tuple(_state(file) for file in (*ENV_FILES, Settings.model_config.get("env_file")))


def problems_of(error: ValidationError) -> str:
    """Each variable that cannot be used, and why."""
    lines = [
        f"{_variable(str(problem['loc'][0]))}: {problem['msg']}" if problem["loc"] else problem["msg"]
        for problem in error.errors(include_input=False)
    ]
    return "; ".join(lines)


def _state(file: object) -> object:
    """What changes when a file does."""
    if not isinstance(file, str | Path) or not Path(file).is_file():
        return file
    stat = Path(file).resolve().stat()
    return Path(file).resolve(), stat.st_mtime_ns, stat.st_size, stat.st_ino


@lru_cache(maxsize=4)
def _read(_variables: tuple[tuple[str, str], ...], _files: tuple[object, ...]) -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(
            f"These settings cannot be used: {problems_of(error)}.",
            "Correct them in the environment or in .env; .env.example explains each.",
        ) from None
