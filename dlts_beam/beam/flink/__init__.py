"""Jobs on Flink: defaults of ours, what is checked before one goes out, and failures in plain words."""

from __future__ import annotations

import argparse
import logging
import re
import shutil
import socket
import time
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import grpc
import requests
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
)

from dlts_beam.beam.flink.cluster import Cluster, look_at
from dlts_beam.beam.flink.environment import (
    POOL,
    PathOptions,
    check_environment,
    check_paths,
    read_environment,
)
from dlts_beam.beam.flink.jar import find_jar
from dlts_beam.beam.flink.submission import Submission
from dlts_beam.errors import DltsError

#: Values of ``--flink_master`` that mean a Flink inside the job server, on this machine.
LOCAL_MASTERS = ("[auto]", "[local]")
# Else every stage of a job would load the model again.
ENVIRONMENT_CACHE_MILLIS = 60_000
# Slots of a job that has just finished come back within moments.
_SLOTS_SECONDS = 10
_CONNECT_SECONDS = 5
_CAUSE = re.compile(r"^Caused by: (?P<cause>.+)$", re.MULTILINE)
_RUNNER_MODULES = ("apache_beam.runners.portability.", "apache_beam.utils.subprocess_server")
_JAVA_CLASS = re.compile(r"^(?:[\w$]+\.)+[\w$]+: ")


