"""Fixtures that many tests share: a Dagster home of its own, the queue and store in it, the YuNet file."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import settings as hypothesis_settings

from jobs.queue.job_queue import JobQueue
from resources.database import Database, open_database
from resources.settings import PROJECT_ROOT, Settings, load_settings
from resources.store.image_store import ImageStore

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background jobs ignore SIGINT, and what they start inherits that; the tests of Ctrl-C need it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "tests.support.databases",
    "tests.support.sdxl",
    "tests.support.commands",
    "tests.support.old_homes",
]

hypothesis_settings.register_profile("default", deadline=None)
hypothesis_settings.load_profile("default")

YUNET = Path(os.environ.get("FC_YUNET_MODEL", PROJECT_ROOT.parent / "shared/models/face_detection_yunet_2023mar.onnx"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what was left out for lack of YuNet's file, and how to get it."""
    skipped = terminalreporter.getreports("skipped")
    number = sum(isinstance(one.longrepr, tuple) and "YuNet" in one.longrepr[2] for one in skipped)
    if number:
        terminalreporter.write_line(
            f"Left out, for YuNet's file is not at {YUNET}: {number} tests. "
            "Get it: .venv/bin/fc models pull yunet; then set FC_YUNET_MODEL to the path that it prints."
        )


@pytest.fixture(autouse=True)
def _clean_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of the machine it runs on."""
    for name in list(os.environ):
        if name.startswith(("FC_", "ANTHROPIC_", "DAGSTER_")):
            monkeypatch.delenv(name)
    monkeypatch.setitem(Settings.model_config, "env_file", None)
    monkeypatch.setattr("resources.settings.ENV_FILES", ())


@pytest.fixture
def yunet_model() -> Path:
    """The YuNet file; the test is left out where it is missing."""
    if not YUNET.is_file():
        pytest.skip(f"YuNet file not found at {YUNET}; set FC_YUNET_MODEL")
    return YUNET


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh Dagster home with the project's own dagster.yaml; the settings point into it."""
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copy(PROJECT_ROOT / "dagster.yaml", folder)
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    monkeypatch.setenv("FC_GENERATOR", "sketch")
    monkeypatch.setenv("FC_WRITER", "offline")
    monkeypatch.setenv("FC_DETECTOR", "haar")
    return folder


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of `home`, on real SQLite."""
    with dg.DagsterInstance.from_config(str(home)) as found:
        yield found


@pytest.fixture
def database(home: Path) -> Iterator[Database]:
    """The face-changer database of `home`."""
    opened = open_database(load_settings().resolved_database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def queue(database: Database) -> JobQueue:
    """The queue of `home`."""
    return JobQueue(database)


@pytest.fixture
def store(home: Path) -> ImageStore:
    """The image store of `home`."""
    return ImageStore(load_settings().resolved_data_dir)
