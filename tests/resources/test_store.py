"""The image store: whole files or none, on a disk and behind a URL."""

import errno
import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.errors import BackendError, SettingsError, TransientError
from resources.store.image_store import ImageStore, StoredFile

FINAL = "6-final"
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["folder", "file URL", "memory"])
def store(request, tmp_path):
    if request.param == "folder":
        yield ImageStore(str(tmp_path / "data"))
    elif request.param == "file URL":
        yield ImageStore((tmp_path / "data").as_uri())
    else:
        yield ImageStore(f"memory://{tmp_path.name}/data")
        fsspec.filesystem("memory").store.clear()


def run_python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_write_and_read(store):
    assert not store.exists(FINAL, "a.png")
    file = store.write(FINAL, "a.png", data=b"one")
    assert file == StoredFile(str(store.path(FINAL, "a.png")), hashlib.sha256(b"one").hexdigest(), 3)
    assert store.exists(FINAL, "a.png")
    assert not store.exists(FINAL)
    assert store.read(FINAL, "a.png") == b"one"
    assert store.sha256_of(FINAL, "a.png") == file.sha256
    store.write(FINAL, "a.png", data=b"")
    assert store.read(FINAL, "a.png") == b""


def test_a_missing_file_is_named(store):
    for method in (store.read, store.sha256_of):
        with pytest.raises(FileNotFoundError, match=r"6-final/none\.png is not in the store.*FC_DATA_DIR"):
            method(FINAL, "none.png")


def test_addresses(tmp_path):
    local = ImageStore(str(tmp_path))
    assert local.root == str(tmp_path)
    assert local.url(FINAL, "a b.png") == f"{tmp_path.as_uri()}/6-final/a%20b.png"
    assert ImageStore(tmp_path.as_uri()).root == str(tmp_path)
    remote = ImageStore("memory://bucket/x")
    assert remote.url(FINAL, "a.png") == "memory://bucket/x/6-final/a.png"


def test_a_relative_root_does_not_move_with_the_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = ImageStore("data")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.write(FINAL, "a", data=b"x")
    assert (tmp_path / "data" / FINAL / "a").read_bytes() == b"x"


def test_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ImageStore("~/data").root == str(tmp_path / "data")


def test_unknown_kinds_of_store():
    with pytest.raises(SettingsError, match="FC_DATA_DIR"):
        ImageStore("nonsense://x")


def test_a_driver_that_is_not_installed():
    if importlib.util.find_spec("gcsfs"):
        pytest.skip("gcsfs is installed")
    with pytest.raises(SettingsError, match="gcsfs"):
        ImageStore("gs://bucket")


@pytest.mark.parametrize("part", ["", ".", "..", ".hidden", "a/b", "/etc", "a\\b", "a\0", "a\n", "x" * 201, "é" * 101])
def test_names_that_could_lead_astray(store, part):
    with pytest.raises(ValueError, match="name"):
        store.write(FINAL, part, data=b"")
    with pytest.raises(ValueError, match="name"):
        store.read(part)


def test_a_place_needs_a_name(store):
    with pytest.raises(ValueError, match="at least one name"):
        store.path()


@given(st.lists(st.text(max_size=12), min_size=1, max_size=3))
def test_no_name_leads_out_of_the_store(parts):
    store = ImageStore("/root/of/store")
    try:
        path = store.path(*parts)
    except ValueError:
        return
    assert Path(os.path.normpath(path)).parts[:4] == ("/", "root", "of", "store")
    assert len(Path(os.path.normpath(path)).parts) == 4 + len(parts)


def test_no_temporary_file_is_left(tmp_path):
    store = ImageStore(str(tmp_path))
    store.write(FINAL, "a.png", data=b"x" * 100_000)
    assert names(tmp_path / FINAL) == ["a.png"]


def test_files_are_readable_by_those_whom_umask_allows(tmp_path):
    before = os.umask(0o027)
    try:
        ImageStore(str(tmp_path)).write("a", data=b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "No space left"), (errno.EACCES, "Permission denied")])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, call, code, words):
    store = ImageStore(str(tmp_path))
    store.write(FINAL, "a.png", data=b"old")

    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(BackendError, match=rf"6-final/a\.png cannot be written: {words}.*FC_DATA_DIR") as caught:
        store.write(FINAL, "a.png", data=b"new")
    assert not isinstance(caught.value, TransientError)
    assert names(tmp_path / FINAL) == ["a.png"]
    assert store.read(FINAL, "a.png") == b"old"


def test_a_real_disk_limit(tmp_path):
    code = (
        "import resource, sys\n"
        "from imaging.errors import BackendError\n"
        "from resources.store.image_store import ImageStore\n"
        "store = ImageStore(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    store.write('f', 'a', data=b'x' * 100_000)\n"
        "except BackendError as error:\n"
        "    print(error)\n"
    )
    out, err = run_python(code, str(tmp_path)).communicate(timeout=60)
    assert "f/a cannot be written: File too large" in out, err
    assert names(tmp_path / "f") == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / FINAL).write_text("a file where a folder should be")
    with pytest.raises(BackendError, match="cannot be written"):
        ImageStore(str(tmp_path)).write(FINAL, "a", data=b"")


