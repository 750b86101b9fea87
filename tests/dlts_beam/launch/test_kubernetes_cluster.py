"""The trainer on Kubernetes, on a server that plays the cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dlts_beam.errors import DltsError, UnreachableError
from dlts_beam.launch import kubernetes, kubernetes_cluster, patience
from tests.dlts_beam.launch.servers import serving
from tests.dlts_beam.launch.test_job import job_of
from tests.dlts_beam.launch.test_kubernetes import FLAGS, request_of


class Cluster:
    """Plays the API server: a job whose pods go through the states that a test lists."""

    def __init__(self, *states: tuple[str | None, list[dict[str, Any]]]) -> None:
        """Each look at the job takes the next of (end of the job, pods); the last one stays."""
        self.states = list(states)
        self.asked: list[str] = []
        self.bodies: list[Any] = []
        self.logs: dict[str, str] = {}
        self.refuse: tuple[int, str] | None = None
        self.busy = 0

    def __call__(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        plain = path.partition("?")[0]
        self.asked.append(f"{method} {plain}")
        if self.refuse is not None:
            return self.refuse[0], {"kind": "Status", "message": self.refuse[1]}
        if self.busy and method == "GET":
            self.busy -= 1
            return 503, {"kind": "Status", "message": "etcd is busy"}
        if method == "POST":
            self.bodies.append(body)
            return 201, body
        if method == "DELETE":
            return 200, {"kind": "Status", "status": "Success"}
        if plain.endswith("/log"):
            found = self.logs.get(plain.split("/")[-2])
            return (200, found) if found is not None else (404, {"kind": "Status", "message": "not found"})
        if plain.endswith("/pods"):
            return 200, {"kind": "PodList", "apiVersion": "v1", "items": self._now[1]}
        self._now = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        end = self._now[0]
        conditions = [] if end is None else [{"type": end, "status": "True", "message": "too many restarts"}]
        return 200, {"kind": "Job", "apiVersion": "batch/v1", "status": {"conditions": conditions}}


def pod(name: str, phase: str, index: str | None = None, **status: Any) -> dict[str, Any]:
    notes = {} if index is None else {"batch.kubernetes.io/job-completion-index": index}
    stamp = "2026-01-01T00:00:00Z"
    meta = {"name": name, "annotations": notes, "creationTimestamp": stamp}
    spec = {"containers": [{"name": "trainer"}]}
    return {"metadata": meta, "spec": spec, "status": {"phase": phase, **status}}


@pytest.fixture
def kube_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that points the client at an address; nothing waits."""
    for module in (kubernetes_cluster, patience):
        monkeypatch.setattr(module, "POLL" if module is kubernetes_cluster else "PAUSE", 0.01)
    path = tmp_path / "config"
    monkeypatch.setenv("KUBECONFIG", str(path))
    # The client has read the variable when it was imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))

    def point(address: str) -> None:
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "clusters": [{"name": "c", "cluster": {"server": address}}],
                    "users": [{"name": "u", "user": {"token": "t"}}],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                }
            )
        )

    return point


def run(cluster: Cluster, point: Any, follow: bool = True, **machine: Any) -> list[str]:
    """Run a job on the played cluster; gives what was said."""
    said: list[str] = []
    job = job_of(*FLAGS, remote=True, **machine)
    with serving(cluster) as address:
        point(address)
        kubernetes.run(request_of(**machine), job, said.append, follow)
    return said


def test_lines_come_to_the_terminal_once_and_over_a_preemption(kube_config: Any) -> None:
    waits = pod("p1", "Pending", conditions=[
        {"type": "PodScheduled", "status": "False", "message": "no node has a GPU"}])  # fmt: skip
    cluster = Cluster(
        (None, [waits]),
        (None, [waits]),
        (None, [pod("p1", "Running")]),
        (None, [pod("p1", "Running")]),
        (None, [pod("p1", "Failed"), pod("p2", "Running")]),
        ("Complete", [pod("p1", "Failed"), pod("p2", "Succeeded")]),
    )
    cluster.logs = {"p1": "epoch 1\nepoch 2\n", "p2": "goes on after epoch 2\nepoch 3"}
    said = run(cluster, kube_config)
    assert said[1:] == [
        "p1 waits: no node has a GPU", "epoch 1", "epoch 2", "p2 goes on in the place of one that was lost",
        "goes on after epoch 2", "epoch 3",
    ]  # fmt: skip
    assert "'kubectl -n default delete job dlts-train-1' ends it" in said[0]
    # What is sent is what the dry run shows.
    assert cluster.bodies == list(request_of().manifests)


