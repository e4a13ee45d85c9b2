"""The model files that the settings name: what each is for, where it lies, and whether it is whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imaging.errors import FaceChangerError, SettingsError
from resources.backends import published
from resources.models.addons import Addon, lora_addon, vae_addon, word_addon
from resources.models.checkpoint import CONFIG_SETTING, SDXL, open_folder
from resources.models.flux_checkpoint import FLUX, model_kind
from resources.models.places import find_place, read_json, read_lora
from resources.models.weights import Progress, read_tensors, sha256_of, silent
from resources.settings import Settings


@dataclass(frozen=True, slots=True)
class NamedModel:
    """One model that a setting names.

    Attributes:
        setting: the variable's name.
        purpose: what it is for.
        value: as it is set, without a weight.
        path: the file or folder; None when it is not there.
        files: those of its files that are loaded, whole paths.
        problem: why it cannot be used, as far as the names of the files show; None: it is there.
    """

    setting: str
    purpose: str
    value: str
    path: Path | None
    files: tuple[Path, ...]
    problem: FaceChangerError | None = None

    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.stat().st_size for file in self.files)


def named_models(settings: Settings) -> list[NamedModel]:
    """Every model file or folder that the settings name, in the order of the settings; those not set are left out."""
    return list(_named(settings))


def _named(settings: Settings) -> Iterator[NamedModel]:
    if settings.sdxl_model:
        purpose = "scene" if settings.face_model else "scene and faces"
        yield _checkpoint("FC_SDXL_MODEL", purpose, settings.sdxl_model, settings.sdxl_revision)
        if settings.sdxl_model.endswith(".safetensors"):
            yield _checkpoint(CONFIG_SETTING, "configs of the single file", settings.sdxl_config)
    if settings.sdxl_vae:
        yield _addon("FC_SDXL_VAE", "VAE", settings.sdxl_vae, vae_addon, settings.sdxl_vae)
    for entry in settings.sdxl_loras:
        yield _lora(entry, settings.lora_dir)
    for path in settings.sdxl_embeddings:
        yield _addon("FC_SDXL_EMBEDDINGS", f"the word {path.stem}", str(path), word_addon, path)
    if settings.face_model:
        yield _checkpoint("FC_FACE_MODEL", "faces", settings.face_model)
    for back_end in published().values():
        if back_end.is_ready(settings):
            yield _file(back_end.variable, back_end.purpose, Path(str(back_end.value(settings))))


def _file(setting: str, purpose: str, path: Path) -> NamedModel:
    if path.is_file():
        return NamedModel(setting, purpose, str(path), path, (path,))
    problem = SettingsError(f"{setting}: there is no file {path}.", "Correct the path, or fetch it: fc models pull.")
    return NamedModel(setting, purpose, str(path), None, (), problem)


def _lora(entry: str, lora_dir: Path | None) -> NamedModel:
    try:
        lora = read_lora(entry, "FC_SDXL_LORAS")
    except SettingsError as error:
        return NamedModel("FC_SDXL_LORAS", "LoRA", entry, None, (), error)
    weights = [f"{weight:g}" for weight in dict.fromkeys((lora.weight, lora.text_weight))]
    purpose = f"LoRA, weight {' and '.join(weights)}"
    return _addon("FC_SDXL_LORAS", purpose, lora.value, lora_addon, lora, lora_dir)


def _addon(setting: str, purpose: str, value: str, find: Callable[..., Addon], *where: object) -> NamedModel:
    """What the generator finds for a value, or why it finds nothing."""
    try:
        addon = find(setting, *where)
    except SettingsError as error:
        return NamedModel(setting, purpose, value, None, (), error)
    if addon.path is None and addon.hub:
        return NamedModel(setting, purpose, value, None, (), _not_fetched(setting, value, addon.hub[0]))
    return NamedModel(setting, purpose, value, addon.path, addon.files)


def _checkpoint(setting: str, purpose: str, value: str, revision: str = "") -> NamedModel:
    """What the generator finds for a checkpoint, or why it finds nothing; a single file is only looked for."""
    path = None
    try:
        place = find_place(setting, value, "file or folder", revision=revision)
        path = place.path
        if path is None or place.file:
            more = f" --revision {revision}" if revision else " --configs" if setting == CONFIG_SETTING else ""
            raise _not_fetched(setting, value, f"{place.hub}{more}")
        if path.is_file():
            return NamedModel(setting, purpose, value, path, (path,))
        family = FLUX if model_kind(value, revision) == "flux" else SDXL
        found = open_folder(path, setting, family, weights=setting != CONFIG_SETTING)
    except SettingsError as error:
        return NamedModel(setting, purpose, value, path, (), error)
    return NamedModel(setting, purpose, value, path, tuple(found.paths()))


def _not_fetched(setting: str, value: str, wanted: str) -> SettingsError:
    return SettingsError(f"{setting}: {value} is not in the Hub cache.", f"Run: fc models pull {wanted}")


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """One file that was read from its first byte to its last.

    Attributes:
        path: where it lies.
        size: bytes.
        sha256: of its content; empty for a config, whose content is read as JSON instead, and when it cannot be read.
        tensors: how many, for safetensors.
        problem: why it cannot be used.
    """

    path: Path
    size: int
    sha256: str = ""
    tensors: int | None = None
    problem: FaceChangerError | None = None


def check_files(model: NamedModel, progress: Progress = silent) -> Iterator[CheckedFile]:
    """Check each file of a model: SHA-256 and header of its weights, syntax of its configs.

    The SHA-256 is compared where the right one is known: of published files, and of files in the Hub cache, which
    names them by it.
    """
    digests = {one.variable: one.published().sha256 for one in published().values() if one.published}
    for path in model.files:
        size = path.stat().st_size
        if path.suffix == ".json":
            yield CheckedFile(path, size, problem=_problem_of_json(path))
        elif path.suffix in (".safetensors", ".onnx"):
            yield _check_weights(path, size, digests.get(model.setting) or _sha256_in_name(path), progress)


def _problem_of_json(path: Path) -> FaceChangerError | None:
    try:
        read_json(path)
    except SettingsError as error:
        return error
    return None


def _check_weights(path: Path, size: int, known: str, progress: Progress) -> CheckedFile:
    tensors = None
    try:
        if path.suffix == ".safetensors":
            tensors = len(read_tensors(path))
        digest = sha256_of(path, progress)
    except FaceChangerError as error:
        return CheckedFile(path, size, problem=error)
    except OSError as error:
        return CheckedFile(
            path, size, problem=SettingsError(f"{path} cannot be read: {error.strerror}.", "Correct that.")
        )
    problem = None
    if known and digest != known:
        problem = SettingsError(f"{path} is another file or damaged: its SHA-256 is {digest}, not {known}.",
                                "Delete it, and fetch it again: fc models pull.")  # fmt: skip
    return CheckedFile(path, size, digest, tensors, problem)


def _sha256_in_name(path: Path) -> str:
    """The SHA-256 by which the Hub cache names a file; empty for other files."""
    blob = path.resolve()
    named_by_content = path.is_symlink() and blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name)
    return blob.name if named_by_content else ""
