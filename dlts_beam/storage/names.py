"""Path arithmetic for local paths and gs:// URIs; touches no file."""

from __future__ import annotations

import os
import secrets
from typing import NamedTuple

from dlts_beam.errors import DltsError

#: A local path, or a gs:// URI as text (``pathlib`` folds the two slashes of a URI into one).
AnyPath = str | os.PathLike[str]

_GS = "gs://"
# Files being written carry this prefix. Listings leave them out: a killed writer's remains are never data.
_STAGED = ".tmp-"


class Fingerprint(NamedTuple):
    """What tells one version of a file from another without reading it.

    ``stamp`` is the modification time in nanoseconds of a local file, the generation of a gs:// object.
    """

    size: int
    stamp: str


class FileEntry(NamedTuple):
    """One file of a listing: its full path and its fingerprint's parts."""

    path: str
    size: int
    stamp: str


def is_remote(path: AnyPath) -> bool:
    """True for gs:// URIs.

    Raises:
        DltsError: the path names a store that we do not know, such as s3://, no bucket, or gs:/ for gs://.
    """
    text = os.fspath(path)
    if text.startswith(_GS):
        split_gs(text)  # an unset variable in gs://$BUCKET must not lead to a local folder
        return True
    if text.startswith("gs:/"):
        raise DltsError(f"cannot use {text}: one slash is missing; write gs://BUCKET/PATH")
    scheme, separator, _ = text.partition("://")
    if separator and "/" not in scheme:
        raise DltsError(f"cannot use {text}: paths are local or start with gs://, and {scheme}:// is neither")
    return False


def join(path: AnyPath, *names: str) -> str:
    """``path`` followed by ``names``; an absolute name or a gs:// URI among them starts anew."""
    joined = os.fspath(path)
    for part in names:
        if is_remote(part) or os.path.isabs(part):
            joined = part
        elif is_remote(joined):
            joined = f"{joined.rstrip('/')}/{part}"
        else:
            joined = os.path.join(joined, part)
    return joined


def parent(path: AnyPath) -> str:
    """The folder that holds ``path``: ``"."`` for a bare local name; a bucket is its own parent."""
    text = os.fspath(path)
    if is_remote(text):
        bucket, key = split_gs(text)
        above = key.rstrip("/").rpartition("/")[0]
        return f"{_GS}{bucket}/{above}" if above else f"{_GS}{bucket}"
    return os.path.dirname(text.rstrip(os.sep) or os.sep) or os.curdir


def name(path: AnyPath) -> str:
    """The last component of ``path``; a slash at the end is ignored."""
    text = os.fspath(path)
    if is_remote(text):
        return text.rstrip("/").rpartition("/")[2]
    return os.path.basename(text.rstrip(os.sep))


def gdal_name(path: AnyPath) -> str:
    """``path`` as GDAL names it: ``/vsigs/bucket/key`` for gs:// URIs, else unchanged."""
    text = os.fspath(path)
    return f"/vsigs/{text.removeprefix(_GS)}" if is_remote(text) else text


def split_gs(path: str) -> tuple[str, str]:
    """``(bucket, key)`` of a gs:// URI; the key of a bare bucket is empty.

    Raises:
        DltsError: the URI names no bucket.
    """
    bucket, _, key = path.removeprefix(_GS).partition("/")
    if not bucket:
        raise DltsError(f"{path} names no bucket: write gs://BUCKET/PATH")
    return bucket, key


def staged_name(final: str) -> str:
    """A fresh name to write ``final`` under until it is complete; keeps the extension, which drivers read."""
    return f"{_STAGED}{secrets.token_hex(4)}-{final}"


def is_staged(file_name: str) -> bool:
    """True for names made by `staged_name`."""
    return file_name.startswith(_STAGED)


def staged_for(file_name: str) -> str | None:
    """The name that a name made by `staged_name` was made for; None for other names."""
    return file_name.removeprefix(_STAGED).partition("-")[2] if is_staged(file_name) else None
