"""Jobs that go to a portable job service or to Prism: checked before they are sent, failures told once."""

from __future__ import annotations

import argparse
import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import grpc
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

from dlts_beam.beam.local_workers import hushed_streams
from dlts_beam.errors import DltsError

# What the text of a job tells of a worker that was lost: in our job service, and in Beam's runners.
LOST_WORKER = "a worker was lost"
_LOST = (LOST_WORKER, "Channel closed prematurely")
_ANSWER_SECONDS = 10.0


def default_flags(known: argparse.Namespace, given: set[str]) -> list[str]:
    """None: Beam's own defaults will do."""
    return []


def check(options: PipelineOptions, paths: Mapping[str, str] | None = None) -> None:
    """Tell of a job service that is not there, for which Beam would wait a minute.

    Raises:
        DltsError: nothing listens at ``--job_endpoint``.
    """
    endpoint = options.view_as(PortableOptions).job_endpoint
    if endpoint is None or ":" not in endpoint:
        return
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise DltsError(
            f"no job service answers at {endpoint} ({error}): start it, or correct --job_endpoint"
        ) from error


def explain(error: BaseException) -> str | None:
    """One sentence for a lost service or worker; None for exceptions of Python code."""
    if isinstance(error, grpc.RpcError | grpc.FutureTimeoutError):
        return "the job service went away in mid-run: start it and run the command again"
    if any(text in str(error) for text in _LOST):
        return (
            "a worker ended in mid-run, or never came: its own log says why, most often too little memory;"
            " run the command again, what is finished is kept"
        )
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
