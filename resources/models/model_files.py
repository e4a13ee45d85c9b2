"""The model files that the settings name: what each is for, where it lies, and whether it is whole."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imaging.errors import FaceChangerError, SettingsError
from resources.backends import published
from resources.models.hub import HUB_ID, find_snapshot
from resources.models.weights import PICKLES, Progress, read_tensors, sha256_of, silent
from resources.settings import Settings

INDEX: Final = "model_index.json"

_WEIGHTS = re.compile(
    r"(?:model|diffusion_pytorch_model)(?:\.(?P<before>\w+))?(?:-\d{5}-of-(?P<count>\d{5}))?(?:\.(?P<after>\w+))?"
    r"\.safetensors"
)
_TEXTS: Final = (".json", ".txt", ".model")  # .model: a SentencePiece vocabulary
_WITHOUT_WEIGHTS: Final = ("tokenizer", "scheduler", "feature_extractor", "image_processor")
_LORA: Final = "pytorch_lora_weights.safetensors"  # diffusers' own name for it


@dataclass(frozen=True, slots=True)
class Chosen:
    """The files of a repository that are loaded, as paths in it, sorted; and what is missing, in words."""

    files: tuple[str, ...]
    missing: tuple[str, ...]


def choose(names: Collection[str], index: Mapping[str, Any] | None, *, weights: bool = True) -> Chosen:
    """Which files of a folder or repository in diffusers format are loaded.

    Weights are safetensors only: the plain ones, or those of `fp16` when the UNet or transformer is there as that
    alone, as `sdxl_checkpoint` does. Without `model_index.json` it is one model (`config.json` and its weights), or
    LoRAs.

    Args:
        names: every file in it, as a path with `/`.
        index: what `model_index.json` holds; None when there is none.
        weights: False for configs and tokenizers alone.
    """
    if index is None:
        return _choose_alone(names)
    parts = [name for name, entry in index.items() if isinstance(entry, list) and entry[0] is not None]
    inside = {part: [name for name in names if name.rpartition("/")[0] == part] for part in parts}
    main = next((part for part in ("unet", "transformer") if part in parts), None)
    halves = main is not None and not _weights_of(inside[main], "") and bool(_weights_of(inside[main], "fp16"))
    files, missing = [INDEX], []
    for part, found in inside.items():
        texts = [name for name in found if name.endswith(_TEXTS)]
        files += texts
        if part.startswith(_WITHOUT_WEIGHTS):
            missing += [] if texts else [f"the files of {part}"]
            continue
        if f"{part}/config.json" not in found:
            missing.append(f"{part}/config.json")
        if weights:
            needed = (halves and _weights_of(found, "fp16")) or _weights_of(found, "")
            files += needed
            missing += [] if needed else [_without(part, found)]
    return Chosen(tuple(sorted(files)), tuple(missing))


def _choose_alone(names: Collection[str]) -> Chosen:
    root = [name for name in names if "/" not in name]
    found = _weights_of(root, "") or _weights_of(root, "fp16")
    if "config.json" in root and found:
        return Chosen(("config.json", *found), ())
    loras = [_LORA] if _LORA in root else sorted(name for name in root if name.endswith(".safetensors"))
    return Chosen(tuple(loras), () if loras else (_without("the root", root),))


def _weights_of(names: Collection[str], variant: str) -> list[str]:
    """The weights of a variant among the files of one folder: one file, else all of its shards."""
    whole, shards, count = [], [], 0
    for name in sorted(names):
        match = _WEIGHTS.fullmatch(name.rpartition("/")[2])
        if match is None or (match["before"] or match["after"] or "") != variant:
            continue
        if match["count"] is None:
            whole.append(name)
        else:
            shards.append(name)
            count = int(match["count"])
    return whole or (shards if len(shards) == count else [])


def _without(part: str, names: Collection[str]) -> str:
    pickled = any(name.endswith(PICKLES) for name in names)
    return f"the safetensors weights of {part}" + (" (it has pickles, which are refused)" if pickled else "")


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
        yield _find("FC_SDXL_MODEL", "scene and faces" if not settings.face_model else "scene", settings.sdxl_model,
                    settings.sdxl_revision)  # fmt: skip
        if settings.sdxl_model.endswith(".safetensors"):
            yield _find("FC_SDXL_CONFIG", "configs of the single file", settings.sdxl_config, weights=False)
    if settings.sdxl_vae:
        yield _find("FC_SDXL_VAE", "VAE", settings.sdxl_vae)
    for entry in settings.sdxl_loras:
        value, weight = split_weight(entry)
        yield _find("FC_SDXL_LORAS", f"LoRA, weight {weight:g}", value)
    for path in settings.sdxl_embeddings:
        yield _find("FC_SDXL_EMBEDDINGS", f"the word {path.stem}", str(path))
    if settings.face_model:
        yield _find("FC_FACE_MODEL", "faces", settings.face_model)
    for back_end in published().values():
        if back_end.is_ready(settings):
            yield _find(back_end.variable, back_end.purpose, str(back_end.value(settings)))


def split_weight(entry: str) -> tuple[str, float]:
    """A LoRA and its weight, from `FILE_OR_HUB_ID[=WEIGHT]`."""
    value, equals, weight = entry.rpartition("=")
    try:
        return (value, float(weight)) if equals else (entry, 1.0)
    except ValueError:
        return entry, 1.0  # the = belongs to the file's name


def _find(setting: str, purpose: str, value: str, revision: str = "", *, weights: bool = True) -> NamedModel:
    def found(path: Path | None, files: Collection[Path] = (), problem: SettingsError | None = None) -> NamedModel:
        return NamedModel(setting, purpose, value, path, tuple(files), problem)

    path = Path(value).expanduser()
    if path.suffix.lower() in PICKLES:
        return found(path if path.is_file() else None, problem=SettingsError(
            f"{setting}: {value} is a pickle, which can run any code when it is loaded, so it is refused.",
            "Use the same model as safetensors.",
        ))  # fmt: skip
    if path.is_absolute() and path.is_file():
        return found(path, [path])
    snapshot = path if path.is_absolute() and path.is_dir() else None
    if snapshot is None and HUB_ID.fullmatch(value) and path.suffix != ".safetensors":
        snapshot = find_snapshot(value, revision)
        if snapshot is None:
            again = f" --revision {revision}" if revision else ""
            configs = "" if weights else " --configs"
            return found(None, problem=SettingsError(
                f"{setting}: {value} is not in the Hub cache.", f"Run: fc models pull {value}{again}{configs}"
            ))  # fmt: skip
    if snapshot is None:
        return found(
            None,
            problem=SettingsError(
                f"{setting}: there is no {value}.", "Give the whole path of a file or folder, or a Hub id."
            ),
        )
    try:
        chosen = choose_local(snapshot, weights=weights)
    except SettingsError as error:
        return found(snapshot, problem=SettingsError(f"{setting}: {error.what}", error.hint))
    problem = None
    if chosen.missing:
        problem = SettingsError(
            f"{setting}: {value} lacks {', '.join(chosen.missing)}.", "Fetch it again: fc models pull, or copy it."
        )
    return found(snapshot, [snapshot / name for name in chosen.files], problem)


def choose_local(folder: Path, *, weights: bool = True) -> Chosen:
    """`choose` for a folder on this machine.

    Raises:
        SettingsError: its model_index.json cannot be read.
    """
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    return choose(names, read_json(folder / INDEX) if INDEX in names else None, weights=weights)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        SettingsError: it holds none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON: {error}.", "Fetch it again.") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path} is not a JSON object.", "Fetch it again.")
    return content


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

    The SHA-256 is compared where the right one is known: of `published` files, and of files in the Hub cache, which
    names them by it.
    """
    for path in model.files:
        size = path.stat().st_size
        if path.suffix == ".json":
            yield CheckedFile(path, size, problem=_problem_of_json(path))
        elif path.suffix in (".safetensors", ".onnx"):
            yield _check_weights(path, size, _known_sha256(model, path), progress)


def _problem_of_json(path: Path) -> FaceChangerError | None:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        return SettingsError(f"{path} is not JSON: {error}.", "Fetch it again.")
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


def _known_sha256(model: NamedModel, path: Path) -> str:
    for back_end in published().values():
        if back_end.published is not None and model.setting == back_end.variable:
            return back_end.published().sha256
    blob = path.resolve()
    named_by_content = path.is_symlink() and blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name)
    return blob.name if named_by_content else ""
