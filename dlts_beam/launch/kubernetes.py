"""The trainer as a Kubernetes Job, by the official client."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from dlts_beam.errors import DltsError
from dlts_beam.launch.job import TrainerJob
from dlts_beam.launch.kubernetes_cluster import CONTAINER, INDEX, Cluster, RefusedError, follow_job, model_of
from dlts_beam.launch.service import Say

TITLE = "Kubernetes"
REMOTE = True
GPUS = 1
PORT = 2222  # where workers find each other
KEPT_SECONDS = 7 * 24 * 3600
# Exit statuses of the trainer that no new start puts right: a refusal, a wrong flag; a crash has its own.
REFUSED, WRONG_FLAG = 1, 2
_SPOT = "cloud.google.com/gke-spot"


class Request(NamedTuple):
    """What is sent, in order, and where to.

    Attributes:
        manifests: a Job; with several workers also the Service by which they find each other.
        context: of the kube config; None takes the current one.
    """

    namespace: str
    context: str | None
    manifests: tuple[dict[str, Any], ...]


def add_flags(add: Callable[..., Any]) -> None:
    """The flags of Kubernetes alone."""
    add("--namespace", metavar="NAME", help="namespace of the job (default: default)")
    add("--context", metavar="NAME", help="context of the kube config (default: the current one)")
    add("--node-selector", metavar="LABEL=VALUE", action="append",
        help="run only on nodes with this label, such as cloud.google.com/gke-accelerator=nvidia-l4; may be"
        " repeated")  # fmt: skip


def make_request(job: TrainerJob, flags: argparse.Namespace) -> Request:
    """The manifests, checked against the client's models.

    Raises:
        DltsError: the client is not installed, or a manifest is not valid.
    """
    selector = dict(_label(text) for text in flags.node_selector or [])
    if job.spot:
        selector[_SPOT] = "true"
    names = [_service(job)] if job.workers > 1 else []
    manifests = (*names, _job(job, selector))
    for manifest in manifests:
        _check(manifest)
    return Request(flags.namespace or "default", flags.context, manifests)


def show(request: Request) -> str:
    """YAML that ``kubectl apply --namespace NAMESPACE -f -`` takes."""
    import yaml

    head = f"# namespace: {request.namespace}\n"
    return head + "---\n".join(yaml.safe_dump(manifest, sort_keys=False) for manifest in request.manifests)


def run(request: Request, job: TrainerJob, say: Say, follow: bool) -> None:
    """Create the job; Kubernetes itself starts its pods again.

    Raises:
        DltsError: the cluster cannot be reached or refuses, the image cannot be pulled, the training failed.
    """
    cluster = Cluster(request.namespace, request.context)
    _create(cluster, request, job)
    kinds = ",".join(manifest["kind"].lower() for manifest in request.manifests)
    told = f"job {job.name} in namespace {request.namespace}"
    say(f"{told} is submitted: 'kubectl -n {request.namespace} delete {kinds} {job.name}' ends it")
    if not follow:
        return
    reason = follow_job(cluster, job, say)
    if job.workers > 1:
        cluster.delete_service(job.name)
    if reason is not None:
        raise DltsError(f"{told} failed: {reason}")


def _create(cluster: Cluster, request: Request, job: TrainerJob) -> None:
    """Create all that is asked for, or nothing."""
    *names, of_job = request.manifests
    for manifest in names:
        cluster.create(manifest)
    try:
        cluster.create(of_job)
    except RefusedError:  # without any answer the job may be there, and then needs its names
        if names:
            with suppress(DltsError):  # the refusal is what counts
                cluster.delete_service(job.name)
        raise


def _job(job: TrainerJob, selector: dict[str, str]) -> dict[str, Any]:
    several = job.workers > 1
    # A worker that lost another one ends with the status of a refusal, and must be started again.
    hopeless = [WRONG_FLAG] if several else [REFUSED, WRONG_FLAG]
    rules = [
        # A node that goes away is nobody's fault: such a start is not counted.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": hopeless},
        },
    ]
    spec: dict[str, Any] = {
        "backoffLimit": job.restarts * job.workers,
        "podFailurePolicy": {"rules": rules},
        "ttlSecondsAfterFinished": KEPT_SECONDS,
    }
    if several:
        spec |= {"completionMode": "Indexed", "completions": job.workers, "parallelism": job.workers}
    spec["template"] = {"metadata": {"labels": _labels(job)}, "spec": _pod(job, selector)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job.name, "labels": _labels(job)},
        "spec": spec,
    }


def _pod(job: TrainerJob, selector: dict[str, str]) -> dict[str, Any]:
    container: dict[str, Any] = {"name": CONTAINER, "image": job.image, "args": list(job.arguments)}
    environment = [{"name": name, "value": value} for name, value in job.environment]
    if job.workers > 1:
        environment += _cluster_variables(job)
    if environment:
        container["env"] = environment
    limits: dict[str, str] = {}
    if job.cpus is not None:
        limits["cpu"] = f"{job.cpus:g}"
    if job.memory is not None:
        limits["memory"] = str(job.memory)
    if job.gpus:
        limits["nvidia.com/gpu"] = str(job.gpus)
    if limits:
        container["resources"] = {"limits": limits, "requests": dict(limits)}
    pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}
    if job.gpus > 1:
        # GPUs exchange gradients through it, and a container has 64 MB of it.
        container["volumeMounts"] = [{"name": "shm", "mountPath": "/dev/shm"}]
        pod["volumes"] = [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}]
    if job.workers > 1:
        pod["subdomain"] = job.name
    if job.service_account is not None:
        pod["serviceAccountName"] = job.service_account
    if selector:
        pod["nodeSelector"] = selector
    tolerations = []
    if job.gpus:
        tolerations.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    if job.spot:
        tolerations.append({"key": _SPOT, "operator": "Equal", "value": "true", "effect": "NoSchedule"})
    if tolerations:
        pod["tolerations"] = tolerations
    return pod


def _cluster_variables(job: TrainerJob) -> list[dict[str, Any]]:
    """``TF_CONFIG``: the same list of workers for all, and each one's own number."""
    hosts = [f"{job.name}-{worker}.{job.name}:{PORT}" for worker in range(job.workers)]
    cluster = json.dumps({"worker": hosts})
    index = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
    config = f'{{"cluster": {cluster}, "task": {{"type": "worker", "index": $(DLTS_WORKER)}}}}'
    return [{"name": "DLTS_WORKER", "valueFrom": index}, {"name": "TF_CONFIG", "value": config}]


def _service(job: TrainerJob) -> dict[str, Any]:
    """Gives each worker a name in the cluster, before it is ready too: they wait for each other."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": job.name, "labels": _labels(job)},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"job-name": job.name},
            "ports": [{"name": "workers", "port": PORT}],
        },
    }


def _labels(job: TrainerJob) -> dict[str, str]:
    return {"app.kubernetes.io/name": "dlts-trainer", "app.kubernetes.io/instance": job.name}


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise DltsError(f"--node-selector must look like LABEL=VALUE; got {text!r}")
    return name, value


def _check(manifest: dict[str, Any]) -> None:
    """Hold a manifest against the client's model of its kind: no field unknown, none of a wrong type."""
    model = model_of(manifest)
    try:
        model.model_validate(manifest)
    except ValueError as error:
        raise DltsError(f"the {manifest['kind']} is not one that Kubernetes knows: {error}") from error
