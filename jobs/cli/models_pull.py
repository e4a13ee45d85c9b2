"""`fc models pull`: fetch a published model, a Hub id, or a file by its address, and say which setting it is for."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from imaging.errors import RejectedError, SettingsError
from jobs.cli.output import err, print_json, say, warn
from resources import settings as settings_module
from resources.settings import PROJECT_ROOT, dagster_home, environment, load_settings

if TYPE_CHECKING:
    from resources.models.weights import Progress

LISTS: Final = {"FC_SDXL_LORAS": ";", "FC_SDXL_EMBEDDINGS": os.pathsep}
SETTINGS: Final = ("FC_SDXL_MODEL", "FC_SDXL_VAE", *LISTS, "FC_FACE_MODEL")


def pull(
    what: Annotated[
        str, typer.Argument(help="A published model such as yunet, a Hub id as OWNER/NAME, or a file's https address.")
    ],
    *,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Folder. Default: models/ in the Dagster home; of a Hub id: the Hub cache."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the file, when its address does not say.")] = "",
    sha256: Annotated[str, typer.Option("--sha256", help="What the file must have.")] = "",
    revision: Annotated[str, typer.Option("--revision", help="Branch, tag or commit of a Hub id.")] = "",
    configs: Annotated[
        bool, typer.Option("--configs", help="Of a Hub id, only configs and tokenizers: FC_SDXL_CONFIG.")
    ] = False,
    token_env: Annotated[
        str, typer.Option("--token-env", help="Variable whose value is sent to the address's own host, as Bearer.")
    ] = "",
    mirror: Annotated[
        str, typer.Option("--mirror", help="Another address of a published model; the SHA-256 is checked.")
    ] = "",
    setting: Annotated[str, typer.Option("--setting", help=f"What it is for, such as {', '.join(SETTINGS)}.")] = "",
    save: Annotated[bool, typer.Option("--save", help="Write the setting into .env.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fetch a model, and say which setting names it. The same command again goes on where it stopped."""
    from resources.backends import published

    known = published()
    settings = (*SETTINGS, *(entry.variable for entry in known.values()))
    if setting and setting not in settings:
        raise RejectedError(f"--setting: {setting} names no model.", f"Use one of {', '.join(settings)}.")
    if to is not None:
        to = to.expanduser().resolve()
    is_known = what in known
    is_file = is_known or "://" in what
    if unused := [
        option
        for option, given, used in (
            ("--revision", revision, not is_file),
            ("--configs", configs, not is_file),
            ("--sha256", sha256, is_file and not is_known),
            ("--name", name, is_file and not is_known),
            ("--token-env", token_env, is_file),
            ("--mirror", mirror, is_known),
        )
        if given and not used
    ]:
        raise RejectedError(f"{', '.join(unused)} has no meaning for {what}.", "Leave it out; see --help.")
    if is_file:
        told = _pull_file(what, to, name=name, sha256=sha256, token_env=token_env, mirror=mirror)
    else:
        told = _pull_repository(what, to, revision=revision, configs=configs)
    if setting:
        told["settings"] = {setting: str(told["value"])} | {
            key: value for key, value in told["settings"].items() if setting == "FC_SDXL_MODEL" and "REVISION" in key
        }
    told["saved_in"] = str(_save(told["settings"])) if save else None
    if as_json:
        print_json("model_pull", told)
    else:
        _say(told)


def _pull_file(what: str, to: Path | None, *, name: str, sha256: str, token_env: str, mirror: str) -> dict[str, Any]:
    from resources.backends import published
    from resources.models.downloads import check_name, fetch, file_name, shown, token_for
    from resources.models.weights import read_tensors, setting_of

    entry = published().get(what)
    known = entry.published() if entry and entry.published else None
    if known is not None:
        url, sha256, name = mirror or known.url, known.sha256, known.url.rsplit("/", 1)[-1]
    else:
        url, name = what, check_name(name) if name else file_name(what)
    target = (to or dagster_home() / "models") / name
    with progress_bars() as progress:
        digest = fetch(url, target, sha256=sha256, token=token_for(url, token_env, environment()), progress=progress)
    if entry is not None:
        setting: str | None = entry.variable
    else:
        setting = setting_of(read_tensors(target)) if target.suffix == ".safetensors" else None
    return {
        "from": shown(url),
        "value": str(target),
        "path": str(target),
        "bytes": target.stat().st_size,
        "sha256": digest,
        "settings": {setting: str(target)} if setting else {},
    }


