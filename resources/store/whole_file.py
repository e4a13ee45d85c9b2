"""A local file that is there whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Write a file under a temporary name `.<name>.<random>.tmp`, flush it to the disk, and rename it.

    Its folder is made when it is missing. A file that is there is replaced. `mode`: its rights; None: the umask's.

    Raises:
        OSError: it cannot be written; then nothing of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temp.open("xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            # 0.1 ms on a virtual disk, a few ms on others; without it a power cut can leave an empty file.
            os.fsync(file.fileno())
        temp.replace(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise


def link_whole(existing: Path, path: Path) -> bool:
    """Make a file a second name of an existing one; False where the file system has no hard links: nothing was done.

    Its folder is made when it is missing. A file that is there is replaced. Both names last on their own: neither is
    ever written in place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        temp.hardlink_to(existing)
    except OSError:
        return False
    try:
        temp.replace(path)  # does nothing when both are the same file already
    finally:
        temp.unlink(missing_ok=True)
    return True
