"""A Flink cluster as its master tells of it through REST: version, slots, and where its task managers are."""

from __future__ import annotations

import http.client
import json
import re
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from apache_beam.options.pipeline_options import FlinkRunnerOptions
from apache_beam.version import __version__ as beam_version

from dlts_beam.errors import DltsError

SUPPORTED: tuple[str, ...] = tuple(FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS)
_TIMEOUT_SECONDS = 10
_HOST = re.compile(r"@(?P<host>\[[^\]]+\]|[^/:]+):\d+/")
# Where Flink itself asks for more task managers, the number of slots says nothing before a job is there.
_ELASTIC_TARGETS = ("kubernetes-", "yarn-")


@dataclass(frozen=True)
class Cluster:
    """What matters of a running cluster.

    Attributes:
        url: of its master, such as ``http://127.0.0.1:8081``.
        version: major and minor, such as ``2.2``.
        slots, free: task slots, and those that no job holds.
        running: jobs.
        hosts: of its task managers, as they name themselves.
        elastic: it starts task managers when a job asks for them.
        takes_jobs: jobs can be submitted through REST.
    """

    url: str
    version: str
    slots: int
    free: int
    running: int
    hosts: tuple[str, ...]
    elastic: bool = False
    takes_jobs: bool = True

    @property
    def is_here(self) -> bool:
        """True when there are task managers and all of them are on this machine."""
        return bool(self.hosts) and all(is_this_machine(host) for host in self.hosts)


def master_url(master: str) -> str:
    """``--flink_master`` as a URL without a slash at its end.

    Raises:
        DltsError: it names no host.
    """
    text = master.strip()
    url = (text if re.match(r"https?://", text) else f"http://{text}").rstrip("/")
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        named = False
    if not named or " " in url:
        raise DltsError(f"--flink_master needs HOST:PORT, such as 127.0.0.1:8081; got {master!r}")
    return url


def look_at(master: str) -> Cluster:
    """Ask the master for what matters.

    Args:
        master: ``HOST:PORT`` or a URL.

    Raises:
        DltsError: it cannot be reached, is no Flink master, or has a version that Beam does not know.
    """
    url = master_url(master)
    config = _ask(url, "config")
    overview = _ask(url, "overview")
    managers = _ask(url, "taskmanagers")
    settings = _ask(url, "jobmanager/config")
    try:
        full = str(config["flink-version"])
        version = ".".join(full.split(".")[:2])
        cluster = Cluster(
            url=url,
            version=version,
            slots=int(overview["slots-total"]),
            free=int(overview["slots-available"]),
            running=int(overview["jobs-running"]),
            hosts=tuple(_host(manager["path"]) for manager in managers["taskmanagers"]),
            elastic=_is_elastic({entry["key"]: entry["value"] for entry in settings}),
            takes_jobs=bool(config.get("features", {}).get("web-submit", True)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _stranger(url, f"its answer lacks {error}") from error
    if version not in SUPPORTED:
        raise DltsError(
            f"the cluster at {url} runs Flink {full}, and Apache Beam {beam_version} works with"
            f" {', '.join(SUPPORTED)}: use a cluster of one of these versions"
        )
    return cluster


def is_this_machine(host: str) -> bool:
    """True when ``host`` resolves to an address that belongs to this machine."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    return any(_can_bind(family, address) for family, _, _, _, address in found)


def _can_bind(family: int, address: Any) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


def _ask(url: str, what: str) -> Any:
    try:
        with urllib.request.urlopen(f"{url}/v1/{what}", timeout=_TIMEOUT_SECONDS) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise _stranger(url, f"GET /v1/{what} gives status {error.code}") from error
    except ValueError as error:  # also text that is not UTF-8
        raise _stranger(url, f"GET /v1/{what} gives no JSON") from error
    except http.client.HTTPException as error:  # such as a worker pool, which speaks gRPC
        raise _stranger(url, f"GET /v1/{what} gives no HTTP") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or reason
        raise DltsError(
            f"cannot reach the Flink master at {url} ({why}): start the cluster, or give the address of its"
            " REST service with --flink_master HOST:PORT"
        ) from error


def _stranger(url: str, why: str) -> DltsError:
    return DltsError(
        f"{url} does not answer as a Flink master does ({why}): give the address of the REST service"
        " (usually port 8081) with --flink_master HOST:PORT"
    )


def _host(path: str) -> str:
    found = _HOST.search(path)
    if found is None:
        raise ValueError(f"a host in {path!r}")
    return found["host"]


def _is_elastic(settings: dict[str, str]) -> bool:
    return settings.get("execution.target", "").startswith(_ELASTIC_TARGETS)
