"""Dataflow: flags that are ours where the user gives none, and what is checked before a job is submitted.

Nothing here asks the network: whatever can be known from the flags and the paths is told at once.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Collection, Mapping

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    TestOptions,
    WorkerOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator

from dlts_beam.errors import DltsError
from dlts_beam.storage import is_remote

# Four gigabytes for each core: a window of a worker process takes 0.6 of them, libraries and models the rest.
MACHINE_TYPE = "n2-standard-4"
# A GPU comes with machines of its own kinds; other GPUs need --machine_type.
GPU_MACHINES = {
    "nvidia-tesla-t4": "n1-standard-4",
    "nvidia-tesla-v100": "n1-standard-8",
    "nvidia-l4": "g2-standard-4",
    "nvidia-tesla-a100": "a2-highgpu-1g",
    "nvidia-a100-80gb": "a2-ultragpu-1g",
}
# Windows that are read and prepared at a time while the GPU computes.
GPU_THREADS = 4
_REGION_VARIABLE = "CLOUDSDK_COMPUTE_REGION"
# What the name of an image may tell: beam_python3.11_sdk:2.77.0, dlts-worker:0.1.0-beam2.77.0-py3.11.
_BEAM_IN_NAME = re.compile(r"beam(?:_python[\d.]+_sdk:|[-_]?v?)(\d+\.\d+\.\d+)")
_PYTHON_IN_NAME = re.compile(r"py(?:thon)?[-_]?(3\.\d+)")


def default_flags(known: argparse.Namespace, given: Collection[str]) -> list[str]:
    """Flags to put before the user's own, which win.

    Dataflow starts one process for each core, so one thread in each keeps all cores busy with the least
    memory.

    Args:
        known: the parsed flags; ``known.gpu`` is the type of GPU that is wanted, or None.
        given: names of the flags on the command line.
    """
    flags = []
    threads = 1 if known.gpu is None else GPU_THREADS
    if "--number_of_worker_harness_threads" not in given:
        flags.append(f"--number_of_worker_harness_threads={threads}")
    if known.gpu is not None and "use_multiple_sdk_containers" not in (known.experiments or ()):
        # One process for a whole machine, so that its GPU holds one model.
        flags.append("--experiments=no_use_multiple_sdk_containers")
    if "--autoscaling_algorithm" not in given:
        flags.append("--autoscaling_algorithm=THROUGHPUT_BASED")
    if not {"--machine_type", "--worker_machine_type"} & set(given):
        flags.append(f"--machine_type={MACHINE_TYPE}")
    if known.region is None and os.environ.get(_REGION_VARIABLE):
        flags.append(f"--region={os.environ[_REGION_VARIABLE]}")
    return flags


def resource_hints(options: PipelineOptions, gpu: str | None) -> dict[str, str]:
    """Hints for the steps that compute, so that their workers carry a GPU; none on other runners.

    Args:
        gpu: Dataflow's name of the type, such as nvidia-l4; None for no GPU.

    Raises:
        DltsError: no machine is known that carries such a GPU, and none is named; or another flag
        excludes hints.
    """
    if gpu is None or not _on_dataflow(options):
        return {}
    cloud = options.view_as(GoogleCloudOptions)
    if cloud.flexrs_goal is not None:
        raise DltsError("--gpu and --flexrs_goal exclude each other: Dataflow rents no GPUs that way")
    if any(option.startswith("worker_accelerator") for option in cloud.dataflow_service_options or ()):
        raise DltsError("--gpu takes the place of the service option worker_accelerator: leave that one out")
    machine = options.view_as(WorkerOptions).machine_type
    if machine == MACHINE_TYPE:  # it carries none: the other steps go on there
        if gpu not in GPU_MACHINES:
            raise DltsError(
                f"--gpu {gpu}: no machine is known that carries it; name one with --machine_type, or choose"
                f" one of {', '.join(GPU_MACHINES)}"
            )
        machine = GPU_MACHINES[gpu]
    return {"accelerator": f"type:{gpu};count:1;machine_type:{machine};install-nvidia-driver:5xx"}


def is_detached(options: PipelineOptions) -> bool:
    """True when nobody waits for the job: it becomes a template, or is only translated."""
    template = options.view_as(GoogleCloudOptions).template_location
    return _on_dataflow(options) and bool(template or options.view_as(TestOptions).dry_run)


def is_dry_run(options: PipelineOptions) -> bool:
    """True when the job is only translated, and nothing must change."""
    return _on_dataflow(options) and bool(options.view_as(TestOptions).dry_run)


def describe_detached(options: PipelineOptions) -> str:
    """What became of a job that nobody waits for."""
    if is_dry_run(options):
        return "translated for Dataflow, and not submitted"
    return f"template written: {options.view_as(GoogleCloudOptions).template_location}"


def _on_dataflow(options: PipelineOptions) -> bool:
    return (options.view_as(StandardOptions).runner or "").lower().removesuffix("runner") == "dataflow"


def check(options: PipelineOptions, paths: Mapping[str, str] | None = None) -> None:
    """Refuse what Dataflow would refuse later, or what its workers could not do.

    Args:
        paths: by the words that name each, paths that the workers read or write.

    Raises:
        DltsError: one sentence: what is missing or wrong.
    """
    cloud = options.view_as(GoogleCloudOptions)
    if not cloud.project:
        raise DltsError("Dataflow needs --project: the id of the Google Cloud project that pays for the job")
    if not cloud.region:
        raise DltsError("Dataflow needs --region, such as --region=us-central1: best where the images lie")
    if not cloud.temp_location:
        raise DltsError("Dataflow needs --temp_location=gs://BUCKET/FOLDER, a folder for its own files")
    for flag, path in (
        ("--temp_location", cloud.temp_location),
        ("--staging_location", cloud.staging_location),
    ):
        if path and not is_remote(path):
            raise DltsError(f"{flag} must be a gs:// path: Dataflow's machines cannot see {path}")
    for what, path in (paths or {}).items():
        if not is_remote(path):
            raise DltsError(
                f"Dataflow's workers cannot see {path} ({what}): copy it to a bucket, as with"
                " 'gcloud storage cp -r', and give its gs:// path"
            )
    _check_forms(options)
    _check_image(options)


def _check_forms(options: PipelineOptions) -> None:
    """Beam's own checks, without those that ask the network."""
    validator = PipelineOptionsValidator(options, None)
    cloud, workers = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    errors = [
        *validator.validate_gcs_path(cloud, "temp_location"),
        *(validator.validate_gcs_path(cloud, "staging_location") if cloud.staging_location else ()),
        *validator.validate_cloud_options(cloud),
        *validator.validate_num_workers(workers),
        *validator.validate_worker_region_zone(workers),
    ]
    if errors:
        raise DltsError(f"{errors[0].rstrip('.')} (so says Apache Beam)")


