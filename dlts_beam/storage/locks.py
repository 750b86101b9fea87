"""One run per output: a lock that two processes cannot both hold, local or gs://.

Locally the kernel holds the lock and drops it with the process, however that ends, so a file that a
killed run left behind locks nobody out. On gs:// the lock is an object made under the condition that
there is none; one that a dead process of this machine left behind is recognised and replaced.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from dlts_beam.errors import DltsError
from dlts_beam.storage import local as _local
from dlts_beam.storage.names import is_remote, parent


@contextmanager
def exclusive(path: str, what: str) -> Iterator[None]:
    """Hold the lock ``path`` while the body runs.

    Args:
        path: the lock file; it goes when the body ends.
        what: what is locked, for the message.

    Raises:
        DltsError: another process holds it; the sentence names it and says what to do.
    """
    with _exclusive_gcs(path, what) if is_remote(path) else _exclusive_local(path, what):
        yield


@contextmanager
def _exclusive_local(path: str, what: str) -> Iterator[None]:
    _local.make_dirs(parent(path))
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _local.explain(error, path, "write") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(os.pread(descriptor, 4096, 0))
            os.close(descriptor)
            raise DltsError(
                f"{what} is being written by another run ({_tell(holder)}): wait until it ends, or stop it"
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise _local.explain(error, path, "lock") from error
        # The holder before us may have removed the file between our opening and our locking it.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        os.close(descriptor)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _me(), 0)
        yield
    finally:
        _local.remove(path)
        os.close(descriptor)


@contextmanager
def _exclusive_gcs(path: str, what: str) -> Iterator[None]:
    from google.api_core.exceptions import NotFound, PreconditionFailed

    from dlts_beam.storage import gcs

    def take() -> int | None:
        blob = gcs._blob(path)
        with gcs._explained(path, "write"):
            try:
                blob.upload_from_string(_me(), if_generation_match=0)
            except PreconditionFailed:
                return None
        return int(blob.generation)

    generation = take()
    if generation is None:
        found = gcs._find(path)
        holder = _holder(gcs.read_bytes(path)) if found is not None else {}
        if found is not None and _is_dead(holder):
            with gcs._explained(path, "remove"), suppress(NotFound, PreconditionFailed):
                found.delete(if_generation_match=found.generation)
        generation = take()
        if generation is None:
            raise DltsError(
                f"{what} is being written by another run ({_tell(holder)}): wait until it ends;"
                f" if it was killed, remove {path}"
            )
    try:
        yield
    finally:
        with gcs._explained(path, "remove"), suppress(NotFound, PreconditionFailed):
            gcs._blob(path).delete(if_generation_match=generation)


def _me() -> bytes:
    me = {"host": socket.gethostname(), "process": os.getpid(), "born": _born(os.getpid())}
    return json.dumps(me).encode()


def _holder(content: bytes) -> dict[str, Any]:
    try:
        holder = json.loads(content)
    except ValueError:  # it is just writing who it is
        return {}
    return holder if isinstance(holder, dict) else {}


def _tell(holder: dict[str, Any]) -> str:
    if "process" not in holder:
        return "it does not say which"
    return f"process {holder['process']} on {holder.get('host', 'an unknown host')}"


def _is_dead(holder: dict[str, Any]) -> bool:
    """True where the holder was a process of this machine that is no more."""
    if holder.get("host") != socket.gethostname() or not isinstance(holder.get("process"), int):
        return False
    return _born(holder["process"]) != holder.get("born")


def _born(process: int) -> str | None:
    """When a process began, since numbers are used again; None where there is no such process."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return None if not _alive(process) else "unknown"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
