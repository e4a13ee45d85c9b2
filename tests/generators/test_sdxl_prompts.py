"""Prompts in A1111's syntax, chunks, and embeddings through real text encoders with random weights."""

import itertools
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.errors import SettingsError
from resources.generators.diffusion import sdxl_words
from resources.generators.diffusion.sdxl_prompts import (
    CHUNK,
    MAX_WEIGHT,
    Chunk,
    Piece,
    PromptEncoder,
    parse_prompt,
    split_chunks,
)
from resources.models.addons import word_addon
from tests.support.tiny_sdxl import WIDTHS, build_embedding, build_tiny_sdxl

pytest.importorskip("diffusers")

NAMES = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
COMMA = 7
LONG = "x" * 100  # the tiny tokenizer knows single bytes only, so this is 100 tokens


# --- The syntax -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("()", []),
        ("a red hat", [("a red hat", 1)]),
        ("a (red) hat", [("a ", 1), ("red", 1.1), (" hat", 1)]),
        ("((red))", [("red", 1.1**2)]),
        ("[red]", [("red", 1 / 1.1)]),
        ("(red:1.3)", [("red", 1.3)]),
        ("(red: .5 )", [("red", 0.5)]),
        ("(red:-1)", [("red", -1)]),
        ("(a (b:0.5) c)", [("a ", 1.1), ("b", 0.55), (" c", 1.1)]),
        ("([a])b", [("ab", 1)]),
        ("(a)(b)", [("ab", 1.1)]),
        ("(a:b:1.2)", [("a:b", 1.2)]),
        ("16:9, a:1.2)", [("16:9, a:1.2)", 1)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        ("[a:1.2]", [("a:1.2", 1 / 1.1)]),
        (r"\(a\) \[b\] \\ \c", [(r"(a) [b] \ c", 1)]),
        (r"(a\):1.2)", [("a)", 1.2)]),
        ("a (b", [("a ", 1), ("b", 1.1)]),
        ("a [b (c", [("a ", 1), ("b ", 1 / 1.1), ("c", 1.1 / 1.1)]),
        ("a) b]", [("a) b]", 1)]),
        ("(red:99)", [("red", MAX_WEIGHT)]),
        ("BREAKFAST, break", [("BREAKFAST, break", 1)]),
    ],
)
def test_emphasis_is_read_as_a1111_does(text, pieces):
    (section,) = parse_prompt(text)
    assert [piece.text for piece in section] == [piece[0] for piece in pieces]
    assert [piece.weight for piece in section] == pytest.approx([piece[1] for piece in pieces])


def test_break_parts_sections_and_keeps_the_weight_on_both_sides():
    assert parse_prompt("a BREAK b") == [[Piece("a ", 1)], [Piece(" b", 1)]]
    assert parse_prompt("(a BREAK b:1.5)") == [[Piece("a ", 1.5)], [Piece(" b", 1.5)]]
    assert parse_prompt("BREAK,BREAK") == [[], [Piece(",", 1)], []]


SYNTAX = st.lists(st.sampled_from(["(", ")", "[", "]", "\\", ":", ":1.5)", ":-.5)", "BREAK", " ", ",", "a", "ü"]))


@given(st.text() | SYNTAX.map("".join))
def test_any_text_can_be_read_and_its_words_stay_in_order(text):
    sections = parse_prompt(text)
    for section in sections:
        assert all(piece.text and -MAX_WEIGHT <= piece.weight <= MAX_WEIGHT for piece in section)
        assert all(one.weight != other.weight for one, other in itertools.pairwise(section))
    kept = "".join(piece.text for section in sections for piece in section)
    characters = iter(text)
    assert all(character in characters for character in kept), "what is kept stands in the text, in the same order"


@given(st.text(st.characters(exclude_characters="B:") | st.sampled_from("()[]\\")))
def test_brackets_and_backslashes_alone_are_taken_out(text):
    (section,) = parse_prompt(text)
    kept = "".join(piece.text for piece in section)
    assert re.sub(r"[()\[\]\\]", "", kept) == re.sub(r"[()\[\]\\]", "", text)


