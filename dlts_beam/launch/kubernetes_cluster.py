"""The Kubernetes cluster: the few calls that a job needs, and following it to its end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from dlts_beam.errors import DltsError, UnreachableError
from dlts_beam.launch.job import TrainerJob
from dlts_beam.launch.patience import patiently
from dlts_beam.launch.service import Say

CONTAINER = "trainer"
INDEX = "batch.kubernetes.io/job-completion-index"
POLL = 5.0  # seconds between two looks
TIMEOUT = 30.0
# To connect, and between two pieces of a log: a connection that was dropped silently tells of no end.
LOG_TIMEOUT = (30.0, 120.0)
# The kubelet asks again after these by itself: a busy registry looks like a wrong name at first.
_PULL_FAILS = frozenset({"ErrImagePull", "ImagePullBackOff"})
_NEVER_PULLS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
PULL_PATIENCE = 600.0  # seconds: some seven attempts of the kubelet, which waits longer after each


def load_client() -> Any:
    """The client's module.

    Raises:
        DltsError: it is not installed.
    """
    try:
        from kubernetes import client
    except ImportError as error:
        raise DltsError("--on kubernetes needs its client: pip install 'dlts-beam[kubernetes]'") from error
    return client


def model_of(manifest: dict[str, Any]) -> Any:
    """The client's class for what a manifest describes."""
    return getattr(load_client(), f"V1{manifest['kind']}")


class RefusedError(DltsError):
    """The cluster says no; ``status`` is HTTP's."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class Cluster:
    """The few calls that are needed, with failures in one sentence."""

    def __init__(self, namespace: str, context: str | None) -> None:
        """Read the kube config; nothing is asked yet.

        Raises:
            DltsError: there is none, or it cannot be used.
        """
        client = load_client()
        from kubernetes import config

        try:
            config.load_kube_config(context=context)
        except config.ConfigException as error:
            if context is not None:
                raise DltsError(f"the kube config cannot be used: {error}") from error
            try:
                config.load_incluster_config()  # the launcher may be a pod itself
            except config.ConfigException:
                raise DltsError(
                    "there is no kube config: make one, on Google Cloud with"
                    " 'gcloud container clusters get-credentials CLUSTER'"
                ) from error
        self.namespace = namespace
        self._batch, self._core = client.BatchV1Api(), client.CoreV1Api()

    def create(self, manifest: dict[str, Any]) -> None:
        """Create what a manifest describes."""
        make = {
            "Job": self._batch.create_namespaced_job,
            "Service": self._core.create_namespaced_service,
        }[manifest["kind"]]
        body = model_of(manifest).model_validate(manifest)
        self._call(lambda: make(self.namespace, body, _request_timeout=TIMEOUT))

    def job(self, name: str) -> Any:
        """The job as it stands."""
        return self._call(
            lambda: self._batch.read_namespaced_job(name, self.namespace, _request_timeout=TIMEOUT)
        )

    def delete(self, name: str) -> None:
        """Delete a job with its pods."""
        self._call(
            lambda: self._batch.delete_namespaced_job(
                name,
                self.namespace,
                propagation_policy="Background",
                _request_timeout=TIMEOUT,
                _preload_content=False,
            )
        )

    def delete_service(self, name: str) -> None:
        """Delete the names of a job's workers."""
        self._call(
            lambda: self._core.delete_namespaced_service(
                name, self.namespace, _request_timeout=TIMEOUT, _preload_content=False
            )
        )

    def pods(self, name: str) -> list[Any]:
        """Pods of the job's first worker, in the order they were made."""
        found = self._call(
            lambda: self._core.list_namespaced_pod(
                self.namespace, label_selector=f"job-name={name}", _request_timeout=TIMEOUT
            )
        ).items
        first = [pod for pod in found if (pod.metadata.annotations or {}).get(INDEX, "0") == "0"]
        return sorted(first, key=lambda pod: (str(pod.metadata.creation_timestamp), pod.metadata.name))

    def lines(self, pod: str) -> Iterator[str]:
        """The lines of a pod, to its end or to where the connection breaks; none where it is gone.

        A pod that says nothing for a while looks like a broken connection.
        """
        try:
            answer = self._call(
                lambda: self._core.read_namespaced_pod_log(
                    pod,
                    self.namespace,
                    container=CONTAINER,
                    follow=True,
                    _preload_content=False,
                    _request_timeout=LOG_TIMEOUT,
                )
            )
        except RefusedError as error:
            if error.status in (400, 404):  # its container is not there yet, or the pod went with its node
                return iter(())
            raise
        except UnreachableError as error:
            if _is_silence(error.__cause__):  # the answer begins with the pod's first line
                return iter(())
            raise
        return self._stream(answer)

    def _stream(self, answer: Any) -> Iterator[str]:
        import urllib3

        rest = b""
        try:
            for piece in answer.stream():
                *whole, rest = (rest + piece).split(b"\n")
                yield from (line.decode(errors="replace") for line in whole)
        except (urllib3.exceptions.HTTPError, OSError):
            return  # whoever follows asks again for what is missing
        finally:
            answer.close()
        if rest:
            yield rest.decode(errors="replace")

    def _call(self, work: Callable[[], Any]) -> Any:
        import urllib3
        from kubernetes.client.exceptions import ApiException

        try:
            return work()
        except ApiException as error:
            told = f"({error.status}): {_message(error)}"
            if error.status >= 500 or error.status == 429:
                raise UnreachableError(f"Kubernetes does not answer {told}") from error
            raise RefusedError(f"Kubernetes refuses {told}", error.status) from error
        except ValueError as error:  # the client checks what comes back
            raise DltsError(f"Kubernetes answers what its client does not understand: {error}") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(f"the Kubernetes cluster cannot be reached: {_cause(error)}") from error


