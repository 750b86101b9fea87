"""Google Cloud Storage, behind the surface that `dlts_beam.storage` documents.

Folders do not exist there: a folder is the set of objects whose keys start with it. google-cloud-storage is
imported when the first gs:// path is touched.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from dlts_beam.errors import DltsError, UnreachableError
from dlts_beam.storage import credentials
from dlts_beam.storage.credentials import first_line
from dlts_beam.storage.local import FULL, explain
from dlts_beam.storage.names import FileEntry, Fingerprint, is_staged, join, name, split_gs, staged_name

THREADS = 8  # requests at once; the client keeps ten connections

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Client

THREADS = 8  # fewer than the connections that the client keeps


def exists(path: str) -> bool:
    return _find(path) is not None or is_folder(path)


def is_folder(path: str) -> bool:
    bucket, _ = split_gs(path)
    with _explained(path, "read"):
        return any(True for _ in _client().list_blobs(bucket, prefix=_prefix(path), max_results=1))


def stat(path: str) -> Fingerprint:
    return _fingerprint(_get(path))


def open_read(path: str) -> BinaryIO:
    # The blob carries its generation, so a reader never mixes the bytes of two versions.
    return cast(BinaryIO, _Reader(_get(path), path))


def read_bytes(path: str) -> bytes:
    with _explained(path, "read"):
        return cast(bytes, _blob(path).download_as_bytes())


def write_bytes(path: str, data: bytes) -> None:
    with _explained(path, "write"):
        _blob(path).upload_from_string(data, content_type="application/octet-stream")


@contextmanager
def staged(path: str) -> Iterator[str]:
    try:
        with tempfile.TemporaryDirectory(prefix="dlts-") as scratch:
            aside = os.path.join(scratch, name(path))
            yield aside
            upload(aside, path)
    except OSError as error:
        # Only what can be about no other file, as with local paths.
        if error.errno in FULL:
            raise explain(error, tempfile.gettempdir(), f"copy {path} to or from") from error
        raise


def upload(local: str, path: str) -> None:
    # One request makes one object: it appears whole or not at all.
    with _explained(path, "write"):
        _blob(path).upload_from_filename(local)


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="dlts-") as scratch:
        target = os.path.join(scratch, name(path))
        blob = _find(path)
        if blob is not None:
            _download(blob, path, target)
        else:
            entries = list_files(path, recursive=True)
            if not entries:
                raise _missing(path, "read")
            for entry in entries:
                inside = os.path.join(target, entry.path.removeprefix(path.rstrip("/") + "/"))
                os.makedirs(os.path.dirname(inside), exist_ok=True)
                _download(_blob(entry.path), entry.path, inside)
        yield target


@contextmanager
def local_copies(folder: str, names: Sequence[str]) -> Iterator[str]:
    def fetch(each: str) -> None:
        path = join(folder, each)
        _download(_blob(path), path, os.path.join(scratch, each))

    with tempfile.TemporaryDirectory(prefix="dlts-") as scratch:
        with ThreadPoolExecutor(THREADS) as threads:
            for _ in threads.map(fetch, names):
                pass
        yield scratch


def listdir(path: str) -> list[str]:
    bucket, _ = split_gs(path)
    prefix = _prefix(path)
    with _explained(path, "list"):
        listing = _client().list_blobs(bucket, prefix=prefix, delimiter="/")
        names = {blob.name.removeprefix(prefix) for blob in listing}
        names.update(folder.removeprefix(prefix).rstrip("/") for folder in listing.prefixes)
    names.discard("")
    if not names:
        raise _missing(path, "list")
    return sorted(found for found in names if not is_staged(found))


def list_files(folder: str, recursive: bool) -> list[FileEntry]:
    bucket, _ = split_gs(folder)
    entries: list[FileEntry] = []
    with _explained(folder, "list"):
        delimiter = None if recursive else "/"
        for blob in _client().list_blobs(bucket, prefix=_prefix(folder), delimiter=delimiter):
            # Consoles make empty objects that end in a slash to show empty folders.
            if not blob.name.endswith("/") and not is_staged(name(blob.name)):
                entries.append(FileEntry(f"gs://{bucket}/{blob.name}", *_fingerprint(blob)))
    return sorted(entries)


def remove(path: str) -> None:
    from google.api_core.exceptions import NotFound

    with _explained(path, "remove"):
        try:
            _blob(path).delete()
        except NotFound:
            return


def remove_tree(folder: str) -> None:
    bucket, _ = split_gs(folder)
    with _explained(folder, "remove"):
        names = [blob.name for blob in _client().list_blobs(bucket, prefix=_prefix(folder))]
    # A request each: one after the other, the parts of a large map would take hours.
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(remove, [f"gs://{bucket}/{found}" for found in names]):
            pass


def remove_leftovers(path: str) -> None:
    split_gs(path)  # an object appears whole or not at all, so a killed writer leaves nothing


def make_dirs(folder: str) -> None:
    split_gs(folder)


def check_writable(folder: str) -> None:
    probe = join(folder, staged_name("probe"))
    with _explained(folder, "write to"):
        _blob(probe).upload_from_string(b"x")
    remove(probe)


@lru_cache(maxsize=1)
def _client_of(process: int, emulator: str | None) -> Client:
    """One client per process: its connections must not be shared with a forked child."""
    who = credentials.find()
    from google.cloud.storage import Client

    # Objects need no project; where one is asked for it is that of the credentials.
    return Client(project="dlts-emulator" if emulator else None, credentials=who)


def _client() -> Client:
    return _client_of(os.getpid(), credentials.emulator())


def _prefix(folder: str) -> str:
    key = split_gs(folder)[1].rstrip("/")
    return f"{key}/" if key else ""


def _blob(path: str) -> Blob:
    bucket, key = split_gs(path)
    return _client().bucket(bucket).blob(key)


class _Reader(io.BufferedIOBase):
    """An object while it is read; what fails on the way is told as a refusal to open it is."""

    def __init__(self, blob: Blob, path: str) -> None:
        super().__init__()
        self._file: Any = blob.open("rb")
        self._path = path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        with _explained(self._path, "read"):
            return cast(bytes, self._file.read(-1 if size is None else size))

    def read1(self, size: int = -1, /) -> bytes:
        return self.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        with _explained(self._path, "read"):
            return cast(int, self._file.seek(offset, whence))

    def tell(self) -> int:
        return self.seek(0, os.SEEK_CUR)

    def close(self) -> None:
        self._file.close()
        super().close()


def _find(path: str) -> Blob | None:
    bucket, key = split_gs(path)
    if not key:
        return None
    with _explained(path, "read"):
        return cast("Blob | None", _client().bucket(bucket).get_blob(key))


def _get(path: str) -> Blob:
    blob = _find(path)
    if blob is None:
        raise _missing(path, "read")
    return blob


def _fingerprint(blob: Any) -> Fingerprint:
    return Fingerprint(int(blob.size), str(blob.generation))


def _download(blob: Blob, path: str, target: str) -> None:
    with _explained(path, "read"):
        blob.download_to_filename(target)


def _missing(path: str, doing: str) -> DltsError:
    return DltsError(
        f"cannot {doing} {path}: there is no such object or folder; check the bucket and the path"
    )


@contextmanager
def _explained(path: str, doing: str) -> Iterator[None]:
    """Turn the service's refusals into one sentence that names the path."""
    _client()  # so that missing packages and credentials are named before the imports below
    from google.api_core.exceptions import (
        Forbidden,
        GoogleAPICallError,
        GoogleAPIError,
        NotFound,
        ServerError,
        Unauthorized,
    )
    from google.auth.exceptions import GoogleAuthError, TransportError

    try:
        yield
    except NotFound as error:
        raise _missing(path, doing) from error
    except (Forbidden, Unauthorized) as error:
        raise DltsError(
            f"cannot {doing} {path}: Google Cloud refuses access ({first_line(error)}); "
            "check the account's roles on the bucket"
        ) from error
    except (ServerError, TransportError) as error:
        raise UnreachableError(f"cannot {doing} {path}: {first_line(error)}") from error
    except (GoogleAPICallError, GoogleAuthError) as error:
        raise DltsError(f"cannot {doing} {path}: {first_line(error)}") from error
    except GoogleAPIError as error:  # the client tried again and again, until it lost patience
        last = str(error).partition("\n")[0]
        raise UnreachableError(
            f"cannot {doing} {path}: Google Cloud does not answer ({last}); check the network"
        ) from error
    except OSError as error:
        # The network's have no number; the others come from the disk that is copied to or from.
        if error.errno is None:
            told = f"cannot {doing} {path}: {first_line(error)}; check the network"
            raise UnreachableError(told) from error
        raise explain(error, error.filename or tempfile.gettempdir(), f"copy {path} to or from") from error
