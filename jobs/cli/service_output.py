"""What child processes print: kept in log files that rotate, without the lines that only say that nothing happened."""

from __future__ import annotations

import logging
import re
from collections import deque
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from threading import Thread
from typing import IO, Final

LOG_BYTES: Final = 10_000_000
LOG_FILES: Final = 5
"""The most bytes of one log file, and the most files of one log: `NAME.log`, then `NAME.log.1` to `.4`, the oldest."""

_IDLE: Final = re.compile(
    r"Checking for new runs for sensor: |No run requests returned for |"
    r"Sensor \w+ skipped: "
    r"(Sensor function returned an empty result|No job is pending\.|The queue is paused\.|No finished job is beyond )"
)
_TROUBLE: Final = re.compile(r"\b(ERROR|CRITICAL)\b|^([A-Za-z_]\w*\.)*\w*(Error|Exception)\b")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST_LINE: Final = 65536
_CLOSE_SECONDS: Final = 2.0


class _LogFile(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - as logging calls it
        raise  # noqa: PLE0704 - inside the handler's own `except`


class Output:
    """Reads what a child prints until it ends, in a thread of its own, so that the child never waits.

    Args:
        path: the log file; appended to.
        pipe: where the child and all that it starts print to; closed at its end.
        most_bytes: when a file would grow beyond this, it is renamed and another one begun.
    """

    def __init__(self, path: Path, pipe: IO[bytes], *, most_bytes: int = LOG_BYTES) -> None:
        self._path = path
        self._pipe = pipe
        self._file = _LogFile(path, maxBytes=most_bytes, backupCount=LOG_FILES - 1, encoding="utf-8")
        self._last: deque[str] = deque(maxlen=15)
        self._trouble: deque[str] = deque(maxlen=1000)
        self._thread = Thread(target=self._follow, name=path.stem, daemon=True)
        self._thread.start()

    def trouble(self) -> list[str]:
        """The lines since the last call that look like an error."""
        return [self._trouble.popleft() for _ in range(len(self._trouble))]

    def last_words(self) -> str:
        """The last lines of a child that has ended."""
        self._thread.join(_CLOSE_SECONDS)
        return "\n".join(self._last) or "(none)"

    def close(self) -> None:
        """Write what is left; to be called when all that print there have ended."""
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():  # else something that left its process group still prints: let it
            with suppress(OSError):  # what cannot be written was told when it was tried
                self._file.close()

    def _follow(self) -> None:
        with self._pipe:
            for line in iter(lambda: self._pipe.readline(_LONGEST_LINE), b""):
                self._take(line.decode("utf-8", "replace").rstrip("\r\n"))

    def _take(self, line: str) -> None:
        if _IDLE.search(line):
            return
        plain = _COLOUR.sub("", line)
        self._last.append(plain)
        if _TROUBLE.search(plain):
            self._trouble.append(plain)
        try:
            self._file.emit(logging.makeLogRecord({"msg": line}))
        except OSError as error:
            self._trouble.append(f"ERROR: {self._path} cannot be written: {error.strerror}.")
