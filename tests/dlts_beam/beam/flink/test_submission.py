"""The way to the cluster: networks that fail for a moment, and Ctrl-C."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from dlts_beam.beam.flink import submission
from dlts_beam.beam.runner import parse_options, run_pipeline
from dlts_beam.errors import DltsError
from tests.dlts_beam.beam.flink.fake import FakeMaster, make_jar


@pytest.fixture
def options(master: FakeMaster, bare: Path) -> Iterator[PipelineOptions]:
    with socket.create_server(("127.0.0.1", 0)) as pool:
        yield parse_options(
            [
                "--runner=FlinkRunner",
                f"--flink_master={master.url}",
                f"--environment_config=localhost:{pool.getsockname()[1]}",
                f"--flink_job_server_jar={make_jar(bare / 'server.jar')}",
            ]
        )


def build(pipeline: beam.Pipeline) -> None:
    _ = pipeline | "Create" >> beam.Create([1])


def test_questions_are_asked_again(
    master: FakeMaster, options: PipelineOptions, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(submission, "_PAUSE_SECONDS", 0.01)
    master.drops = 5
    assert run_pipeline(build, options).state == "DONE"
    assert master.drops == 0
    assert len(master.uploads) == 1  # an order is given once


def test_a_master_that_stays_away_is_told(
    master: FakeMaster,
    options: PipelineOptions,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(submission, "_PAUSE_SECONDS", 0.01)
    master.drops = 1000
    with pytest.raises(DltsError) as caught:
        run_pipeline(build, options)
    assert str(caught.value) == (
        f"lost the Flink master at {master.address} (ConnectionError): the job may still run there; see to"
        " the cluster, then run the same command again"
    )
    assert "Traceback" not in capfd.readouterr().err


def test_ctrl_c_ends_the_job_on_the_cluster(
    master: FakeMaster, options: PipelineOptions, monkeypatch: pytest.MonkeyPatch
):
    sleep = time.sleep

    def interrupt(seconds: float) -> None:
        if threading.current_thread() is threading.main_thread():
            master.state = "CANCELED"
            raise KeyboardInterrupt
        sleep(0.01)

    monkeypatch.setattr(submission.time, "sleep", interrupt)
    master.state = "RUNNING"
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(build, options)
    assert "PATCH /v1/jobs/job-1?mode=cancel" in master.asked
    assert set(master.removed) == {"/v1/jars/jar-1_beam.jar"}


def test_counters_come_back_or_are_left_out(
    master: FakeMaster, options: PipelineOptions, caplog: pytest.LogCaptureFixture
):
    def read() -> int:
        counters = run_pipeline(build, options).metrics().query()["counters"]
        return sum(counter.attempted for counter in counters)

    info = {
        "urn": "beam:metric:user:sum_int64:v1",
        "type": "beam:metrics:sum_int64:v1",
        "payload": "Bw==",
        "labels": {"NAMESPACE": "dlts", "NAME": "tiles", "PTRANSFORM": "Create"},
    }
    metrics = {"metrics": {"attempted": [info]}}
    master.accumulators = [{"name": "__metricscontainers", "value": json.dumps(metrics)}]
    assert read() == 7
    assert caplog.text == ""
    for unreadable in ([], [{"name": "__metricscontainers", "value": "MetricsContainer(1)"}]):
        caplog.clear()
        master.accumulators = unreadable
        assert read() == 0
        assert "Flink tells no counters of this job" in caplog.text
