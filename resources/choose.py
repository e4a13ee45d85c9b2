"""Which back ends the settings, or a job, ask for.

Each function gives what was made, and one sentence that says what was taken and why. `auto` takes the first that is
set up; a back end that is named is taken or refused, never replaced. Nothing is loaded into a GPU yet, and no server is
asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from imaging.errors import SettingsError
from resources.backends import BackEnd, Place, entries, find
from resources.detectors.base import Detector
from resources.encoders.base import FaceEncoder
from resources.generators.base import NOTHING_CHOSEN, Generator, ModelChoice
from resources.generators.choice import check_honoured
from resources.plugins import Kind
from resources.settings import Settings
from resources.writers.base import Writer

NAMED_BY: Final[dict[Kind, str]] = {"generator": "generator", "writer": "writer", "detector": "detector"}
"""The field of the settings, and of a request, that names the back end of a kind; an encoder is there or not."""


@runtime_checkable
class ImageServer(Protocol):
    """A generator behind a server that can be asked whether it is ready."""

    def check_server(self) -> str:
        """One sentence on the server.

        Raises:
            BackendError: it does not answer (`TransientError`), or lacks something that is asked for.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Taken:
    """A back end that was taken: why, and what named it, for messages."""

    entry: BackEnd[Any]
    why: str
    asked: str

    def make(self, settings: Settings, choice: ModelChoice = NOTHING_CHOSEN) -> Any:  # noqa: ANN401 - as `BackEnd.make`
        """The object itself, once it is known that it has what it needs."""
        entry = self.entry
        if entry.chooses_model:  # it looks for itself: a job's checkpoint may stand in for the key
            return entry.make(settings, choice)
        check_honoured(entry.name, frozenset(), choice)
        if not entry.is_ready(settings):
            raise SettingsError(f"{self.asked} is {entry.name}, but {entry.variable} is not set.", self._hint())
        return entry.make(settings, choice)

    def _hint(self) -> str:
        if self.entry.published is not None:
            return f"Run: fc models pull {self.entry.name} --save"
        last = _last_resort(entries(self.entry.kind))
        return f"Set {self.entry.variable}" + (f", or set {self.asked} to {last.name}." if last else ".")


def make_generator(
    settings: Settings, choice: ModelChoice = NOTHING_CHOSEN, name: str | None = None
) -> tuple[Generator, str]:
    """The generator of the scene.

    Args:
        settings: all settings; `FC_GENERATOR` names it.
        choice: what the job says of the model.
        name: the job's own generator, in place of that of the settings.

    Raises:
        SettingsError: an unknown name, a package that cannot be used, or settings that are missing or wrong.
    """
    taken = _generator(settings, name)
    return taken.make(settings, choice), f"{taken.entry.name}, {taken.why}."


def check_choice(settings: Settings, choice: ModelChoice, name: str | None = None) -> None:
    """Nothing when the generator of the scene can do what a job says of the model, as far as is known without a GPU.

    Raises:
        SettingsError: names the field that it cannot take; or as `make_generator`.
    """
    taken = _generator(settings, name)
    if choice.given() and (taken.entry.place == "network" or not taken.entry.chooses_model):
        taken.make(settings, choice)


def make_face_generator(
    settings: Settings,
    choice: ModelChoice = NOTHING_CHOSEN,
    name: str | None = None,
    *,
    own_model: bool | None = None,
) -> tuple[Generator, str]:
    """The generator of the face pass; it may be another back end than that of the scene.

    Args:
        settings: all settings.
        choice: what the job says of the model of the face pass.
        name: the job's own generator; None: that of the settings.
        own_model: whether the faces are made over a model of their own, that of `FC_FACE_MODEL` or of `choice`. None:
            as `FC_FACE_MODEL` says, unless the generator that is named makes faces as it makes scenes.

    Raises:
        SettingsError: as `make_generator`.
    """
    taken = _face_generator(settings, name, own_model=own_model, chosen=choice.checkpoint is not None)
    generator: Generator = taken.make(settings, choice)
    return generator, f"{generator.name}, {taken.why}."


def make_image_server(settings: Settings, name: str | None = None) -> ImageServer | None:
    """The generator of the scene, if it is one behind a server; its `check_server` says whether that is ready.

    Raises:
        SettingsError: as `make_generator`.
    """
    taken = _generator(settings, name)
    made = taken.make(settings) if taken.entry.place == "network" else None
    return made if isinstance(made, ImageServer) else None


