"""Custom jobs of Vertex AI: the few calls that one needs, and following it to its end."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from dlts_beam.errors import DltsError, UnreachableError
from dlts_beam.launch.patience import patiently
from dlts_beam.launch.service import Say

POLL = 15.0  # seconds between two looks
TIMEOUT = 60.0
LATE = dt.timedelta(minutes=2)
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
LOGGING = "https://logging.googleapis.com"
_ENDED = {
    "JOB_STATE_SUCCEEDED": True,
    "JOB_STATE_PARTIALLY_SUCCEEDED": False,
    "JOB_STATE_FAILED": False,
    "JOB_STATE_CANCELLED": False,
    "JOB_STATE_EXPIRED": False,
}


def load_library() -> tuple[Any, Any]:
    """The client's class and the module of the service's messages.

    Raises:
        DltsError: they are not installed.
    """
    try:
        from google.cloud.aiplatform_v1 import JobServiceClient, types
    except ImportError as error:
        raise DltsError("--on vertex needs its client: pip install 'dlts-beam[vertex]'") from error
    return JobServiceClient, types


def to_message(request: dict[str, Any]) -> Any:
    """A ``CreateCustomJobRequest`` of its JSON.

    Raises:
        DltsError: a field is unknown or of a wrong type.
    """
    from google.protobuf import json_format

    _, types = load_library()
    message = types.CreateCustomJobRequest()
    try:
        json_format.ParseDict(request, message._pb)
    except json_format.ParseError as error:
        raise DltsError(f"the job is not one that Vertex AI knows: {error}") from error
    return message


class Jobs:
    """The few calls that are needed, with failures in one sentence."""

    def __init__(self, parent: str) -> None:
        """Find credentials; nothing is asked yet.

        Args:
            parent: ``projects/PROJECT/locations/REGION``.

        Raises:
            DltsError: there are none.
        """
        client, _ = load_library()
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError
        from google.auth.transport.requests import AuthorizedSession

        # Elsewhere than on Google's machines, their metadata server is not worth three attempts.
        os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")
        try:
            credentials, _ = google.auth.default(scopes=[SCOPE])
        except DefaultCredentialsError as error:
            raise DltsError(
                "there are no Google credentials: run 'gcloud auth application-default login', or let"
                " GOOGLE_APPLICATION_CREDENTIALS name a key file"
            ) from error
        project, region = parent.split("/")[1], parent.rpartition("/")[2]
        self._jobs = client(
            credentials=credentials, transport="rest", client_options={"api_endpoint": endpoint(region)}
        )
        self._session = AuthorizedSession(credentials)
        self._project = project

    def create(self, request: dict[str, Any]) -> str:
        """Create the job; gives its full name."""
        created = self._call(lambda: self._jobs.create_custom_job(to_message(request), timeout=TIMEOUT))
        return str(created.name)

    def job(self, name: str) -> Any:
        """The job as it stands."""
        return self._call(lambda: self._jobs.get_custom_job(name=name, timeout=TIMEOUT))

    def entries(self, number: str, since: str | None) -> list[dict[str, Any]]:
        """Log entries of the first machine, oldest first, from a time (RFC 3339, included) on."""
        wanted = [
            'resource.type="ml_job"',
            f'resource.labels.job_id="{number}"',
            'resource.labels.task_name="workerpool0-0"',
        ]
        if since is not None:
            wanted.append(f'timestamp>="{since}"')
        query: dict[str, Any] = {
            "resourceNames": [f"projects/{self._project}"],
            "filter": " AND ".join(wanted),
            "orderBy": "timestamp asc",
            "pageSize": 1000,
        }
        found: list[dict[str, Any]] = []
        while True:
            answer = self._call(lambda: self._post(f"{LOGGING}/v2/entries:list", query))
            found += answer.get("entries", [])
            if not answer.get("nextPageToken"):
                return found
            query["pageToken"] = answer["nextPageToken"]

    def _post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._session.post(url, json=body, timeout=TIMEOUT)
        if answer.status_code >= 500 or answer.status_code == 429:
            raise UnreachableError(f"Cloud Logging does not answer ({answer.status_code})")
        if answer.status_code >= 400:
            raise _NoLogsError(f"the log cannot be read ({answer.status_code}): {answer.text.strip()[:300]}")
        found: dict[str, Any] = answer.json()
        return found

    def _call(self, work: Callable[[], Any]) -> Any:
        import requests
        from google.api_core import exceptions
        from google.auth.exceptions import GoogleAuthError

        try:
            return work()
        except (exceptions.ServerError, exceptions.TooManyRequests, exceptions.RetryError) as error:
            raise UnreachableError(f"Vertex AI does not answer: {error}") from error
        except exceptions.GoogleAPICallError as error:
            raise DltsError(f"Vertex AI refuses: {error.message}") from error
        except GoogleAuthError as error:
            raise DltsError(
                f"the Google credentials are refused ({error}): run 'gcloud auth application-default login'"
            ) from error
        except requests.RequestException as error:
            raise UnreachableError(f"Vertex AI cannot be reached: {error}") from error


class _NoLogsError(DltsError):
    """The job runs, but its log is closed to us."""


def endpoint(region: str) -> str:
    """Host of the service in a region."""
    return f"{region}-aiplatform.googleapis.com"


def follow_job(jobs: Jobs, name: str, say: Say) -> None:
    """Pass on the log and every change of the job's state until it has ended.

    Raises:
        DltsError: it did not succeed.
    """
    number = name.rpartition("/")[2]
    state, logs = "", True
    since: str | None = None
    told: set[str] = set()
    while True:
        job = patiently(partial(jobs.job, name))
        if job.state.name != state:
            state = job.state.name
            say(f"custom job {number}: {state.removeprefix('JOB_STATE_').lower()}")
        ended = state in _ENDED
        if ended:
            time.sleep(POLL)  # the last lines reach the log a little later
        if logs:
            try:
                since = _pass_on(patiently(partial(jobs.entries, number, since)), told, since, say)
            except _NoLogsError as error:
                logs = False
                say(f"{error}; the job itself goes on")
        if ended:
            break
        time.sleep(POLL)
    if not _ENDED[state]:
        reason = job.error.message or state.removeprefix("JOB_STATE_").lower()
        raise DltsError(f"custom job {number} did not succeed: {reason}")


def _pass_on(entries: list[dict[str, Any]], told: set[str], since: str | None, say: Say) -> str | None:
    """Say the entries that are new; gives the time of the last one."""
    for entry in entries:
        if entry["insertId"] in told:
            continue
        told.add(entry["insertId"])
        text = entry.get("textPayload") or (entry.get("jsonPayload") or {}).get("message", "")
        say(str(text).rstrip("\n"))
        since = _earlier(entry["timestamp"])
    return since


def _earlier(time_text: str) -> str:
    """A while before a time: lines do not always reach the log in their order."""
    return (dt.datetime.fromisoformat(time_text) - LATE).isoformat()
