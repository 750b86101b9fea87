"""What is told of a job service or of its workers; tests/gcs/test_out_of_process.py runs both."""

from __future__ import annotations

import logging
import time

import apache_beam as beam
import grpc
import pytest

from dlts_beam.beam import portable, runner
from dlts_beam.errors import DltsError


def test_a_job_service_that_is_not_there_is_told_at_once():
    options = runner.parse_options(["--runner=PortableRunner", "--job_endpoint=localhost:1"])
    began = time.monotonic()
    with pytest.raises(DltsError, match=r"no job service answers at localhost:1 .*correct --job_endpoint"):
        runner.run_pipeline(lambda pipeline: pipeline | beam.Create([1]), options)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("text", ["a worker was lost", "Channel closed prematurely."])
def test_a_lost_worker_is_told_in_one_sentence(text: str):
    told = portable.explain(RuntimeError(f"Pipeline job-1 failed\nTraceback …\nRuntimeError: {text}"))
    assert told is not None
    assert told.startswith("a worker ended in mid-run, or never came")


def test_a_lost_service_is_told_in_one_sentence():
    told = portable.explain(grpc.RpcError("UNAVAILABLE"))
    assert told == "the job service went away in mid-run: start it and run the command again"


def test_a_defect_is_not_explained_away():
    assert portable.explain(RuntimeError("Traceback …\nIndexError: 3")) is None


def test_the_log_of_a_failure_is_left_out_and_the_rest_is_not(caplog: pytest.LogCaptureFixture):
    with portable.attended():
        logging.error("Traceback (most recent call last):\n  …")
        logging.error("the disk is nearly full")
    assert caplog.messages == ["the disk is nearly full"]
