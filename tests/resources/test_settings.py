"""Settings: where they come from, which one wins, and paths that mean the same to every process."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from imaging.errors import SettingsError
from imaging.faces.mask_options import MaskOptions
from imaging.faces.selection import FaceOptions
from resources.database import open_database
from resources.settings import PROJECT_ROOT, Settings, dagster_home, environment, load_settings


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `.env` that the settings read."""
    file = tmp_path / ".env"
    monkeypatch.setattr("resources.settings.ENV_FILES", (file,))
    monkeypatch.setitem(Settings.model_config, "env_file", file)
    return file


def test_the_environment_wins_over_the_file(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text("FC_WRITER=claude\nFC_GENERATOR=sdxl\nDAGSTER_HOME=/from/file\nHF_HOME=/hub\n")
    monkeypatch.setenv("FC_WRITER", "offline")
    assert (load_settings().writer, load_settings().generator) == ("offline", "sdxl")
    assert dagster_home() == Path("/from/file")
    complete = environment()
    assert (complete["FC_WRITER"], complete["FC_GENERATOR"], complete["HF_HOME"]) == ("offline", "sdxl", "/hub")
    monkeypatch.setenv("DAGSTER_HOME", "/from/environment")
    assert dagster_home() == Path("/from/environment")
    assert environment()["DAGSTER_HOME"] == "/from/environment"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FC_DATA_DIR", "data"),
        ("FC_INBOX", "./inbox"),
        ("FC_YUNET_MODEL", "models/yunet.onnx"),
        ("FC_SOURCE_ROOTS", "/photos:pictures"),
        ("FC_DATABASE_URL", "sqlite:///queue.sqlite"),
        ("FC_DATABASE_URL", "sqlite+pysqlite:///./queue.sqlite?timeout=3"),
    ],
)
def test_a_relative_path_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name}: .*is a relative path"):
        load_settings()


def test_whole_paths_and_urls_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("FC_DATA_DIR", "s3://bucket/prefix")
    monkeypatch.setenv("FC_INBOX", "~/inbox")
    monkeypatch.setenv("FC_SOURCE_ROOTS", "/photos:~/pictures")
    monkeypatch.setenv("FC_DATABASE_URL", "sqlite:////srv/queue.sqlite")
    settings = load_settings()
    assert settings.resolved_data_dir == "s3://bucket/prefix"
    assert settings.inbox == Path("/home/me/inbox")
    assert settings.source_roots == [Path("/photos"), Path("/home/me/pictures")]
    assert settings.resolved_database_url == "sqlite:////srv/queue.sqlite"
    monkeypatch.setenv("FC_DATA_DIR", "~/data")
    assert load_settings().resolved_data_dir == "/home/me/data"


def test_face_settings_become_the_rules_of_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().face_options == FaceOptions()
    named = {
        "FC_DETECTOR_CONFIDENCE": "0.5",
        "FC_MAX_FACES": "3",
        "FC_FACES_ORDER": "top-down",
        "FC_FACES_MIN_PIXELS": "20",
        "FC_FACES_MIN_SHARE": "0.2",
        "FC_FACES_MAX_SHARE": "60",
    }
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    assert load_settings().face_options == FaceOptions(0.5, 3, "top-down", 20, 0.2, 60.0)
    monkeypatch.setenv("FC_FACES_MIN_SHARE", "60")
    with pytest.raises(SettingsError, match="FC_FACES_MIN_SHARE=60 must be less than FC_FACES_MAX_SHARE=60"):
        load_settings()
    monkeypatch.setenv("FC_FACES_ORDER", "best")
    with pytest.raises(SettingsError, match=r"FC_FACES_ORDER: .*'left-right'"):
        load_settings()


def test_the_example_names_every_setting_and_no_other() -> None:
    example = (PROJECT_ROOT / ".env.example").read_text(encoding="utf-8")
    named = {line[1:].partition("=")[0] for line in example.splitlines() if line.startswith("#") and "=" in line[:40]}
    known = {str(field.validation_alias or f"FC_{name.upper()}") for name, field in Settings.model_fields.items()} | {
        "DAGSTER_HOME"
    }
    assert {name for name in named if name.isupper() and " " not in name} == known


def test_every_mask_setting_reaches_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"kind": "hull", "grow": 5.0, "feather": 12.0, "offset_x": -3.0, "offset_y": 4.0, "skin": True}
    assert values.keys() == {field.name for field in fields(MaskOptions)}
    assert load_settings().mask_options == MaskOptions()
    for name, value in values.items():
        monkeypatch.setenv(f"FC_MASK_{name.upper()}", str(value))
    assert load_settings().mask_options == MaskOptions(**values)


@pytest.mark.parametrize("name", ["FC_BATCH_SIZE", "FC_GATE_FACE", "FC_DATABASE_URL", "FC_MASK_GROW", "FC_KEEP_DAYS"])
@pytest.mark.parametrize("value", ["9" * 5000, "0x" + "f" * 5000, "x" * 100_000, "1e" + "9" * 5000])
def test_a_hostile_value_is_named_and_not_repeated(env_file: Path, name: str, value: str) -> None:
    env_file.write_text(f"{name}={value}\n")
    with pytest.raises(SettingsError, match=name) as caught:
        _ = load_settings().resolved_database_url, open_database(load_settings().resolved_database_url)
    assert len(str(caught.value)) < 600