def test_an_interrupt_is_not_swallowed(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ImageStore(str(tmp_path)).write("f", "a", data=b"x")
    assert names(tmp_path / "f") == []


def test_a_lost_connection_may_pass(monkeypatch):
    store = ImageStore("memory://lost/x")

    def lost(*arguments, **options):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "pipe_file", lost)
    with pytest.raises(TransientError, match="memory://lost/x/a cannot be written: Connection reset"):
        store.write("a", data=b"")


def test_killed_before_the_rename(tmp_path):
    store = ImageStore(str(tmp_path))
    store.write("f", "a", data=b"old")
    code = (
        "import os, signal, sys\n"
        "from resources.store.image_store import ImageStore\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
        "ImageStore(sys.argv[1]).write('f', 'a', data=b'new')\n"
    )
    assert run_python(code, str(tmp_path)).wait(timeout=60) == -signal.SIGKILL
    assert store.read("f", "a") == b"old"
    assert len(names(tmp_path / "f")) == 2
    assert store.remove_temp_leftovers() == 0  # it could still be at work
    assert store.remove_temp_leftovers(older_than=0) == 1
    assert names(tmp_path / "f") == ["a"]


def test_killed_at_any_moment(tmp_path):
    """A writer in a loop is killed some way into a write; what is seen then is one of its whole files."""
    code = (
        "import sys\n"
        "from resources.store.image_store import ImageStore\n"
        "store = ImageStore(sys.argv[1])\n"
        "while True:\n"
        "    for letter in (b'a', b'b'):\n"
        "        store.write('f', 'a', data=letter * 3_000_000)\n"
        "        print(letter, flush=True)\n"
    )
    store = ImageStore(str(tmp_path))
    for writes in (1, 4):
        process = run_python(code, str(tmp_path))
        for _ in range(writes):
            process.stdout.readline()
        process.kill()
        process.communicate(timeout=60)
        assert store.sha256_of("f", "a") in {hashlib.sha256(letter * 3_000_000).hexdigest() for letter in (b"a", b"b")}
    store.remove_temp_leftovers(older_than=0)
    assert names(tmp_path / "f") == ["a"]


def test_only_our_temporary_files_are_removed(tmp_path):
    store = ImageStore(str(tmp_path))
    keep = ["a.tmp", ".a.tmp", ".a.0123456789abcdef.tmp.png", ".keep"]
    (tmp_path / "f").mkdir()
    for name in [*keep, ".a.0123456789abcdef.tmp"]:
        (tmp_path / "f" / name).write_text("x")
    assert store.remove_temp_leftovers(older_than=0) == 1
    assert names(tmp_path / "f") == sorted(keep)


def test_a_store_without_files_has_no_leftovers(store):
    assert store.remove_temp_leftovers(older_than=0) == 0


def test_many_writers_of_one_name(tmp_path):
    store = ImageStore(str(tmp_path))
    contents = [bytes([number]) * 50_000 for number in range(8)]
    threads = [threading.Thread(target=store.write, args=("f", "a"), kwargs={"data": data}) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read("f", "a") in contents
    assert names(tmp_path / "f") == ["a"]


def test_passwords_are_not_shown():
    with pytest.raises(SettingsError) as caught:
        ImageStore("nonsense://user:secret@host/x")
    assert "secret" not in str(caught.value)


def test_a_file_like_another_shares_its_bytes_until_one_is_replaced(store):
    store.write(FINAL, "a.png", data=b"one")
    assert store.write("4-results", "a.png", data=b"one", like=(FINAL, "a.png")) == store.as_stored(
        "4-results", "a.png", data=b"one"
    )
    first, second = store.path(FINAL, "a.png"), store.path("4-results", "a.png")
    if not store.root.startswith("memory"):
        assert Path(first.path).samefile(second.path)
    store.write("4-results", "a.png", data=b"one", like=(FINAL, "a.png"))
    assert store.temp_leftovers(0) == []
    store.write(FINAL, "a.png", data=b"two")
    assert (store.read("4-results", "a.png"), store.read(FINAL, "a.png")) == (b"one", b"two")
    store.remove(FINAL, "a.png")
    assert store.read("4-results", "a.png") == b"one"


def test_where_there_are_no_hard_links_a_copy_is_written(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    store = ImageStore(str(tmp_path))
    store.write(FINAL, "a.png", data=b"one")
    store.write("4-results", "a.png", data=b"one", like=(FINAL, "a.png"))
    assert store.read("4-results", "a.png") == b"one"
    assert not (tmp_path / FINAL / "a.png").samefile(tmp_path / "4-results" / "a.png")
