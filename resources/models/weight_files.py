"""Files of weights: which may be loaded, whether they are whole, what is in them, what identifies them."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from imaging.errors import BackendError, SettingsError
from resources.models import weights
from resources.models.weights import PICKLES, Header

_WINDOW: Final = 16 * 1024
_WINDOWS: Final = 256


class IncompleteError(SettingsError):
    """A file of a folder is missing."""


def read_header(file: Path, setting: str) -> Header:
    """The header of a safetensors file.

    Args:
        file: it is there.
        setting: the variable that named it, for messages.

    Raises:
        SettingsError: it is a pickle, or not a whole safetensors file.
    """
    if file.suffix.lower() in PICKLES:
        raise SettingsError(
            f"{setting}: {file} is a pickle. A pickle can run any code when it is loaded, so it is refused.",
            "Get the same weights as a .safetensors file.",
        )
    stat = file.stat()
    try:
        return _header(file, stat.st_size, stat.st_mtime_ns)
    except BackendError as error:
        raise SettingsError(f"{setting}: {error.what}", error.hint) from error


def fingerprint(files: Iterable[tuple[str, Path]]) -> str:
    """What identifies files, given by name and place, as hexadecimal digits: SHA-256 of each name and content.

    Of a file over 4 MiB, its size and 256 windows of 16 KiB, evenly spread from its first byte to its last, stand
    for the content, so that 7 GB are identified within a second or so. It tells files apart; it does not prove that one
    is undamaged. A file is read again only when its size or time changes.
    """
    whole = hashlib.sha256()
    for name, path in files:
        stat = path.stat()
        whole.update(f"{name}\0{_digest(path, stat.st_size, stat.st_mtime_ns)}\n".encode())
    return whole.hexdigest()


def find_weights(folder: Path, part: str, library: str, variant: str | None, setting: str) -> list[str]:
    """The names of the safetensors files of one part, of the variant when it is there, else the plain ones.

    Args:
        folder: of the checkpoint.
        part: its folder in there; empty for the folder itself.
        library: `diffusers` or `transformers`, which name their files differently.
        variant: `fp16` or None.
        setting: the variable that named the folder, for messages.

    Raises:
        IncompleteError: names the first file that is missing.
        SettingsError: the weights are there as pickles only.
    """
    inside = folder / part
    wanted = [*(weight_names(library, variant) if variant else ()), *weight_names(library, None)]
    found = next((name for name in wanted if (inside / name).is_file()), None)
    if found is None:
        pickled = sorted(path.name for path in inside.glob("*") if path.suffix in PICKLES)
        if pickled:
            raise SettingsError(
                f"{setting}: {inside} holds its weights as pickles only ({', '.join(pickled)}). A pickle can run "
                "any code when it is loaded, so it is refused.",
                "Use a checkpoint with safetensors weights.",
            )
        raise missing(folder, str(Path(part, wanted[-2])), setting)
    if not found.endswith(".json"):
        return [found]
    shards = sorted(set(read_json(inside / found, setting)["weight_map"].values()))
    for shard in shards:
        if not (inside / shard).is_file():
            raise missing(folder, str(Path(part, shard)), setting)
    return shards


def weight_names(library: str, variant: str | None) -> tuple[str, str]:
    """What the weights of a part may be called: one file, or the index of several."""
    stem = "model" if library == "transformers" else "diffusion_pytorch_model"
    if variant is None:
        return f"{stem}.safetensors", f"{stem}.safetensors.index.json"
    return f"{stem}.{variant}.safetensors", f"{stem}.safetensors.index.{variant}.json"


def missing(folder: Path, name: str, setting: str) -> IncompleteError:
    """The error that names a missing file."""
    return IncompleteError(
        f"{setting}: the checkpoint folder {folder} has no {name}.",
        "Copy or download the whole folder again, for example: hf download OWNER/NAME --local-dir FOLDER.",
    )


def read_json(path: Path, setting: str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        SettingsError: it holds none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(
            f"{setting}: {path} is not JSON: {error}.", "Copy or download the checkpoint folder again."
        ) from error
    if not isinstance(content, dict):
        raise SettingsError(f"{setting}: {path} is not a JSON object.", "Copy or download the folder again.")
    return content


def in_hub_cache(repository: str, name: str, revision: str = "") -> Path | None:
    """Where a file of a Hub repository lies in the Hub cache; None when it does not."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, name, revision=revision or None)
    return Path(found) if isinstance(found, str) else None


@functools.lru_cache(maxsize=64)
def _header(file: Path, size: int, modified: int) -> Header:  # noqa: ARG001 - they are there to be part of the key
    return weights.read_header(file)


@functools.lru_cache(maxsize=1024)
def _digest(path: Path, size: int, modified: int) -> str:  # noqa: ARG001 - the time is there to be part of the key
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= _WINDOW * _WINDOWS:
            digest.update(file.read())
        else:
            for number in range(_WINDOWS):
                file.seek((size - _WINDOW) * number // (_WINDOWS - 1))
                digest.update(file.read(_WINDOW))
    return digest.hexdigest()
