"""What a PNG says about itself: written exactly, read by others, and safe to read from anyone."""

import io
import json
import struct
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imaging.errors import InvalidImageError
from imaging.files.provenance import (
    Provenance,
    a1111_parameters,
    back_end_texts,
    decode_png_exact,
    digital_source_type,
    encode_png,
    parse_a1111,
    read_provenance,
)
from tests.support import readers

PIXELS = np.random.default_rng(1).integers(0, 256, (9, 13, 3), dtype=np.uint8)
SETTINGS = {
    "Steps": 30,
    "Sampler": "Euler a",
    "CFG scale": 6.0,
    "Seed": 42,
    "Size": "1024x1024",
    "Version": "face-changer 1",
}
EXAMPLE = Provenance("a fox\nSteps: 1, Seed: 2, Size: 3x3", {"job": "j1", "b": [1, 2.5, None]}, "algorithmicMedia")


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(kind, body):
    data = encode_png(PIXELS)
    at = data.index(b"IEND") - 4
    return data[:at] + chunk(kind, body) + data[at:]


def test_a1111_text():
    text = a1111_parameters(
        "a fox, sitting", "blurry", {"Note": "x", "Version": "v1", "Seed": 7, "Steps": 30, "Model": "a, b"}
    )
    assert text == 'a fox, sitting\nNegative prompt: blurry\nSteps: 30, Seed: 7, Model: "a, b", Note: x, Version: v1'


def test_a1111_text_of_another_tool():
    text = (
        "a cat <lora:x:0.8>,\nsecond line\nNegative prompt: bad,\nugly\n"
        'Steps: 20, Sampler: DPM++ 2M, Lora hashes: "x: 12ab, y: 34cd", '
        'Civitai resources: [{"a":1,"b":2}], Version: v1.9.4'
    )
    found = parse_a1111(text)
    assert found["prompt"] == "a cat <lora:x:0.8>,\nsecond line"
    assert found["negative_prompt"] == "bad,\nugly"
    assert found["settings"]["Lora hashes"] == "x: 12ab, y: 34cd"
    assert (found["settings"]["Sampler"], found["settings"]["Version"]) == ("DPM++ 2M", "v1.9.4")


def test_a_prompt_alone_is_no_settings_line():
    assert parse_a1111("a face, light: soft, mood: calm") == {
        "prompt": "a face, light: soft, mood: calm",
        "negative_prompt": "",
        "settings": {},
    }


@pytest.mark.parametrize(
    "bad", [{"Steps": 1, "Seed": 2}, {"Steps": 1, "Seed": 2, "a:b": 3}, {"Steps": 1, "Seed": 2, "x ": 3}]
)
def test_settings_that_could_not_be_read_back(bad):
    with pytest.raises(ValueError, match="A1111"):
        a1111_parameters("p", "", bad)


texts = st.text(st.one_of(st.sampled_from(',:\n"\\ \t\r{}[]'), st.characters(exclude_categories=["Cs"])), max_size=80)
keys = st.from_regex(r"[A-Za-z][A-Za-z0-9 /\-]{0,12}[A-Za-z0-9]", fullmatch=True)


@settings(max_examples=300, deadline=None)
@given(texts, texts, st.dictionaries(keys, texts, max_size=5))
def test_a1111_round_trip(prompt, negative, extra):
    wanted = {**{key: str(value) for key, value in SETTINGS.items()}, **extra}
    found = parse_a1111(a1111_parameters(prompt, negative, wanted))
    if "\nNegative prompt:" not in f"\n{prompt}":
        assert (found["prompt"], found["negative_prompt"]) == (prompt, negative)
    assert found["settings"] == wanted


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_text_can_be_parsed(text):
    found = parse_a1111(text)
    assert len(found["prompt"]) <= len(text)


