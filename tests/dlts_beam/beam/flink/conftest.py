"""A fake master, and a machine where no job-server jar lies about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.utils.subprocess_server import JavaJarServer

from dlts_beam.beam.flink.jar import VARIABLE
from tests.dlts_beam.beam.flink.fake import FakeMaster, serving


@pytest.fixture
def master() -> Iterator[FakeMaster]:
    with serving(FakeMaster()) as made:
        yield made


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder without caches of jars, and a Maven Central that is out of reach."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(JavaJarServer, "JAR_CACHE", str(home / "jars"))
    monkeypatch.setattr(JavaJarServer, "MAVEN_CENTRAL_REPOSITORY", "http://127.0.0.1:9/maven2")
    return home