def _check_image(options: PipelineOptions) -> None:
    workers, setup = options.view_as(WorkerOptions), options.view_as(SetupOptions)
    image = workers.sdk_container_image or workers.worker_harness_container_image
    if image is None:
        if setup.setup_file or setup.extra_packages:
            return
        raise DltsError(
            "Dataflow's own workers do not hold this package: give --sdk_container_image=IMAGE, built from"
            " target worker of the Dockerfile (see docs/running.md)"
        )
    found = _BEAM_IN_NAME.search(image)
    if found is not None and found[1] != beam.__version__:
        raise DltsError(
            f"the image {image} is made for Apache Beam {found[1]}, and this is {beam.__version__}: both must"
            " be the same; build the image again"
        )
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    python = _PYTHON_IN_NAME.search(image)
    if python is not None and python[1] != here:
        raise DltsError(
            f"the image {image} runs Python {python[1]}, and this is Python {here}: both must be the same;"
            f" build it with --build-arg PYTHON={here}"
        )


def explain(error: BaseException) -> str | None:
    """One sentence for what Google Cloud answers when a job is submitted or fails; None for other errors."""
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

    if isinstance(error, DataflowRuntimeException):
        return f"the Dataflow job failed: {_first_lines(str(error))}"
    if isinstance(error, GoogleAuthError):
        return (
            f"Google Cloud does not know who you are ({_first_lines(str(error))}): run"
            " 'gcloud auth application-default login' or set GOOGLE_APPLICATION_CREDENTIALS"
        )
    if isinstance(error, GoogleAPICallError):
        return f"Google Cloud refused the job: {_first_lines(str(error))}"
    return None


def _first_lines(text: str) -> str:
    return " ".join(text.split("\n", 3)[:3]).strip()
