"""The journal of a search: its trials as Optuna writes them down, in a file that processes may share."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from dlts_beam import storage
from dlts_beam.errors import DltsError

JOURNAL = "trials.journal"
Log = Callable[[str], None]


@contextmanager
def opened(path: str, log: Log) -> Iterator[tuple[JournalStorage, Callable[[], None]]]:
    """Optuna's storage in that file, and a function that keeps it where ``path`` is on gs://.

    A last line that is not whole was cut off while it was written, and is removed.

    Args:
        path: local or gs://; where there is none, it is begun.
        log: is told where a line was removed.

    Raises:
        DltsError: another line is damaged, or nothing can be written.
    """
    if not storage.is_remote(path):
        storage.make_dirs(storage.parent(path))
        yield _open(path, path, log), lambda: None
        return
    with tempfile.TemporaryDirectory(prefix="dlts-tune-") as scratch:
        local = os.path.join(scratch, JOURNAL)
        if storage.exists(path):
            with open(local, "wb") as file:
                file.write(storage.read_bytes(path))
        yield _open(local, path, log), lambda: storage.upload(local, path)


class _Backend(JournalFileBackend):
    """Optuna's, with sentences for what the user can put right."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError as error:
            with suppress(OSError, DltsError):  # other processes go on behind what was written in part
                _mend(self._file_path, self._file_path)
            raise storage.explain_os_error(error, self._file_path, "write") from error


def _open(local: str, path: str, log: Log) -> JournalStorage:
    try:
        if os.path.exists(local) and _mend(local, path):
            log(
                f"the last line of {path} was cut off while it was written (by a full disk or a power cut) "
                "and is removed: its trial was not finished"
            )
        return JournalStorage(_Backend(local))
    except OSError as error:
        raise storage.explain_os_error(error, path, "open") from error


def _mend(local: str, path: str) -> bool:
    """Cut a journal back to its last whole line; whether that took anything away.

    Lines are written under a lock, so that whoever holds it sees no line that is still being written.

    Raises:
        DltsError: a whole line is damaged; the file stays as it is.
    """
    lock = JournalFileSymlinkLock(local)
    lock.acquire()
    try:
        with open(local, "r+b") as file:
            text = file.read()
            end = text.rfind(b"\n") + 1
            for number, line in enumerate(text[:end].split(b"\n")[:-1], 1):
                if not _is_entry(line):
                    raise DltsError(
                        f"line {number} of {path} is damaged: restore the file, or remove it, and the search "
                        "starts from its first trial"
                    )
            file.truncate(end)
        return end < len(text)
    finally:
        lock.release()


def _is_entry(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:  # no JSON, or no text
        return False
