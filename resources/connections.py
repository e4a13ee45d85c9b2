"""The Dagster resources: each hands out one connection, store or back end, opened once per process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import dagster as dg
from pydantic import Field

from resources.artifacts.io_manager import StageIOManager
from resources.database import Database, open_database
from resources.detectors.base import Detector
from resources.detectors.select import make_detector
from resources.encoders.base import FaceEncoder
from resources.encoders.select import make_encoder
from resources.generators.base import Generator
from resources.generators.select import make_face_generator, make_generator
from resources.settings import Settings, load_settings
from resources.store.image_store import ImageStore
from resources.writers.base import Writer
from resources.writers.select import make_writer

T = TypeVar("T")

_opened: dict[tuple[str, ...], Any] = {}
_newest: dict[str, tuple[str, Any]] = {}
_lock = threading.Lock()


def _once(key: tuple[str, ...], make: Callable[[], T]) -> T:
    """What was made under this key in this process; made now when it is the first time."""
    with _lock:
        if key not in _opened:
            _opened[key] = make()
        found: T = _opened[key]
        return found


def _once_per_settings(kind: str, settings: Settings, make: Callable[[], T]) -> T:
    """What was made for these settings; a process that lives long lets go of what it made for those before."""
    key = _settings_key(settings)
    with _lock:
        if kind not in _newest or _newest[kind][0] != key:
            _newest[kind] = (key, make())
        found: T = _newest[kind][1]
        return found


def _settings_key(settings: Settings) -> str:
    return repr(sorted(settings.model_dump(mode="json").items())) + str(hash(settings.anthropic_api_key))


class StoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The image store."""

    root: str = Field(default="", description="A folder or an fsspec URL; empty: FC_DATA_DIR.")

    def get(self) -> ImageStore:
        """The open store."""
        root = self.root or load_settings().resolved_data_dir
        return _once(("store", root), lambda: ImageStore(root))


class StageIOManagerResource(dg.ConfigurableIOManagerFactory):  # type: ignore[type-arg]
    """Values of stages to and from the image store."""

    root: str = Field(default="", description="A folder or an fsspec URL; empty: FC_DATA_DIR.")

    def create_io_manager(self, context: dg.InitResourceContext) -> StageIOManager:  # noqa: ARG002
        """The IO manager over the open store."""
        return StageIOManager(StoreResource(root=self.root).get())


class DatabaseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The face-changer database. Its address may hold a password, so it comes from FC_DATABASE_URL alone."""

    def get(self) -> Database:
        """The open database, its schema up to date."""
        url = load_settings().resolved_database_url
        return _once(("database", url), lambda: open_database(url))


class GeneratorResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The back end that makes images: SDXL on the GPU, a Forge or ComfyUI server, or the embedded painter."""

    backend: str = Field(
        default="", description="auto, sdxl, forge, comfyui, sketch or package.module:Class; empty: FC_GENERATOR."
    )

    def get(self) -> tuple[Generator, str]:
        """The generator, and why it is this one."""
        settings = self._settings()
        return _once_per_settings("generator", settings, lambda: make_generator(settings))

    def for_faces(self) -> tuple[Generator, str]:
        """The generator of the face pass, and why it is this one."""
        settings = self._settings()
        if not settings.face_model:
            return self.get()
        return _once_per_settings("face generator", settings, lambda: make_face_generator(settings))

    def _settings(self) -> Settings:
        settings = load_settings()
        return settings.model_copy(update={"generator": self.backend}) if self.backend else settings


class WriterResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The back end that writes prompts and descriptions: Claude, or rules and measurements."""

    backend: str = Field(default="", description="auto, claude, offline or package.module:Class; empty: FC_WRITER.")

    def get(self) -> tuple[Writer, str]:
        """The writer, and why it is this one."""
        settings = load_settings()
        if self.backend:
            settings = settings.model_copy(update={"writer": self.backend})
        return _once_per_settings("writer", settings, lambda: make_writer(settings))


class EncoderResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The back end that tells whether two faces are one person's; there is none unless FC_SFACE_MODEL is set."""

    def get(self) -> tuple[FaceEncoder | None, str]:
        """The face encoder, and why it is this one."""
        settings = load_settings()
        return _once_per_settings("encoder", settings, lambda: make_encoder(settings))


class DetectorResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The back end that finds faces."""

    backend: str = Field(default="", description="auto, yunet, haar or package.module:Class; empty: FC_DETECTOR.")

    def get(self) -> tuple[Detector, str]:
        """The detector, and why it is this one."""
        settings = load_settings()
        if self.backend:
            settings = settings.model_copy(update={"detector": self.backend})
        return _once_per_settings("detector", settings, lambda: make_detector(settings))
