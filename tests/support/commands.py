"""The `fc` command inside a test's own process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.cli.main import main

Fc = Callable[..., tuple[int, str, str]]
"""Arguments to exit code, stdout and stderr."""


@pytest.fixture
def fc(home: Path, capsys: pytest.CaptureFixture[str]) -> Fc:
    """The command on `home`."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(arguments)
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run
