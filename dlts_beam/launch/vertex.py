"""The trainer as a custom job of Vertex AI, by the service's own client."""

from __future__ import annotations

import argparse
import difflib
import json
import os
from collections.abc import Callable
from typing import Any

from dlts_beam.errors import DltsError
from dlts_beam.launch.job import TrainerJob
from dlts_beam.launch.service import Say
from dlts_beam.launch.vertex_jobs import Jobs, follow_job, load_library, to_message

TITLE = "Vertex AI"
REMOTE = True
GPUS = 1
DEFAULT_GPU = "NVIDIA_L4"
CPU_MACHINE = "n2-standard-8"
# Machine types that hold so many of a GPU; of others the user names the machine.
MACHINES = {
    "NVIDIA_L4": {1: "g2-standard-12", 2: "g2-standard-24", 4: "g2-standard-48", 8: "g2-standard-96"},
    "NVIDIA_TESLA_T4": {1: "n1-standard-8", 2: "n1-standard-16", 4: "n1-standard-32"},
    "NVIDIA_TESLA_A100": {1: "a2-highgpu-1g", 2: "a2-highgpu-2g", 4: "a2-highgpu-4g", 8: "a2-highgpu-8g"},
    "NVIDIA_A100_80GB": {1: "a2-ultragpu-1g", 2: "a2-ultragpu-2g", 4: "a2-ultragpu-4g", 8: "a2-ultragpu-8g"},
    "NVIDIA_H100_80GB": {1: "a3-highgpu-1g", 2: "a3-highgpu-2g", 4: "a3-highgpu-4g", 8: "a3-highgpu-8g"},
}


def add_flags(add: Callable[..., Any]) -> None:
    """The flags of Vertex AI alone."""
    add("--project", metavar="ID", help="Google Cloud project (default: GOOGLE_CLOUD_PROJECT)")
    add("--region", metavar="NAME", help="such as europe-west4")
    add("--machine-type", metavar="NAME",
        help=f"machine (default: one that holds the GPUs; {CPU_MACHINE} without any)")  # fmt: skip
    add("--gpu-type", metavar="NAME", help=f"such as NVIDIA_TESLA_T4 (default: {DEFAULT_GPU})")


def make_request(job: TrainerJob, flags: argparse.Namespace) -> dict[str, Any]:
    """``CreateCustomJobRequest`` as JSON, parsed into the service's own message and back.

    Raises:
        DltsError: project, region, machine or the client is missing, or the message is not valid.
    """
    project = flags.project or os.environ.get("GOOGLE_CLOUD_PROJECT")
    if not project:
        raise DltsError("Vertex AI needs a project: give --project ID, or set GOOGLE_CLOUD_PROJECT")
    if not flags.region:
        raise DltsError("Vertex AI needs a region: give --region, such as --region europe-west4")
    if job.cpus is not None or job.memory is not None:
        raise DltsError(
            "--cpus and --memory are for --on docker and --on kubernetes: on Vertex AI --machine-type"
            " decides both"
        )
    scheduling: dict[str, Any] = {"restartJobOnWorkerRestart": job.restarts > 0}
    if job.spot:
        scheduling["strategy"] = "SPOT"
    if not job.restarts:
        scheduling["disableRetries"] = True
    spec: dict[str, Any] = {"workerPoolSpecs": _pools(job, flags), "scheduling": scheduling}
    if job.service_account is not None:
        spec["serviceAccount"] = job.service_account
    request = {
        "parent": f"projects/{project}/locations/{flags.region}",
        "customJob": {"displayName": job.name, "labels": {"made-by": "dlts-beam"}, "jobSpec": spec},
    }
    return _as_sent(request)


def show(request: dict[str, Any]) -> str:
    """The request as JSON."""
    return json.dumps(request, indent=2, ensure_ascii=False)


def run(request: dict[str, Any], job: TrainerJob, say: Say, follow: bool) -> None:
    """Create the custom job; Vertex AI itself starts its machines again.

    Raises:
        DltsError: there are no credentials, the service cannot be reached or refuses, the training failed.
    """
    jobs = Jobs(request["parent"])
    name = jobs.create(request)
    number, region = name.rpartition("/")[2], request["parent"].rpartition("/")[2]
    say(f"{name} is submitted: 'gcloud ai custom-jobs cancel {number} --region={region}' ends it")
    if follow:
        follow_job(jobs, name, say)


def _pools(job: TrainerJob, flags: argparse.Namespace) -> list[dict[str, Any]]:
    """One machine, or a chief and its workers; Vertex AI tells them of each other in ``TF_CONFIG``."""
    container: dict[str, Any] = {"imageUri": job.image, "args": list(job.arguments)}
    if job.environment:
        container["env"] = [{"name": name, "value": value} for name, value in job.environment]
    pool = {"machineSpec": _machine(job, flags), "containerSpec": container}
    pools = [{**pool, "replicaCount": "1"}]
    if job.workers > 1:
        pools.append({**pool, "replicaCount": str(job.workers - 1)})
    return pools


def _machine(job: TrainerJob, flags: argparse.Namespace) -> dict[str, Any]:
    if not job.gpus:
        if flags.gpu_type:
            raise DltsError("--gpu-type and --gpus 0 exclude each other")
        return {"machineType": flags.machine_type or CPU_MACHINE}
    gpu = _gpu(flags.gpu_type or DEFAULT_GPU)
    machine = flags.machine_type or MACHINES.get(gpu, {}).get(job.gpus)
    if machine is None:
        raise DltsError(f"--gpus {job.gpus} of --gpu-type {gpu} need --machine-type, one that holds them")
    return {"machineType": machine, "acceleratorType": gpu, "acceleratorCount": job.gpus}


def _gpu(given: str) -> str:
    _, types = load_library()
    known = [name for name in types.AcceleratorType.__members__ if name.startswith("NVIDIA")]
    if given in known:
        return given
    wanted = given.upper().replace("-", "_")
    close = [name for name in known if wanted in name] or difflib.get_close_matches(wanted, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(known)}"
    raise DltsError(f"Vertex AI knows no --gpu-type {given}: {hint}")


def _as_sent(request: dict[str, Any]) -> dict[str, Any]:
    from google.protobuf import json_format

    return json_format.MessageToDict(to_message(request)._pb)