def test_a_pod_that_went_with_its_node_and_a_busy_cluster_do_not_end_the_watching(kube_config: Any) -> None:
    cluster = Cluster(
        (None, [pod("p1", "Running")]),
        (None, [pod("p1", "Failed"), pod("p2", "Running")]),
        ("Complete", [pod("p1", "Failed"), pod("p2", "Succeeded")]),
    )
    cluster.logs = {"p2": "epoch 7\n"}
    cluster.busy = 3
    said = run(cluster, kube_config)
    assert said[1:] == ["p2 goes on in the place of one that was lost", "epoch 7"]


def test_a_log_that_falls_silent_is_asked_for_again_and_no_line_is_told_twice_or_lost(
    kube_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_cluster, "LOG_TIMEOUT", (5.0, 0.1))
    ended = threading.Event()

    def silent() -> Iterator[str]:
        yield "epoch 1\nepo"
        ended.wait(60)

    class Silent(Cluster):
        def __call__(self, method: str, path: str, body: Any) -> tuple[int, Any]:
            asked = sum(line.endswith("/log") for line in self.asked)
            if "/log?" in path and asked < 5:  # urllib3 tries four times to get an answer
                self.asked.append(path.partition("?")[0])
                if asked < 4:
                    ended.wait(60)
                return 200, silent()
            return super().__call__(method, path, body)

    running = (None, [pod("p1", "Running")])
    cluster = Silent(running, running, running, ("Complete", [pod("p1", "Succeeded")]))
    cluster.logs = {"p1": "epoch 1\nepoch 2\n"}
    try:
        assert run(cluster, kube_config)[1:] == ["epoch 1", "epoch 2"]
    finally:
        ended.set()
    assert sum(line.endswith("/log") for line in cluster.asked) == 7


def test_a_job_that_fails_is_told_with_its_reason(kube_config: Any) -> None:
    cluster = Cluster(("Failed", [pod("p1", "Failed")]))
    cluster.logs = {"p1": "error: there is no samples.json\n"}
    with pytest.raises(DltsError, match="job dlts-train-1 in namespace default failed: too many restarts"):
        run(cluster, kube_config)


