"""What is told of a job service or of its workers; tests/gcs/test_out_of_process.py runs both."""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import grpc
import pytest

from dlts_beam.beam import portable, runner
from dlts_beam.errors import DltsError
from tests.dlts_beam.beam.flink.test_cluster import closed_port

PORTABLE = "--runner=PortableRunner"
PRISM = "--runner=PrismRunner"


@pytest.fixture
def address() -> Iterator[str]:
    """Of something that listens, as a job service or a worker pool does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"localhost:{listening.getsockname()[1]}"


def refused(*flags: str, output: str = "gs://bucket/map.tif") -> str:
    with pytest.raises(DltsError) as caught:
        runner.check_submission(runner.parse_options(flags), {"--output": output})
    return str(caught.value)


def test_a_job_service_that_is_not_there_is_told_at_once():
    options = runner.parse_options([PORTABLE, "--job_endpoint=localhost:1"])
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


def test_what_a_job_service_needs_is_told_before_the_job_goes_out(address: str):
    assert refused(PORTABLE).startswith("--runner=PortableRunner needs --job_endpoint HOST:PORT of a job")
    assert refused(PORTABLE, "--job_endpoint=here") == (
        "--job_endpoint needs HOST:PORT of a running job service; got 'here'"
    )
    service = f"--job_endpoint={address}"
    assert refused(PORTABLE, service).startswith("--runner=PortableRunner needs --environment_type: EXTERNAL")
    assert refused(PORTABLE, service, "--environment_type=EXTERNAL").startswith(
        "--environment_type EXTERNAL needs --environment_config HOST:PORT of the worker pool"
    )
    assert refused(PORTABLE, service, "--environment_type=DOCKER") == (
        "--environment_type DOCKER needs --environment_config IMAGE: the image that the Dockerfile's target"
        " worker builds, pushed to where the job service can pull it"
    )
    port = closed_port()
    pool = ("--environment_type=EXTERNAL", f"--environment_config=localhost:{port}")
    assert refused(PORTABLE, service, *pool) == (
        f"no worker pool listens at localhost:{port}: start it there, with python -m"
        f" apache_beam.runners.worker.worker_pool_main --service_port={port}"
    )
    process = ("--environment_type=PROCESS", "--environment_option=process_command=/nowhere/boot")
    assert refused(PORTABLE, service, *process) == (
        "--environment_type PROCESS: there is no program /nowhere/boot on this machine, where the job service"
        " is"
    )


def test_threads_of_this_process_need_a_service_on_this_machine(
    address: str, monkeypatch: pytest.MonkeyPatch
):
    flags = (PORTABLE, f"--job_endpoint={address}", "--environment_type=LOOPBACK")
    runner.check_submission(runner.parse_options(flags), {"--output": "map.tif"})
    monkeypatch.setattr(portable, "is_this_machine", lambda host: False)
    assert refused(*flags).startswith("--environment_type LOOPBACK works only with a job service on this mac")


def test_an_environment_by_its_urn_is_left_to_beam(tmp_path: Path):
    embedded = "--environment_type=beam:env:embedded_python:v1"
    options = runner.parse_options([PORTABLE, "--job_endpoint=embed", embedded])
    runner.check_submission(options, {"--output": "map.tif"})
    output = str(tmp_path / "numbers")
    runner.run_pipeline(
        lambda pipeline: pipeline | beam.Create([1, 2]) | beam.Map(str) | beam.io.WriteToText(output), options
    )
    lines = [line for part in tmp_path.iterdir() for line in part.read_text().split()]
    assert sorted(lines) == ["1", "2"]
    nowhere = refused(PORTABLE, "--job_endpoint=localhost:1", embedded)
    assert nowhere.startswith("no job service answers at localhost:1")
    unknown = "--environment_type=beam:env:embeded_python:v1"
    assert refused(PORTABLE, "--job_endpoint=embed", unknown).startswith(
        "unknown --environment_type beam:env:embeded_python:v1: choose one of EXTERNAL, DOCKER"
    )


def test_paths_that_workers_do_not_find_are_refused(address: str, tmp_path: Path):
    service = (PORTABLE, f"--job_endpoint={address}", "--environment_type=EXTERNAL")
    here = (*service, f"--environment_config={address}")
    assert refused(*here, output="map.tif") == (
        "--output is map.tif, a relative path, and workers run in folders of their own: give"
        f" {os.path.abspath('map.tif')}"
    )
    local = str(tmp_path / "map.tif")
    runner.check_submission(runner.parse_options(here), {"--output": local})
    elsewhere = (*service, "--environment_config=pools.invalid:50000")
    assert "the workers run elsewhere" in refused(*elsewhere, output=local)
    runner.check_submission(runner.parse_options([*elsewhere, "--shared_local_paths"]), {"--output": local})


def test_prism_s_program_must_be_one(tmp_path: Path):
    program = tmp_path / "prism"
    flags = (PRISM, f"--prism_location={program}")
    told = refused(*flags)
    assert told.startswith(f"--prism_location: there is no file {program}; build Prism with 'go install ")
    program.write_text("not a program")
    assert refused(*flags).startswith(f"--prism_location: {program} is not executable; if it is Prism, run")
    program.chmod(0o755)
    runner.check_submission(runner.parse_options(flags), {"--output": "map.tif"})
    with pytest.raises(DltsError, match=r"^Prism does not start \(.*Exec format error.*\): see that"):
        runner.run_pipeline(lambda pipeline: pipeline | beam.Create([1]), runner.parse_options(flags))


def test_prism_that_ends_or_cannot_be_had_is_told_in_one_sentence():
    for text in ("Service failed to start up with error 2", "Unable to fetch remote prism binary at x: y"):
        assert portable.explain(RuntimeError(text)) == (
            f"Prism does not start ({text}): see that --prism_location names its program for this machine"
        )
    assert portable.explain(OSError(errno.ENOSPC, "no space")) is None