def test_parsing_is_linear():
    for line in (
        "a" * 200_000,
        'ab: "' * 50_000,
        "ab: \\" * 50_000,
        'ab: "x, ' * 50_000,
        "a b-" * 60_000,
        " " * 200_000,
    ):
        parse_a1111(f"p\n{line}")


def test_source_types():
    assert digital_source_type(trained=True, from_photo=False) == "trainedAlgorithmicMedia"
    assert digital_source_type(trained=True, from_photo=True) == "compositeWithTrainedAlgorithmicMedia"
    assert digital_source_type(trained=False, from_photo=False) == "algorithmicMedia"
    assert digital_source_type(trained=False, from_photo=True) == "composite"


@pytest.mark.parametrize(
    "pixels", [PIXELS, PIXELS[..., 0].copy(), PIXELS[:1, :1], np.zeros((1, 1), np.uint8), PIXELS[::2, ::-1]]
)
@pytest.mark.parametrize("provenance", [None, EXAMPLE])
def test_pixels_are_exact_and_bytes_repeat(pixels, provenance):
    data = encode_png(pixels, provenance=provenance)
    decoded = decode_png_exact(data)
    assert np.array_equal(decoded, pixels)
    assert decoded.flags.writeable
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    assert data == encode_png(pixels.copy(), provenance=provenance)


def test_what_other_tools_see():
    image = Image.open(io.BytesIO(encode_png(PIXELS, provenance=EXAMPLE)))
    assert image.info["parameters"] == EXAMPLE.parameters
    assert image.info["srgb"] == 0
    assert image.info["face-changer"] == '{"b":[1,2.5,null],"job":"j1","schema":1}'
    assert "srgb" not in Image.open(io.BytesIO(encode_png(PIXELS[..., 0]))).info


@pytest.mark.parametrize("reader", [readers.comfyui, readers.exifr, readers.exif_reader])
def test_the_readers_of_others_find_the_text(reader):
    graph = json.dumps({"3": {"class_type": "KSampler", "inputs": {"text": "é"}}})
    provenance = Provenance(EXAMPLE.parameters, {}, "algorithmicMedia", texts={"prompt": graph})
    found = reader(encode_png(PIXELS, provenance=provenance))
    assert (found["parameters"], found["prompt"]) == (EXAMPLE.parameters, graph)


def test_latin_1_is_written_as_a1111_does_and_everything_else_as_unicode():
    for text, kind in (("café", b"tEXt"), ("狐", b"iTXt"), ("a\ud800", b"iTXt")):
        data = encode_png(PIXELS, provenance=Provenance(text, {}, None))
        assert kind + b"parameters\0" in data
        assert readers.exif_reader(data)["parameters"] == text.replace("\ud800", "?")


def test_what_a_back_end_s_own_file_said_goes_on():
    texts = {"prompt": '{"3": {}}', "workflow": "{}"}
    data = encode_png(PIXELS, provenance=Provenance("", {}, None, texts=texts))
    assert back_end_texts(data) == texts
    long = encode_png(PIXELS, provenance=Provenance("", {}, None, texts={"workflow": "é" * 600_000}))
    assert back_end_texts(long) == {}, "a text that cannot be read back is not written"


def test_hashes_stand_last_and_are_json_for_those_who_link_files():
    hashes = json.dumps({"model": "67ab2fd8ec", "lora:a": "0123456789ab"})
    text = a1111_parameters("a fox", "", {"Hashes": hashes, "Steps": 30, "Version": "v1", "Note": ""})
    assert text == f'a fox\nSteps: 30, Note: "", Version: v1, Hashes: {hashes}'
    assert parse_a1111(text)["settings"]["Hashes"] == hashes
    assert readers.civitai(text) == json.loads(hashes)


