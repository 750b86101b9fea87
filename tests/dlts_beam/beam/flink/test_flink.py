"""Jobs on Flink: our defaults under the user's flags, what is checked, and what arrives at the master."""

from __future__ import annotations

import json
import logging
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)

from dlts_beam.beam import flink
from dlts_beam.beam.runner import check_submission, parse_options, run_pipeline
from dlts_beam.errors import DltsError
from tests.dlts_beam.beam.flink.fake import FakeMaster, make_jar
from tests.dlts_beam.beam.flink.test_cluster import closed_port

FLINK = "--runner=FlinkRunner"


@pytest.fixture
def pool() -> Iterator[str]:
    """The address of something that listens, as a worker pool does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"localhost:{listening.getsockname()[1]}"


def options_of(*flags: str) -> dict[str, object]:
    return parse_options([FLINK, *flags]).get_all_options()


def build(pipeline: beam.Pipeline) -> None:
    _ = pipeline | "Create" >> beam.Create([1, 2, 3]) | "Spread" >> beam.Reshuffle()


def _submit(options: PipelineOptions, paths: dict[str, str] | None) -> None:
    check_submission(options, paths)
    run_pipeline(build, options)


def refused(*flags: str, output: str | None = None) -> str:
    options = parse_options([FLINK, *flags])
    with pytest.raises(DltsError) as caught:
        _submit(options, None if output is None else {"--output": output})
    return str(caught.value)


@pytest.mark.parametrize("name", ["FlinkRunner", "flink", "flinkrunner"])
def test_defaults_for_a_cluster(name: str):
    options = parse_options([f"--runner={name}", "--flink_master=flink:8081"])
    ours = options.view_as(FlinkRunnerOptions)
    portable = options.view_as(PortableOptions)
    assert ours.flink_submit_uber_jar
    assert options.view_as(flink.FlinkOptions).checkpointing_interval == -1
    assert not options.view_as(StandardOptions).streaming
    assert (portable.environment_type, portable.environment_config) == ("EXTERNAL", "localhost:50000")
    assert portable.environment_cache_millis == "60000"
    assert options.get_all_options()["default_sdk_harness_log_level"] == "WARNING"


def test_defaults_for_a_flink_on_this_machine():
    options = options_of()
    assert (options["environment_type"], options["environment_config"]) == ("LOOPBACK", None)
    assert not options["flink_submit_uber_jar"]
    behind_a_server = options_of("--job_endpoint=localhost:8099")
    assert behind_a_server["environment_type"] == "EXTERNAL"
    assert not behind_a_server["flink_submit_uber_jar"]


def test_the_user_s_flags_win():
    options = options_of(
        "--flink_master=flink:8081",
        "--environment_type=PROCESS",
        '--environment_config={"command": "boot"}',
        "--environment_cache_millis=5",
        "--checkpointing_interval=60000",
        "--number_of_execution_retries=2",
        "--default_sdk_harness_log_level=DEBUG",
        "--parallelism=3",
    )
    assert options["environment_type"] == "PROCESS"
    assert options["environment_config"] == '{"command": "boot"}'
    assert options["environment_cache_millis"] == "5"
    assert options["checkpointing_interval"] == 60000
    assert options["number_of_execution_retries"] == 2
    assert options["default_sdk_harness_log_level"] == "DEBUG"
    assert options["parallelism"] == 3
    given = options_of("--flink_master=flink:8081", "--environment_config=pool:7")
    assert (given["environment_type"], given["environment_config"]) == ("EXTERNAL", "pool:7")
    asked = options_of("--flink_master=f:1", "--environment_option=external_service_address=pool:7")
    assert (asked["environment_type"], asked["environment_config"]) == ("EXTERNAL", None)


def test_other_runners_are_left_alone():
    options = parse_options(["--runner=PrismRunner"]).get_all_options()
    assert options["environment_type"] is None
    assert options["checkpointing_interval"] is None


def test_a_job_arrives_whole_and_its_end_comes_back(
    master: FakeMaster, pool: str, bare: Path, caplog: pytest.LogCaptureFixture
):
    jar = make_jar(bare / "server.jar")
    options = parse_options(
        [
            FLINK,
            f"--flink_master={master.address}",
            f"--environment_config={pool}",
            f"--flink_job_server_jar={jar}",
        ]
    )
    for _ in range(2):  # the second run is on Flink too, with the same options
        result = run_pipeline(build, options)
        assert result.state == "DONE"
    assert len(master.uploads) == 2
    for uploaded in master.uploads:
        _check_job(uploaded, pool)
    assert master.removed == ["/v1/jars/jar-1_beam.jar"] * 2
    assert options.view_as(FlinkRunnerOptions).parallelism == -1  # as it was
    assert zipfile.ZipFile(jar).namelist() == master.uploads[0].namelist()[:1]


def _check_job(uploaded: zipfile.ZipFile, pool: str) -> None:
    sent = json.loads(uploaded.read("BEAM-PIPELINE/pipeline/pipeline-options.json"))
    values = {key.removeprefix("beam:option:").removesuffix(":v1"): value for key, value in sent.items()}
    assert values["parallelism"] == "4"
    assert values["checkpointing_interval"] == "-1"
    assert values["environment_cache_millis"] == "60000"
    assert values["streaming"] is False
    assert values["flink_master"] == "[auto]"  # the master runs the jar by itself
    assert values["beam_plugins"] == ["dlts_beam.beam.worker"]
    pipeline = json.loads(uploaded.read("BEAM-PIPELINE/pipeline/pipeline.json"))
    environments = pipeline["components"]["environments"].values()
    assert {environment["urn"] for environment in environments} == {"beam:env:external:v1"}
    assert any("Reshuffle" in str(part) for part in pipeline["components"]["transforms"].values())


def test_python_s_sentence_comes_back_from_a_failed_job(
    master: FakeMaster, pool: str, bare: Path, caplog: pytest.LogCaptureFixture
):
    jar = make_jar(bare / "server.jar")
    flags = [f"--flink_master={master.url}", f"--environment_config={pool}", f"--flink_job_server_jar={jar}"]
    master.state = "FAILED"
    master.failure = (
        "java.lang.RuntimeException: Error received from SDK harness for instruction 4: Traceback (most"
        ' recent call last):\n  File "x.py", line 1, in process\n'
        "dlts_beam.errors.DltsError: cannot read image_7.tif: it is cut short; copy it again"
        " [while running 'Read-ptransform-9']\n\n\tat org.apache.beam.X.y(X.java:1)\n"
    )
    with caplog.at_level(logging.ERROR):
        assert refused(*flags) == "cannot read image_7.tif: it is cut short; copy it again"
        master.failure = (
            "org.apache.flink.runtime.JobException: Recovery is suppressed by NoRestartBackoffTimeStrategy\n"
            "\tat org.apache.flink.A.b(A.java:1)\nCaused by:"
            " org.apache.flink.runtime.jobmaster.JobMasterException: TaskManager with id 127.0.0.1:4-a is no"
            " longer reachable.\n\t... 4 more\n"
        )
        assert refused(*flags) == (
            "the job failed on Flink: TaskManager with id 127.0.0.1:4-a is no longer"
            " reachable; the logs of its job manager say more; run the same command again"
        )
        assert caplog.text == ""
    master.failure = 'X: Traceback (most recent call last):\n  File "x.py"\nIndexError: 3\n'
    with pytest.raises(RuntimeError, match="IndexError: 3"):
        run_pipeline(build, parse_options([FLINK, *flags]))


def test_a_master_that_refuses_or_goes_away_in_mid_run(master: FakeMaster, pool: str, bare: Path):
    jar = make_jar(bare / "server.jar")
    flags = [f"--flink_master={master.url}", f"--environment_config={pool}", f"--flink_job_server_jar={jar}"]
    path = "/v1/jars/jar-1_beam.jar/run"
    master.status[path] = 400
    assert refused(*flags) == (
        f"the job failed on Flink: Request to {master.url}{path} failed with status 400:"
        ' {"errors": ["no"]}; the logs of its job manager say more; run the same command again'
    )
    del master.status[path]
    master.raw["/v1/jobs/job-1"] = b"<html>"
    assert refused(*flags) == (
        "lost the Flink master (JSONDecodeError): the job may still run there; see to"
        " the cluster, then run the same command again"
    )


def test_a_defect_on_the_way_out_keeps_its_traceback(master: FakeMaster, pool: str, bare: Path):
    def broken(pipeline: beam.Pipeline) -> None:
        raise RuntimeError("a defect")

    jar = make_jar(bare / "server.jar")
    flags = [f"--flink_master={master.url}", f"--environment_config={pool}", f"--flink_job_server_jar={jar}"]
    with pytest.raises(RuntimeError, match=r"^a defect$"):
        run_pipeline(broken, parse_options([FLINK, *flags]))


def test_a_job_server_that_does_not_answer(pool: str):
    assert refused(f"--job_endpoint={pool}", "--job_server_timeout=1") == (
        "lost the job server (no answer): the job may still run on its Flink; see to it, then run the same"
        " command again"
    )


def test_slots_decide_the_parallelism(master: FakeMaster, pool: str, bare: Path):
    flags = [f"--flink_master={master.url}", f"--environment_config={pool}"]

    def settled(*more: str) -> int:
        options = parse_options([FLINK, *flags, f"--flink_job_server_jar={jar}", *more])
        flink.check(options)
        return options.view_as(FlinkRunnerOptions).parallelism

    jar = make_jar(bare / "server.jar")
    master.free, master.running = 3, 1
    assert settled() == 3
    assert settled("--parallelism=2") == 2
    where = f"the cluster at {master.url}"
    assert refused(*flags, "--parallelism=4") == (
        f"--parallelism 4 needs as many task slots, and 3 of 4 are free in {where}: give 3 or less, or start"
        " more task managers"
    )
    master.free = 0
    assert refused(*flags) == (
        f"other jobs hold all 4 task slots of {where}: wait for them, cancel one, or start more task managers"
    )
    master.slots = 0
    assert refused(*flags) == (
        f"{where} has no task slot: start task managers, or read their logs if they were started"
    )
    master.settings["execution.target"] = "kubernetes-session"
    assert settled("--parallelism=9") == 9
    assert refused(*flags) == (
        f"{where} starts task managers when a job asks for them, so say for how many slots: give"
        " --parallelism"
    )
    master.slots = 6
    assert settled() == 6


def test_slots_that_come_back_in_a_moment_are_waited_for(
    master: FakeMaster, pool: str, bare: Path, monkeypatch: pytest.MonkeyPatch
):
    master.free = 1
    monkeypatch.setattr(flink.time, "sleep", lambda seconds: setattr(master, "free", 4))
    options = parse_options(
        [
            FLINK,
            f"--flink_master={master.url}",
            f"--environment_config={pool}",
            f"--flink_job_server_jar={make_jar(bare / 'server.jar')}",
        ]
    )
    flink.check(options)
    assert options.view_as(FlinkRunnerOptions).parallelism == 4


def test_what_does_not_fit_is_refused_before_anything_is_sent(master: FakeMaster, pool: str, bare: Path):
    flags = [f"--flink_master={master.url}", f"--environment_config={pool}"]
    assert refused(*flags, "--flink_version=1.20") == (
        f"--flink_version is 1.20, and the cluster at {master.url} runs 2.2: leave the flag out, the cluster"
        " tells its version"
    )
    assert refused(*flags, output="map.tif").startswith("--output is map.tif, a relative path")
    master.hosts = ("192.0.2.7",)
    assert refused(*flags, output="/data/map.tif").startswith("--output is /data/map.tif, a path of this")
    shared = refused(*flags, "--shared_local_paths", output="/data/map.tif")
    assert shared.startswith("no job-server jar for Flink 2.2 and Apache Beam 2.77.0: ")
    master.web_submit = False
    assert refused(*flags) == (
        f"the cluster at {master.url} takes no jobs through REST: set web.submit.enable to true in its"
        " configuration, or start a job server beside it and name that with --job_endpoint"
    )
    port = closed_port()
    assert refused(f"--job_endpoint=localhost:{port}") == (
        f"no job server answers at localhost:{port} (Connection refused): start it, or leave --job_endpoint"
        " out and name the cluster with --flink_master"
    )
    assert refused("--job_endpoint=8099") == (
        "--job_endpoint needs HOST:PORT of a running job server; got '8099'"
    )
    assert refused("--job_server_java_launcher=no-java") == (
        "there is no Java here (no-java), and a Flink on this machine needs it: install Java 17, name it with"
        " --job_server_java_launcher, or give --flink_master HOST:PORT of a running cluster"
    )
    assert master.uploads == []
    assert not [call for call in master.asked if not call.startswith("GET /v1/")]