@given(st.text(st.characters(exclude_characters="()[]\\"), min_size=1).filter(lambda text: "BREAK" not in text))
def test_text_without_marks_is_left_alone(text):
    assert parse_prompt(text) == [[Piece(text, 1)]]


def written(text, weight):
    escaped = re.sub(r"([()\[\]\\])", r"\\\1", text)
    return f"({escaped}:{weight})"


PIECES = st.lists(
    st.tuples(
        st.text(min_size=1).filter(lambda text: "BREAK" not in text), st.integers(-200, 200).map(lambda n: n / 20)
    ),
    max_size=5,
).map(
    lambda found: [Piece(*piece) for index, piece in enumerate(found) if not index or found[index - 1][1] != piece[1]]
)


@given(st.lists(PIECES, min_size=1, max_size=4))
def test_what_is_written_is_what_is_read(sections):
    text = "BREAK".join("".join(written(*piece) for piece in section) for section in sections)
    if "BREAKBREAK" not in text:  # which is a word of its own
        assert parse_prompt(text) == sections


# --- Chunks ---------------------------------------------------------------------------------------------------------


def units(*tokens, weight=1.0):
    return [((token,), weight) for token in tokens]


def lengths(sections):
    return [len(chunk.tokens) for chunk in split_chunks(sections, COMMA)]


@pytest.mark.parametrize(
    ("count", "expected"), [(0, [0]), (1, [1]), (75, [75]), (76, [75, 1]), (150, [75, 75]), (151, [75, 75, 1])]
)
def test_a_chunk_holds_75_tokens(count, expected):
    assert lengths([units(*[1] * count)]) == expected


@pytest.mark.parametrize(
    ("behind", "expected"),  # tokens behind the comma in the first chunk
    [(0, [75, 5]), (1, [74, 6]), (19, [56, 24]), (20, [75, 5]), (60, [75, 5])],
)
def test_a_full_chunk_ends_behind_a_comma_that_is_near(behind, expected):
    tokens = [*[1] * (74 - behind), COMMA, *[1] * (behind + 5)]
    assert lengths([units(*tokens)]) == expected


def test_a_comma_that_does_not_fit_moves_nothing():
    assert lengths([units(*[1] * 70, COMMA, *[1] * 4, COMMA, 1)]) == [75, 2]


def test_break_fills_a_chunk_up_and_a_comma_before_it_is_forgotten():
    assert lengths([units(1), units(2), []]) == [1, 1]
    assert lengths([[], units(1)]) == [0, 1]
    assert lengths([units(*[1] * 75), units(1)]) == [75, 1]
    assert lengths([units(1, COMMA), units(*[1] * 76)]) == [2, 75, 1]


def test_the_vectors_of_an_embedding_stay_together():
    word = ((9,) * 5, 1.2)
    chunks = split_chunks([[*units(*[1] * 73), word]], COMMA)
    assert chunks == [Chunk((1,) * 73, (1.0,) * 73), Chunk((9,) * 5, (1.2,) * 5)]
    whole = ((9,) * CHUNK, 1.0)
    assert lengths([[*units(*[1] * 57, COMMA, *[1] * 17), whole]]) == [58, 17, 75]


UNITS = st.lists(
    st.tuples(
        st.one_of(
            st.just((COMMA,)),
            st.integers(10, 99).map(lambda token: (token,)),
            st.integers(2, 75).map(lambda size: tuple(range(100, 100 + size))),
        ),
        st.sampled_from([1.0, 1.1]),
    ),
    max_size=120,
)


@given(st.lists(UNITS, min_size=1, max_size=3))
@settings(max_examples=50)
def test_chunks_keep_every_token_in_order_with_its_weight(sections):
    chunks = split_chunks(sections, COMMA)
    wanted = [(token, weight) for section in sections for unit, weight in section for token in unit]
    assert [pair for chunk in chunks for pair in zip(*chunk, strict=True)] == wanted
    assert all(len(chunk.tokens) <= CHUNK for chunk in chunks)
    for chunk in chunks:
        for position, token in enumerate(chunk.tokens):
            if token > 100:
                assert position, "an embedding is parted"
                assert chunk.tokens[position - 1] == token - 1


# --- Embeddings -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_sdxl(tmp_path_factory.mktemp("sdxl-prompts") / "tiny")


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def pipeline(folder, request):
    return load(folder, request.param)


