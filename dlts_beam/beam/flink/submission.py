"""How a job travels to the cluster and is watched there, a little more patient than Beam's own way.

This leans on Beam's internals, for which the version is pinned; the tests show what each piece is for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import requests
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners.portability.flink_runner import FlinkRunner
from apache_beam.runners.portability.flink_uber_jar_job_server import FlinkBeamJob, FlinkUberJarJobServer
from apache_beam.runners.portability.job_server import JobServer
from google.protobuf import json_format

_LOG = logging.getLogger(__name__)

# A network that fails for less than about two minutes does not end hours of work.
_ATTEMPTS = 12
_PAUSE_SECONDS = 10.0
_ANSWER_SECONDS = 60
# Beam's own pauses grow to a minute: so late would a failure be noticed, and the end of the job.
_POLL_SECONDS = 3.0


class Submission(FlinkRunner):
    """Beam's Flink runner, which knows the jobs that it sent."""

    def __init__(self) -> None:
        super().__init__()
        self._server: _Server | None = None

    def default_job_server(self, options: PipelineOptions) -> JobServer:
        """What sends jobs to a cluster's REST service, or Beam's own server for a Flink on this machine."""
        server = super().default_job_server(options)
        if isinstance(server, FlinkUberJarJobServer):
            server = self._server = _Server(server._master_url, options)
        return server

    def cancel(self) -> None:
        """End the jobs that still run on the cluster."""
        for job in self._server.sent if self._server is not None else ():
            job.cancel()


class _Server(FlinkUberJarJobServer):
    def __init__(self, master: str, options: PipelineOptions) -> None:
        super().__init__(master, options)
        self.sent: list[_Job] = []

    def create_beam_job(self, job_id: str, job_name: str, pipeline: Any, options: Any) -> _Job:
        job = _Job(
            self._master_url,
            self.executable_jar(),
            job_id,
            job_name,
            pipeline,
            options,
            artifact_port=self._artifact_port,
        )
        self.sent.append(job)
        return job


class _Job(FlinkBeamJob):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._removing = threading.Lock()

    def delete_jar(self) -> None:
        """Remove the jar; who comes second waits for who is at it, since the process may end after that."""
        with self._removing:
            super().delete_jar()

    def get(self, path: str, **settings: Any) -> Any:
        """What Beam's own gives; a question may be asked again, unlike an order."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return super().get(path, timeout=_ANSWER_SECONDS, **settings)
            except (requests.ConnectionError, requests.Timeout):
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(_PAUSE_SECONDS)
        raise AssertionError("not reached")

    def get_state_stream(self) -> Iterator[Any]:
        def states() -> Iterator[Any]:
            while True:
                yield self.get_state()
                time.sleep(_POLL_SECONDS)

        for state, timestamp in self.with_state_history(states()):
            yield state, timestamp
            if self.is_terminal_state(state):
                break

    def get_message_stream(self) -> Iterator[Any]:
        """States, and at the end why the job failed; Beam's own looks where Flink 2 says nothing any more."""
        try:
            for state, timestamp in self.get_state_stream():
                if self.is_terminal_state(state):
                    yield from self._failures()
                yield state, timestamp
        except requests.RequestException:
            return  # read in a thread of its own; the reader of states tells that the master is lost

    def _failures(self) -> Iterator[beam_job_api_pb2.JobMessage]:
        """Stack traces, the oldest first."""
        history = self.get(f"v1/jobs/{self._flink_job_id}/exceptions").get("exceptionHistory", {})
        for entry in sorted(history.get("entries", ()), key=lambda entry: entry["timestamp"]):
            yield beam_job_api_pb2.JobMessage(
                time=str(entry["timestamp"]),
                importance=beam_job_api_pb2.JobMessage.JOB_MESSAGE_ERROR,
                message_text=entry["stacktrace"],
            )

    def get_metrics(self) -> str:
        """The counters as JSON; empty where Flink has none that Beam can read, which a profile alone"
        " misses."""
        try:
            text: str = super().get_metrics()
            json_format.Parse(text, beam_job_api_pb2.GetJobMetricsResponse())
        except (LookupError, json_format.ParseError) as error:
            _LOG.warning("Flink tells no counters of this job (%s): a profile shows the clock only", error)
            return "{}"
        return text

    def cancel(self) -> None:
        """End the job on the cluster, if it was started; Beam's own asks at an address that is not there."""
        job = getattr(self, "_flink_job_id", None)
        if job is not None:
            self.request(requests.patch, f"v1/jobs/{job}?mode=cancel", 202, timeout=_ANSWER_SECONDS)
            self.delete_jar()
