"""One weights file: what it is, whether it is whole, its SHA-256."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from imaging.errors import BackendError, SettingsError

PICKLES: Final = (".bin", ".ckpt", ".pt", ".pth", ".pkl")

_LONGEST_HEADER: Final = 100_000_000  # bytes; safetensors itself reads no longer one
_BLOCK: Final = 8 * 1024**2

Progress = Callable[[str, int, int | None], None]
"""Told what is done, how many bytes of it are, and of how many; None when nobody knows."""


def silent(_what: str, _done: int, _total: int | None) -> None:
    """A `Progress` that shows nothing."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a safetensors header: `dtype` as the file writes it (`F16`, `BF16`), and the shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of itself: its tensors by name, and its maker's words, as `modelspec.title`."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def read_tensors(path: Path, name: str = "") -> dict[str, Tensor]:
    """The tensors of a safetensors file by name; see `read_header`."""
    return read_header(path, name).tensors


def read_header(path: Path, name: str = "") -> Header:
    """The header of a safetensors file; the data are not read.

    The format: 8 bytes (little-endian) that count the header's, the header as JSON, then the tensors without a gap to
    the end of the file (https://huggingface.co/docs/safetensors). All of that is checked. Errors call the file by
    `name` when it is given.

    Raises:
        BackendError: it is something else, or damaged or cut off; or it cannot be read.
    """
    name = name or str(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length <= min(size - 8, _LONGEST_HEADER) else b""
    except OSError as error:
        raise BackendError(
            f"{name} cannot be read: {error.strerror}.", "Correct its rights, or name another."
        ) from None
    try:
        header: Any = json.loads(text)
        metadata = {str(key): str(value) for key, value in (header.pop("__metadata__", None) or {}).items()}
        tensors = {key: Tensor(str(entry["dtype"]), tuple(entry["shape"])) for key, entry in header.items()}
        spans = sorted((int(start), int(end)) for start, end in (entry["data_offsets"] for entry in header.values()))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _not_safetensors(path, name, size, length) from None
    end = 0
    for start, stop in spans:
        if start != end or stop < start:
            raise BackendError(f"{name} is damaged: its header leaves gaps between the tensors.", "Fetch it again.")
        end = stop
    if 8 + length + end != size:
        how = "cut off" if size < 8 + length + end else "damaged"
        raise BackendError(
            f"{name} is {how}: it has {size} bytes, and its header promises {8 + length + end}.", "Fetch it again."
        )
    return Header(tensors, metadata)


def parameters(files: Iterable[Path]) -> int:
    """How many numbers safetensors files hold; files of other kinds count nothing.

    Raises:
        BackendError: a file is damaged.
    """
    weights = [(file, file.stat()) for file in files if file.suffix == ".safetensors"]
    return sum(_parameters(file, stat.st_size, stat.st_mtime_ns) for file, stat in weights)


@lru_cache(maxsize=256)
def _parameters(file: Path, size: int, modified: int) -> int:  # noqa: ARG001 - they are there to be part of the key
    return sum(math.prod(tensor.shape) for tensor in read_tensors(file).values())


def _not_safetensors(path: Path, name: str, size: int, length: int) -> BackendError:
    with path.open("rb") as file:
        start = file.read(512)
    if is_web_page(start):
        return web_page(name)
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        return BackendError(
            f"{name} is a pickle under another name. A pickle can run any code when it is loaded, so it is refused.",
            "Use the model's safetensors file.",
        )
    if start.startswith(b"version https://git-lfs"):
        return BackendError(
            f"{name} is a pointer of Git LFS, not the weights themselves.", "Run git lfs pull there, or fetch the file."
        )
    if start[8:9] == b"{" and size - 8 < length <= _LONGEST_HEADER:
        return BackendError(f"{name} is cut off: it ends within its header, after {size} bytes.", "Fetch it again.")
    return BackendError(f"{name} is not a safetensors file, or is damaged: it has no such header.", "Fetch it again.")


def is_web_page(start: bytes) -> bool:
    """Whether a file that begins like this is HTML."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))


def web_page(where: str) -> BackendError:
    """The error of a download that gave a page for people."""
    return BackendError(
        f"{where} is a web page, not weights: the download needs a login, or the address is not the file's own.",
        "Log in there and accept the model's terms, and give a token with --token-env; on huggingface.co use the "
        "address with /resolve/, not /blob/.",
    )


def sha256_of(path: Path, progress: Progress = silent) -> str:
    """The SHA-256 of a whole file, as 64 hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            progress(f"check {path.name}", done, total)
    return digest.hexdigest()


def check_known_file(path: Path, setting: str, sha256: str, hint: str) -> None:
    """Make sure that a file is the one with this SHA-256.

    Raises:
        SettingsError: it is missing, cannot be read, or is another file; names the setting and the hint.
    """
    if not path.is_file():
        raise SettingsError(f"{setting}: there is no file {path}.", hint)
    try:
        found = sha256_of(path)
    except OSError as error:
        raise SettingsError(f"{setting}: {path} cannot be read: {error.strerror}.", hint) from error
    if found != sha256:
        raise SettingsError(f"{setting}: {path} is another file: its SHA-256 is {found}, not {sha256}.", hint)


def setting_of(tensors: dict[str, Tensor]) -> str | None:
    """The setting that a safetensors file of such tensors is for, by the names that its kind uses; None: unknown.

    The kinds: A1111's single-file checkpoints, LoRAs of kohya and of peft, VAEs alone, textual inversions for SDXL.
    """
    first = tensors.get("model.diffusion_model.input_blocks.0.0.weight")
    if first is not None:
        return "FC_FACE_MODEL" if first.shape[1:2] == (9,) else "FC_SDXL_MODEL"
    if {"clip_l", "clip_g"} <= tensors.keys():
        return "FC_SDXL_EMBEDDINGS"
    if any("lora_" in name for name in tensors):
        return "FC_SDXL_LORAS"
    if any("double_blocks." in name for name in tensors):
        return "FC_FACE_MODEL"  # Flux
    if any(name.endswith("decoder.conv_in.weight") for name in tensors):
        return "FC_SDXL_VAE"
    return None