def without_image(name: str, reason: str, message: str) -> dict[str, Any]:
    """A pod whose image is not there yet."""
    status = {"name": "trainer", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    state = {"waiting": {"reason": reason, "message": message}}
    return pod(name, "Pending", containerStatuses=[{**status, "state": state}])


JOB = "/apis/batch/v1/namespaces/default/jobs/dlts-train-1"


@pytest.mark.parametrize("reason", ["InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_can_never_be_pulled_ends_the_job_at_once(kube_config: Any, reason: str) -> None:
    cluster = Cluster((None, [without_image("p1", reason, "no such name")]))
    with pytest.raises(DltsError, match=r"cannot pull dlts-trainer \(no such name\), so the job was deleted"):
        run(cluster, kube_config)
    assert cluster.asked[-1] == f"DELETE {JOB}"


def test_an_image_that_cannot_be_pulled_for_long_ends_the_job(
    kube_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_cluster, "PULL_PATIENCE", 0.2)
    cluster = Cluster(
        (None, [without_image("p1", "ErrImagePull", "not found")]),
        (None, [without_image("p1", "ImagePullBackOff", "Back-off pulling image")]),
    )
    with pytest.raises(DltsError, match=r"cannot pull dlts-trainer \(Back-off.*\), so the job was deleted"):
        run(cluster, kube_config)
    assert cluster.asked.count(f"GET {JOB}") > 2
    assert cluster.asked[-1] == f"DELETE {JOB}"


def test_a_pull_that_fails_is_waited_for_and_told_once_for_each_reason(kube_config: Any) -> None:
    fails = (None, [without_image("p1", "ErrImagePull", "503 Service Unavailable")])
    backs_off = (None, [without_image("p1", "ImagePullBackOff", "Back-off pulling image")])
    cluster = Cluster(fails, backs_off, fails, backs_off, ("Complete", [pod("p1", "Succeeded")]))
    cluster.logs = {"p1": "epoch 1\n"}
    said = run(cluster, kube_config)
    assert said[1:] == ["p1 waits: 503 Service Unavailable", "p1 waits: Back-off pulling image", "epoch 1"]


def test_a_pull_that_fails_in_mid_training_never_ends_the_job(
    kube_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_cluster, "PULL_PATIENCE", 0.0)
    fails = without_image("p2", "ErrImagePull", "503 Service Unavailable")
    cluster = Cluster(
        (None, [pod("p1", "Running")]),
        (None, [pod("p1", "Failed"), fails]),
        (None, [pod("p1", "Failed"), fails]),
        ("Complete", [pod("p1", "Failed"), pod("p2", "Succeeded")]),
    )
    cluster.logs = {"p1": "epoch 1\n", "p2": "epoch 2\n"}
    said = run(cluster, kube_config)
    assert said[1:] == [
        "epoch 1", "p2 waits: 503 Service Unavailable", "p2 goes on in the place of one that was lost",
        "epoch 2",
    ]  # fmt: skip
    assert not any(line.startswith("DELETE") for line in cluster.asked)


def test_of_several_workers_the_first_one_is_heard(kube_config: Any) -> None:
    pods = [pod("p1", "Succeeded", "1"), pod("p0", "Succeeded", "0")]
    cluster = Cluster(("Complete", pods))
    cluster.logs = {"p0": "chief\n", "p1": "silent\n"}
    assert run(cluster, kube_config, workers=2)[1:] == ["chief"]
    assert cluster.asked[:2] == [
        "POST /api/v1/namespaces/default/services", "POST /apis/batch/v1/namespaces/default/jobs",
    ]  # fmt: skip
    assert cluster.asked[-1] == "DELETE /api/v1/namespaces/default/services/dlts-train-1"


@pytest.mark.parametrize(("status", "deleted"), [(409, True), (503, False)])
def test_a_job_that_is_refused_leaves_no_service_behind(kube_config: Any, status: int, deleted: bool) -> None:
    class Refusing(Cluster):
        def __call__(self, method: str, path: str, body: Any) -> tuple[int, Any]:
            found = super().__call__(method, path, body)
            if method == "POST" and path.endswith("/jobs"):
                return status, {"kind": "Status", "message": "no"}
            return found

    cluster = Refusing((None, []))
    with pytest.raises(DltsError, match=f"\\({status}\\): no$"):
        run(cluster, kube_config, workers=2)
    # Without a clear answer the job may be there.
    delete = "DELETE /api/v1/namespaces/default/services/dlts-train-1"
    assert (cluster.asked[-1] == delete) is deleted


def test_without_waiting_only_the_job_is_made(kube_config: Any) -> None:
    cluster = Cluster((None, []))
    assert len(run(cluster, kube_config, follow=False)) == 1
    assert cluster.asked == ["POST /apis/batch/v1/namespaces/default/jobs"]


def test_a_refusal_is_one_sentence(kube_config: Any) -> None:
    cluster = Cluster((None, []))
    cluster.refuse = 403, "jobs.batch is forbidden"
    with pytest.raises(DltsError, match=r"^Kubernetes refuses \(403\): jobs.batch is forbidden$"):
        run(cluster, kube_config)


def test_no_config_and_no_cluster_are_told(
    kube_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DltsError, match="there is no kube config: make one"):
        kubernetes_cluster.Cluster("default", None)
    with pytest.raises(DltsError, match="the kube config cannot be used"):
        kubernetes_cluster.Cluster("default", "elsewhere")
    kube_config("http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match="the Kubernetes cluster cannot be reached"):
        kubernetes_cluster.Cluster("default", None).job("j")
