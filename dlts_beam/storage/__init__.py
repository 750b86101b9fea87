"""Bytes by path, local or gs://: all that this project reads or writes itself goes through here.

Two laws hold on both kinds of path. A file appears under its name whole or not at all: it is written aside
and renamed, or uploaded in one request. Folders come into being with the files in them, so no writer needs to
make them first. What the system refuses becomes a `DltsError` that names the path and says what to do.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import BinaryIO

from dlts_beam.errors import DltsError
from dlts_beam.storage import local as _local
from dlts_beam.storage.locks import exclusive
from dlts_beam.storage.names import (
    AnyPath,
    FileEntry,
    Fingerprint,
    gdal_name,
    is_remote,
    join,
    name,
    parent,
)
from dlts_beam.storage.store import Store

__all__ = [
    "AnyPath",
    "FileEntry",
    "Fingerprint",
    "check_writable",
    "digest",
    "exclusive",
    "exists",
    "explain_os_error",
    "gdal_name",
    "gdal_path",
    "is_folder",
    "is_remote",
    "join",
    "list_files",
    "listdir",
    "local_copies",
    "local_copy",
    "make_dirs",
    "name",
    "open_atomic",
    "open_read",
    "parent",
    "read_bytes",
    "read_text",
    "remove",
    "remove_leftovers",
    "remove_tree",
    "same_file",
    "staged",
    "stat",
    "upload",
    "write_bytes",
    "write_text",
]


def exists(path: AnyPath) -> bool:
    """True when a file or a folder of that name is there."""
    return _store(path).exists(os.fspath(path))


def is_folder(path: AnyPath) -> bool:
    """True when ``path`` is a folder; on gs://, when any object lies under it."""
    return _store(path).is_folder(os.fspath(path))


def same_file(path: AnyPath, other: AnyPath) -> bool:
    """True when both name one existing file, by whatever way; on gs://, when both are the same URI."""
    one, two = os.fspath(path), os.fspath(other)
    if is_remote(one) or is_remote(two):
        return one == two
    return os.path.exists(one) and os.path.exists(two) and os.path.samefile(one, two)


def stat(path: AnyPath) -> Fingerprint:
    """Size and stamp of a file; raises `DltsError` when it is not there."""
    return _store(path).stat(os.fspath(path))


def open_read(path: AnyPath) -> BinaryIO:
    """A binary, seekable file object; close it. Raises `DltsError` when the file cannot be opened."""
    return _store(path).open_read(os.fspath(path))


def digest(path: AnyPath) -> str:
    """SHA-256 (hex) of a file, read piece by piece; raises `DltsError` when it cannot be read."""
    found = hashlib.sha256()
    with open_read(path) as file:
        while piece := file.read(1 << 22):
            found.update(piece)
    return found.hexdigest()


def read_bytes(path: AnyPath) -> bytes:
    """All bytes of a file; raises `DltsError` when it cannot be read."""
    return _store(path).read_bytes(os.fspath(path))


def read_text(path: AnyPath) -> str:
    """All text of a UTF-8 file, with or without a byte order mark; raises `DltsError` when it is not that."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DltsError(
            f"{os.fspath(path)} is not a UTF-8 text file (byte {error.start}); save it as UTF-8"
        ) from error


def write_bytes(path: AnyPath, data: bytes) -> None:
    """Replace the file by ``data``, atomically; raises `DltsError` when it cannot be written."""
    _store(path).write_bytes(os.fspath(path), data)


def write_text(path: AnyPath, text: str) -> None:
    """Replace the file by ``text`` in UTF-8, atomically, line ends as they are."""
    write_bytes(path, text.encode("utf-8"))


def staged(path: AnyPath) -> AbstractContextManager[str]:
    """A context that gives a fresh local path to write to, for libraries that want a file name.

    The path keeps the extension of ``path``, does not exist yet, and becomes ``path`` when the body ends
    well; after an exception nothing of it remains. A full disk in the body is told as a `DltsError`.
    """
    return _store(path).staged(os.fspath(path))


@contextmanager
def open_atomic(path: AnyPath) -> Iterator[BinaryIO]:
    """A binary file object whose bytes become ``path`` when the body ends well, and vanish otherwise."""
    with staged(path) as aside, ExitStack() as stack:
        try:
            file = stack.enter_context(open(aside, "xb"))
        except OSError as error:
            raise explain_os_error(error, path, "write") from error
        yield file


def upload(local: AnyPath, path: AnyPath) -> None:
    """Copy the local file ``local`` to ``path``, atomically."""
    _store(path).upload(os.fspath(local), os.fspath(path))


def local_copy(path: AnyPath) -> AbstractContextManager[str]:
    """A context that gives a local path with the content of the file or folder ``path``, for reading only.

    A local path is given as it is; a gs:// one is copied to scratch that goes when the context ends.
    """
    return _store(path).local_copy(os.fspath(path))


def local_copies(folder: AnyPath, names: Sequence[str]) -> AbstractContextManager[str]:
    """A context that gives a local folder with these files of ``folder``; many are copied at once.

    A local folder is given as it is, made if need be, whatever it holds; of a gs:// one every file must be
    there, else a `DltsError` is raised.
    """
    return _store(folder).local_copies(os.fspath(folder), names)


def gdal_path(path: AnyPath) -> str:
    """``path`` as GDAL opens it; before a gs:// one, GDAL is told of the credentials of this process.

    Raises:
        DltsError: there are none, or Google refuses them.
    """
    if is_remote(path):
        from dlts_beam.storage import credentials

        credentials.tell_gdal()
    return gdal_name(path)


def listdir(path: AnyPath) -> list[str]:
    """Sorted names of the files and folders in ``path``; raises `DltsError` when it is not a folder."""
    return _store(path).listdir(os.fspath(path))


def list_files(folder: AnyPath, recursive: bool = False) -> list[FileEntry]:
    """Sorted files of a folder with sizes and stamps, from one listing; empty when there is no such folder.

    Folders themselves are left out, as are files that are still being written.
    """
    return _store(folder).list_files(os.fspath(folder), recursive)


def remove(path: AnyPath) -> None:
    """Remove a file; one that is not there is as good as removed."""
    _store(path).remove(os.fspath(path))


def remove_tree(folder: AnyPath) -> None:
    """Remove a folder and all it holds; one that is not there is as good as removed."""
    _store(folder).remove_tree(os.fspath(folder))


def remove_leftovers(path: AnyPath) -> None:
    """Remove what killed writers of ``path`` left beside it; only for whoever holds its lock."""
    _store(path).remove_leftovers(os.fspath(path))


def make_dirs(folder: AnyPath) -> None:
    """Make a local folder and those above it, for users that look; does nothing on gs://."""
    _store(folder).make_dirs(os.fspath(folder))


def check_writable(folder: AnyPath) -> None:
    """Make the folder and write and remove a probe in it; raises `DltsError` when that cannot be done.

    Meant for the start of a command: hours of work should not end on an output that was never writable.
    """
    _store(folder).check_writable(os.fspath(folder))


def explain_os_error(error: OSError, path: AnyPath, doing: str) -> DltsError:
    """The sentence for an operating system error met while ``doing`` ("read", "write", …) ``path``."""
    return _local.explain(error, os.fspath(path), doing)


def _store(path: AnyPath) -> Store:
    """The module that serves this kind of path."""
    if is_remote(path):
        from dlts_beam.storage import gcs

        return gcs
    return _local
