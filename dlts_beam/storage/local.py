"""The local file system, behind the surface that `dlts_beam.storage` documents."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from dlts_beam.errors import DltsError
from dlts_beam.storage.names import (
    FileEntry,
    Fingerprint,
    is_staged,
    join,
    name,
    parent,
    staged_for,
    staged_name,
)

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EACCES, errno.EPERM})


def explain(error: OSError, path: str, doing: str) -> DltsError:
    """One sentence for an operating system error met while ``doing`` ("read", "write", ...) ``path``."""
    if error.errno in FULL:
        return DltsError(f"cannot {doing} {path}: the disk is full; free some space or choose another folder")
    if error.errno == errno.EROFS:
        return DltsError(f"cannot {doing} {path}: the file system is read-only; choose another folder")
    if error.errno in _REFUSED:
        return DltsError(f"cannot {doing} {path}: permission denied; check who owns it and its mode")
    if error.errno == errno.ENOENT:
        return DltsError(f"cannot {doing} {path}: there is no such file or folder; check the path")
    if error.errno == errno.EISDIR:
        return DltsError(f"cannot {doing} {path}: it is a folder where a file is expected")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return DltsError(f"cannot {doing} {path}: a file stands where a folder is expected")
    return DltsError(f"cannot {doing} {path}: {error.strerror or error}")


def exists(path: str) -> bool:
    return os.path.exists(path)


def is_folder(path: str) -> bool:
    return os.path.isdir(path)


def stat(path: str) -> Fingerprint:
    try:
        status = os.stat(path)
    except OSError as error:
        raise explain(error, path, "read") from error
    return Fingerprint(status.st_size, str(status.st_mtime_ns))


def open_read(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise explain(error, path, "read") from error


def read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise explain(error, path, "read") from error


def write_bytes(path: str, data: bytes) -> None:
    with staged(path) as aside:
        try:
            with open(aside, "wb") as file:
                file.write(data)
        except OSError as error:
            raise explain(error, path, "write") from error


@contextmanager
def staged(path: str) -> Iterator[str]:
    make_dirs(parent(path))
    aside = join(parent(path), staged_name(name(path)))
    try:
        yield aside
        _publish(aside, path)
    except OSError as error:
        # Only what can be about no other file: the body may have met any error on any path.
        if error.errno in FULL:
            raise explain(error, path, "write") from error
        raise
    finally:
        # After a rename nothing is left; after a failure the half-written file goes.
        remove(aside)


def _publish(aside: str, path: str) -> None:
    """Flush to disk, then rename: the name stands for complete bytes even after a power cut."""
    try:
        descriptor = os.open(aside, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(aside, path)
    except OSError as error:
        raise explain(error, path, "write") from error


def upload(local: str, path: str) -> None:
    with staged(path) as aside:
        try:
            shutil.copyfile(local, aside)
        except OSError as error:
            raise explain(error, local if error.filename == local else path, "copy") from error


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    stat(path)
    yield path


@contextmanager
def local_copies(folder: str, names: Sequence[str]) -> Iterator[str]:
    make_dirs(folder)
    yield folder


def listdir(path: str) -> list[str]:
    try:
        return sorted(found for found in os.listdir(path) if not is_staged(found))
    except OSError as error:
        raise explain(error, path, "list") from error


def list_files(folder: str, recursive: bool) -> list[FileEntry]:
    entries: list[FileEntry] = []
    pending = [folder]
    try:
        while pending:
            with os.scandir(pending.pop()) as found:
                for item in found:
                    if is_staged(item.name):
                        continue
                    if item.is_dir():
                        if recursive:
                            pending.append(item.path)
                        continue
                    status = _stat_listed(item)
                    entries.append(FileEntry(item.path, status.st_size, str(status.st_mtime_ns)))
    except FileNotFoundError:
        if os.path.isdir(folder):  # something inside went away while we looked
            raise
        return []
    except OSError as error:
        raise explain(error, folder, "list") from error
    return sorted(entries)


def _stat_listed(item: os.DirEntry[str]) -> os.stat_result:
    try:
        return item.stat()
    except FileNotFoundError as error:
        if not item.is_symlink():
            raise  # it went away while we looked
        target = os.readlink(item.path)
        raise DltsError(
            f"{item.path} is a link to {target}, and there is no such file: mend or remove it"
        ) from error


def remove(path: str) -> None:
    try:
        os.remove(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise explain(error, path, "remove") from error


def remove_tree(folder: str) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise explain(error, folder, "remove") from error


def remove_leftovers(path: str) -> None:
    folder, final = parent(path), name(path)
    try:
        with os.scandir(folder) as found:
            staged_items = [(staged_for(item.name), item.path, item.is_dir()) for item in found]
    except FileNotFoundError:
        return
    except OSError as error:
        raise explain(error, folder, "list") from error
    for meant, each, is_dir in staged_items:
        # Beside a file being written its writer may keep a folder with its name and more.
        if is_dir and meant is not None and meant.startswith(f"{final}."):
            remove_tree(each)
        elif not is_dir and meant == final:
            remove(each)


def make_dirs(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise explain(error, folder, "make the folder") from error


def check_writable(folder: str) -> None:
    make_dirs(folder)
    probe = join(folder, staged_name("probe"))
    try:
        with open(probe, "xb") as file:
            file.write(b"x")
    except OSError as error:
        raise explain(error, folder, "write to") from error
    finally:
        remove(probe)
