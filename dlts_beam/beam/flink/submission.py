"""How a job travels to the cluster and is watched there, a little more patient than Beam's own way.

This leans on Beam's internals, for which the version is pinned; the tests show what each piece is for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import requests
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.flink_runner import FlinkRunner
from apache_beam.runners.portability.flink_uber_jar_job_server import FlinkBeamJob, FlinkUberJarJobServer
from apache_beam.runners.portability.job_server import JobServer

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
        try:
            yield from super().get_message_stream()
        except requests.RequestException:
            return  # read in a thread of its own; the reader of states tells that the master is lost

    def cancel(self) -> None:
        """End the job on the cluster, if it was started; Beam's own asks at an address that is not there."""
        job = getattr(self, "_flink_job_id", None)
        if job is not None:
            self.request(requests.patch, f"v1/jobs/{job}?mode=cancel", 202, timeout=_ANSWER_SECONDS)
            self.delete_jar()
