"""Bytes by path: names, atomic writes, listings, and the sentences for what the system refuses."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlts_beam import storage
from dlts_beam.errors import DltsError
from tests.storage_laws import check_a_failed_write_leaves_the_old_bytes


@pytest.mark.parametrize(
    ("path", "parent", "name"),
    [
        ("a/b.tif", "a", "b.tif"),
        ("a/b/", "a", "b"),
        ("b.tif", ".", "b.tif"),
        ("/b", "/", "b"),
        ("gs://bucket/a/b.tif", "gs://bucket/a", "b.tif"),
        ("gs://bucket/a/", "gs://bucket", "a"),
        ("gs://bucket", "gs://bucket", "bucket"),
    ],
)
def test_parent_and_name(path: str, parent: str, name: str):
    assert storage.parent(path) == parent
    assert storage.name(path) == name


def test_join_undoes_parent_and_name():
    for path in ("a/b/c.tif", "/a/b", "gs://bucket/a/b.tif"):
        assert storage.join(storage.parent(path), storage.name(path)) == path


def test_join_starts_anew_at_absolute_names():
    assert storage.join("gs://bucket/series/", "a.tif") == "gs://bucket/series/a.tif"
    assert storage.join("series", "gs://bucket/a.tif") == "gs://bucket/a.tif"
    assert storage.join("series", "/data/a.tif") == "/data/a.tif"


def test_gdal_names():
    assert storage.gdal_name("gs://bucket/a/b.tif") == "/vsigs/bucket/a/b.tif"
    assert storage.gdal_name("a/b.tif") == "a/b.tif"
    assert storage.gdal_path("a/b.tif") == "a/b.tif"


def test_unknown_stores_are_refused():
    assert storage.is_remote("gs://bucket/a")
    assert not storage.is_remote("images/{date}_{band}.tif")
    with pytest.raises(DltsError, match="s3:// is neither"):
        storage.is_remote("s3://bucket/a")


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("gs://", "gs:// names no bucket: write gs://BUCKET/PATH"),
        ("gs:///a", "gs:///a names no bucket: write gs://BUCKET/PATH"),
        ("gs:/bucket/a", "cannot use gs:/bucket/a: one slash is missing; write gs://BUCKET/PATH"),
        ("gs:/", "cannot use gs:/: one slash is missing"),
    ],
)
def test_what_only_looks_like_a_bucket_is_never_a_local_path(
    path: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    uses = (storage.is_remote, storage.parent, storage.name, storage.gdal_name, storage.make_dirs)
    for use in (*uses, storage.exists, storage.read_bytes, storage.list_files, storage.check_writable):
        with pytest.raises(DltsError, match=f"^{sentence}"):
            use(path)
    with pytest.raises(DltsError, match=f"^{sentence}"):
        storage.join(path, "a")
    with pytest.raises(DltsError, match=f"^{sentence}"), storage.exclusive(path, "x"):
        pytest.fail("locked nothing")
    assert os.listdir(tmp_path) == []


def test_local_names_may_begin_with_gs(tmp_path: Path):
    for name in ("gs", "gs:x", "./gs:/x"):
        assert not storage.is_remote(name)
    assert storage.join("gs://bucket//", "a") == "gs://bucket/a"


def test_what_is_written_is_read(tmp_path: Path):
    path = tmp_path / "new" / "deeper" / "a.txt"  # folders come with their files
    storage.write_text(path, "área\n")
    assert storage.read_text(path) == "área\n"
    assert storage.read_bytes(path) == "área\n".encode()
    storage.write_bytes(path, b"again")
    with storage.open_read(path) as file:
        file.seek(2)
        assert file.read() == b"ain"
    assert storage.digest(path) == hashlib.sha256(b"again").hexdigest()


def test_text_may_start_with_a_byte_order_mark_and_must_be_utf8(tmp_path: Path):
    storage.write_bytes(tmp_path / "a.csv", b"\xef\xbb\xbfdate")
    assert storage.read_text(tmp_path / "a.csv") == "date"
    storage.write_bytes(tmp_path / "a.csv", "área".encode("latin-1"))
    with pytest.raises(DltsError, match=r"a\.csv is not a UTF-8 text file"):
        storage.read_text(tmp_path / "a.csv")


def test_a_failed_write_leaves_the_old_bytes_and_nothing_else(tmp_path: Path):
    check_a_failed_write_leaves_the_old_bytes(str(tmp_path))
    assert os.listdir(tmp_path) == ["map.tif"]  # nor anything that our own listing leaves out


def test_staged_gives_a_fresh_local_name_with_the_extension(tmp_path: Path):
    path = tmp_path / "map.tif"
    with storage.staged(path) as aside:
        assert aside.endswith(".tif")
        assert not os.path.exists(aside)
        Path(aside).write_bytes(b"tif")
        assert storage.listdir(tmp_path) == []  # what is being written is not listed
        assert storage.list_files(tmp_path) == []
    assert storage.read_bytes(path) == b"tif"


def test_new_files_follow_the_umask(tmp_path: Path):
    storage.write_bytes(tmp_path / "ours", b"")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_listings_are_sorted_and_carry_fingerprints(tmp_path: Path):
    for name in ("b.tif", "a/2.tif", "a/1.tif", "c"):
        storage.write_bytes(tmp_path / name, name.encode())
    assert storage.listdir(tmp_path) == ["a", "b.tif", "c"]
    assert [entry.path for entry in storage.list_files(tmp_path)] == [f"{tmp_path}/b.tif", f"{tmp_path}/c"]
    every = storage.list_files(tmp_path, recursive=True)
    assert [entry.path for entry in every] == [
        f"{tmp_path}/{name}" for name in ("a/1.tif", "a/2.tif", "b.tif", "c")
    ]
    for path, size, stamp in every:
        assert storage.stat(path) == (size, stamp)


def test_a_link_to_nowhere_is_named(tmp_path: Path):
    storage.write_bytes(tmp_path / "a.tif", b"tif")
    (tmp_path / "b.tif").symlink_to(tmp_path / "a.tif")
    assert [storage.name(entry.path) for entry in storage.list_files(tmp_path)] == ["a.tif", "b.tif"]
    (tmp_path / "a.tif").unlink()
    with pytest.raises(DltsError) as caught:
        storage.list_files(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/b.tif is a link to {tmp_path}/a.tif, and there is no such file: mend or remove it"
    )


def test_a_fingerprint_changes_with_the_content(tmp_path: Path):
    path = tmp_path / "a"
    storage.write_bytes(path, b"one")
    before = storage.stat(path)
    storage.write_bytes(path, b"two")
    os.utime(path, ns=(0, 1 + int(before.stamp)))
    assert storage.stat(path) != before


def test_removing_twice_is_removing_once(tmp_path: Path):
    storage.write_bytes(tmp_path / "d" / "a", b"")
    for _ in range(2):
        storage.remove(tmp_path / "d" / "a")
    assert storage.exists(tmp_path / "d")
    for _ in range(2):
        storage.remove_tree(tmp_path / "d")
    assert not storage.exists(tmp_path / "d")
    assert storage.list_files(tmp_path / "d") == []


def test_upload_and_local_copy(tmp_path: Path):
    storage.write_bytes(tmp_path / "a", b"bytes")
    storage.upload(tmp_path / "a", tmp_path / "there" / "b")
    with storage.local_copy(tmp_path / "there" / "b") as local:
        assert Path(local).read_bytes() == b"bytes"
    with storage.local_copy(tmp_path / "there") as local:
        assert storage.is_folder(local)


def test_missing_files_are_named(tmp_path: Path):
    missing = tmp_path / "none.tif"
    for use in (storage.read_bytes, storage.open_read, storage.stat, storage.listdir):
        with pytest.raises(DltsError, match=r"none\.tif: there is no such file or folder"):
            use(missing)
    with pytest.raises(DltsError, match="there is no such file"), storage.local_copy(missing):
        pass
    with pytest.raises(DltsError, match=r"copy .*none\.tif"):
        storage.upload(missing, tmp_path / "b")


def test_a_file_where_a_folder_is_expected(tmp_path: Path):
    storage.write_bytes(tmp_path / "file", b"")
    with pytest.raises(DltsError, match="a file stands where a folder is expected"):
        storage.check_writable(tmp_path / "file")
    with pytest.raises(DltsError, match="a file stands where a folder is expected"):
        storage.write_bytes(tmp_path / "file" / "a", b"")
    with pytest.raises(DltsError, match="it is a folder where a file is expected"):
        storage.read_bytes(tmp_path)


def test_check_writable_makes_the_folder_and_leaves_it_empty(tmp_path: Path):
    storage.check_writable(tmp_path / "new")
    assert os.listdir(tmp_path / "new") == []


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk is full; free some space"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission denied"),
    ],
)
def test_refusals_of_the_system_become_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, sentence: str
):
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DltsError, match=rf"cannot write .*a\.tif: {sentence}"):
        storage.write_bytes(tmp_path / "a.tif", b"bytes")
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_in_the_body_is_told(tmp_path: Path):
    def fill() -> None:
        with storage.open_atomic(tmp_path / "a.tif") as file:
            file.write(b"half")
            with open("/dev/full", "wb", buffering=0) as full:
                full.write(b"x")

    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full to stand for a full disk")
    with pytest.raises(DltsError, match=r"a\.tif: the disk is full"):
        fill()
    assert os.listdir(tmp_path) == []


def test_local_paths_load_no_cloud_client(tmp_path: Path):
    code = (
        "import sys; from dlts_beam import storage; storage.write_text(sys.argv[1], 'x');"
        "assert 'google.cloud.storage' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=True)


def test_local_copies_of_local_files_are_the_files(tmp_path: Path):
    storage.write_bytes(tmp_path / "a", b"bytes")
    with storage.local_copies(tmp_path, ["a"]) as local:
        assert Path(local, "a").samefile(tmp_path / "a")
    with storage.local_copies(tmp_path / "new", []) as local:
        assert os.listdir(local) == []
