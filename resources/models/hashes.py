"""The hashes by which A1111 and Civitai know model files; each file is read for them once, and they are kept."""

from __future__ import annotations

import hashlib
import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from imaging.errors import BackendError
from resources.lora_tags import tag_name
from resources.models.addons import Addons
from resources.models.checkpoint import Checkpoint
from resources.models.weights import fingerprint
from resources.settings import dagster_home
from resources.store.whole_file import write_whole

_log = logging.getLogger(__name__)

_BLOCK: Final = 8 * 1024**2


class FileHashes(NamedTuple):
    """SHA-256 of a whole file, and of what stands behind its safetensors header; 64 hexadecimal digits each.

    The first 10 digits of `whole` are what A1111 shows of checkpoints and VAEs (AutoV2 on Civitai), the first 12 of
    `tensors` what it shows of LoRAs (AutoV3).
    """

    whole: str
    tensors: str


def hashes_of(path: Path) -> FileHashes:
    """The hashes of a safetensors file: read from its first byte to its last the first time, then known.

    They are kept in `data/model-hashes.json` of the Dagster home, by the file's fingerprint.

    Raises:
        BackendError: it cannot be read.
    """
    try:
        stat = path.stat()
        return _hashes_of(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise BackendError(f"{path} cannot be read: {error.strerror}.", "Correct its rights, or the disk.") from error


@lru_cache(maxsize=256)
def _hashes_of(path: Path, size: int, modified: int) -> FileHashes:  # noqa: ARG001 - they are part of the key
    kept = dagster_home() / "data" / "model-hashes.json"
    known = _read(kept)
    key = fingerprint([("", path)])
    if key not in known:
        _log.info("Reading %s for the hash by which others know it; this is done once.", path.name)
        known[key] = _computed(path)
        _keep(kept, known)
    return known[key]


def _read(kept: Path) -> dict[str, FileHashes]:
    try:
        return {key: FileHashes(*pair) for key, pair in json.loads(kept.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        _log.warning("%s cannot be used, and is written anew: %s", kept, error)
        return {}


def _keep(kept: Path, known: dict[str, FileHashes]) -> None:
    try:
        write_whole(kept, json.dumps(known, indent=1, sort_keys=True).encode())
    except OSError as error:
        _log.warning("%s cannot be written, so these hashes are made again next time: %s", kept, error)


def _computed(path: Path) -> FileHashes:
    whole, tensors = hashlib.sha256(), hashlib.sha256()
    with path.open("rb") as file:
        header = file.read(8)
        header += file.read(int.from_bytes(header, "little"))
        whole.update(header)
        while block := file.read(_BLOCK):
            whole.update(block)
            tensors.update(block)
    return FileHashes(whole.hexdigest(), tensors.hexdigest())


def infotext(checkpoint: Checkpoint | None, addons: Addons) -> dict[str, Any]:
    """What A1111's text says of model files, by its keys; nothing of those that are no single file or not here.

    Raises:
        BackendError: a file cannot be read.
    """
    said: dict[str, Any] = {}
    if checkpoint and checkpoint.single:
        said["Model hash"] = hashes_of(checkpoint.single).whole[:10]
    if addons.vae and addons.vae.path and addons.vae.path.is_file():
        said["VAE"] = addons.vae.path.name
        said["VAE hash"] = hashes_of(addons.vae.path).whole[:10]
    loras = {tag_name(lora.label): hashes_of(path).tensors[:12] for lora in addons.loras for path in lora.files}
    if loras:
        said["Lora hashes"] = ", ".join(f"{name}: {digest}" for name, digest in loras.items())
    return said
