"""Where the job-server jar is looked for, and one sentence for each jar that will not do."""

from __future__ import annotations

import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from dlts_beam.beam.flink.jar import VARIABLE, NoJobServerJarError, find_jar, jar_name, maven_url
from dlts_beam.errors import DltsError
from tests.dlts_beam.beam.flink.fake import make_jar

NAME = "beam-runners-flink-2.2-job-server-2.77.0.jar"


def test_the_jar_s_name_and_place_are_those_of_maven(bare: Path):
    assert jar_name("2.2") == NAME
    folder = "http://127.0.0.1:9/maven2/org/apache/beam/beam-runners-flink-2.2-job-server/2.77.0"
    assert maven_url("2.2") == f"{folder}/{NAME}"


def test_the_flag_comes_before_the_variable_before_the_caches(bare: Path, monkeypatch: pytest.MonkeyPatch):
    maven = bare / ".m2/repository/org/apache/beam/beam-runners-flink-2.2-job-server/2.77.0"
    maven.mkdir(parents=True)
    in_maven = make_jar(maven / NAME)
    assert find_jar("2.2") == str(in_maven)
    (bare / "jars").mkdir()
    in_cache = make_jar(bare / "jars" / NAME)
    assert find_jar("2.2") == str(in_cache)
    other = bare / "other"
    other.mkdir()
    assert find_jar("2.2", cache=str(other)) == str(in_maven)
    by_variable = make_jar(bare / "mine.jar")
    monkeypatch.setenv(VARIABLE, str(by_variable))
    assert find_jar("2.2") == str(by_variable)
    by_flag = make_jar(bare / "flag.jar")
    assert find_jar("2.2", str(by_flag)) == str(by_flag)


def test_a_jar_that_is_nowhere(bare: Path):
    with pytest.raises(NoJobServerJarError) as caught:
        find_jar("2.2")
    assert str(caught.value) == (
        f"no job-server jar for Flink 2.2 and Apache Beam 2.77.0: {maven_url('2.2')} cannot be had"
        f" ([Errno 111] Connection refused); download {NAME} elsewhere, and name it with FLINK_JOB_SERVER_JAR"
        " or --flink_job_server_jar"
    )


def test_a_url_is_downloaded_once(bare: Path, tmp_path: Path):
    source = tmp_path / "served"
    source.mkdir()
    make_jar(source / NAME)
    handler = partial(_Quiet, directory=str(source))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert find_jar("2.2", f"{url}/{NAME}") == str(bare / "jars" / NAME)
        shutil.rmtree(source)
        assert find_jar("2.2", f"{url}/{NAME}") == str(bare / "jars" / NAME)
        with pytest.raises(NoJobServerJarError, match=r"nothing\.jar cannot be had \(status 404\); download"):
            find_jar("2.2", f"{url}/nothing.jar")
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


def test_jars_that_will_not_do(bare: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(path: str) -> str:
        with pytest.raises(DltsError) as caught:
            find_jar("2.2", path)
        return str(caught.value)

    missing = str(bare / "missing.jar")
    assert refused(missing) == (
        f"--flink_job_server_jar names {missing}, and there is no such file: give the path of the jar"
    )
    old = make_jar(bare / "beam-runners-flink-1.20-job-server-2.77.0.jar")
    assert refused(str(old)) == (
        f"{old} (from --flink_job_server_jar) is for Flink 1.20 and Apache Beam 2.77.0, and 2.2 and 2.77.0"
        f" are in use: take {NAME}"
    )
    foreign = make_jar(bare / "foreign.jar", "a/B.class")
    sentence = (
        f"{{}} (from --flink_job_server_jar) is not a whole job-server jar of Apache Beam for Flink: take"
        f" {NAME} of org.apache.beam from Maven Central"
    )
    assert refused(str(foreign)) == sentence.format(foreign)
    cut = bare / "cut.jar"
    cut.write_bytes(make_jar(bare / "whole.jar").read_bytes()[:40])
    assert refused(str(cut)) == sentence.format(cut)
    monkeypatch.setenv(VARIABLE, missing)
    with pytest.raises(DltsError, match=r"^FLINK_JOB_SERVER_JAR names .*missing\.jar, and there is no such"):
        find_jar("2.2")
