"""The laws of `dlts_beam.storage` on gs://, as tests/dlts_beam/test_storage.py has them for local paths."""

from __future__ import annotations

import errno
import gzip
import io
import os
from pathlib import Path

import pytest
from google.api_core.exceptions import RetryError
from google.cloud.storage import Bucket

from dlts_beam import storage
from dlts_beam.errors import DltsError, UnreachableError
from dlts_beam.storage import gcs
from tests.storage_laws import check_a_failed_write_leaves_the_old_bytes


def test_what_is_written_is_read(folder: str):
    path = storage.join(folder, "new", "deeper", "a.txt")
    storage.write_text(path, "área\n")
    assert storage.read_text(path) == "área\n"
    storage.write_bytes(path, b"again")
    with storage.open_read(path) as file:
        file.seek(2)
        assert file.read() == b"ain"


def test_a_failed_write_leaves_the_old_bytes_and_nothing_else(folder: str):
    check_a_failed_write_leaves_the_old_bytes(folder)


def test_listings_are_sorted_and_carry_fingerprints(folder: str):
    for name in ("b.tif", "a/2.tif", "a/1.tif", "c", "d/"):
        storage.write_bytes(storage.join(folder, name), name.encode())
    assert storage.listdir(folder) == ["a", "b.tif", "c", "d"]
    assert [entry.path for entry in storage.list_files(folder)] == [f"{folder}/b.tif", f"{folder}/c"]
    every = storage.list_files(folder, recursive=True)
    assert [entry.path for entry in every] == [
        f"{folder}/{name}" for name in ("a/1.tif", "a/2.tif", "b.tif", "c")
    ]
    for path, size, stamp in every:
        assert storage.stat(path) == (size, stamp)
    assert storage.is_folder(folder)
    assert storage.exists(storage.join(folder, "a"))
    assert not storage.exists(storage.join(folder, "b"))


def test_a_fingerprint_changes_with_the_content(folder: str):
    path = storage.join(folder, "a")
    storage.write_bytes(path, b"one")
    before = storage.stat(path)
    storage.write_bytes(path, b"two")
    assert storage.stat(path) != before


def test_removing_twice_is_removing_once(folder: str):
    path = storage.join(folder, "d", "a")
    storage.write_bytes(path, b"")
    for _ in range(2):
        storage.remove(path)
    storage.write_bytes(path, b"")
    for _ in range(2):
        storage.remove_tree(storage.join(folder, "d"))
    assert storage.list_files(storage.join(folder, "d")) == []
    assert not storage.exists(storage.join(folder, "d"))


def test_upload_and_local_copy(folder: str, tmp_path: Path):
    (tmp_path / "a").write_bytes(b"bytes")
    storage.upload(tmp_path / "a", storage.join(folder, "there", "b"))
    storage.upload(tmp_path / "a", storage.join(folder, "there", "deep", "c"))
    with storage.local_copy(storage.join(folder, "there", "b")) as local:
        assert Path(local).read_bytes() == b"bytes"
    with storage.local_copy(storage.join(folder, "there")) as local:
        assert Path(local, "deep", "c").read_bytes() == b"bytes"
    assert not os.path.exists(local)


def test_many_local_copies_at_once(folder: str):
    names = [f"part {number}" for number in range(30)]
    for name in names:
        storage.write_bytes(storage.join(folder, name), name.encode())
    with storage.local_copies(folder, names[1:]) as local:
        assert sorted(os.listdir(local)) == sorted(names[1:])
        assert all(Path(local, name).read_bytes() == name.encode() for name in names[1:])
    assert not os.path.exists(local)
    with pytest.raises(DltsError, match="none: there is no such"), storage.local_copies(folder, ["none"]):
        pass


def test_a_full_disk_is_told(folder: str):
    path = storage.join(folder, "a")
    storage.write_bytes(path, b"x" * 100)
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full to stand for a full disk")
    with pytest.raises(DltsError, match=f"cannot copy {path} to or from .*: the disk is full"):
        gcs._download(gcs._blob(path), path, "/dev/full")


def test_a_disk_that_fills_in_the_body_is_told(folder: str):
    path = storage.join(folder, "a")

    def fill(number: int) -> None:
        with storage.open_atomic(path) as file:
            file.write(b"half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(DltsError, match=f"cannot copy {path} to or from .*: the disk is full"):
        fill(errno.ENOSPC)
    with pytest.raises(OSError, match="Input/output error"):  # on whatever file
        fill(errno.EIO)
    assert not storage.exists(path)


def test_missing_files_are_named(folder: str):
    missing = storage.join(folder, "none.tif")
    for use in (storage.read_bytes, storage.open_read, storage.stat, storage.listdir):
        with pytest.raises(DltsError, match=r"none\.tif: there is no such object or folder"):
            use(missing)
    with pytest.raises(DltsError, match="there is no such object"), storage.local_copy(missing):
        pass


def test_an_object_that_goes_while_it_is_read_is_told(folder: str):
    path = storage.join(folder, "a")
    storage.write_bytes(path, b"x" * 100)
    with storage.open_read(path) as file:
        storage.remove(path)
        with pytest.raises(DltsError, match=r"cannot read .*/a: there is no such object or folder"):
            file.read()


def test_an_object_is_read_as_a_file_is(folder: str):
    path = storage.join(folder, "a.gz")
    storage.write_bytes(path, gzip.compress(b"one\ntwo\n"))
    with storage.open_read(path) as file, gzip.open(file) as lines:
        assert list(lines) == [b"one\n", b"two\n"]
    storage.write_bytes(path, b"one\ntwo\n")
    with storage.open_read(path) as file:
        assert list(file) == [b"one\n", b"two\n"]
        assert file.tell() == 8
        assert file.seek(-4, os.SEEK_END) == 4
        assert io.TextIOWrapper(file).read() == "two\n"
    assert file.closed


def test_a_network_that_is_away_for_long_is_told(folder: str, monkeypatch: pytest.MonkeyPatch):
    """What the client raises when it has tried again for two minutes is none of its usual errors."""

    def give_up(*_: object, **__: object) -> None:
        raise RetryError("Timeout of 120.0s exceeded", ConnectionError("no route to host"))

    monkeypatch.setattr(Bucket, "get_blob", give_up)
    with pytest.raises(UnreachableError) as caught:
        storage.exists(storage.join(folder, "a"))
    assert str(caught.value) == (
        f"cannot read {folder}/a: Google Cloud does not answer (Timeout of 120.0s exceeded, last exception:"
        " no route to host); check the network"
    )


def test_check_writable_leaves_nothing(folder: str):
    storage.check_writable(folder)
    assert storage.list_files(folder, recursive=True) == []
    with pytest.raises(DltsError, match="check the bucket and the path"):
        storage.check_writable("gs://dlts-there-is-no-such-bucket/folder")
