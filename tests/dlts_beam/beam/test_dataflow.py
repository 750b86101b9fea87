"""Flags of ours for Dataflow, and sentences before anything is submitted."""

from __future__ import annotations

import sys

import apache_beam as beam
import pytest
from apache_beam.internal.gcp import auth
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    WorkerOptions,
)
from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException
from google.api_core.exceptions import PermissionDenied
from google.auth.exceptions import DefaultCredentialsError

from dlts_beam.beam import dataflow
from dlts_beam.beam.runner import check_submission, parse_options, run_pipeline
from dlts_beam.errors import DltsError
from pipelines.classify_img_series import DEFAULT_GPU

IMAGE = f"europe-docker.pkg.dev/p/images/dlts-worker:0.1.0-beam{beam.__version__}"
GIVEN = {
    "--runner": "DataflowRunner",
    "--project": "my-project",
    "--region": "europe-west1",
    "--temp_location": "gs://bucket/temp",
    "--sdk_container_image": IMAGE,
}


def options_of(*flags: str, gpu: str | None = None, **changed: str | None) -> PipelineOptions:
    given = {**GIVEN, **{f"--{name}": value for name, value in changed.items()}}
    pairs = [f"{flag}={value}" for flag, value in given.items() if value is not None]
    return parse_options([*pairs, *flags], gpu=gpu)


def test_a_complete_command_is_accepted():
    check_submission(options_of(), {"--output": "gs://bucket/map.tif"})


@pytest.mark.parametrize("runner", ["DataflowRunner", "dataflow", "Dataflow"])
def test_one_thread_in_each_process(runner: str):
    options = options_of(runner=runner)
    assert options.view_as(DebugOptions).number_of_worker_harness_threads == 1
    assert options.view_as(WorkerOptions).machine_type == "n2-standard-4"
    assert options.view_as(WorkerOptions).autoscaling_algorithm == "THROUGHPUT_BASED"
    assert options.view_as(DebugOptions).experiments is None
    assert options.view_as(WorkerOptions).use_public_ips is None


def test_the_user_s_flags_win():
    options = options_of(
        "--number_of_worker_harness_threads=6", "--worker_machine_type", "c3-highcpu-8",
        "--autoscaling_algorithm=NONE", "--experiments=use_multiple_sdk_containers", gpu="nvidia-l4",
    )  # fmt: skip
    assert options.view_as(DebugOptions).number_of_worker_harness_threads == 6
    assert options.view_as(WorkerOptions).machine_type == "c3-highcpu-8"
    assert options.view_as(WorkerOptions).autoscaling_algorithm == "NONE"
    assert options.view_as(DebugOptions).experiments == ["use_multiple_sdk_containers"]


def test_the_region_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CLOUDSDK_COMPUTE_REGION", "us-east4")
    assert options_of(region=None).view_as(GoogleCloudOptions).region == "us-east4"
    assert options_of().view_as(GoogleCloudOptions).region == "europe-west1"


def test_other_runners_are_left_alone():
    options = parse_options(["--runner=PrismRunner"], gpu="nvidia-l4")
    assert options.view_as(WorkerOptions).machine_type is None
    check_submission(options, {"--output": "map.tif"})
    assert dataflow.resource_hints(options, "nvidia-l4") == {}
    assert not dataflow.is_detached(options)


HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"project": None}, "Dataflow needs --project: the id of the Google Cloud project"),
        ({"region": None}, "Dataflow needs --region, such as --region=us-central1"),
        ({"temp_location": None}, "Dataflow needs --temp_location=gs://BUCKET/FOLDER"),
        ({"temp_location": "/tmp"}, "--temp_location must be a gs:// path: Dataflow's machines cannot see"),
        ({"staging_location": "stage"}, "--staging_location must be a gs:// path"),
        ({"project": "My Project"}, "Invalid Project ID (My Project). Please make sure you specified the"),
        ({"temp_location": "gs://bucket"}, "Did you mean: 'gs://bucket/ or gs://some_bucket/bucket'?"),
        ({"job_name": "1"}, "Invalid job_name (1); the name must consist of only the characters"),
        ({"num_workers": "9", "max_num_workers": "3"}, "num_workers (9) cannot exceed max_num_workers (3)"),
        ({"sdk_container_image": None}, "Dataflow's own workers do not hold this package: give --sdk_cont"),
        (
            {"sdk_container_image": "gcr.io/p/dlts-worker:1-beam2.70.0"},
            f"the image gcr.io/p/dlts-worker:1-beam2.70.0 is made for Apache Beam 2.70.0, and this is"
            f" {beam.__version__}: both must be the same",
        ),
        (
            {"sdk_container_image": "apache/beam_python3.11_sdk:2.76.0"},
            "is made for Apache Beam 2.76.0",
        ),
        (
            {"sdk_container_image": f"p/beam_python3.9_sdk:{beam.__version__}"},
            f"runs Python 3.9, and this is Python {HERE}: both must be the same; build it with --build-arg",
        ),
    ],
)
def test_what_is_missing_is_one_sentence(
    changed: dict[str, str | None], sentence: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("CLOUDSDK_COMPUTE_REGION", raising=False)
    with pytest.raises(DltsError) as caught:
        run_pipeline(lambda pipeline: pytest.fail("the pipeline was built"), options_of(**changed))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "image",
    [
        "gcr.io/p/worker",
        "gcr.io/p/worker:1.2.3",
        "gcr.io/p/dlts-beam-worker:0.1.0",
        f"p/beam_python{HERE}_sdk:{beam.__version__}",
        f"p/dlts-worker:0.1.0-beam{beam.__version__}-py{HERE}-gpu",
    ],
)
def test_names_that_tell_nothing_or_the_right_thing_are_accepted(image: str):
    check_submission(options_of(sdk_container_image=image))


def test_a_package_for_the_workers_will_do_in_place_of_an_image():
    check_submission(options_of("--setup_file=./setup.py", sdk_container_image=None))


@pytest.mark.parametrize(
    ("gpu", "machine"), [("nvidia-l4", "g2-standard-4"), ("nvidia-tesla-t4", "n1-standard-4")]
)
def test_a_gpu_brings_its_machine(gpu: str, machine: str):
    options = options_of(gpu=gpu)
    hint = f"type:{gpu};count:1;machine_type:{machine};install-nvidia-driver:5xx"
    assert dataflow.resource_hints(options, gpu) == {"accelerator": hint}
    assert options.view_as(DebugOptions).number_of_worker_harness_threads == 4
    assert options.view_as(DebugOptions).experiments == ["no_use_multiple_sdk_containers"]


@pytest.mark.parametrize(
    "flag", ["--flexrs_goal=COST_OPTIMIZED", "--dataflow_service_options=worker_accelerator=type:nvidia-l4"]
)
def test_flags_that_exclude_a_hint_are_refused(flag: str):
    with pytest.raises(DltsError, match=r"^--gpu "):
        dataflow.resource_hints(options_of(flag, gpu="nvidia-l4"), "nvidia-l4")


def test_the_default_gpu_has_a_machine():
    assert DEFAULT_GPU in dataflow.GPU_MACHINES


def test_a_named_machine_carries_any_gpu():
    hints = dataflow.resource_hints(options_of("--machine_type=a4-x", gpu="nvidia-b200"), "nvidia-b200")
    assert hints["accelerator"].startswith("type:nvidia-b200;count:1;machine_type:a4-x;")
    with pytest.raises(DltsError, match=r"^--gpu nvidia-b200: no machine is known that carries it; name one"):
        dataflow.resource_hints(options_of(gpu="nvidia-b200"), "nvidia-b200")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (DataflowRuntimeException("State: FAILED, Error:\nno quota", None), "the Dataflow job failed: State"),
        (DefaultCredentialsError("none found"), "Google Cloud does not know who you are (none found): run"),
        (PermissionDenied("dataflow.jobs.create"), "Google Cloud refused the job: 403 dataflow.jobs.create"),
    ],
)
def test_refusals_of_the_service_are_one_sentence(
    error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch
):
    def build(pipeline: beam.Pipeline) -> None:
        raise error

    # Beam looks for credentials when a pipeline is made, for half a minute.
    monkeypatch.setattr(auth._Credentials, "_credentials_init", True)
    with pytest.raises(DltsError) as caught:
        run_pipeline(build, options_of("--dry_run=True"))
    assert str(caught.value).startswith(sentence)


def test_defects_stay_defects():
    assert dataflow.explain(KeyError("x")) is None
