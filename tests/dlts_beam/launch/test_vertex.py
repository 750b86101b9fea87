"""The trainer on Vertex AI: the request against its own messages, and a server that plays the service."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import google.auth
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1
from google.protobuf import json_format

from dlts_beam.errors import DltsError
from dlts_beam.launch import patience, vertex, vertex_jobs
from tests.dlts_beam.launch.servers import serving
from tests.dlts_beam.launch.test_job import job_of
from trainer.cli import parse_args

FLAGS = ("-i", "gs://b/s", "-o", "gs://b/m", "--model", "auto")
NAME = "projects/p/locations/europe-west4/customJobs/77"


def request_of(
    project: str | None = "p",
    region: str | None = "europe-west4",
    machine_type: str | None = None,
    gpu_type: str | None = None,
    **machine: Any,
) -> dict[str, Any]:
    flags = argparse.Namespace(project=project, region=region, machine_type=machine_type, gpu_type=gpu_type)
    return vertex.make_request(job_of(*FLAGS, remote=True, **machine), flags)


def spec_of(request: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = request["customJob"]["jobSpec"]
    return found


def test_the_spec_is_the_service_s_own_message() -> None:
    request = request_of(gpus=2, spot=True, env=["A=1"], service_account="trainer@p.iam.gserviceaccount.com")
    message = aiplatform_v1.types.CustomJobSpec()
    json_format.ParseDict(spec_of(request), message._pb)
    assert json_format.MessageToDict(message._pb) == spec_of(request)
    (pool,) = message.worker_pool_specs
    assert list(pool.container_spec.args) == ["-i", "gs://b/s", "-o", "gs://b/m", "--model", "auto"]
    assert vars(parse_args(list(pool.container_spec.args))) == vars(parse_args(FLAGS))
    assert pool.container_spec.image_uri == "dlts-trainer"
    assert (pool.container_spec.env[0].name, pool.container_spec.env[0].value) == ("A", "1")
    assert pool.machine_spec.machine_type == "g2-standard-24"
    assert pool.machine_spec.accelerator_type.name == "NVIDIA_L4"
    assert (pool.machine_spec.accelerator_count, pool.replica_count) == (2, 1)
    assert message.scheduling.restart_job_on_worker_restart
    assert message.scheduling.strategy.name == "SPOT"
    assert message.service_account.startswith("trainer@")
    assert request["parent"] == "projects/p/locations/europe-west4"


def test_further_machines_are_a_pool_of_workers() -> None:
    chief, workers = spec_of(request_of(gpus=1, workers=4))["workerPoolSpecs"]
    assert (chief["replicaCount"], workers["replicaCount"]) == ("1", "3")
    assert chief["containerSpec"] == workers["containerSpec"]


def test_without_restarts_vertex_does_not_retry() -> None:
    assert spec_of(request_of(restarts=0))["scheduling"] == {"disableRetries": True}


def test_machines_follow_from_gpus() -> None:
    def machine(**given: Any) -> dict[str, Any]:
        found: dict[str, Any] = spec_of(request_of(**given))["workerPoolSpecs"][0]["machineSpec"]
        return found

    assert machine(gpus=0) == {"machineType": "n2-standard-8"}
    assert machine(gpus=0, machine_type="c3-highcpu-22") == {"machineType": "c3-highcpu-22"}
    assert machine(gpus=4, gpu_type="NVIDIA_TESLA_A100")["machineType"] == "a2-highgpu-4g"
    assert machine(gpus=1, gpu_type="NVIDIA_B200", machine_type="a4")["acceleratorType"] == "NVIDIA_B200"
    known = aiplatform_v1.types.AcceleratorType.__members__
    assert set(vertex.MACHINES) <= set(known)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"project": None}, "needs a project: give --project ID"),
        ({"region": None}, "needs a region: give --region"),
        ({"cpus": 4.0}, "--machine-type decides both"),
        ({"gpus": 3}, "--gpus 3 of --gpu-type NVIDIA_L4 need --machine-type"),
        ({"gpus": 1, "gpu_type": "t4"}, "knows no --gpu-type t4: did you mean NVIDIA_TESLA_T4"),
        ({"gpus": 0, "gpu_type": "NVIDIA_L4"}, "exclude each other"),
    ],
)
def test_what_is_missing_or_wrong_is_told(
    given: dict[str, Any], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    with pytest.raises(DltsError, match=text):
        request_of(**given)


def test_the_project_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "from-env")
    assert request_of(project=None)["parent"] == "projects/from-env/locations/europe-west4"


def test_a_field_that_is_unknown_is_refused() -> None:
    request = request_of()
    spec_of(request)["schedulling"] = {}
    with pytest.raises(DltsError, match="the job is not one that Vertex AI knows"):
        vertex_jobs.to_message(request)


class Service:
    """Plays Vertex AI and Cloud Logging: every look at the job takes the next state and the lines so far."""

    def __init__(self, *states: tuple[str, int]) -> None:
        self.states = list(states)
        self.lines = 0
        self.body: Any = None
        self.filters: list[str] = []
        self.no_logs = False
        self.failing = 0

    def __call__(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path.startswith("/v2/entries"):
            self.filters.append(body["filter"])
            if self.no_logs:
                return 403, "Permission denied"
            return 200, {"entries": [
                {"insertId": str(n), "timestamp": f"2026-01-01T00:0{n}:00.123456789Z",
                 "jsonPayload": {"message": f"epoch {n}\n"}} for n in range(self.lines)
            ]}  # fmt: skip
        if method == "POST":
            self.body = body
            return 200, {"name": NAME}
        if self.failing:
            self.failing -= 1
            return 503, {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}
        state, self.lines = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return 200, {"name": NAME, "state": state, "error": {"message": "out of memory"}}


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's, and nothing waits."""
    monkeypatch.setattr(google.auth, "default", lambda scopes: (AnonymousCredentials(), None))
    monkeypatch.setattr(vertex_jobs, "POLL", 0.01)
    monkeypatch.setattr(patience, "PAUSE", 0.01)