class FlinkOptions(PipelineOptions):
    """Flags of Beam's Flink runner that its Python side lacks."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--checkpointing_interval", type=int, metavar="MILLISECONDS",
            help="Flink: time between checkpoints (default: none; finished tiles are our checkpoints)",
        )  # fmt: skip
        add("--number_of_execution_retries", type=int, metavar="N",
            help="Flink: how often a failed job starts anew by itself (default: the cluster's setting)",
        )  # fmt: skip


def default_flags(known: argparse.Namespace, given: Collection[str]) -> list[str]:
    """Flags to put before the user's own, which win.

    Args:
        known: all of Beam's flags, parsed.
        given: names of the flags that the user gave.
    """
    local = known.flink_master in LOCAL_MASTERS and known.job_endpoint is None
    flags = [f"--environment_cache_millis={ENVIRONMENT_CACHE_MILLIS}", "--checkpointing_interval=-1"]
    if known.flink_master not in LOCAL_MASTERS and known.job_endpoint is None:
        flags.append("--flink_submit_uber_jar")
    if "--default_sdk_harness_log_level" not in given:
        flags.append("--default_sdk_harness_log_level=WARNING")
    described = known.environment_config is not None or known.environment_options is not None
    kind = known.environment_type
    if kind is None:
        kind = "LOOPBACK" if local and not described else "EXTERNAL"
        flags.append(f"--environment_type={kind}")
    if kind == "EXTERNAL" and not described:
        flags.append(f"--environment_config={POOL}")
    return flags


def check(options: PipelineOptions, paths: Mapping[str, str] | None = None) -> None:
    """Check all that a job needs, the jar last, and settle what only the cluster can tell.

    Sets the parallelism to the free slots where the user named none, and the path of the job-server jar.

    Args:
        options: of the job; changed.
        paths: by the words that name each, paths that the workers read or write.

    Raises:
        DltsError: something is missing; nothing was submitted.
    """
    flink, portable = options.view_as(FlinkRunnerOptions), options.view_as(PortableOptions)
    environment = read_environment(portable)
    cluster: Cluster | None = None
    if portable.job_endpoint:
        _check_endpoint(portable.job_endpoint)
    elif flink.flink_master not in LOCAL_MASTERS:
        cluster = _settled(flink.flink_master)
        flink.flink_master = cluster.url
        _settle_version(options, cluster)
        _settle_parallelism(flink, cluster)
    check_environment(environment, cluster)
    check_paths(paths or {}, environment, cluster, bool(options.view_as(PathOptions).shared_local_paths))
    if portable.job_endpoint:
        return  # its server has a jar of its own
    server = options.view_as(JobServerOptions)
    if cluster is None:
        _check_java(server.job_server_java_launcher)
    flink.flink_job_server_jar = find_jar(
        flink.flink_version, flink.flink_job_server_jar, server.jar_cache_dir
    )


@contextmanager
def attended(runner: Submission) -> Iterator[None]:
    """A context for a job: Ctrl-C ends it on the cluster too, and stack traces stay off the terminal."""
    log = logging.getLogger()
    log.addFilter(_worth_telling)
    try:
        yield
    except KeyboardInterrupt:
        with suppress(requests.RequestException, RuntimeError):  # whoever pressed it wants to leave
            runner.cancel()
        raise
    finally:
        log.removeFilter(_worth_telling)


def explain(error: BaseException) -> str | None:
    """One sentence for what Flink says of a failure; None for exceptions of Python code."""
    if isinstance(error, requests.RequestException):
        asked = error.request.url if error.request is not None else None
        place = f" at {urlsplit(asked).netloc}" if asked else ""
        return (
            f"lost the Flink master{place} ({type(error).__name__}): the job may still run there; see to"
            " the cluster, then run the same command again"
        )
    if isinstance(error, grpc.RpcError | grpc.FutureTimeoutError):
        code = getattr(error, "code", None)
        reason = code().name if code is not None else "no answer"
        return (
            f"lost the job server ({reason}): the job may still run on its Flink; see to it, then run the"
            " same command again"
        )
    text = str(error)
    if not _is_of_the_runner(error) or "Traceback (most recent call last)" in text:
        return None
    return (
        f"the job failed on Flink: {_cause(text)}; the logs of its job manager say more; run the same command"
        " again"
    )


def _is_of_the_runner(error: BaseException) -> bool:
    """True for what Beam's runner raises when a job fails; any other error is a defect of somebody's."""
    if not isinstance(error, RuntimeError) or error.__traceback__ is None:
        return False
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    return str(innermost.f_globals.get("__name__")).startswith(_RUNNER_MODULES)


def _worth_telling(record: logging.LogRecord) -> bool:
    """False for the stack traces that Beam logs of a failure: the exception that follows tells the same."""
    return record.module != "portable_runner" or record.levelno < logging.ERROR


def _cause(text: str) -> str:
    causes = _CAUSE.findall(text)
    line = causes[-1] if causes else next(iter(text.strip().splitlines()), "no reason given")
    return _JAVA_CLASS.sub("", line.strip()).rstrip(".")[:300]


def _settled(master: str) -> Cluster:
    """The cluster, after the slots of a job that has just ended came back."""
    deadline = time.monotonic() + _SLOTS_SECONDS
    while True:
        cluster = look_at(master)
        if cluster.running or cluster.free == cluster.slots or time.monotonic() > deadline:
            return cluster
        time.sleep(0.5)


def _settle_version(options: PipelineOptions, cluster: Cluster) -> None:
    flink = options.view_as(FlinkRunnerOptions)
    named = any(flag.partition("=")[0] == "--flink_version" for flag in options._flags)
    if named and flink.flink_version != cluster.version:
        raise DltsError(
            f"--flink_version is {flink.flink_version}, and the cluster at {cluster.url} runs"
            f" {cluster.version}: leave the flag out, the cluster tells its version"
        )
    flink.flink_version = cluster.version
    if not cluster.takes_jobs:
        raise DltsError(
            f"the cluster at {cluster.url} takes no jobs through REST: set web.submit.enable to true in its"
            " configuration, or start a job server beside it and name that with --job_endpoint"
        )


def _settle_parallelism(flink: FlinkRunnerOptions, cluster: Cluster) -> None:
    wanted = flink.parallelism
    if cluster.elastic:
        if wanted < 1 and not cluster.slots:
            raise DltsError(
                f"the cluster at {cluster.url} starts task managers when a job asks for them, so say for how"
                " many slots: give --parallelism"
            )
        flink.parallelism = wanted if wanted > 0 else cluster.slots
        return
    if not cluster.slots:
        raise DltsError(
            f"the cluster at {cluster.url} has no task slot: start task managers, or read their logs if they"
            " were started"
        )
    if not cluster.free:
        raise DltsError(
            f"other jobs hold all {cluster.slots} task slots of the cluster at {cluster.url}: wait for them,"
            " cancel one, or start more task managers"
        )
    if wanted > cluster.free:
        raise DltsError(
            f"--parallelism {wanted} needs as many task slots, and {cluster.free} of {cluster.slots} are free"
            f" in the cluster at {cluster.url}: give {cluster.free} or less, or start more task managers"
        )
    flink.parallelism = wanted if wanted > 0 else cluster.free


def _check_endpoint(endpoint: str) -> None:
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit():
        raise DltsError(f"--job_endpoint needs HOST:PORT of a running job server; got {endpoint!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise DltsError(
            f"no job server answers at {endpoint} ({error.strerror or error}): start it, or leave"
            " --job_endpoint out and name the cluster with --flink_master"
        ) from error


def _check_java(launcher: str) -> None:
    if shutil.which(launcher) is None:
        raise DltsError(
            f"there is no Java here ({launcher}), and a Flink on this machine needs it: install Java 17, name"
            " it with --job_server_java_launcher, or give --flink_master HOST:PORT of a running cluster"
        )
