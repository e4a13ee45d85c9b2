"""A folder or repository in diffusers format: which of its files are loaded, and what is missing."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from imaging.errors import SettingsError
from resources.models.places import LORA_FILE
from resources.models.weights import NO_PICKLES, PICKLES

INDEX: Final = "model_index.json"

_WEIGHTS: Final = re.compile(
    r"(?P<stem>model|diffusion_pytorch_model)(?:\.(?P<before>\w+))?(?:-\d{5}-of-(?P<count>\d{5}))?(?:\.(?P<after>\w+))?"
    r"\.safetensors"
)
_STEMS: Final = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
_TEXTS: Final = (".json", ".txt", ".model")  # .model: a SentencePiece vocabulary
_WITHOUT_WEIGHTS: Final = ("tokenizer", "scheduler", "feature_extractor", "image_processor")
_CONFIGS: Final = {
    "scheduler": "scheduler_config.json",
    "feature_extractor": "preprocessor_config.json",
    "image_processor": "preprocessor_config.json",
}


class IncompleteError(SettingsError):
    """A file of a folder is missing."""


class Gap(NamedTuple):
    """What is missing: in words, its first file, and the pickles that are there in its place."""

    words: str
    file: str
    pickles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chosen:
    """The files of a folder or repository that are loaded.

    Attributes:
        files: paths in it, sorted.
        gaps: what is missing.
        variant: `fp16` when the weights of the network are there as that alone, else None.
    """

    files: tuple[str, ...]
    gaps: tuple[Gap, ...] = ()
    variant: str | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """What is missing, in words."""
        return tuple(gap.words for gap in self.gaps)

    def check(self, folder: Path, field: str) -> None:
        """Nothing when it is whole; `field` is the variable or the job's field that names the folder.

        Raises:
            IncompleteError: names what is missing.
            SettingsError: weights are there as pickles only.
        """
        if not self.gaps:
            return
        what = f"{field}: the folder {folder} lacks {', '.join(self.missing)}."
        pickles = [name for gap in self.gaps for name in gap.pickles]
        if pickles:
            raise SettingsError(
                f"{what} It holds its weights as pickles only ({', '.join(pickles)}). {NO_PICKLES}",
                "Use a model with safetensors weights.",
            )
        raise no_file(folder, self.gaps[0].file, field, what)


def no_file(folder: Path, name: str, field: str, more: str = "") -> IncompleteError:
    """The error that names a missing file; `more` is said before it."""
    what = f"{more} Missing is {name}." if more else f"{field}: the folder {folder} has no {name}."
    hint = "Copy or download the whole folder again, for example: hf download OWNER/NAME --local-dir FOLDER."
    return IncompleteError(what, hint)


def choose(names: Collection[str], index: Mapping[str, Any] | None, *, weights: bool = True) -> Chosen:
    """Which files of a folder or repository in diffusers format are loaded.

    Weights are safetensors only: the plain ones, or those of `fp16` when the UNet or transformer is there as that
    alone. Without `model_index.json` it is one model (`config.json` and its weights), or LoRAs.

    Args:
        names: every file in it, as a path with `/`.
        index: what `model_index.json` holds; None when there is none.
        weights: False for configs and tokenizers alone.
    """
    if index is None:
        return _choose_alone(names)
    parts = libraries(index)
    inside = {part: [name for name in names if name.rpartition("/")[0] == part] for part in parts}
    network = next((part for part in ("unet", "transformer") if part in parts), None)
    halves = network is not None and not _weights_of(inside[network], "") and bool(_weights_of(inside[network], "fp16"))
    files, gaps = [INDEX], []
    for part, found in inside.items():
        files += [name for name in found if name.endswith(_TEXTS)]
        gaps += _missing_texts(part, found)
        if weights and not part.startswith(_WITHOUT_WEIGHTS):
            stem = _STEMS.get(parts[part], "")
            needed = (halves and _weights_of(found, "fp16", stem)) or _weights_of(found, "", stem)
            files += needed
            gaps += [] if needed else [_no_weights(part, found, stem)]
    return Chosen(tuple(sorted(files)), tuple(gaps), "fp16" if halves else None)


def libraries(index: Mapping[str, Any]) -> dict[str, str]:
    """The library of each part that a pipeline consists of, by the part's name."""
    return {name: entry[0] for name, entry in index.items() if isinstance(entry, list) and entry[0] is not None}


def files_in(folder: Path) -> list[str]:
    """The files of a folder, and of the folders in it, as `choose` takes them."""
    return [
        path.relative_to(folder).as_posix() for depth in ("*", "*/*") for path in folder.glob(depth) if path.is_file()
    ]


def choose_model(names: Collection[str]) -> Chosen:
    """Which files of a folder of one model are loaded: its config and its weights."""
    root = [name for name in names if "/" not in name]
    if "config.json" not in root:
        return Chosen((), (Gap("config.json", "config.json"),))
    plain, halves = (_weights_of(root, variant) for variant in ("", "fp16"))
    if not plain and not halves:
        return Chosen((), (_no_weights("", root, _STEMS["diffusers"]),))
    return Chosen(("config.json", *(plain or halves)), (), None if plain else "fp16")


def _choose_alone(names: Collection[str]) -> Chosen:
    model = choose_model(names)
    if not model.gaps:
        return model
    root = [name for name in names if "/" not in name]
    loras = [LORA_FILE] if LORA_FILE in root else sorted(name for name in root if name.endswith(".safetensors"))
    return Chosen(tuple(loras), () if loras else (_no_weights("", root, _STEMS["diffusers"]),))


def _missing_texts(part: str, found: Collection[str]) -> list[Gap]:
    """The config or the tokenizer of a part, if it is not there."""
    if part.startswith("tokenizer"):
        whole = f"{part}/tokenizer.json" in found or {f"{part}/vocab.json", f"{part}/merges.txt"} <= set(found)
        return [] if whole else [Gap(f"{part}/tokenizer.json", f"{part}/tokenizer.json")]
    config = f"{part}/{_CONFIGS.get(part, 'config.json')}"
    return [] if config in found else [Gap(config, config)]


def _weights_of(names: Collection[str], variant: str, stem: str = "") -> list[str]:
    """The weights of a variant among the files of one folder: one file, else all of its shards."""
    whole, shards, count = [], [], 0
    for name in sorted(names):
        match = _WEIGHTS.fullmatch(name.rpartition("/")[2])
        if match is None or (match["before"] or match["after"] or "") != variant or stem not in ("", match["stem"]):
            continue
        if match["count"] is None:
            whole.append(name)
        else:
            shards.append(name)
            count = int(match["count"])
    return whole or (shards if len(shards) == count else [])


def _no_weights(part: str, found: Collection[str], stem: str) -> Gap:
    pickles = tuple(sorted(name.rpartition("/")[2] for name in found if name.endswith(PICKLES)))
    words = f"the safetensors weights of {part or 'the root'}"
    first = f"{part}/{stem or 'model'}.safetensors".lstrip("/")
    for name in sorted(found):  # of shards of which some are there, the first that is not
        match = _WEIGHTS.fullmatch(name.rpartition("/")[2])
        if match and match["count"]:
            numbered = (
                re.sub(r"-\d{5}-of-", f"-{number:05}-of-", name) for number in range(1, int(match["count"]) + 1)
            )
            first = next((name for name in numbered if name not in found), first)
    return Gap(words + (" (it has pickles, which are refused)" if pickles else ""), first, pickles)
