"""The lock of an output on gs://: an object that its holder writes anew all the time, as a sign of life.

Whoever finds the object watches it. Once it changes, its holder lives. If it stays as it is for `LEASE`
seconds, its holder is dead, or has been cut off, and the object is replaced under the condition that it still
is the one that was watched: of several who try, one succeeds. A holder that comes back learns of it when it
renews the lock, and the command that it runs is stopped. No clocks are compared: each process measures its
own waiting.
"""

from __future__ import annotations

import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from dlts_beam import command
from dlts_beam.errors import DltsError
from dlts_beam.storage import gcs, holder

RENEW = 15.0  # seconds between two signs of life
LEASE = 60.0  # seconds without one after which the holder counts as dead


@contextmanager
def leased(path: str, what: str) -> Iterator[Callable[[], None]]:
    """Hold the lock ``path`` while the body runs; otherwise as `dlts_beam.storage.exclusive`."""
    lease = _Lease(path, what)
    try:
        _take(lease)
        lease.keep()
        yield lease.check
        lease.check()
    except Exception as error:
        # That another run writes the same explains whatever the body met.
        if lease.lost is not None and str(error) != lease.lost:
            raise DltsError(lease.lost) from error
        raise
    finally:
        lease.release()


class _Found(NamedTuple):
    generation: int
    who: dict[str, Any]


class _Lease:
    """The lock of this run, once `write` said yes.

    Attributes:
        lost: the sentence of its loss, once that is known.
    """

    def __init__(self, path: str, what: str) -> None:
        self.path = path
        self.what = what
        self.lost: str | None = None
        self._token = secrets.token_hex(8)
        self._content = holder.describe_me(self._token)
        self._generation = 0
        self._told = False
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lock", daemon=True)

    def write(self, over: int, **how: Any) -> bool:
        """Write the object over that of a generation, 0 for none; False where another is there.

        Raises:
            DltsError: it cannot be written.
        """
        from google.api_core.exceptions import PreconditionFailed

        blob = gcs._blob(self.path)
        with gcs._explained(self.path, "write"):
            try:
                blob.upload_from_string(self._content, if_generation_match=over, **how)
            except PreconditionFailed:
                return self._is_mine()  # the client tries again where only the answer was lost
        self._generation = int(blob.generation)
        return True

    def keep(self) -> None:
        """Begin to give signs of life."""
        self._thread.start()

    def check(self) -> None:
        """Raise `DltsError` where the lock is another's by now."""
        with self._guard:
            if self.lost is None and not self._is_mine():
                self._lose()
            if self.lost is not None:
                raise DltsError(self.lost)

    def release(self) -> None:
        """Remove the object, if it is this run's."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._generation and self.lost is None:
            with gcs._explained(self.path, "remove"), suppress(NotFound, PreconditionFailed):
                gcs._blob(self.path).delete(if_generation_match=self._generation)

    def _renew(self) -> None:
        while not self._ended.wait(RENEW):
            # A network that fails for a moment is nothing yet: the next time may do. Whatever it was, a run
            # that lives must go on to show it.
            try:
                with self._guard:
                    if self.lost is None and not self.write(self._generation, timeout=RENEW, retry=None):
                        self._lose()
                        print(f"warning: {self.lost}", file=sys.stderr, flush=True)
                        command.stop(str(self.lost))
            except Exception as error:  # noqa: BLE001
                self._tell_once(error)
            if self.lost is not None:
                return

    def _tell_once(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            print(
                f"warning: the lock of {self.what} was not renewed ({error}); it is tried again every"
                f" {RENEW:g} seconds, and after {LEASE:g} seconds another run may take it",
                file=sys.stderr,
                flush=True,
            )

    def _is_mine(self) -> bool:
        found = _look(self.path)
        if found is None or found.who.get("token") != self._token:
            return False
        self._generation = found.generation
        return True

    def _lose(self) -> None:
        found = _look(self.path)
        if found is None:
            lost = f"somebody removed {self.path}, so another run may have written {self.what}"
        else:
            lost = (
                f"another run ({holder.tell(found.who)}) took over {self.what}, as it may when this one gives"
                f" no sign of life for {LEASE:g} seconds"
            )
        self.lost = f"{lost}: see that only one run writes there, and repeat the command"


def _take(lease: _Lease) -> None:
    """Raises `DltsError` where another run holds the lock."""
    if lease.write(0):
        return
    found = _look(lease.path)
    alive = holder.lives(found.who) if found is not None else False
    if found is not None and alive is None:
        print(
            f"waiting to see whether the run that holds {lease.path} ({holder.tell(found.who)}) still lives:"
            f" up to {LEASE:g} seconds",
            file=sys.stderr,
            flush=True,
        )
        then, found = found, _watch(lease.path, found)
        alive = found is not None and found.generation != then.generation
    if not alive and lease.write(found.generation if found is not None else 0):
        return
    found = _look(lease.path)
    raise DltsError(
        f"{lease.what} is being written by another run ({holder.tell({} if found is None else found.who)}):"
        " wait until it ends, or stop it"
    )


def _watch(path: str, found: _Found) -> _Found | None:
    """The lock as it is once it changed, or as it still is when its time is over."""
    deadline = time.monotonic() + LEASE
    while time.monotonic() < deadline:
        time.sleep(min(RENEW, LEASE) / 8)
        now = gcs._find(path)
        if now is None or int(now.generation) != found.generation:
            return _look(path)
    return found


def _look(path: str) -> _Found | None:
    from google.api_core.exceptions import NotFound

    while True:
        blob = gcs._find(path)
        if blob is None:
            return None
        with gcs._explained(path, "read"), suppress(NotFound):  # then it was replaced in between
            return _Found(int(blob.generation), holder.parse(blob.download_as_bytes()))
