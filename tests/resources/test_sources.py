"""Importing a photo: what may be read, that it is checked at once, and that the copy is the photo."""

import io
import os
import threading

import fsspec
import numpy as np
import pytest
from PIL import Image

from imaging.errors import InvalidImageError
from resources.settings import Settings
from resources.sources.photos import SourceInfo, import_source, load_source
from resources.store.image_store import ImageStore

PIXELS = np.random.default_rng(5).integers(0, 256, (70, 90, 3), dtype=np.uint8)


def save(path, pixels=PIXELS, kind="PNG", **options):
    Image.fromarray(pixels).save(path, kind, **options)
    return path


@pytest.fixture
def settings(monkeypatch):
    monkeypatch.delenv("FC_SOURCE_ROOTS", raising=False)
    return Settings(_env_file=None)


@pytest.fixture
def store(tmp_path):
    return ImageStore(str(tmp_path / "data"))


def inside(root):
    return Settings(_env_file=None, source_roots=[root])


def test_import_and_load(tmp_path, settings, store):
    path = save(tmp_path / "photo.png")
    info = import_source(str(path), settings=settings, store=store)
    assert (info.path, info.width, info.height, info.format) == (str(path), 90, 70, "PNG")
    assert info.bytes == path.stat().st_size
    assert info.stored == f"sources/{info.sha256}.png"
    assert store.read(*info.stored.split("/")) == path.read_bytes()
    path.unlink()
    assert np.array_equal(load_source(info, store).pixels, PIXELS)
    assert SourceInfo.model_validate_json(info.model_dump_json()) == info


@pytest.mark.parametrize(("kind", "extension"), [("JPEG", "jpg"), ("WEBP", "webp"), ("HEIF", "heic")])
def test_the_content_decides_the_extension(tmp_path, settings, store, kind, extension):
    import pillow_heif

    pillow_heif.register_heif_opener()
    path = save(tmp_path / "photo.png", kind=kind)
    info = import_source(str(path), settings=settings, store=store)
    assert info.format == kind
    assert info.stored.endswith(f".{extension}")


def test_the_size_is_that_of_the_upright_photo(tmp_path, settings, store):
    exif = Image.Exif()
    exif[0x0112] = 6
    info = import_source(str(save(tmp_path / "a.png", exif=exif)), settings=settings, store=store)
    assert (info.width, info.height) == (70, 90)


