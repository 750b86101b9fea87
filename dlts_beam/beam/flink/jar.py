"""Beam's job-server jar for Flink: where it may lie, and whether what lies there is one."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from apache_beam.utils.subprocess_server import JavaJarServer
from apache_beam.version import __version__ as beam_version

from dlts_beam.errors import DltsError

#: Names the jar where ``--flink_job_server_jar`` does not.
VARIABLE = "FLINK_JOB_SERVER_JAR"
_ENTRY = "org/apache/beam/runners/flink/FlinkPipelineRunner.class"
_NAME = re.compile(r"beam-runners-flink-(?P<flink>\d+\.\d+)-job-server-(?P<beam>\d[\w.]*)\.jar$")
_TIMEOUT_SECONDS = 15


class NoJobServerJarError(DltsError):
    """The jar is nowhere to be had."""


def jar_name(flink: str) -> str:
    """The jar's file name for a version of Flink, such as ``2.2``."""
    return f"beam-runners-flink-{flink}-job-server-{beam_version}.jar"


def maven_url(flink: str) -> str:
    """Where Maven Central has the jar."""
    return str(JavaJarServer.path_to_beam_jar(f":runners:flink:{flink}:job-server:shadowJar"))


def find_jar(flink: str, given: str | None = None, cache: str | None = None) -> str:
    """The path of the job-server jar for a version of Flink, downloaded where it is not on this machine.

    Looked for in this order: ``given``, the variable FLINK_JOB_SERVER_JAR, Beam's cache, Maven's local
    repository, Maven Central.

    Args:
        flink: major and minor version.
        given: path or URL that the user named.
        cache: folder of downloaded jars; None takes Beam's own.

    Raises:
        NoJobServerJarError: it is nowhere to be had.
        DltsError: the named file is missing, is no job server, or is one for other versions.
    """
    name, source = given, "--flink_job_server_jar"
    if not name:
        name, source = os.environ.get(VARIABLE), VARIABLE
    if name and "://" in name:
        return _checked(_download(name, cache, flink), source, flink)
    if name:
        if not os.path.isfile(name):
            raise DltsError(f"{source} names {name}, and there is no such file: give the path of the jar")
        return _checked(name, source, flink)
    for path in _local_places(flink, cache):
        if path.is_file():
            return _checked(str(path), str(path.parent), flink)
    url = maven_url(flink)
    path_or_url = _download(url, cache, flink) if "://" in url else url
    return _checked(path_or_url, url, flink)


def _local_places(flink: str, cache: str | None) -> list[Path]:
    name = jar_name(flink)
    folder = name.removesuffix(f"-{beam_version}.jar")
    maven = Path.home() / ".m2" / "repository" / "org" / "apache" / "beam" / folder / beam_version
    return [Path(cache or JavaJarServer.JAR_CACHE) / name, maven / name]


def _download(url: str, cache: str | None, flink: str) -> str:
    """A local copy of what ``url`` names; Beam keeps it in its cache."""
    kept = os.path.join(cache or JavaJarServer.JAR_CACHE, os.path.basename(url))
    try:
        if url.startswith("http") and not os.path.exists(kept):
            # Beam's own download waits for ever where a firewall swallows packets.
            probe = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(probe, timeout=_TIMEOUT_SECONDS).close()
        return str(JavaJarServer.local_jar(url, cache))
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(error, urllib.error.HTTPError):
            reason = f"status {error.code}"
        raise NoJobServerJarError(
            f"no job-server jar for Flink {flink} and Apache Beam {beam_version}: {url} cannot be had"
            f" ({reason}); download {jar_name(flink)} elsewhere, and name it with {VARIABLE} or"
            " --flink_job_server_jar"
        ) from error


def _checked(path: str, source: str, flink: str) -> str:
    named = _NAME.search(os.path.basename(path))
    if named and (named["flink"], named["beam"]) != (flink, beam_version):
        raise DltsError(
            f"{path} (from {source}) is for Flink {named['flink']} and Apache Beam {named['beam']}, and"
            f" {flink} and {beam_version} are in use: take {jar_name(flink)}"
        )
    try:
        with zipfile.ZipFile(path) as jar:
            complete = _ENTRY in jar.namelist()
    except (OSError, zipfile.BadZipFile):
        complete = False
    if not complete:
        raise DltsError(
            f"{path} (from {source}) is not a whole job-server jar of Apache Beam for Flink: take"
            f" {jar_name(flink)} of org.apache.beam from Maven Central"
        )
    return path