def run(service: Service, monkeypatch: pytest.MonkeyPatch, follow: bool = True) -> list[str]:
    """Run a job on the played service; gives what was said."""
    said: list[str] = []
    with serving(service) as address:
        monkeypatch.setattr(vertex_jobs, "endpoint", lambda region: address)
        monkeypatch.setattr(vertex_jobs, "LOGGING", address)
        vertex.run(request_of(gpus=1), job_of(*FLAGS, remote=True), said.append, follow)
    return said


@pytest.mark.usefixtures("credentials")
def test_states_and_lines_come_to_the_terminal_once(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(
        ("JOB_STATE_PENDING", 0),
        ("JOB_STATE_RUNNING", 1),
        ("JOB_STATE_RUNNING", 2),
        ("JOB_STATE_SUCCEEDED", 3),
    )
    service.failing = 2
    said = run(service, monkeypatch)
    assert said == [
        f"{NAME} is submitted: 'gcloud ai custom-jobs cancel 77 --region=europe-west4' ends it",
        "custom job 77: pending", "custom job 77: running", "epoch 0", "epoch 1",
        "custom job 77: succeeded", "epoch 2",
    ]  # fmt: skip
    # What is sent is what the dry run shows.
    sent = aiplatform_v1.types.CustomJob()
    json_format.ParseDict(service.body, sent._pb)
    assert json_format.MessageToDict(sent._pb) == request_of(gpus=1)["customJob"]
    assert service.filters[-1].endswith('timestamp>="2025-12-31T23:59:00.123456+00:00"')


@pytest.mark.usefixtures("credentials")
def test_a_job_that_fails_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DltsError, match="custom job 77 did not succeed: out of memory"):
        run(Service(("JOB_STATE_FAILED", 1)), monkeypatch)


@pytest.mark.usefixtures("credentials")
def test_a_closed_log_does_not_end_the_watching(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(("JOB_STATE_RUNNING", 1), ("JOB_STATE_SUCCEEDED", 1))
    service.no_logs = True
    said = run(service, monkeypatch)
    assert "the log cannot be read (403): Permission denied; the job itself goes on" in said
    assert len(service.filters) == 1


@pytest.mark.usefixtures("credentials")
def test_without_waiting_only_the_job_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(run(Service(("JOB_STATE_PENDING", 0)), monkeypatch, follow=False)) == 1


@pytest.mark.usefixtures("credentials")
def test_a_refusal_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(method: str, path: str, body: Any) -> tuple[int, Any]:
        return 403, {"error": {"code": 403, "message": "Vertex AI API is off", "status": "PERMISSION_DENIED"}}

    with pytest.raises(DltsError, match=r"^Vertex AI refuses: .*Vertex AI API is off"):
        run(refuse, monkeypatch)  # type: ignore[arg-type]


def test_credentials_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(DltsError, match="there are no Google credentials: run 'gcloud auth"):
        vertex_jobs.Jobs("projects/p/locations/r")


def test_the_client_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.aiplatform_v1", None)
    with pytest.raises(DltsError, match=r"pip install 'dlts-beam\[vertex\]'"):
        request_of()


def test_the_dry_run_is_the_request_as_json() -> None:
    request = request_of(gpus=1)
    assert json.loads(vertex.show(request)) == request
