"""Prompts as people write them for A1111, and what SDXL's two text encoders make of them.

The conventions are those of AUTOMATIC1111's stable-diffusion-webui 1.10 (its wiki page "Features", and the behaviour of
`modules/prompt_parser.py` and `modules/sd_hijack_clip.py`). Prompt editing (`[from:to:when]`), alternation (`[a|b]`)
and `AND` are not done; they are read as words, and so is `<lora:...>`, which `resources.lora_tags` takes out before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from imaging.errors import SettingsError
from resources.generators.diffusion.sdxl_words import further_tokens

if TYPE_CHECKING:
    import torch

CHUNK: Final = 75
"""Tokens of one chunk, without CLIP's marks of beginning and end; with them it fills CLIP's 77."""

MAX_WEIGHT: Final = 10.0
_FACTORS: Final = {"(": 1.1, "[": 1 / 1.1}
_BACKTRACK: Final = 20  # tokens; how far back a comma may lie for a chunk to end there
_CACHED: Final = 512  # 256 chunks in each of the two encoders: 80 MB in bfloat16

_SYNTAX: Final = re.compile(
    r"""
      \\(?P<escaped>[()\[\]\\]?)
    | (?P<open>[(\[])
    | :\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)
    | (?P<close>[)\]])
    | \b(?P<cut>BREAK)\b
    """,
    re.VERBOSE,
)


class Piece(NamedTuple):
    """Words and the weight they share, -10 to 10; 1 is plain."""

    text: str
    weight: float


class Chunk(NamedTuple):
    """Up to 75 tokens and the weight of each."""

    tokens: tuple[int, ...]
    weights: tuple[float, ...]


def parse_prompt(text: str) -> list[list[Piece]]:
    r"""Read the emphasis of a prompt.

    `(words)` weigh 1.1 times as much, `[words]` 1/1.1 times, `(words:1.3)` 1.3 times; brackets nest and their weights
    multiply. `\(`, `\)`, `\[`, `\]` and `\\` stand for the character itself; any other backslash is left out. A bracket
    that is never closed reaches to the end; one that was never opened is text. Any text can be read.

    As in A1111, but for two things: a weight lies within -10 to 10, and `BREAK` also works inside brackets, where A1111
    takes it for a word.

    Returns:
        The sections between the words `BREAK`, at least one. Neighbours within a section differ in weight, and no
        piece is empty.
    """
    texts: list[str] = []
    cuts: list[int] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}
    ranges: list[tuple[int, int, float]] = []
    at = 0
    for match in _SYNTAX.finditer(text):
        texts += [text[at : match.start()]] * (match.start() > at)
        at = match.end()
        if match["escaped"] is not None:
            texts.append(match["escaped"])
        elif match["open"]:
            opened[match["open"]].append(len(texts))
        elif (closed := _closed(match)) and opened[closed[0]]:
            ranges.append((opened[closed[0]].pop(), len(texts), closed[1]))
        elif match["cut"]:
            cuts.append(len(texts))
        else:
            texts.append(match[0])
    texts.append(text[at:])
    for bracket, factor in _FACTORS.items():
        ranges += [(start, len(texts), factor) for start in opened[bracket]]
    weights = np.ones(len(texts))
    for start, end, factor in ranges:
        weights[start:end] = np.clip(weights[start:end] * factor, -MAX_WEIGHT, MAX_WEIGHT)
    pieces = list(zip(texts, weights.tolist(), strict=True))
    return [_joined(pieces[start:end]) for start, end in zip([0, *cuts], [*cuts, len(pieces)], strict=True)]


def _closed(match: re.Match[str]) -> tuple[str, float] | None:
    """The bracket that a mark closes, and the factor of what stands in it."""
    if match["weight"]:
        return "(", min(MAX_WEIGHT, max(-MAX_WEIGHT, float(match["weight"])))
    bracket = {")": "(", "]": "["}.get(match["close"] or "")
    return (bracket, _FACTORS[bracket]) if bracket else None


def _joined(pieces: Sequence[tuple[str, float]]) -> list[Piece]:
    """Neighbours of equal weight in one piece, and none that is empty."""
    joined: list[Piece] = []
    for text, weight in pieces:
        if text and joined and joined[-1].weight == weight:
            joined[-1] = Piece(joined[-1].text + text, weight)
        elif text:
            joined.append(Piece(text, weight))
    return joined


def split_chunks(sections: Sequence[Sequence[tuple[tuple[int, ...], float]]], comma: int | None) -> list[Chunk]:
    """Cut tokens into chunks as A1111 does.

    A full chunk ends behind its last comma, if that lies among its last 20 tokens; what follows moves to the next one.
    Each section begins a new chunk.

    Args:
        sections: tokens that must not be parted, at most 75 (one, or the vectors of an embedding), and their weight.
        comma: the token of a comma; None: there is none.

    Returns:
        At least one chunk.
    """
    chunks: list[Chunk] = []
    tokens: list[int] = []
    weights: list[float] = []
    behind_comma = 0

    def close(end: int) -> None:
        nonlocal behind_comma
        chunks.append(Chunk(tuple(tokens[:end]), tuple(weights[:end])))
        del tokens[:end], weights[:end]
        behind_comma = 0

    for number, section in enumerate(sections):
        if number:
            close(len(tokens))
        for unit, weight in section:
            is_comma = unit == (comma,)
            if len(tokens) + len(unit) > CHUNK:
                near = behind_comma and not is_comma and len(tokens) - behind_comma < _BACKTRACK
                close(behind_comma if near else len(tokens))
            if len(tokens) + len(unit) > CHUNK:
                close(len(tokens))
            tokens += unit
            weights += [weight] * len(unit)
            if is_comma:
                behind_comma = len(tokens)
    if tokens or not chunks:
        close(len(tokens))
    return chunks


class PromptEncoder:
    """The embeddings of prompts, for the pipelines of one loaded checkpoint.

    Every chunk goes through the encoders by itself, never beside others, because the low bits of an embedding depend on
    how many rows are encoded with it, and on its place among them. Measured on the CPU, 2 to 9 rows against 1: in
    float32 the pooled embedding always differs, and the hidden states for some rows of 9; in bfloat16 at the width of
    SDXL's second encoder one pooled embedding of 9. So the embedding of a text is the same to the last bit in every
    batch, from the cache or fresh, and is the one that `encode_prompt` of diffusers makes for that text alone. A
    negative prompt that all images share is encoded once.

    The tokenizers' and encoders' state when this is made is what counts: load textual inversions and LoRAs before.
    """

    def __init__(
        self,
        parts: Mapping[str, Any],
        *,
        clip_skip: int = 2,
        zero_negative: bool = True,
        cached: int = _CACHED,
        named: str = "FC_SDXL_CLIP_SKIP",
    ) -> None:
        """Encode with the parts of a checkpoint.

        Args:
            parts: `tokenizer`, `tokenizer_2`, `text_encoder` and `text_encoder_2` by their names in diffusers.
            clip_skip: which layer's output counts, from the last one: 1 is the last, 2 the one before, with which SDXL
                was trained. It holds for both encoders and for the negative prompt too; the pooled embedding is always
                that of the last layer.
            zero_negative: whether no negative prompt means zeros (`force_zeros_for_empty_prompt`) or an empty text.
            cached: how many encoded chunks are kept, both encoders together, the most recently used.
            named: the variable or the job's field that says `clip_skip`, for messages.

        Raises:
            SettingsError: an encoder has fewer layers than `clip_skip`.
        """
        self._vocabularies = [_Vocabulary(parts[name]) for name in ("tokenizer", "tokenizer_2")]
        self._encoders = [parts[name] for name in ("text_encoder", "text_encoder_2")]
        layers = min(encoder.config.num_hidden_layers for encoder in self._encoders)
        if clip_skip > layers:
            raise SettingsError(
                f"{named}={clip_skip}, and a text encoder of the checkpoint has {layers} layers.",
                f"Set it to 2, which SDXL was trained with, or to another number from 1 to {layers}.",
            )
        self._clip_skip = clip_skip
        self._zero_negative = zero_negative
        self._chunks = lru_cache(maxsize=cached)(self._split)
        self._encoded = lru_cache(maxsize=cached)(self._encode_chunk)

    def token_count(self, text: str) -> int:
        """The tokens of a text, all of which are seen, without marks and padding."""
        return sum(len(chunk.tokens) for chunk in self._chunks(text)[0])

    def chunk_count(self, prompt: str, negative: str | None = None) -> int:
        """How many times 77 tokens the embeddings of one image take.

        In one batch all are filled up to the most, and the filling is seen in the picture. So put only images of equal
        counts into a batch, and none depends on its neighbours.
        """
        return max(len(chunks) for text in (prompt, negative or "") for chunks in self._chunks(text))

    def encode(self, prompts: Sequence[str], negatives: Sequence[str | None] | None = None) -> dict[str, torch.Tensor]:
        """The embeddings of a batch, which the SDXL pipelines take by these names instead of texts.

        A weight multiplies the hidden states of its tokens; then the mean of the chunk, apart for each encoder, is
        brought back to what it was (A1111's emphasis mode "Original"). A chunk in which all weigh 1 is left as it is.

        Args:
            prompts: one per image.
            negatives: one per image; None, for all or for one: no negative prompt, which is another thing than "".

        Returns:
            `prompt_embeds` and `negative_prompt_embeds` of shape (images, 77 * chunks, width of both encoders);
            `pooled_prompt_embeds` and `negative_pooled_prompt_embeds` of shape (images, width of the second), from the
            end mark of the first chunk. Dtype and device are the encoders'.
        """
        import torch

        positive = [self._chunks(text) for text in prompts]
        negative = [
            None if text is None and self._zero_negative else self._chunks(text or "")
            for text in (negatives if negatives is not None else [None] * len(prompts))
        ]
        count = max(len(chunks) for row in (*positive, *negative) if row for chunks in row)
        with torch.inference_mode():
            made = [self._row(row, count) for row in positive]
            zeros = (torch.zeros_like(made[0][0]), torch.zeros_like(made[0][1]))
            unwanted = [self._row(row, count) if row else zeros for row in negative]
            return {
                "prompt_embeds": torch.stack([embeds for embeds, _ in made]),
                "negative_prompt_embeds": torch.stack([embeds for embeds, _ in unwanted]),
                "pooled_prompt_embeds": torch.stack([pooled for _, pooled in made]),
                "negative_pooled_prompt_embeds": torch.stack([pooled for _, pooled in unwanted]),
            }

    def _split(self, text: str) -> list[list[Chunk]]:
        """The chunks of a text, for each of the two encoders."""
        sections = parse_prompt(text)
        return [split_chunks(vocabulary.units(sections), vocabulary.comma) for vocabulary in self._vocabularies]

    def _row(self, row: Sequence[Sequence[Chunk]], count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One text's embeddings of shape (77 * count, width of both encoders), and its pooled one."""
        import torch

        states = []
        for encoder, chunks in enumerate(row):
            filled = [*chunks, *[Chunk((), ())] * (count - len(chunks))]
            states.append(torch.cat([_weighted(self._encoded(encoder, c.tokens)[0], c.weights) for c in filled]))
        return torch.cat(states, dim=-1), self._encoded(1, row[1][0].tokens)[1]

    def _encode_chunk(self, number: int, tokens: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """The hidden states of shape (77, width) and the state at the end mark, projected where the encoder does so."""
        import torch

        encoder, vocabulary = self._encoders[number], self._vocabularies[number]
        ids = [vocabulary.begin, *tokens, vocabulary.end, *[vocabulary.padding] * (CHUNK - len(tokens))]
        output = encoder(torch.tensor([ids], device=encoder.device), output_hidden_states=True)
        # Not the encoder's own pooled output: where the config says eos_token_id 2, as SDXL's does, transformers takes
        # the state at the highest token, which is the end mark only as long as no textual inversion was added.
        end = output.last_hidden_state[:, ids.index(vocabulary.end)]
        pooled = encoder.text_projection(end) if hasattr(encoder, "text_projection") else end
        return output.hidden_states[-self._clip_skip][0], pooled[0]


class _Vocabulary:
    """What is needed of a tokenizer."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - a CLIP tokenizer of transformers
        self._tokenizer = tokenizer
        self.begin: int = tokenizer.bos_token_id
        self.end: int = tokenizer.eos_token_id
        self.padding: int = tokenizer.pad_token_id
        self.comma: int | None = tokenizer.get_vocab().get(",</w>")
        self._further = further_tokens(tokenizer)

    def units(self, sections: Sequence[Sequence[Piece]]) -> list[list[tuple[tuple[int, ...], float]]]:
        """The tokens of each piece; a textual inversion of several vectors is one unit."""
        made = []
        for section in sections:
            texts = [piece.text for piece in section]
            ids = self._tokenizer(texts, add_special_tokens=False, verbose=False).input_ids if texts else []
            made.append(
                [
                    (unit, piece.weight)
                    for piece, tokens in zip(section, ids, strict=True)
                    for unit in self._joined(tokens)
                ]
            )
        return made

    def _joined(self, tokens: Sequence[int]) -> list[tuple[int, ...]]:
        """Tokens with those that belong to them; what is longer than a chunk is parted."""
        units: list[tuple[int, ...]] = []
        for token in tokens:
            if units and token in self._further:
                units[-1] += (token,)
            else:
                units.append((token,))
        return [part for unit in units for part in ([unit] if len(unit) <= CHUNK else [(token,) for token in unit])]


def _weighted(states: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """The hidden states of one chunk, of shape (77, width), times their weights, with the mean that they had."""
    import torch

    if all(weight == 1 for weight in weights):
        return states
    factors = torch.ones(len(states), 1, device=states.device)
    factors[1 : 1 + len(weights), 0] = torch.tensor(weights, device=states.device)
    exact = states.float()
    changed = exact * factors
    return (changed * (exact.mean() / changed.mean())).to(states.dtype)
