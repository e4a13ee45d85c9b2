"""The model that settings and a job name together, and who named what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imaging.errors import SettingsError
from resources.models.addons import Addons, lora_addon, vae_addon, word_addon
from resources.models.checkpoint import BASE, SDXL, Checkpoint, Family, find_checkpoint
from resources.models.places import read_lora

FACE_SETTING: Final = "FC_FACE_MODEL"


@dataclass(frozen=True, slots=True)
class ModelNames:
    """A checkpoint, and what is added to it, by the values that name them.

    Attributes:
        checkpoint: Hub id, diffusers folder, or single .safetensors file.
        revision: branch, tag or commit of a Hub id; empty for `main`.
        config: configs and tokenizers for a single file: Hub id or diffusers folder.
        vae: another VAE; empty: the checkpoint's own.
        loras: each a file, Hub id or name, then `=WEIGHT`; see `places.read_lora`.
        more_loras: those that the prompt names, added after the others.
        embeddings: textual inversions, files.
        clip_skip: 1 to 12, as A1111 counts.
        lora_dir: the folder in which LoRAs are looked up by name.
        setting: the variable that names the checkpoint, if the job does not.
        own: the fields that the job itself says.
    """

    checkpoint: str
    revision: str = ""
    config: str = BASE
    vae: str = ""
    loras: tuple[str, ...] = ()
    more_loras: tuple[str, ...] = ()
    embeddings: tuple[str, ...] = ()
    clip_skip: int = 2
    lora_dir: Path | None = None
    setting: str = "FC_SDXL_MODEL"
    own: frozenset[str] = frozenset()

    def named(self, field: str) -> str:
        """What errors about a field call it: the job's field if the job says it, else the variable."""
        if field == "more_loras":
            return "prompt"
        if field == "checkpoint" and (field not in self.own or self.setting == FACE_SETTING):
            return self.setting.removeprefix("FC_").lower() if field in self.own else self.setting
        return field if field in self.own else f"FC_SDXL_{field.upper()}"

    def find_checkpoint(self, family: Family = SDXL) -> Checkpoint | None:
        """The checkpoint; None when files of the Hub that it needs are not in the Hub cache.

        Raises:
            SettingsError: it is not there, incomplete, or holds what may not be loaded.
        """
        field = self.named("checkpoint")
        return find_checkpoint(self.checkpoint, self.revision, self.config, field=field, family=family)

    def find_addons(self) -> Addons:
        """VAE, LoRAs and textual inversions.

        Raises:
            SettingsError: a file is not there, not whole, or may not be loaded; a weight is not a number.
        """
        loras = [(self.named(field), entry) for field in ("loras", "more_loras") for entry in getattr(self, field)]
        words = tuple(word_addon(self.named("embeddings"), Path(file)) for file in self.embeddings)
        labels = [word.label.lower() for word in words]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice:
            raise SettingsError(
                f"{self.named('embeddings')} names two files for the word {twice!r}.",
                "Rename one of them, or leave it out.",
            )
        return Addons(
            vae_addon(self.named("vae"), self.vae) if self.vae else None,
            tuple(lora_addon(field, read_lora(entry, field), self.lora_dir) for field, entry in loras),
            words,
        )