def _pull_repository(hub_id: str, to: Path | None, *, revision: str, configs: bool) -> dict[str, Any]:
    from resources.backends import published
    from resources.models.folders import INDEX, choose
    from resources.models.hub import fetch_repository, kind_setting
    from resources.models.places import HUB_ID, LORA_FILE, read_json
    from resources.models.weights import read_tensors, setting_of

    if not HUB_ID.fullmatch(hub_id):
        raise RejectedError(
            f"{hub_id!r} is neither {' nor '.join(published())}, nor a Hub id as OWNER/NAME, nor an address.",
            "An address begins with https://.",
        )

    def chosen(names: Collection[str], fetch_one: Callable[[str], Path]) -> Collection[str]:
        found = choose(names, read_json(fetch_one(INDEX)) if INDEX in names else None, weights=not configs)
        if found.missing:
            raise SettingsError(f"{hub_id} lacks {', '.join(found.missing)}.", "Use a repository with safetensors.")
        return found.files

    target = to and to / hub_id.partition("/")[2]
    folder = fetch_repository(
        hub_id, choose=chosen, revision=revision, folder=target, token=environment().get("HF_TOKEN", "")
    )
    value = str(target) if target else hub_id
    index, config = (read_json(folder / file) if (folder / file).is_file() else None for file in (INDEX, "config.json"))
    setting = "FC_SDXL_CONFIG" if configs else kind_setting(index, config)
    loras = sorted(folder.glob("*.safetensors"))
    if setting is None and index is None and loras:
        setting = setting_of(read_tensors(loras[0]))
        if setting == "FC_SDXL_LORAS" and (target or loras[0].name != LORA_FILE):
            value = f"{value}/{loras[0].name}"  # a Hub id alone stands for a file of that name
    settings = {setting: value} if setting else {}
    if revision and not target:
        settings |= {"FC_SDXL_REVISION": revision} if setting == "FC_SDXL_MODEL" else {}
    return {
        "from": hub_id,
        "value": value,
        "path": str(folder),
        "bytes": sum(
            file.stat().st_size for file in folder.rglob("*") if file.is_file() and ".cache" not in file.parts
        ),
        "sha256": None,
        "settings": settings,
    }


def _save(settings: dict[str, str]) -> Path:
    """Write the settings into the `.env` that is in force."""
    from resources.env_file import save_variable

    if not settings:
        raise SettingsError(
            "The model is fetched, and its files do not say what it is for, so nothing was saved.",
            f"Say it, with --setting: {', '.join(SETTINGS)}.",
        )
    files = [file for file in settings_module.ENV_FILES if file.is_file()]
    file = (files[-1] if files else PROJECT_ROOT / ".env").resolve()
    for name, value in settings.items():
        if os.environ.get(name):
            warn(f"{name} is also set in the environment, which wins over {file}.")
        save_variable(file, name, _with_the_others(name, value))
    return file


def _with_the_others(name: str, value: str) -> str:
    """The value to save; of a setting that names several models, behind those that it names already."""
    if name not in LISTS:
        return value
    present = [str(entry) for entry in getattr(load_settings(), name.removeprefix("FC_").lower())]
    from resources.models.places import read_lora

    if value in (read_lora(entry, name).value for entry in present):
        return LISTS[name].join(present)
    return LISTS[name].join([*present, value])


def _say(told: dict[str, Any]) -> None:
    digest = f", SHA-256 {told['sha256']}" if told["sha256"] else ""
    say(f"{told['path']}: {told['bytes']} bytes{digest}")
    if not told["settings"]:
        say(f"Its files do not say what it is for. Set one of {', '.join(SETTINGS)} to {told['value']}.")
    for name, value in told["settings"].items():
        more = f"; several are separated by {LISTS[name]!r}" if name in LISTS else ""
        say(f"{'Saved' if told['saved_in'] else 'Set'}: {name}={value}{more}")
    if told["saved_in"]:
        say(f"in {told['saved_in']}")
    elif told["settings"]:
        say("--save writes that into .env.")


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Bars on stderr, one for each thing that is done; gone when it ends. Where nobody watches, none."""
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show
