"""Beam's portable job service for worker pools, with as many workers as asked for and no endless wait.

Beam's service gives each job one worker, whatever ``--direct_num_workers`` says, and waits for ever for a
worker that died before it reported. Run this module in its place; pools and pipelines stay as they are.

This leans on Beam's internals, for which the version is pinned; the tests show what each piece is for.
"""

from __future__ import annotations

import argparse
import errno
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence

import grpc
from apache_beam.options.pipeline_options import DirectOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_job_api_pb2, beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner, worker_handlers
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    BeamFnControlServicer,
    ExternalWorkerHandler,
    WorkerHandler,
)
from apache_beam.runners.portability.local_job_service import BeamJob, LocalJobServicer

from dlts_beam.beam.local_workers import LateWorker, fail_requests
from dlts_beam.beam.portable import LOST_WORKER
from dlts_beam.command import guarded
from dlts_beam.errors import DltsError

WORKER_SECONDS = 45.0
_POLL_SECONDS = 0.2


class _PoolWorker(LateWorker, ExternalWorkerHandler):
    """A worker that a pool starts; once it is lost, or does not come, this answers for it."""

    patience = WORKER_SECONDS

    def start_worker(self) -> None:
        self._closing = threading.Event()
        try:
            super().start_worker()
        except grpc.RpcError as error:
            pool = self._external_payload.endpoint.url
            raise DltsError(
                f"the worker pool at {pool} does not answer: start it, or correct --environment_config"
            ) from error
        threading.Thread(name="watch_worker", target=self._watch, daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        super().close()

    def _watch(self) -> None:
        deadline = time.monotonic() + self.patience
        while not self._closing.wait(_POLL_SECONDS):
            if self.control_conn._state == BeamFnControlServicer.UNSTARTED_STATE:
                lost = time.monotonic() > deadline
            else:
                lost = not self.control_conn._read_thread.is_alive()
            if lost:
                # Requests may still be pushed to it, so go on failing them until the runner gives up.
                fail_requests(self.control_conn, LOST_WORKER)


class _Job(BeamJob):
    """One job, on as many workers as its options say."""

    def _invoke_runner(self) -> fn_runner.RunnerResult:
        self.set_state(beam_job_api_pb2.JobState.RUNNING)
        options = self.pipeline_options()
        runner = fn_runner.FnApiRunner(provision_info=self._provision_info)
        runner._num_workers = max(1, int(options.view_as(DirectOptions).direct_num_workers))
        return runner.run_via_runner_api(self._pipeline_proto, options)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m dlts_beam.beam.job_service", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="where pipelines find it: --job_endpoint")
    parser.add_argument(
        "--patience", type=float, default=WORKER_SECONDS, metavar="SECONDS",
        help="how long a pool may take to start a worker, which imports Beam (default: %(default)g); then the"
        " job fails",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal ends it; gives the exit status."""
    arguments = build_parser().parse_args(argv)
    return guarded(lambda: _serve(arguments))


def _serve(arguments: argparse.Namespace) -> None:
    logging.basicConfig(level=logging.WARNING)
    servicer = LocalJobServicer(beam_job_type=_Job)
    host = servicer.get_bind_address()
    _check_free(host, arguments.port)
    # As for local workers: a timed flush in the middle of an element breaks the stage that reads it.
    worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 0
    _PoolWorker.patience = arguments.patience
    register = WorkerHandler.register_environment
    register(common_urns.environments.EXTERNAL.urn, beam_runner_api_pb2.ExternalPayload)(_PoolWorker)
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    if servicer.start_grpc_server(arguments.port) != arguments.port:
        servicer.stop()
        raise _used(host, arguments.port)  # by who came between
    print(f"listening on {host}:{arguments.port}", flush=True)
    stop.wait()
    servicer.stop()


def _check_free(host: str, port: int) -> None:
    """Refuse a port that gRPC would take for another one, or share with a process that is there already.

    Raises:
        DltsError: it is no port, is in use, or may not be opened.
    """
    if not 1 <= port <= 65535:
        raise DltsError(f"--port must be from 1 to 65535; got {port}")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            with socket.socket(family, kind, protocol) as probe:
                # Connections of a service that has just ended do not count, one that listens does.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise _used(host, port) from error
            if error.errno in (errno.EACCES, errno.EPERM):
                raise DltsError(f"port {port} is not yours ({error.strerror}): choose another") from error
            # Else the machine lacks this kind of address, and gRPC uses the others.


def _used(host: str, port: int) -> DltsError:
    return DltsError(
        f"{host}:{port} is in use, maybe by another job service: end that, or give another --port"
    )


if __name__ == "__main__":
    sys.exit(main())
