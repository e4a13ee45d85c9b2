"""Fetching what is needed of a repository of the Hugging Face Hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from imaging.errors import BackendError, SettingsError
from resources.models.downloads import check_space
from resources.models.places import find_snapshot


def fetch_repository(
    hub_id: str,
    *,
    choose: Callable[[Collection[str], Callable[[str], Path]], Collection[str]],
    revision: str = "",
    folder: Path | None = None,
    token: str = "",
) -> Path:
    """Fetch some files of a repository. What an earlier call left is used: huggingface_hub resumes and checks itself.

    Args:
        hub_id: `owner/name`.
        choose: picks from all of its files those to fetch; also given a function that fetches one of them.
        revision: branch, tag or commit; empty: main.
        folder: where to put them; None: the Hub cache, where the Hub id itself finds them.
        token: for private and gated repositories; empty: what huggingface_hub knows.

    Returns:
        The folder that holds them.

    Raises:
        SettingsError: huggingface_hub is not installed.
        BackendError: the Hub is not reached or refuses, or there is too little space.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise SettingsError(
            "A Hub id needs huggingface_hub, which is not installed.", "Run: pip install 'face-changer[sdxl]'"
        )
    import huggingface_hub
    from huggingface_hub import constants

    place: dict[str, Any] = {"revision": revision or None, "local_dir": folder, "token": token or None}
    root = folder or Path(constants.HF_HUB_CACHE)
    try:
        info = huggingface_hub.HfApi(token=token or None).model_info(
            hub_id, revision=revision or None, files_metadata=True
        )
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        files = choose(sizes, lambda name: Path(huggingface_hub.hf_hub_download(hub_id, name, **place)))
        have = find_snapshot(hub_id, revision) if folder is None else folder
        check_space(root, sum(sizes[name] for name in files if have is None or not (have / name).is_file()))
        return Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=sorted(files), **place))
    except (BackendError, SettingsError):
        raise
    except Exception as error:
        why = (str(error).strip().splitlines() or [""])[0]
        raise BackendError(
            f"{hub_id} cannot be fetched from the Hub ({type(error).__name__}: {why}).",
            "Check the name and the connection; a private or gated model needs its terms accepted and HF_TOKEN. Then "
            "run the same again; it goes on where it stopped.",
        ) from error


def kind_setting(index: Mapping[str, Any] | None, config: Mapping[str, Any] | None) -> str | None:
    """The setting that a repository is for, by its `model_index.json` or `config.json`; None: these do not say."""
    kind = str((index or config or {}).get("_class_name", ""))
    if "Inpaint" in kind or kind.startswith("Flux"):
        return "FC_FACE_MODEL"
    if kind.startswith("StableDiffusionXL"):
        return "FC_SDXL_MODEL"
    return "FC_SDXL_VAE" if kind.startswith("Autoencoder") else None
