"""Jobs that go to a portable job service or to Prism: checked before they are sent, failures told once."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import socket
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from apache_beam.options.pipeline_options import (
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    StandardOptions,
)
from apache_beam.transforms.environments import Environment
from apache_beam.version import __version__ as beam_version

from dlts_beam.beam.flink.cluster import is_this_machine
from dlts_beam.beam.flink.environment import (
    JOB_SERVICE,
    PathOptions,
    check_environment,
    check_paths,
    read_environment,
)
from dlts_beam.beam.local_workers import hushed_streams
from dlts_beam.errors import DltsError

# What the text of a job tells of a worker that was lost: in our job service, and in Beam's runners.
LOST_WORKER = "a worker was lost"
_LOST = (LOST_WORKER, "Channel closed prematurely")
# Of Beam, where the program ends at once, or cannot be downloaded.
_NO_PRISM = ("Service failed to start up", "Unable to fetch remote prism", "Provided --prism_location URL")
_ANSWER_SECONDS = 10.0


def default_flags(known: argparse.Namespace, given: set[str]) -> list[str]:
    """None: Beam's own defaults will do."""
    return []


@dataclass(frozen=True)
class _Service:
    """A job service: its address, and whether it runs on this machine."""

    url: str
    is_here: bool


def check(options: PipelineOptions, paths: Mapping[str, str] | None = None) -> None:
    """Check what a job needs: its service or Prism's program, its workers, and the paths that these see.

    Args:
        paths: by the words that name each, paths that the workers read or write.

    Raises:
        DltsError: nothing listens at ``--job_endpoint``, for which Beam would wait a minute; or workers would
            not start there, or not find the paths.
    """
    portable = options.view_as(PortableOptions)
    on_prism = (options.view_as(StandardOptions).runner or "").lower().removesuffix("runner") == "prism"
    if portable.job_endpoint:
        service = _find_service(portable.job_endpoint)
    elif on_prism:
        _check_program(options.view_as(PrismRunnerOptions).prism_location)
        service = _Service("Prism", is_here=True)
    else:
        raise DltsError(
            "--runner=PortableRunner needs --job_endpoint HOST:PORT of a job service, such as 'python -m"
            " dlts_beam.beam.job_service --port 8099' starts"
        )
    if portable.environment_type is None and on_prism:
        return  # workers are threads of this process
    described = portable.environment_config or portable.environment_options
    if portable.environment_type is None and not described:
        raise DltsError(
            "--runner=PortableRunner needs --environment_type: EXTERNAL with --environment_config HOST:PORT"
            " of a worker pool, or DOCKER with the image that the Dockerfile's target worker builds"
        )
    if _is_urn(portable.environment_type):
        return  # named as Beam names them inside: whoever does that knows what it needs
    environment = read_environment(portable, JOB_SERVICE)
    if environment.kind == "LOOPBACK" and not service.is_here:
        raise DltsError(
            f"--environment_type LOOPBACK works only with a job service on this machine, and {service.url} is"
            " elsewhere: use EXTERNAL with a worker pool"
        )
    check_environment(environment, service, JOB_SERVICE)
    check_paths(paths or {}, environment, service, bool(options.view_as(PathOptions).shared_local_paths))


def _find_service(endpoint: str) -> _Service:
    """The job service at an address.

    Raises:
        DltsError: none answers there.
    """
    if endpoint == "embed":  # Beam's own, in this process
        return _Service(endpoint, is_here=True)
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit():
        raise DltsError(f"--job_endpoint needs HOST:PORT of a running job service; got {endpoint!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise DltsError(
            f"no job service answers at {endpoint} ({error}): start it, or correct --job_endpoint"
        ) from error
    return _Service(endpoint, is_this_machine(host))


def _is_urn(environment_type: str | None) -> bool:
    """Whether the workers are given by the URN of an environment that Beam knows."""
    if environment_type is None or not environment_type.startswith("beam:env:"):
        return False
    try:
        Environment.get_env_cls_from_urn(environment_type)
    except KeyError:
        return False
    return True


def _check_program(location: str | None) -> None:
    """Check Prism's program where it is a file here; what is to be downloaded is Beam's matter.

    Raises:
        DltsError: it is not there, or not a program.
    """
    if location is None or "://" in location:
        return
    if not os.path.isfile(location):
        raise DltsError(
            f"--prism_location: there is no file {location}; build Prism with 'go install"
            f" github.com/apache/beam/sdks/v2/go/cmd/prism@v{beam_version}' and name its program, such as"
            " $(go env GOPATH)/bin/prism"
        )
    if not (os.access(location, os.X_OK) or zipfile.is_zipfile(location)):
        raise DltsError(
            f"--prism_location: {location} is not executable; if it is Prism, run 'chmod +x' on it, else name"
            " the program that 'go install' built"
        )


def explain(error: BaseException) -> str | None:
    """One sentence for a lost service or worker, or no Prism; None for exceptions of Python code."""
    if isinstance(error, grpc.RpcError | grpc.FutureTimeoutError):
        return "the job service went away in mid-run: start it and run the command again"
    if any(text in str(error) for text in _LOST):
        return (
            "a worker ended in mid-run, or never came: its own log says why, most often too little memory;"
            " run the command again, what is finished is kept"
        )
    no_program = isinstance(error, OSError) and error.errno == errno.ENOEXEC
    if no_program or str(error).startswith(_NO_PRISM):
        return f"Prism does not start ({error}): see that --prism_location names its program for this machine"
    return None


@contextmanager
def attended() -> Iterator[None]:
    """A context for the run in which nothing but the failure itself is told of it."""
    root = logging.getLogger()
    root.addFilter(_no_traceback)
    try:
        with hushed_streams():
            yield
    finally:
        root.removeFilter(_no_traceback)


def _no_traceback(record: logging.LogRecord) -> bool:
    """False for a job's failure as the launcher logs it: the exception that follows says the same."""
    return "Traceback (most recent call last)" not in record.getMessage()
