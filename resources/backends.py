"""What a back end says of itself, and the registry of those that are installed.

A back end is a class with the methods of `resources/*/base.py`, and one `BackEnd` that an entry point names, in the
group `face_changer.generators`, `.writers`, `.detectors`, `.encoders` or `.editors`. Nothing else knows its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from imaging.errors import SettingsError
from resources.generators.base import ModelChoice
from resources.plugins import KINDS, Kind, choices, declared, is_dotted_path, load_plugin, package_of
from resources.settings import Settings, problems_of

T_co = TypeVar("T_co", covariant=True)

Place = Literal["gpu", "network", "cpu"]
Level = Literal["OK", "WARN", "FAIL"]


class BackEndSettings(BaseSettings):
    """Settings of a back end's own: one variable `FC_<NAME>` per field, from the environment and `.env`."""

    model_config = SettingsConfigDict(env_prefix="FC_", extra="ignore", env_ignore_empty=True, frozen=True)

    @classmethod
    def named(cls, field: str) -> str:
        """The environment variable of a field."""
        return f"FC_{field.upper()}"

    @classmethod
    def read(cls) -> Self:
        """The settings as they are now.

        Raises:
            SettingsError: names each variable that cannot be used, and why.
        """
        try:
            return cls(_env_file=Settings.model_config.get("env_file"))
        except ValidationError as error:
            raise SettingsError(
                f"These settings cannot be used: {problems_of(error)}.", "Correct them in the environment or in .env."
            ) from None


@dataclass(frozen=True, slots=True)
class Published:
    """A model file that everybody can fetch: its address, and its SHA-256."""

    url: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What an inspection found; `hint` says what to do when it is not OK."""

    level: Level
    found: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `fc doctor` asks of a back end.

    Attributes:
        name: of the check, as `fc doctor` prints it.
        inspect: called with the settings, and with whether these use the back end. None: there is nothing to say. An
            error that it raises is the finding.
    """

    name: str
    inspect: Callable[[Settings, bool], Finding | None]


@dataclass(frozen=True, kw_only=True)
class BackEnd(Generic[T_co]):
    """One back end.

    Attributes:
        kind: what it does.
        name: as the settings, the requests and the records write it; that of its entry point.
        about: what it is, in one line without a final period.
        make: makes the object with the methods of `resources/*/base.py`; nothing is loaded into a GPU yet, and no
            server is asked. The choice is a job's own model, for generators with `chooses_model`.
        place: where the work is done. Runs whose generators need no GPU go to the queue `cpu`.
        key: the field of its settings without which it cannot work; empty: it needs none.
        rank: `auto` takes the first by rank whose key is set; None: `auto` never takes it.
        last_resort: what is lost by it, in words; `auto` takes it when it can take no other. None: it is none.
        settings: the fields of `Settings` that are its own.
        own_settings: a class of settings of its own, so that `Settings` need not know them.
        chooses_model: whether a job may choose its model, in place of the settings.
        trained: False for rules and formulas: what they make is not called the work of a model.
        published: the model file that the key names, and that `fc models pull NAME` fetches.
        inspection: its check in `fc doctor`.
        for_faces: the same back end for the face pass alone, over another model, when its own key is set.
    """

    kind: Kind
    name: str
    about: str
    make: Callable[[Settings, ModelChoice], T_co]
    place: Place = "cpu"
    key: str = ""
    rank: int | None = None
    last_resort: str | None = None
    settings: tuple[str, ...] = ()
    own_settings: type[BackEndSettings] | None = None
    chooses_model: bool = False
    trained: bool = True
    published: Callable[[], Published] | None = None
    inspection: Inspection | None = None
    for_faces: BackEnd[T_co] | None = None

    def __post_init__(self) -> None:
        if self.rank is not None and not self.key:
            raise ValueError(f"{self.kind} {self.name}: a rank without a key would be taken always")

    @property
    def purpose(self) -> str:
        """What its model file is for, in words."""
        return f"face {self.kind}" if self.kind in ("detector", "encoder") else self.kind

    @property
    def variable(self) -> str:
        """The environment variable of the key."""
        own = self.own_settings
        return (own if own and self.key in own.model_fields else Settings).named(self.key)

    def value(self, settings: Settings) -> object:
        """What its key is set to; a secret without its cover."""
        own = self.own_settings
        value = getattr(own.read() if own and self.key in own.model_fields else settings, self.key)
        return value.get_secret_value().strip() if isinstance(value, SecretStr) else value

    def is_ready(self, settings: Settings) -> bool:
        """Whether its key is set, or it needs none."""
        return not self.key or bool(self.value(settings))


def find(kind: Kind, name: str, asked: str) -> BackEnd[Any]:
    """The back end of this name, or behind this dotted path, which is imported only when it is made.

    Args:
        kind: what it must do.
        name: as it was named.
        asked: where it was named, for messages: `FC_DETECTOR`, or a field of a request.

    Raises:
        SettingsError: there is none, or its package cannot be used.
    """
    if is_dotted_path(name):
        return BackEnd(
            kind=kind,
            name=name,
            about="named by its path",
            make=lambda settings, _choice: load_plugin(name, asked)(settings),
            place="gpu" if kind == "generator" else "cpu",
        )
    entry = declared(kind).get(name)
    if entry is None:
        article = "an" if kind[0] in "aeiou" else "a"
        raise SettingsError(f"{asked}={name!r} is not {article} {kind}.", f"Use {choices(kind)}.")
    return _load(kind, entry)


def entries(kind: Kind) -> list[BackEnd[Any]]:
    """Every installed back end of a kind: those that `auto` may take first, in its order; the last resort last.

    Raises:
        SettingsError: the package of one of them cannot be used.
    """
    found = [_load(kind, entry) for entry in declared(kind).values()]
    return sorted(found, key=lambda one: (one.last_resort is not None, one.rank is None, one.rank or 0, one.name))


def is_trained(generator: str) -> bool:
    """Whether a model was trained for what this generator makes; True for one that is not known by this name."""
    entry = declared("generator").get(generator)
    return entry is None or _load("generator", entry).trained


def published() -> Mapping[str, BackEnd[Any]]:
    """The back ends that have a model file to fetch, by name.

    Raises:
        SettingsError: the package of a back end cannot be used.
    """
    return {one.name: one for kind in KINDS for one in entries(kind) if one.published is not None}


@cache
def _load(kind: Kind, entry: EntryPoint) -> BackEnd[Any]:
    where = f"The {kind} {entry.name} of the package {package_of(entry)}"
    try:
        found = entry.load()
    except Exception as error:  # an import may fail in any way
        raise SettingsError(
            f"{where} cannot be loaded ({type(error).__name__}: {error}).", "Correct that package, or uninstall it."
        ) from error
    if not isinstance(found, BackEnd) or (found.kind, found.name) != (kind, entry.name):
        raise SettingsError(f"{where}: {entry.value} is no BackEnd of this kind and name.", "Correct that package.")
    return found
