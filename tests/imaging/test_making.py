"""What files of other tools say of how they were made, in each format, and that a photo says nothing."""

import io
import json
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from imaging.files.decode import decode_image
from imaging.files.making import comment_text
from imaging.files.provenance import Provenance, encode_png
from tests.imaging.test_decode import SMOOTH, chunk, heif_opener

A1111 = "a fox, 狐 in snow\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x512"
GRAPH = json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 7}}})
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" {}</rdf:RDF></x:xmpmeta>'
)
TERM = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def png(**texts):
    info = PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    return saved("PNG", pnginfo=info)


def saved(kind, **options):
    heif_opener()
    buffer = io.BytesIO()
    Image.fromarray(SMOOTH).save(buffer, kind, **options)
    return buffer.getvalue()


def with_exif(kind, tags=(), inner=()):
    exif = Image.Exif()
    exif.update(tags)
    exif.get_ifd(ExifTags.IFD.Exif).update(inner)
    return saved(kind, exif=exif.tobytes())


def making(data):
    return decode_image(data, name="a").making


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "HEIF", "PNG"])
def test_a1111s_comment_in_exif_data(kind):
    comment = b"UNICODE\0" + A1111.encode("utf-16-be")
    found = making(with_exif(kind, inner={0x9286: comment}))
    assert (found.parameters, found.origin) == (A1111, "generated")


@pytest.mark.parametrize(
    "value",
    [
        b"UNICODE\0" + "a fox ü".encode("utf-16-be"), b"UNICODE\0" + "a fox ü".encode("utf-16-le"),
        b"UNICODE\0" + "a fox ü".encode("utf-16"), b"ASCII\0\0\0" + "a fox ü".encode(), b"\0" * 8 + "a fox ü".encode(),
        "a fox ü".encode(), "a fox ü",
    ],
)  # fmt: skip
def test_every_way_to_write_a_comment(value):
    assert comment_text(value) == "a fox ü"


def test_a1111_and_comfyui_and_others_in_png_texts():
    found = making(png(parameters=A1111, workflow=GRAPH, prompt=GRAPH, Comment="made with love"))
    assert (found.parameters, found.texts, found.origin) == (A1111, {"prompt": GRAPH, "workflow": GRAPH}, "generated")
    for keyword in ("invokeai_metadata", "Dream", "generation_data"):
        found = making(png(**{keyword: "{}"}))
        assert (found.texts, found.origin) == ({keyword: "{}"}, "generated")
    novelai = {"Software": "NovelAI", "Source": "Stable Diffusion 1D44", "Comment": "{}", "Description": "a fox"}
    assert making(png(**novelai, Author="me")).texts == novelai


@pytest.mark.parametrize("kind", ["WEBP", "JPEG"])
def test_comfyuis_tags_of_the_camera(kind):
    found = making(with_exif(kind, tags={0x0110: f"prompt:{GRAPH}", 0x010F: f"workflow:{GRAPH}"}))
    assert (found.texts, found.origin) == ({"prompt": GRAPH, "workflow": GRAPH}, "generated")


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG", "HEIF"])
@pytest.mark.parametrize(
    "body",
    [
        f"><e:DigitalSourceType>{TERM}%s</e:DigitalSourceType></rdf:Description>",
        f'e:DigitalSourceType="{TERM}%s"/>',
        f'><e:DigitalSourceType rdf:resource="{TERM}%s"/></rdf:Description>',
    ],
)
def test_the_digital_source_type_in_xmp(kind, body):
    terms = {
        "trainedAlgorithmicMedia": "generated", "algorithmicMedia": "generated", "compositeSynthetic": "edited photo",
        "compositeWithTrainedAlgorithmicMedia": "edited photo", "digitalCapture": "photo",
    }  # fmt: skip
    for term, origin in terms.items():
        packet = XMP.format(body % term)
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet)
        data = saved(kind, pnginfo=info) if kind == "PNG" else saved(kind, xmp=packet.encode())
        found = making(data)
        assert (found.source_type, found.origin) == (term, origin)


def test_our_own_record_comes_back_whole():
    record = {"origin": "edited photo", "generator": "flux"}
    found = making(encode_png(SMOOTH, provenance=Provenance("p", record, "composite", texts={"workflow": GRAPH})))
    assert (found.record, found.origin) == ({**record, "schema": 1}, "edited photo")
    assert (found.parameters, found.source_type, found.texts) == ("p", "composite", {"workflow": GRAPH})


def test_a_photo_says_nothing():
    comments = {0x9286: b"ASCII\0\0\0On the beach, Steps: to the sea"}
    assert making(with_exif("JPEG", {0x010F: "Canon", 0x010E: "a prompt: {beach}"}, comments)) is None
    assert making(with_exif("JPEG", {}, {0x9286: b"\0" * 264})) is None
    assert making(png(Software="GIMP", Comment="Created with GIMP", Title="prompt")) is None
    assert making(saved("WEBP")) is None


@pytest.mark.parametrize("record", [b"{", b"[" * 100_000, b"9" * 100_000, b"[1]", b"null"])
def test_a_record_that_is_none_is_left_out(record):
    data = saved("PNG")
    at = data.index(b"IEND") - 4
    image = decode_image(data[:at] + chunk(b"iTXt", b"face-changer\0\0\0\0\0" + record) + data[at:], name="a")
    assert image.making is None
    assert np.array_equal(image.pixels, SMOOTH)


def test_what_is_too_long_to_be_carried_is_named():
    image = decode_image(png(workflow="é" * 600_000, prompt="x" * 900_000, Dream="y" * 900_000), name="a")
    assert set(image.making.texts) == {"prompt", "Dream"}
    assert any("'workflow' has 1200000 bytes" in note for note in image.notes)
    data = saved("PNG")
    at = data.index(b"IDAT") - 4
    packed = chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(range(32, 127)) * 20_000))
    image = decode_image(data[:at] + packed + data[at:], name="a")
    assert image.making is None
    assert any("'workflow' is longer than is read" in note for note in image.notes)
    assert np.array_equal(image.pixels, SMOOTH)
