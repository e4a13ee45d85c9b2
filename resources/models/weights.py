"""Files of weights: what they are, whether they are whole, what identifies them."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from imaging.errors import BackendError, SettingsError

PICKLES: Final = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
NO_PICKLES: Final = "A pickle can run any code when it is loaded, so it is refused."
NOT_PICKLED: Final = "Use the same model as a .safetensors file."

_LONGEST_HEADER: Final = 100_000_000  # bytes; safetensors itself reads no longer one
_BLOCK: Final = 8 * 1024**2
_WINDOW: Final = 16 * 1024
_WINDOWS: Final = 256

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

    The library checks that the tensors lie in the file without a gap, to its end. Errors call the file by `name` when
    it is given.

    Raises:
        BackendError: it is something else, or damaged or cut off; or it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    name = name or str(path)
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - it has no other
            tensors = {key: Tensor(part.get_dtype(), tuple(part.get_shape())) for key, part in slices.items()}
            return Header(tensors, file.metadata() or {})
    except SafetensorError as error:
        raise _not_safetensors(path, name, str(error)) from None
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise BackendError(f"{name} cannot be read: {why}.", "Correct its rights, or name another.") from None


def header_of(file: Path, field: str) -> Header:
    """The same, read again only when the file changes; errors name the variable or field that the file stands in.

    Raises:
        SettingsError: it is a pickle, or not a whole safetensors file.
    """
    if file.suffix.lower() in PICKLES:
        raise SettingsError(f"{field}: {file} is a pickle. {NO_PICKLES}", NOT_PICKLED)
    stat = file.stat()
    try:
        return _header(file, stat.st_size, stat.st_mtime_ns)
    except BackendError as error:
        raise SettingsError(f"{field}: {error.what}", error.hint) from error


@lru_cache(maxsize=64)
def _header(file: Path, size: int, modified: int) -> Header:  # noqa: ARG001 - they are there to be part of the key
    return read_header(file)


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


def _not_safetensors(path: Path, name: str, why: str) -> BackendError:
    """What a file is that the library refuses, by its first bytes; `why` in the library's words."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
    if is_web_page(start):
        return web_page(name)
    what, hint = "is not a safetensors file, or is damaged: it has no such header", "Fetch it again."
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        return BackendError(f"{name} is a pickle under another name. {NO_PICKLES}", NOT_PICKLED)
    if start.startswith(b"version https://git-lfs"):
        what, hint = "is a pointer of Git LFS, not the weights themselves", "Run git lfs pull there, or fetch the file."
    elif "not fully covered" in why:
        what = f"is cut off, or damaged: it has {size} bytes, and its header promises another number"
    elif "offset" in why:
        what = "is damaged: its header leaves gaps between the tensors"
    elif start[8:9] == b"{" and size - 8 < int.from_bytes(start[:8], "little") <= _LONGEST_HEADER:
        what = f"is cut off: it ends within its header, after {size} bytes"
    return BackendError(f"{name} {what}.", hint)


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


@lru_cache(maxsize=1024)
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
