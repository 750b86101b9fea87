"""Where the Python workers of a job live, and whether they can do the work there."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

from dlts_beam import storage
from dlts_beam.beam.flink.cluster import is_this_machine
from dlts_beam.errors import DltsError

TYPES = ("EXTERNAL", "DOCKER", "PROCESS", "LOOPBACK")
#: Where a task manager finds the worker pool beside it; the worker image's pool listens on this port.
POOL_PORT = 50000
POOL = f"localhost:{POOL_PORT}"
_CONNECT_SECONDS = 5
_DOCKER_SECONDS = 20
# File systems that several machines see alike; all of FUSE counts, since buckets are mounted so.
_SHARED_TYPES = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "lustre", "ceph", "glusterfs", "gpfs", "beegfs", "afs", "ocfs2", "gfs2"}
)


class PathOptions(PipelineOptions):
    """What the user says of the paths, for all runners with workers elsewhere."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--shared_local_paths", action="store_true", default=None,
            help="all workers see local paths under the same names, as on NFS",
        )  # fmt: skip


class Starters(NamedTuple):
    """What starts the workers or asks a pool for them, in the words of the sentences here."""

    name: str
    verb: str
    pool: str


TASK_MANAGERS = Starters("the task managers", "are", "start one beside each task manager")
JOB_SERVICE = Starters("the job service", "is", "start it there")


class Place(Protocol):
    """Where workers are started."""

    @property
    def url(self) -> str:
        """Its address."""

    @property
    def is_here(self) -> bool:
        """True when that is this machine."""


@dataclass(frozen=True)
class Environment:
    """The kind of the workers and where they are.

    Attributes:
        kind: one of `TYPES`.
        setting: pool address, image, or command, by the kind; empty for LOOPBACK.
    """

    kind: str
    setting: str = ""

    def are_here(self, cluster: Place | None) -> bool | None:
        """Whether workers see this machine's files; None where nobody can tell from here."""
        if self.kind == "LOOPBACK":
            return True
        if self.kind == "DOCKER":
            return False
        if self.kind == "EXTERNAL":
            host = _split(self.setting)[0]
            if not _is_loopback(host):
                return is_this_machine(host)
        if cluster is None:
            return None
        return cluster.is_here


def read_environment(portable: PortableOptions, starters: Starters = TASK_MANAGERS) -> Environment:
    """The environment that the flags describe.

    Raises:
        DltsError: the kind is unknown, or what it needs is missing or malformed.
    """
    kind = portable.environment_type or "DOCKER"
    config = portable.environment_config
    if kind not in TYPES:
        raise DltsError(f"unknown --environment_type {kind}: choose one of {', '.join(TYPES)}")
    if kind == "LOOPBACK":
        return Environment(kind)
    if kind == "EXTERNAL":
        address = portable.lookup_environment_option("external_service_address") or config or ""
        if address.startswith("{"):
            address = str(_json(address).get("url") or "")
        if not _split(address)[1]:
            raise DltsError(
                f"--environment_type EXTERNAL needs --environment_config HOST:PORT of the worker pool, such"
                f" as {POOL}; got {address!r}"
            )
        return Environment(kind, address)
    if kind == "DOCKER":
        image = portable.lookup_environment_option("docker_container_image") or config
        if not image:
            raise DltsError(
                "--environment_type DOCKER needs --environment_config IMAGE: the image that the Dockerfile's"
                f" target worker builds, pushed to where {starters.name} can pull it"
            )
        return Environment(kind, image)
    command = portable.lookup_environment_option("process_command")
    command = command or (_json(config).get("command") if config else None)
    if not command:
        raise DltsError(
            "--environment_type PROCESS needs --environment_config with a command, such as"
            ' \'{"command": "/opt/apache/beam/boot"}\''
        )
    return Environment(kind, str(command))