def generator_place(settings: Settings, name: str | None = None) -> Place:
    """Where the generator of the scene works; it is not made.

    Raises:
        SettingsError: an unknown name, or a package that cannot be used.
    """
    return _generator(settings, name).entry.place


def face_generator_place(settings: Settings, name: str | None = None, *, own_model: bool | None = None) -> Place:
    """Where the generator of the face pass works; it is not made.

    Raises:
        SettingsError: an unknown name, or a package that cannot be used.
    """
    return _face_generator(settings, name, own_model=own_model).entry.place


def make_writer(settings: Settings, name: str | None = None) -> tuple[Writer, str]:
    """The writer that `FC_WRITER` or a job names.

    Raises:
        SettingsError: as `make_generator`.
    """
    taken = _named("writer", settings, name)
    return taken.make(settings), f"{taken.entry.name}, {taken.why}."


def make_detector(settings: Settings, name: str | None = None) -> tuple[Detector, str]:
    """The face detector that `FC_DETECTOR` or a job names.

    Raises:
        SettingsError: as `make_generator`; a model file that cannot be used.
        BackendError: this OpenCV ships no cascades.
    """
    taken = _named("detector", settings, name)
    return taken.make(settings), f"{taken.entry.name}, {taken.why}."


def make_encoder(settings: Settings, name: str | None = None) -> tuple[FaceEncoder | None, str]:
    """The first face encoder whose model is set, or the one of this name; None when there is none.

    Raises:
        SettingsError: an unknown name, or a model file that cannot be used.
    """
    if name is not None:
        taken = _Taken(find("encoder", name, "encoder"), "as the job says", "encoder")
    else:
        entry, why = _first("encoder", settings)
        if entry is None:
            return None, f"none, {why}, so nobody tells whose face it is."
        taken = _Taken(entry, why, "encoder")
    return taken.make(settings), f"{taken.entry.name}, {taken.why}."


def in_use(kind: Kind, settings: Settings) -> set[str]:
    """The names of the back ends of a kind that the settings use.

    Raises:
        SettingsError: they name one that is not there.
    """
    if kind == "generator":
        return {_generator(settings, None).entry.name, _face_generator(settings, None).entry.name}
    entry = _named(kind, settings, None).entry if kind in NAMED_BY else _first(kind, settings)[0]
    return {entry.name} if entry else set()


def _generator(settings: Settings, name: str | None) -> _Taken:
    return _named("generator", settings, name)


def _face_generator(
    settings: Settings, name: str | None, *, own_model: bool | None = None, chosen: bool = False
) -> _Taken:
    """The back end of the face pass; `chosen`: the job says which model it is over."""
    taken = _generator(settings, name)
    if own_model is None:
        own_model = bool(settings.face_model) and (name is None or taken.entry.for_faces is not None)
    if not own_model:
        return taken
    entry = taken.entry.for_faces or next((one.for_faces for one in entries("generator") if one.for_faces), None)
    if entry is None:
        raise SettingsError("No generator that is installed has a model for the faces alone.", "Leave face_model out.")
    return _Taken(entry, "as the job says" if chosen else f"as {entry.variable} is set", entry.variable)


def _named(kind: Kind, settings: Settings, name: str | None) -> _Taken:
    """The back end of a kind that a job names, else the settings."""
    field = NAMED_BY[kind]
    asked = settings.named(field) if name is None else field
    chosen = getattr(settings, field) if name is None else name
    if chosen != "auto":
        return _Taken(find(kind, chosen, asked), f"as {asked} says" if name is None else "as the job says", asked)
    entry, why = _first(kind, settings)
    if entry is None:
        raise SettingsError(f"{asked} is auto, and no {kind} is set up ({why}).", f"Set {asked} to the one you want.")
    return _Taken(entry, why, asked)


def _first(kind: Kind, settings: Settings) -> tuple[BackEnd[Any] | None, str]:
    """What `auto` takes, and why; None when nothing is set up and there is no last resort."""
    known = entries(kind)
    ranked = [entry for entry in known if entry.rank is not None]
    for entry in ranked:
        if entry.is_ready(settings):
            return entry, f"as {entry.variable} is set"
    keys = list(dict.fromkeys(entry.variable for entry in ranked))
    why = f"as {_listed(keys)} {'is' if len(keys) == 1 else 'are'} not set" if keys else "as none is installed"
    last = _last_resort(known)
    return last, f"{why}; {last.last_resort}" if last else why


def _last_resort(known: Sequence[BackEnd[Any]]) -> BackEnd[Any] | None:
    return next((entry for entry in known if entry.last_resort is not None), None)


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[-1] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
