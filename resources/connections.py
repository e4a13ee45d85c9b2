"""The Dagster resources: each hands out one connection, store or back end, opened once per process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

import dagster as dg
from pydantic import Field

from resources.artifacts.io_manager import StageIOManager
from resources.choose import make_detector, make_encoder, make_face_generator, make_generator, make_writer
from resources.database import Database, open_database
from resources.detectors.base import Detector
from resources.encoders.base import FaceEncoder
from resources.generators.base import NOTHING_CHOSEN, Generator, ModelChoice
from resources.plugins import Kind, choices
from resources.settings import Settings, environment_state, load_settings
from resources.store.image_store import ImageStore
from resources.writers.base import Writer

T = TypeVar("T")

NO_FIELDS: Final[Mapping[str, Any]] = MappingProxyType({})
MOST_BACK_ENDS: Final = 8  # of one kind, for jobs that choose their own; a model that is loaded is kept elsewhere

_opened: dict[tuple[str, ...], Any] = {}
_made: dict[Kind, tuple[Hashable, OrderedDict[Hashable, Any]]] = {}
_lock = threading.Lock()


def _once(key: tuple[str, ...], make: Callable[[], T]) -> T:
    """What was made under this key in this process; made now when it is the first time."""
    with _lock:
        if key not in _opened:
            _opened[key] = make()
        found: T = _opened[key]
        return found


def _recent(kind: Kind, key: Hashable, make: Callable[[], T]) -> T:
    """What was made under this key for the settings as they are now; made now when it is not among the latest ones.

    What was made for other settings is let go of. It is not closed: who uses it still has it.
    """
    state = environment_state()
    with _lock:
        if kind not in _made or _made[kind][0] != state:
            _made[kind] = (state, OrderedDict())
        known = _made[kind][1]
        if key not in known:
            known[key] = make()
        known.move_to_end(key)
        if len(known) > MOST_BACK_ENDS:
            known.popitem(last=False)
        found: T = known[key]
        return found


def _settings(kind: Kind, backend: str) -> Settings:
    """The settings, with the back end that a resource was configured with."""
    settings = load_settings()
    return settings.model_copy(update={kind: backend}) if backend else settings


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
    """The back end that makes images: a model on the GPU, a server, or the embedded painter."""

    backend: str = Field(default="", description=f"{choices('generator')}; empty: FC_GENERATOR.")

    def get(self, name: str | None = None, choice: ModelChoice = NOTHING_CHOSEN) -> tuple[Generator, str]:
        """The generator of the scene, and why it is this one; `name` and `choice` are a job's own."""
        settings = _settings("generator", self.backend)
        return _recent("generator", (self.backend, name, choice), lambda: make_generator(settings, choice, name))

    def for_faces(
        self,
        name: str | None = None,
        choice: ModelChoice = NOTHING_CHOSEN,
        *,
        own_model: bool | None = None,
        over: Mapping[str, Any] = NO_FIELDS,
    ) -> tuple[Generator, str]:
        """The generator of the face pass, and why it is this one; the arguments are a job's own: `make_face_generator`.

        `over` holds fields of the settings that the job says otherwise, such as `face_size`. A generator that makes
        faces as it makes scenes is the same object for both.
        """
        settings = _settings("generator", self.backend).model_copy(update=dict(over))
        if not over and (own_model is False or (own_model is None and not settings.face_model)):
            return self.get(name, choice)
        key = ("faces", self.backend, name, choice, own_model, tuple(sorted(over.items())))
        return _recent("generator", key, lambda: make_face_generator(settings, choice, name, own_model=own_model))


class WriterResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The back end that writes prompts and descriptions: Claude, or rules and measurements."""

    backend: str = Field(default="", description=f"{choices('writer')}; empty: FC_WRITER.")

    def get(self, name: str | None = None) -> tuple[Writer, str]:
        """The writer, and why it is this one; `name` is a job's own."""
        settings = _settings("writer", self.backend)
        return _recent("writer", (self.backend, name), lambda: make_writer(settings, name))


class EncoderResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The back end that tells whether two faces are one person's; there is none unless FC_SFACE_MODEL is set."""

    def get(self) -> tuple[FaceEncoder | None, str]:
        """The face encoder, and why it is this one."""
        return _recent("encoder", None, lambda: make_encoder(load_settings()))


class DetectorResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The back end that finds faces."""

    backend: str = Field(default="", description=f"{choices('detector')}; empty: FC_DETECTOR.")

    def get(self, name: str | None = None, confidence: float | None = None) -> tuple[Detector, str]:
        """The detector, and why it is this one; `name` and `confidence` are a job's own."""
        settings = _settings("detector", self.backend)
        if confidence is not None:
            settings = settings.model_copy(update={"detector_confidence": confidence})
        return _recent("detector", (self.backend, name, confidence), lambda: make_detector(settings, name))