def check_environment(
    environment: Environment, cluster: Place | None, starters: Starters = TASK_MANAGERS
) -> None:
    """Check what can be checked from here: a thing on another machine may be known there only.

    Raises:
        DltsError: workers will not start.
    """
    here = cluster is not None and cluster.is_here
    if environment.kind == "LOOPBACK":
        if cluster is not None and not here:
            raise DltsError(
                f"--environment_type LOOPBACK works only with task managers on this machine, and those of"
                f" {cluster.url} are elsewhere: use EXTERNAL with a worker pool beside each of them"
            )
    elif environment.kind == "EXTERNAL":
        host, port = _split(environment.setting)
        if here or not _is_loopback(host):
            _check_pool(host, port, starters)
    elif environment.kind == "PROCESS":
        if here and shutil.which(environment.setting) is None:
            raise DltsError(
                f"--environment_type PROCESS: there is no program {environment.setting} on this machine,"
                f" where {starters.name} {starters.verb}"
            )
    elif here:
        _check_docker(starters)


def check_paths(
    paths: Mapping[str, str], environment: Environment, cluster: Place | None, shared: bool = False
) -> None:
    """Refuse local paths that the workers would not find: hours later their work would be lost.

    Args:
        paths: by the words that name each, paths that the workers read or write.
        shared: the user says that all workers see the same local files.

    Raises:
        DltsError: such a path.
    """
    if environment.kind == "LOOPBACK":
        return
    local = {name: path for name, path in paths.items() if not storage.is_remote(path)}
    for name, path in local.items():
        if not os.path.isabs(path):
            raise DltsError(
                f"{name} is {path}, a relative path, and workers run in folders of their own: give"
                f" {os.path.abspath(path)}"
            )
    if shared or environment.are_here(cluster) is not False:
        return
    mounts = _mounts()
    for name, path in local.items():
        if not _is_shared(path, mounts):
            raise DltsError(
                f"{name} is {path}, a path of this machine, and the workers run elsewhere: use gs:// paths,"
                " or, if every worker sees the same files under the same names, --shared_local_paths"
            )


def _check_pool(host: str, port: int, starters: Starters) -> None:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except ConnectionRefusedError as error:
        raise DltsError(
            f"no worker pool listens at {host}:{port}: {starters.pool}, with python -m"
            f" apache_beam.runners.worker.worker_pool_main --service_port={port}"
        ) from error
    except OSError:
        return  # a name or a network that only the task managers know


def _check_docker(starters: Starters) -> None:
    wanted = f"--environment_type DOCKER needs a container engine beside {starters.name}"
    if shutil.which("docker") is None:
        raise DltsError(f"{wanted}, and there is no docker program on this machine: use EXTERNAL")
    try:
        done = subprocess.run(
            ["docker", "info", "--format", "{{.ServerVersion}}"],
            capture_output=True, text=True, timeout=_DOCKER_SECONDS, check=False,
        )  # fmt: skip
        reason = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except subprocess.TimeoutExpired:
        reason = [f"no answer in {_DOCKER_SECONDS} s"]
    if reason:
        raise DltsError(f"{wanted}, and the one on this machine does not answer ({reason[0]}): start it")


def _json(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise DltsError(f"--environment_config is not valid JSON ({error}); got {text!r}") from error
    if not isinstance(found, dict):
        raise DltsError(f"--environment_config must be a JSON object; got {text!r}")
    return found


def _split(address: str) -> tuple[str, int]:
    """Host and port of an address; port 0 where it names none."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdigit() else (address, 0)


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _mounts() -> list[tuple[str, str]]:
    """(place, type) of every mounted file system, the longest place first; none where it is not Linux."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    # Spaces in a place are written \040.
    mounts = [(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), place), kind)
              for _, place, kind in (line.split(" ")[:3] for line in lines)]  # fmt: skip
    return sorted(mounts, key=lambda mount: len(mount[0]), reverse=True)


def _is_shared(path: str, mounts: Iterable[tuple[str, str]]) -> bool:
    """True when a path, there or not, is on a file system that several machines see."""
    real = os.path.realpath(path)
    for place, kind in mounts:
        if place == "/" or real == place or real.startswith(place + "/"):
            return kind in _SHARED_TYPES or kind.startswith("fuse")
    return False
