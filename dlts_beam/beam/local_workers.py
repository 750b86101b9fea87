"""Workers of the local runner that cannot make it wait for ever, where Beam's own can.

This leans on Beam's internals, for which the version is pinned; the tests show what each piece is for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

import grpc
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    BeamFnControlServicer,
    ControlConnection,
    EmbeddedGrpcWorkerHandler,
    GrpcWorkerHandler,
    SubprocessSdkWorkerHandler,
    WorkerHandler,
)
from google.protobuf import json_format, text_format

from dlts_beam.beam import worker
from dlts_beam.errors import DltsError

_POLL_SECONDS = 0.2
# All work is done and answered when a worker is dismissed; what is left is teardown.
_GOODBYE_SECONDS = 60


class Crew:
    """The worker processes of one run: when one dies, all end and every request to them fails."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.sentence: str | None = None

    def join(self, process: subprocess.Popen[bytes]) -> None:
        """Take a process in; one that comes after a death ends at once."""
        with self._lock:
            self._processes.append(process)
            if self.sentence is not None:
                process.kill()

    def tell_death(self, status: int) -> None:
        """Remember why the first process died, and end the others: nobody waits for their work now."""
        with self._lock:
            if self.sentence is None:
                self.sentence = _sentence(status)
            for process in self._processes:
                process.kill()


@contextmanager
def watched_workers() -> Iterator[None]:
    """A context in which the in-process runner's workers, threads or processes, cannot make it hang.

    Raises:
        DltsError: at its end, when a worker process died.
    """
    crew = Crew()

    class Process(_ProcessWorker):
        _crew = crew

    known = WorkerHandler._registered_environments
    before = dict(known)
    # Beam flushes its workers' output every second from another thread, also in the middle of an element
    # whose encoding lets that thread run: the stage that decodes the halves fails, or fills all memory.
    flush_before, worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = worker_handlers.DATA_BUFFER_TIME_LIMIT_MS, 0
    WorkerHandler.register_environment(python_urns.EMBEDDED_PYTHON_GRPC, bytes)(_ThreadWorker)
    WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)(Process)
    try:
        with hushed_streams():
            yield
    except Exception as error:
        # Whatever Beam makes of the broken connection, this is why it broke.
        if crew.sentence is None:
            raise
        raise DltsError(crew.sentence) from error
    finally:
        known.update(before)
        worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = flush_before


@contextmanager
def hushed_streams() -> Iterator[None]:
    """A context in which threads that end with a broken connection print no traceback.

    Beam reads each stream in a thread of its own. Whoever waits for the other end tells that it is gone. Two
    streams over one connection break in any order, so a thread of this context is also hushed after its end.
    """
    others = WeakSet(threading.enumerate())
    late: WeakSet[threading.Thread] = WeakSet()

    def tell(failed: threading.ExceptHookArgs) -> None:
        ours = failed.thread in late if ended else failed.thread not in others
        if not (ours and issubclass(failed.exc_type, grpc.RpcError)):
            tell_before(failed)

    ended = False
    tell_before, threading.excepthook = threading.excepthook, tell
    try:
        yield
    finally:
        late.update(thread for thread in threading.enumerate() if thread not in others)
        ended = True
        if not late and threading.excepthook is tell:
            threading.excepthook = tell_before


class LateWorker(GrpcWorkerHandler):
    """Dismisses a worker that has not reported yet.

    A run that fails at once may be over before its last worker connects. Beam says goodbye to connected
    workers only, so such a worker would wait for work, and the run for the worker, for ever.
    """

    def close(self) -> None:
        if self.control_conn._state == BeamFnControlServicer.UNSTARTED_STATE:
            self.control_conn.push(BeamFnControlServicer._DONE_MARKER)
        super().close()


class _ThreadWorker(LateWorker, EmbeddedGrpcWorkerHandler):
    """A worker in a thread of this process."""


class _ProcessWorker(LateWorker, SubprocessSdkWorkerHandler):
    """A worker process, started as Beam does it; once it is dead, this answers for it."""

    _crew: Crew

    def start_worker(self) -> None:
        self._closing = threading.Event()
        self.worker = subprocess.Popen([sys.executable, "-m", worker.__name__], env=self._environment())
        self._crew.join(self.worker)
        self.worker_thread = threading.Thread(name="watch_worker", target=self._watch, daemon=True)
        self.worker_thread.start()

    def close(self) -> None:
        self._closing.set()
        super().close()

    def stop_worker(self) -> None:
        try:
            self.worker.wait(_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            self.worker.kill()
        super().stop_worker()

    def _environment(self) -> dict[str, str]:
        provision = self.provision_info.provision_info
        return {
            **os.environ,
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(
                self.control_api_service_descriptor()
            ),
            "PIPELINE_OPTIONS": json_format.MessageToJson(provision.pipeline_options),
            "WORKER_ID": self.worker_id,
        }

    def _watch(self) -> None:
        status = self.worker.wait()
        if status == 0 or self._closing.is_set():
            return
        self._crew.tell_death(status)
        # Requests may still be pushed to the dead worker, so go on failing them until Beam gives up.
        while not self._closing.wait(_POLL_SECONDS):
            fail_requests(self.control_conn, "worker died")


def fail_requests(connection: ControlConnection, error: str) -> None:
    """Answer all open requests to a worker that is gone."""
    for name, future in list(connection._futures_by_id.items()):
        if not future.is_done():
            future.set(beam_fn_api_pb2.InstructionResponse(instruction_id=name, error=error))


def _sentence(status: int) -> str:
    advice = "run the command again with fewer workers (--direct_num_workers) or less --memory"
    if status == -signal.SIGKILL:
        return f"a worker process was killed, most likely because memory ran out; {advice}"
    how = f"by signal {-status}" if status < 0 else f"with exit status {status}"
    return f"a worker process ended {how} in mid-run; {advice}"
