"""Adding a textual inversion to an SDXL checkpoint in memory: a word that stands for vectors of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from imaging.errors import SettingsError
from resources.models.addons import Addon

if TYPE_CHECKING:
    import torch

_ENCODERS: Final = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
# Unicode's private letters, which no prompt holds and no normalizer changes: those of one plane begin a word, those of
# the other go on with it.
_FIRST: Final = 0xF0000
_FURTHER: Final = 0x100000


def add_word(parts: Mapping[str, Any], embedding: Addon) -> None:
    """Let the label of a textual inversion, as a whole word in any case, stand for its vectors in every prompt.

    The tokenizer itself turns the word into one private letter per vector, so every text that it sees is treated alike,
    and a word within another word is left alone. `further_tokens` tells which tokens belong to one word. (Gal et
    al., An Image is Worth One Word, arXiv:2208.01618.)

    Args:
        parts: `tokenizer`, `text_encoder`, `tokenizer_2` and `text_encoder_2` of transformers.
        embedding: a file that is here: one tensor of shape (vectors, width) for each encoder.

    Raises:
        SettingsError: the file does not hold one such tensor for each of the two encoders.
    """
    from safetensors.torch import load_file

    assert embedding.path is not None  # noqa: S101 - embeddings are files of this machine
    found = {name: vectors.reshape(-1, vectors.shape[-1]) for name, vectors in load_file(embedding.path).items()}
    by_width = {vectors.shape[1]: vectors for vectors in found.values()}
    widths = [parts[encoder].get_input_embeddings().weight.shape[1] for _, encoder in _ENCODERS]
    if len(found) != len(_ENCODERS) or set(by_width) != set(widths):
        shapes = ", ".join(f"{name} {tuple(vectors.shape)}" for name, vectors in found.items())
        raise SettingsError(
            f"{embedding.field}: {embedding.path} holds {shapes}, and one tensor for each text encoder is needed, "
            f"{widths[0]} and {widths[1]} wide.",
            "Use a textual inversion made for SDXL; one for Stable Diffusion 1 or 2 does not fit.",
        )
    for (tokenizer, encoder), width in zip(_ENCODERS, widths, strict=True):
        _add(parts[tokenizer], parts[encoder], embedding.label, by_width[width])


def _add(tokenizer: Any, encoder: Any, word: str, vectors: torch.Tensor) -> None:  # noqa: ANN401 - of transformers
    import torch
    from tokenizers import AddedToken, Regex, normalizers

    first = len(tokenizer)
    letters = [chr((_FURTHER if number else _FIRST) + first + number) for number in range(len(vectors))]
    backend = tokenizer.backend_tokenizer
    whole_word = Regex(rf"(?i)(?<!\w){re.escape(word)}(?!\w)")
    backend.normalizer = normalizers.Sequence([normalizers.Replace(whole_word, "".join(letters)), backend.normalizer])
    tokenizer.add_tokens([AddedToken(letter, normalized=True) for letter in letters])
    if len(tokenizer) > encoder.get_input_embeddings().num_embeddings:
        encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        encoder.get_input_embeddings().weight[first : len(tokenizer)] = vectors.to(encoder.device, encoder.dtype)
    # SDXL's configs say that a text ends with token 2, upon which transformers takes the highest number for the end:
    # that would be a new word.
    getattr(encoder, "text_model", encoder).eos_token_id = tokenizer.eos_token_id


def further_tokens(tokenizer: Any) -> frozenset[int]:  # noqa: ANN401 - of transformers
    """The tokens of all vectors but the first of a word: they belong to the token before them."""
    return frozenset(token for text, token in tokenizer.added_tokens_encoder.items() if chr(_FURTHER) <= text)