def _is_silence(error: BaseException | None) -> bool:
    """Whether there was a connection and nothing came on it."""
    import urllib3

    # After several attempts urllib3 puts the last failure into `reason`.
    return isinstance(getattr(error, "reason", error), urllib3.exceptions.ReadTimeoutError)


def _cause(error: BaseException) -> str:
    """What lies behind urllib3's account of its attempts."""
    reason = getattr(error, "reason", None)
    return str(reason or error).rpartition(": ")[2]


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


def follow_job(cluster: Cluster, job: TrainerJob, say: Say) -> str | None:
    """Pass on what the first worker says until the job has ended; gives why it failed, None if it did not."""
    told: dict[str, int] = {}  # lines by pod: a broken connection must not repeat or lose any
    ended: set[str] = set()
    waits: dict[tuple[str, str], float] = {}  # when a pod was first seen to wait for that reason
    while True:
        # Before its pods, so that nothing they say before the end is missed.
        outcome = _outcome(patiently(lambda: cluster.job(job.name)))
        for pod in patiently(lambda: cluster.pods(job.name)):
            name = pod.metadata.name
            if name in ended:
                continue
            if pod.status.phase == "Pending":
                reason, sentence = _why_pending(pod)
                if reason and (name, reason) not in waits:
                    waits[name, reason] = time.monotonic()
                    if reason not in _NEVER_PULLS:
                        say(f"{name} waits: {sentence}")
                # A job that has trained keeps its place: its image is there, so the pull will work again.
                gives_up = reason in _PULL_FAILS and _pull_seconds(waits, name) > PULL_PATIENCE and not told
                if reason in _NEVER_PULLS or gives_up:
                    cluster.delete(job.name)
                    return f"the cluster cannot pull {job.image} ({sentence}), so the job was deleted"
                continue
            if name not in told and told:
                say(f"{name} goes on in the place of one that was lost")
            for number, line in enumerate(patiently(partial(cluster.lines, name))):
                if number >= told.setdefault(name, 0):
                    say(line)
                    told[name] = number + 1
            told.setdefault(name, 0)
            if pod.status.phase in ("Succeeded", "Failed"):
                ended.add(name)
        if outcome is not None:
            return outcome or None
        time.sleep(POLL)


def _outcome(job: Any) -> str | None:
    """None while the job runs, an empty text when it succeeded, else why it failed."""
    for condition in job.status.conditions or []:
        if condition.status == "True" and condition.type == "Complete":
            return ""
        if condition.status == "True" and condition.type == "Failed":
            return condition.message or condition.reason or "it does not say why"
    return None


def _pull_seconds(waits: dict[tuple[str, str], float], pod: str) -> float:
    """For how long the pulls of the image have failed, of a pod that waits for it."""
    return time.monotonic() - min(waits[key] for key in waits if key[0] == pod and key[1] in _PULL_FAILS)


def _why_pending(pod: Any) -> tuple[str, str]:
    """Why a pod does not start yet, in a word and in a sentence; both empty where nobody says."""
    for container in pod.status.container_statuses or []:
        waiting = container.state.waiting if container.state else None
        if waiting is not None and waiting.reason in _PULL_FAILS | _NEVER_PULLS:
            return waiting.reason, waiting.message or waiting.reason
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            sentence = condition.message or condition.reason or ""
            return sentence, sentence
    return "", ""