@pytest.fixture(scope="module")
def exact(folder):
    return load(folder, "float32")


@pytest.fixture
def own(folder):
    """A checkpoint that a test may change."""
    return load(folder, "float32")


def load(folder, dtype):
    import torch
    from diffusers import StableDiffusionXLPipeline

    torch.set_num_threads(1)
    loaded = StableDiffusionXLPipeline.from_pretrained(folder, dtype=getattr(torch, dtype), add_watermarker=False)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def encoder_of(pipeline, **options):
    return PromptEncoder(pipeline.components, **options)


def diffusers_own(pipeline, prompts, negatives, **options):
    import torch

    with torch.inference_mode():
        found = pipeline.encode_prompt(prompts, negative_prompt=negatives, device="cpu", **options)
    return dict(zip(NAMES, found, strict=True))


def assert_same(one, other):
    import torch

    assert set(one) == set(other)
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert torch.equal(one[name], other[name]), name


def forwards(encoder_model):
    """A list that grows with each call of a text encoder."""
    calls = []
    encoder_model.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("negative", [None, "", "blur, noise"])
def test_a_plain_short_prompt_gives_the_embeddings_of_diffusers_to_the_last_bit(pipeline, negative):
    found = encoder_of(pipeline).encode(["a woman, in the rain"], [negative])
    own = diffusers_own(pipeline, ["a woman, in the rain"], None if negative is None else [negative])
    assert_same(found, own)


def test_each_tokenizer_fills_up_with_its_own_padding(own):
    own.tokenizer_2.pad_token = "!"  # as in SDXL
    assert own.tokenizer.pad_token_id != own.tokenizer_2.pad_token_id
    assert_same(encoder_of(own).encode(["hat!"], [""]), diffusers_own(own, ["hat!"], [""]))


def test_neighbours_change_no_bit(pipeline):
    import torch

    prompts, negatives = ["a cat", "a dog (smiles:1.3)", "hat", "hat"], ["blur", None, "", "blur"]
    encoder = encoder_of(pipeline)
    together = encoder.encode(prompts, negatives)
    for index, (prompt, negative) in enumerate(zip(prompts, negatives, strict=True)):
        alone = encoder_of(pipeline).encode([prompt], [negative])
        assert_same({name: tensor[index : index + 1] for name, tensor in together.items()}, alone)
    own = diffusers_own(pipeline, ["a cat", "hat"], ["blur", "blur"])
    for name, tensor in encoder.encode(["a cat", "hat"], ["blur", "blur"]).items():
        torch.testing.assert_close(tensor, own[name], rtol=0.02, atol=1e-5)


def test_no_negative_prompt_is_zeros_only_where_the_checkpoint_says_so(exact):
    zero = encoder_of(exact).encode(["hat"])
    assert not zero["negative_prompt_embeds"].any()
    assert not zero["negative_pooled_prompt_embeds"].any()
    empty = encoder_of(exact, zero_negative=False)
    assert_same(empty.encode(["hat"]), empty.encode(["hat"], [""]))
    assert empty.encode(["hat"])["negative_prompt_embeds"].any()


def test_a_chunk_is_encoded_once_and_comes_back_from_the_cache_to_the_last_bit(own):
    calls = [forwards(own.text_encoder), forwards(own.text_encoder_2)]
    encoder = encoder_of(own)
    first = encoder.encode(["hat", "cap", "hat"], ["blur", "blur", LONG])
    assert [len(made) for made in calls] == [6, 6]  # hat, cap, blur, the empty filling, and the two chunks of LONG
    assert_same(encoder.encode(["hat", "cap", "(hat:1)"], ["blur", "blur", LONG]), first)
    assert [len(made) for made in calls] == [6, 6]


def test_the_cache_is_bounded_and_lets_go_of_the_oldest(own):
    calls = forwards(own.text_encoder)
    encoder = encoder_of(own, cached=4)
    first = encoder.encode(["hat"])
    for prompt in ("cap", "bow"):
        encoder.encode([prompt])
    assert_same(encoder.encode(["hat"]), first)
    assert len(calls) == 4
    encoder.encode(["bow"])
    assert len(calls) == 4


