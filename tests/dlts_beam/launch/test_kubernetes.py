"""The trainer on Kubernetes: manifests against the client's models."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest
import yaml
from kubernetes import client

from dlts_beam.errors import DltsError
from dlts_beam.launch import kubernetes
from tests.dlts_beam.launch.test_job import job_of
from trainer.cli import parse_args

FLAGS = ("-i", "gs://b/s", "-o", "gs://b/m", "--model", "auto")


def request_of(
    namespace: str | None = None, selector: list[str] | None = None, **machine: Any
) -> kubernetes.Request:
    flags = argparse.Namespace(namespace=namespace, context=None, node_selector=selector)
    return kubernetes.make_request(job_of(*FLAGS, remote=True, **machine), flags)


def test_a_job_with_its_gpu_is_what_the_client_knows() -> None:
    (job,) = request_of(gpus=1, cpus=4, memory=1 << 34, env=["A=1"], service_account="trainer").manifests
    model = client.V1Job.model_validate(job)
    assert client.ApiClient().sanitize_for_serialization(model) == job
    pod = model.spec.template.spec
    (container,) = pod.containers
    assert container.args == ["-i", "gs://b/s", "-o", "gs://b/m", "--model", "auto"]
    assert vars(parse_args(container.args)) == vars(parse_args(FLAGS))
    assert container.resources.limits == {"cpu": "4", "memory": str(1 << 34), "nvidia.com/gpu": "1"}
    assert container.env[0].value == "1"
    assert (pod.restart_policy, pod.service_account_name) == ("Never", "trainer")
    assert model.spec.backoff_limit == 3


def test_preemptions_are_not_counted_and_refusals_end_the_job() -> None:
    (job,) = request_of(spot=True, selector=["cloud.google.com/gke-accelerator=nvidia-l4"]).manifests
    rules = job["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "FailJob"]
    assert rules[0]["onPodConditions"][0]["type"] == "DisruptionTarget"
    assert rules[1]["onExitCodes"]["values"] == [1, 2]
    pod = job["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-spot": "true", "cloud.google.com/gke-accelerator": "nvidia-l4",
    }  # fmt: skip
    assert pod["tolerations"][0]["key"] == "cloud.google.com/gke-spot"


def test_several_workers_find_each_other() -> None:
    service, job = request_of(gpus=2, workers=3).manifests
    for manifest, model in ((service, client.V1Service), (job, client.V1Job)):
        assert client.ApiClient().sanitize_for_serialization(model.model_validate(manifest)) == manifest
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert spec["backoffLimit"] == 9
    # A worker that lost another one must be started again, so its status 1 is not the end.
    assert spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"] == [2]
    pod = spec["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"] == "dlts-train-1"
    assert pod["volumes"][0]["emptyDir"]["medium"] == "Memory"
    index, config = pod["containers"][0]["env"]
    assert index["valueFrom"]["fieldRef"]["fieldPath"].endswith("job-completion-index']")
    told = json.loads(config["value"].replace("$(DLTS_WORKER)", "2"))
    assert told["cluster"]["worker"] == [f"dlts-train-1-{n}.dlts-train-1:2222" for n in range(3)]
    assert told["task"] == {"type": "worker", "index": 2}


def test_the_dry_run_is_yaml_that_gives_the_manifests_back() -> None:
    request = request_of(workers=2, namespace="maps")
    text = kubernetes.show(request)
    assert text.startswith("# namespace: maps\n")
    assert list(yaml.safe_load_all(text)) == list(request.manifests)


def test_a_manifest_with_a_wrong_field_is_refused() -> None:
    (job,) = request_of().manifests
    job["spec"]["template"]["spec"]["containers"][0]["comand"] = ["python"]
    with pytest.raises(DltsError, match="the Job is not one that Kubernetes knows"):
        kubernetes._check(job)


def test_a_selector_without_a_value_is_refused() -> None:
    with pytest.raises(DltsError, match="--node-selector must look like LABEL=VALUE; got 'gpu'"):
        request_of(selector=["gpu"])


def test_the_client_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kubernetes", None)
    with pytest.raises(DltsError, match=r"pip install 'dlts-beam\[kubernetes\]'"):
        request_of()
