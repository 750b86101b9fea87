"""Beam's portable job service for worker pools, with as many workers as asked for and no endless wait.

Beam's service gives each job one worker, whatever ``--direct_num_workers`` says, and waits for ever for a
worker that died before it reported. Run this module in its place; pools and pipelines stay as they are.

This leans on Beam's internals, for which the version is pinned; the tests show what each piece is for.
"""

from __future__ import annotations

import argparse
import logging
import signal
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
    """Serve until a signal ends it."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING)
    # As for local workers: a timed flush in the middle of an element breaks the stage that reads it.
    worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 0
    _PoolWorker.patience = arguments.patience
    register = WorkerHandler.register_environment
    register(common_urns.environments.EXTERNAL.urn, beam_runner_api_pb2.ExternalPayload)(_PoolWorker)
    servicer = LocalJobServicer(beam_job_type=_Job)
    servicer.start_grpc_server(arguments.port)
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    stop.wait()
    servicer.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