def test_a_weight_scales_its_tokens_and_the_mean_stays(exact):
    import torch

    encoder = encoder_of(exact)
    plain = encoder.encode(["a bc"])["prompt_embeds"][0]
    strong = encoder.encode(["a (bc:1.5)"])["prompt_embeds"][0]
    assert torch.equal(encoder.encode(["a (bc:1.0)"])["prompt_embeds"][0], plain)
    for part in (slice(0, WIDTHS[0]), slice(WIDTHS[0], None)):  # each encoder has its own mean
        ratio = strong[:, part] / plain[:, part]
        rest = ratio[0, 0]
        expected = torch.full((77,), 1.0) * rest
        expected[2:4] *= 1.5  # behind the mark of the beginning and `a`
        torch.testing.assert_close(ratio, expected[:, None].expand_as(ratio), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(strong[:, part].mean(), plain[:, part].mean(), rtol=1e-4, atol=1e-6)


def test_emphasis_leaves_the_pooled_embedding_and_other_chunks_alone(exact):
    import torch

    encoder = encoder_of(exact)
    plain, strong = encoder.encode(["a b BREAK c"]), encoder.encode(["a b BREAK (c:1.4)"])
    assert torch.equal(plain["pooled_prompt_embeds"], strong["pooled_prompt_embeds"])
    assert torch.equal(plain["prompt_embeds"][:, :77], strong["prompt_embeds"][:, :77])
    assert not torch.equal(plain["prompt_embeds"][:, 77:], strong["prompt_embeds"][:, 77:])


def test_a_long_prompt_takes_more_chunks_and_the_negative_is_filled_up(pipeline):
    import torch

    encoder = encoder_of(pipeline)
    found = encoder.encode([LONG], ["blur"])
    parts = [encoder.encode([text], [""]) for text in (LONG[:75], LONG[75:])]
    assert found["prompt_embeds"].shape == found["negative_prompt_embeds"].shape == (1, 154, 64)
    # The tiny tokenizer marks the last letter of a word, so the 75th of the short text is another token.
    assert torch.equal(found["prompt_embeds"][:, :75], parts[0]["prompt_embeds"][:, :75])
    assert torch.equal(found["prompt_embeds"][:, 77:], parts[1]["prompt_embeds"])
    blur = encoder.encode(["blur"], [""])
    filled = torch.cat([blur["prompt_embeds"], blur["negative_prompt_embeds"]], dim=1)
    assert torch.equal(found["negative_prompt_embeds"], filled)
    assert torch.equal(found["negative_pooled_prompt_embeds"], blur["pooled_prompt_embeds"])
    assert torch.equal(
        encoder.encode(["hat BREAK cap"])["pooled_prompt_embeds"], encoder.encode(["hat"])["pooled_prompt_embeds"]
    )


def test_tokens_and_chunks_are_counted(exact):
    encoder = encoder_of(exact)
    assert encoder.token_count(LONG) == 100
    assert encoder.token_count("(a:1.3), b") == 3
    assert encoder.token_count("") == 0
    assert encoder.chunk_count("hat") == 1
    assert encoder.chunk_count("hat", LONG) == encoder.chunk_count(LONG, "hat") == 2
    assert encoder.chunk_count("a BREAK b BREAK c") == 3


@pytest.mark.parametrize("skip", [1, 2, 3, 5])
def test_clip_skip_counts_as_a1111_does_and_leaves_the_pooled_embedding_alone(exact, skip):
    import torch

    found = encoder_of(exact, clip_skip=skip).encode(["hat"], ["blur"])
    positive = diffusers_own(exact, ["hat"], ["x"], clip_skip=skip - 2)
    negative = diffusers_own(exact, ["blur"], ["x"], clip_skip=skip - 2)  # for which diffusers itself skips nothing
    assert torch.equal(found["prompt_embeds"], positive["prompt_embeds"])
    assert torch.equal(found["negative_prompt_embeds"], negative["prompt_embeds"])
    assert torch.equal(found["pooled_prompt_embeds"], positive["pooled_prompt_embeds"])


def test_a_clip_skip_beyond_the_layers_is_told(exact):
    with pytest.raises(SettingsError, match=r"FC_SDXL_CLIP_SKIP=6.*5 layers"):
        encoder_of(exact, clip_skip=6)


def add_word(pipeline, word, vectors):
    """As a checkpoint is loaded with the textual inversion of that name."""
    with tempfile.TemporaryDirectory() as folder:
        file = build_embedding(Path(folder) / f"{word}.safetensors", vectors=vectors)
        sdxl_words.add_word(pipeline.components, word_addon("FC_SDXL_EMBEDDINGS", file))


def test_a_textual_inversion_of_several_vectors_is_written_out(own):
    import torch

    add_word(own, "mystyle", 3)
    encoder = encoder_of(own)
    assert encoder.token_count("a mystyle b") == 5
    assert_same(encoder.encode(["a mystyle, b"], ["MyStyle"]), diffusers_own(own, ["a mystyle, b"], ["mystyle"]))
    weighted = encoder.encode(["a (mystyle:2) b"])["prompt_embeds"][0]
    plain = encoder.encode(["a mystyle b"])["prompt_embeds"][0]
    ratio = (weighted / plain)[:, 0]
    torch.testing.assert_close(ratio[2:5] / ratio[0], torch.full((3,), 2.0), rtol=1e-4, atol=1e-5)
    assert encoder.encode(["x" * 74 + " mystyle"])["prompt_embeds"].shape[1] == 154


@pytest.mark.parametrize(("before", "first"), [(70, 75), (71, 71), (74, 74), (75, 75)])
def test_a_word_of_five_vectors_is_never_parted_over_two_chunks(own, before, first):
    add_word(own, "mystyle", 5)
    chunks = encoder_of(own)._chunks("x" * before + " mystyle mystyle")
    for of_encoder in chunks:
        lengths = [len(chunk.tokens) for chunk in of_encoder]
        assert lengths[0] == first
        assert sum(lengths) == before + 10
        words = [chunk.tokens[start:] for chunk, start in zip(of_encoder, (before, 0), strict=True)]
        assert all(len(tokens) % 5 == 0 for tokens in words)
        assert len({tokens[at : at + 5] for tokens in words for at in range(0, len(tokens), 5)}) == 1


def test_vectors_that_fill_more_than_a_chunk_are_parted(own):
    add_word(own, "huge", 100)
    encoder = encoder_of(own)
    assert (encoder.token_count("huge"), encoder.chunk_count("huge")) == (100, 2)


def test_an_added_word_is_not_taken_for_the_end_mark(own):
    """SDXL's own configs say eos_token_id 2, with which transformers pools at the highest token."""
    import torch

    add_word(own, "mystyle", 1)
    right = encoder_of(own).encode(["a mystyle, b"])["pooled_prompt_embeds"]
    own.text_encoder_2.text_model.eos_token_id = 2
    assert not torch.equal(diffusers_own(own, ["a mystyle, b"], None)["pooled_prompt_embeds"], right)
    assert torch.equal(encoder_of(own).encode(["a mystyle, b"])["pooled_prompt_embeds"], right)


@pytest.mark.parametrize("kind", ["StableDiffusionXLPipeline", "StableDiffusionXLInpaintPipeline"])
def test_the_pipelines_take_the_embeddings(exact, kind):
    import diffusers
    import numpy as np
    import torch

    pipeline = getattr(diffusers, kind)(**exact.components, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    masked = {"image": torch.rand(1, 3, 32, 32), "mask_image": torch.ones(1, 1, 32, 32), "strength": 0.99}

    def image(**words):
        return pipeline(
            **words,
            **(masked if "Inpaint" in kind else {}),
            generator=[torch.Generator("cpu").manual_seed(3)],
            num_inference_steps=2,
            width=32,
            height=32,
            output_type="np",
        ).images[0]

    encoder = encoder_of(exact)
    short = image(**encoder.encode(["hat"], ["blur"]))
    np.testing.assert_array_equal(short, image(prompt=["hat"], negative_prompt=["blur"]))
    long = image(**encoder.encode([f"hat, {LONG}"], ["blur"]))
    assert np.isfinite(long).all()
    assert np.abs(long - image(**encoder.encode([f"hat, {LONG[:90]}"], ["blur"]))).max() > 0
