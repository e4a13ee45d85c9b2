"""The demo's own home: what makes a folder one, and how it is opened when the demo is over."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Final

from imaging.errors import RejectedError
from jobs.cli.dagster_side import prepare_home, program
from resources.env_file import save_variable
from resources.settings import load_settings

MARKER: Final = ".face-changer-demo"
DEFAULT_HOME: Final = Path("demo-home")


def prepare(home: Path, *, keep: bool) -> None:
    """Make the demo's home. An earlier demo's home is wiped, unless it is kept; any other folder is left alone.

    Raises:
        RejectedError: the folder holds something else.
        SettingsError: it cannot be made.
    """
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        if not (home / MARKER).is_file():
            raise RejectedError(
                f"--home: {home} is not empty and is no demo's home.",
                "Give a new or empty folder; nothing was changed.",
            )
        if not keep:
            shutil.rmtree(home)
    prepare_home(home)
    (home / "inbox").mkdir(exist_ok=True)
    for name, value in demo_environment(home).items():
        save_variable(home / ".env", name, value)
    (home / MARKER).write_text("`fc demo` made this folder and wipes it when it runs again.\n", encoding="utf-8")


def demo_environment(home: Path) -> dict[str, str]:
    """The variables of a demo: everything inside `home`, and back ends that need nothing installed.

    The store and the database lie where they do in any home, so `DAGSTER_HOME` alone is enough to open it.
    """
    chosen = load_settings().model_fields_set
    variables = {
        "DAGSTER_HOME": str(home),
        "FC_DATA_DIR": str(home / "data"),
        "FC_DATABASE_URL": f"sqlite:///{home / 'data' / 'face-changer.sqlite'}",
        "FC_INBOX": str(home / "inbox"),
        "FC_SOURCE_ROOTS": str(home),
    }
    embedded = {"generator": "sketch", "writer": "offline"}
    return variables | {f"FC_{name.upper()}": value for name, value in embedded.items() if name not in chosen}


def command_that_opens(home: Path) -> str:
    """The shell command that shows a demo's jobs, whatever the settings here lead to."""
    chosen = load_settings().model_fields_set
    variables = demo_environment(home)
    places = {"DAGSTER_HOME": variables["DAGSTER_HOME"]} | {
        name: value for name, value in variables.items() if name.removeprefix("FC_").lower() in chosen
    }
    words = " ".join(f"{name}={shlex.quote(value)}" for name, value in places.items())
    return f"{words} {shlex.quote(program('face-changer'))} up"