def test_the_same_photo_is_stored_once(tmp_path, settings, store):
    first = import_source(str(save(tmp_path / "a.png")), settings=settings, store=store)
    stored = store.path(*first.stored.split("/"))
    before = stored.stat()
    second = import_source(str(save(tmp_path / "b.png")), settings=settings, store=store)
    assert second.stored == first.stored
    assert (stored.stat().st_mtime_ns, stored.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_damaged_copy_is_noticed_and_fixed_by_importing_again(tmp_path, settings, store):
    path = save(tmp_path / "a.png")
    info = import_source(str(path), settings=settings, store=store)
    store.write(*info.stored.split("/"), data=path.read_bytes()[:-1])
    with pytest.raises(InvalidImageError, match=r"changed or damaged.*Submit the job again"):
        load_source(info, store)
    import_source(str(path), settings=settings, store=store)
    assert np.array_equal(load_source(info, store).pixels, PIXELS)


def test_a_missing_copy_is_named(tmp_path, settings, store):
    info = import_source(str(save(tmp_path / "a.png")), settings=settings, store=store)
    store.path(*info.stored.split("/")).unlink()
    with pytest.raises(InvalidImageError, match=rf"{info.sha256}\.png of .*a\.png is missing"):
        load_source(info, store)


def test_relative_paths_start_at_the_current_directory(tmp_path, settings, store, monkeypatch):
    save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert import_source("a.png", settings=settings, store=store).path == str(tmp_path / "a.png")


def test_links_are_followed(tmp_path, settings, store):
    save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to("a.png")
    assert import_source(str(tmp_path / "link.png"), settings=settings, store=store).path == str(tmp_path / "a.png")


def test_roots(tmp_path, store):
    root = tmp_path / "allowed"
    (root / "deep").mkdir(parents=True)
    save(root / "deep" / "a.png")
    assert import_source(str(root / "deep" / ".." / "deep" / "a.png"), settings=inside(root), store=store).width == 90


@pytest.mark.parametrize("way", ["plain", "dots", "link", "folder link", "like the root", "missing"])
def test_ways_out_of_the_roots(tmp_path, store, way):
    root = tmp_path / "allowed"
    root.mkdir()
    (tmp_path / "allowed-not").mkdir()
    secret = save(tmp_path / "secret.png")
    save(tmp_path / "allowed-not" / "a.png")
    (root / "link.png").symlink_to(secret)
    (root / "up").symlink_to(tmp_path)
    path = {
        "plain": secret,
        "dots": root / ".." / "secret.png",
        "link": root / "link.png",
        "folder link": root / "up" / "secret.png",
        "like the root": tmp_path / "allowed-not" / "a.png",
        "missing": tmp_path / "not there.png",  # the message must not tell this from the others
    }[way]
    with pytest.raises(InvalidImageError, match=r"lies outside the folders.*FC_SOURCE_ROOTS"):
        import_source(str(path), settings=inside(root), store=store)
    assert not store.path("sources").exists()


def test_a_root_that_is_a_link(tmp_path, store):
    (tmp_path / "real").mkdir()
    save(tmp_path / "real" / "a.png")
    (tmp_path / "root").symlink_to("real")
    assert import_source(str(tmp_path / "root" / "a.png"), settings=inside(tmp_path / "root"), store=store)


def test_a_link_that_appears_after_the_check_is_not_followed(tmp_path, store, monkeypatch):
    root = tmp_path / "allowed"
    root.mkdir()
    secret = save(tmp_path / "secret.png")
    path = save(root / "a.png")
    real_open = os.open

    def swap_then_open(name, flags, *rest, **options):
        if str(name) == str(path):
            path.unlink()
            path.symlink_to(secret)
        return real_open(name, flags, *rest, **options)

    monkeypatch.setattr(os, "open", swap_then_open)
    with pytest.raises(InvalidImageError, match="cannot be read"):
        import_source(str(path), settings=inside(root), store=store)


def test_things_that_are_no_files(tmp_path, settings, store):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path, words in {
        tmp_path: "Is a directory",
        tmp_path / "pipe": "not a regular file",
        "/dev/zero": "not a regular file",
        tmp_path / "none.png": "No such file",
        tmp_path / "loop": "loop",
        "a\0b": "not a usable path",
        "x" * 5000: "too long",
    }.items():
        with pytest.raises(InvalidImageError, match=words) as caught:
            import_source(str(path), settings=settings, store=store)
        assert caught.value.hint


def test_limits(tmp_path, settings, store):
    big = tmp_path / "big.png"
    with big.open("wb") as file:
        file.truncate(50_000_001)
    with pytest.raises(InvalidImageError, match=r"big\.png has 50\.0 MB; at most 50 MB"):
        import_source(str(big), settings=settings, store=store)
    buffer = io.BytesIO()
    Image.new("1", (8000, 6300)).save(buffer, "PNG")
    wide = tmp_path / "wide.png"
    wide.write_bytes(buffer.getvalue())
    with pytest.raises(InvalidImageError, match=r"wide\.png is 8000 x 6300 pixels"):
        import_source(str(wide), settings=settings, store=store)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_photo_is_refused_at_once(tmp_path, settings, store, kind):
    path = save(tmp_path / "a", kind=kind)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InvalidImageError, match="damaged or truncated"):
        import_source(str(path), settings=settings, store=store)
    assert not store.path("sources").exists()


def test_an_empty_file(tmp_path, settings, store):
    (tmp_path / "a.png").touch()
    with pytest.raises(InvalidImageError, match=r"a\.png is empty"):
        import_source(str(tmp_path / "a.png"), settings=settings, store=store)


def test_a_name_that_is_not_utf8(tmp_path, settings, store):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    save(name)
    info = import_source(name, settings=settings, store=store)
    assert info.path.endswith(r"caf\udce9.png")
    assert SourceInfo.model_validate_json(info.model_dump_json()) == info


def test_two_imports_at_once(tmp_path, settings, store):
    path = str(save(tmp_path / "a.png"))
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(import_source(path, settings=settings, store=store)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert [entry.name for entry in store.path("sources").iterdir()] == [found[0].stored.split("/")[1]]


def test_a_store_behind_a_url(tmp_path, settings):
    store = ImageStore(f"memory://{tmp_path.name}")
    info = import_source(str(save(tmp_path / "a.png")), settings=settings, store=store)
    assert np.array_equal(load_source(info, store).pixels, PIXELS)
    fsspec.filesystem("memory").store.clear()