def test_xmp_is_well_formed():
    tool = 'a<b>&"c" \x00\x0b\ufffe\ud800 ü'
    data = encode_png(PIXELS, provenance=Provenance("", {}, "composite", tool))
    root = ET.fromstring(Image.open(io.BytesIO(data)).info["xmp"])  # noqa: S314 - our own text
    assert root.tag == "{adobe:ns:meta/}xmpmeta"
    term = root.find(".//{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert term.text == "http://cv.iptc.org/newscodes/digitalsourcetype/composite"
    assert root.find(".//{http://ns.adobe.com/xap/1.0/}CreatorTool").text == 'a<b>&"c" \ufffd\ufffd\ufffd\ufffd ü'


def test_read_back():
    found = read_provenance(encode_png(PIXELS, provenance=EXAMPLE))
    assert found == {
        "parameters": EXAMPLE.parameters,
        "record": {"job": "j1", "b": [1, 2.5, None], "schema": 1},
        "digital_source_type": "algorithmicMedia",
    }


def test_no_statement():
    assert read_provenance(encode_png(PIXELS)) is None
    found = read_provenance(encode_png(PIXELS, provenance=Provenance("", {}, None)))
    assert found == {"parameters": None, "record": {"schema": 1}, "digital_source_type": None}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60),
    st.dictionaries(st.text(max_size=8).filter(lambda key: key != "schema"), json_values, max_size=4),
)
def test_round_trip_of_any_text_and_record(parameters, record):
    found = read_provenance(encode_png(PIXELS, provenance=Provenance(parameters, record, None)))
    assert found["parameters"] == parameters
    assert found["record"] == {**record, "schema": 1}


def test_text_that_png_cannot_hold_is_replaced_but_kept_in_the_record():
    odd = "a\0b\ud800"
    found = read_provenance(encode_png(PIXELS, provenance=Provenance(odd, {"prompt": odd}, None)))
    assert found["parameters"] == "a\ufffdb?"
    assert found["record"]["prompt"] == odd


def test_a1111_images_with_other_text_chunks():
    assert read_provenance(with_chunk(b"tEXt", b"parameters\0caf\xe9"))["parameters"] == "café"
    assert read_provenance(with_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"hi")))["parameters"] == "hi"
    packed = b"parameters\0\1\0\0\0" + zlib.compress("ü".encode())
    assert read_provenance(with_chunk(b"iTXt", packed))["parameters"] == "ü"


@pytest.mark.parametrize("bad", [np.zeros((2, 2), np.float32), np.zeros((2, 2, 2), np.uint8), np.zeros(4, np.uint8)])
def test_only_rgb_rgba_and_masks_are_written(bad):
    with pytest.raises(ValueError, match="uint8"):
        encode_png(bad)


def test_a_record_must_be_json():
    with pytest.raises(ValueError, match="JSON"):
        encode_png(PIXELS, provenance=Provenance("", {"score": float("nan")}, None))


