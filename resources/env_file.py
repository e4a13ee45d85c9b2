"""Writing one variable into a `.env` file.

`dotenv.set_key` is not used: it replaces every line of the name and not the one in force, drops `export`, turns CRLF
into LF, and refuses a file that is not UTF-8.
"""

from __future__ import annotations

import io
import re
import stat
from pathlib import Path

from dotenv.parser import parse_stream

from imaging.errors import RejectedError, SettingsError
from resources.store.whole_file import write_whole


def save_variable(file: Path, name: str, value: str) -> None:
    """Set a variable in a `.env` file: replace its line, the last one when there are several, or append one.

    Every other byte stays, and so do the file's rights; a new file can be read by its owner alone. Readers see the old
    file or the new one.

    Raises:
        RejectedError: the value cannot be written there.
        SettingsError: the file cannot be read or written.
    """
    file = file.resolve()  # a link stays a link
    line = f"{name}={_quoted(value)}"
    try:
        file.parent.resolve(strict=True)  # a folder that is missing is not made
        before, mode = _read(file)
        write_whole(file, _with_line(before, name, line).encode("utf-8", "surrogateescape"), mode=mode)
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {error.strerror}.", f"Write into it by hand: {line}") from error


def _read(file: Path) -> tuple[str, int]:
    try:
        return file.read_bytes().decode("utf-8", "surrogateescape"), stat.S_IMODE(file.stat().st_mode)
    except FileNotFoundError:
        return "", 0o600


def _with_line(text: str, name: str, line: str) -> str:
    parts = [(binding.key, binding.original.string) for binding in parse_stream(io.StringIO(text, newline=""))]
    newline = "\r\n" if "\r\n" in text else "\n"
    for number in reversed(range(len(parts))):
        key, original = parts[number]
        if key == name:
            lead = re.match(r"\s*(?:export[^\S\r\n]+)?", original)
            tail = re.search(r"[\r\n]*$", original)
            parts[number] = (key, (lead[0] if lead else "") + line + (tail[0] if tail else ""))
            return "".join(string for _key, string in parts)
    return text + ("" if not text or text.endswith(("\n", "\r")) else newline) + line + newline


def _quoted(value: str) -> str:
    if not value.isprintable() or "${" in value:
        raise RejectedError(f"{value!r} cannot stand in .env.", "Set the variable in the environment instead.")
    if re.fullmatch(r"[\w./:@=;,+~-]+", value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