HOSTILE = {
    "zTXt bomb": (b"zTXt", b"parameters\0\0" + zlib.compress(b"a" * 40_000_000)),
    "iTXt bomb": (b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(b"a" * 40_000_000)),
    "cut zlib": (b"zTXt", b"parameters\0\0" + zlib.compress(b"abcdef")[:-3]),
    "no zlib": (b"zTXt", b"parameters\0\0zzzz"),
    "long text": (b"tEXt", b"parameters\0" + b"a" * 2_000_000),
    "short iTXt": (b"iTXt", b"parameters\0"),
    "no UTF-8": (b"iTXt", b"parameters\0\0\0\0\0\xff\xfe"),
    "no JSON": (b"iTXt", b"face-changer\0\0\0\0\0{"),
    "deep JSON": (b"iTXt", b"face-changer\0\0\0\0\0" + b"[" * 100_000),
    "long number": (b"iTXt", b"face-changer\0\0\0\0\0" + b"9" * 100_000),
    "JSON list": (b"iTXt", b"face-changer\0\0\0\0\0[1]"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_chunks(kind):
    with pytest.raises(InvalidImageError, match=r"x\.png is damaged") as caught:
        read_provenance(with_chunk(*HOSTILE[kind]), name="x.png")
    assert caught.value.hint


def test_too_many_chunks():
    data = encode_png(PIXELS)
    at = data.index(b"IEND") - 4
    with pytest.raises(InvalidImageError, match="more text"):
        read_provenance(data[:at] + chunk(b"tEXt", b"k\0v") * 100 + data[at:])


def test_an_xml_bomb_is_only_text():
    bomb = b'<!DOCTYPE a [<!ENTITY b "' + b"c" * 1000 + b'">]><a>' + b"&b;" * 1000 + b"</a>"
    assert read_provenance(with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + bomb)) is None


@pytest.mark.parametrize("data", [b"", b"GIF89a", json.dumps({}).encode()])
def test_not_a_png(data):
    with pytest.raises(InvalidImageError, match="not a PNG"):
        read_provenance(data)
    with pytest.raises(InvalidImageError):
        decode_png_exact(data)


def test_truncations():
    data = encode_png(PIXELS, provenance=EXAMPLE)
    for length in range(len(data) - 12):
        with pytest.raises(InvalidImageError):
            read_provenance(data[:length])
    end = data.rindex(b"IDAT")
    for length in range(end + 4):
        with pytest.raises(InvalidImageError):
            decode_png_exact(data[:length])


@pytest.mark.parametrize("mode", ["LA", "P", "1", "I;16"])
def test_other_kinds_of_png_are_not_ours(mode):
    image = Image.new("I;16", (4, 4)) if mode == "I;16" else Image.fromarray(PIXELS).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    with pytest.raises(InvalidImageError, match="not a PNG that face-changer wrote"):
        decode_png_exact(buffer.getvalue())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=5))
def test_mutations(changes):
    data = bytearray(encode_png(PIXELS, provenance=EXAMPLE))
    for place, value in changes:
        data[int(place * len(data))] = value
    for reader in (read_provenance, decode_png_exact):
        try:
            reader(bytes(data))
        except InvalidImageError:
            continue


# ---- a record is never larger than what reads it


def test_a_record_is_ascii_where_that_fits_and_else_without_escapes():
    small, large = {"prompt": "狐\ud800"}, {"faces": [{"prompt": "狐" * 8000 + "\ud800\0"}] * 40}
    assert b'"\\u72d0\\ud800"' in encode_png(PIXELS, provenance=Provenance("", small, None))
    data = encode_png(PIXELS, provenance=Provenance("", large, None))
    assert "狐".encode() in data
    assert read_provenance(data)["record"] == {**large, "schema": 1}


def test_where_a_record_is_too_large_what_the_request_has_as_well_is_shortened():
    words = {"pony_prompt": "🦊" * 8000, "face_rules": ["🦊" * 16_000] * 32}
    record = {"job_id": "a", "request": words, "face_pass": {"faces": [{"prompt": "🦊" * 8000, "seed": 1}] * 64}}
    found = read_provenance(encode_png(PIXELS, provenance=Provenance("x" * 2_000_000, record, None)))
    assert found["parameters"] is None
    kept = found["record"]
    assert kept["request"]["pony_prompt"] == words["pony_prompt"]
    assert {face["seed"] for face in kept["face_pass"]["faces"]} == {1}
    assert kept["shortened"] > 64
    assert record["request"]["face_rules"][0] == "🦊" * 16_000, "the record that was given is as it was"


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.integers() | st.builds(lambda text, n: text * n, st.text(max_size=3), st.sampled_from([1, 300, 60_000])),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
        max_leaves=40,
    ).map(lambda value: {"a": value, "b": [1] * 600_000 if str(value) > "s" else value})
)
def test_any_record_that_is_written_can_be_read(record):
    found = read_provenance(encode_png(PIXELS, provenance=Provenance("", record, None)))["record"]
    assert found["schema"] == 1
    if "shortened" not in found:
        assert found == {**json.loads(json.dumps(record)), "schema": 1}
