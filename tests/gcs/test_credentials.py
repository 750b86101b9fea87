"""Credentials that are missing, refused or right: one sentence at once, or the object."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client
from rasterio.transform import Affine

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.storage import gcs
from tests.gcs.google import Google, google
from tests.helpers import TRANSFORM, UTM
from tests.servers import free_port

# Beam alone takes 22 s in each process, google-cloud-storage two minutes, before they give up.
AT_ONCE = 15.0
TIMED = """
import sys, time
{work}
began = time.monotonic()
try:
    use(sys.argv[1])
except DltsError as error:
    print(error, file=sys.stderr)
print(time.monotonic() - began)
"""
STORAGE = """
from dlts_beam import storage
from dlts_beam.errors import DltsError
use = storage.exists
"""
GDAL = """
from dlts_beam import storage
from dlts_beam.errors import DltsError
use = storage.gdal_path
"""
BEAM = """
import apache_beam as beam
from dlts_beam.beam.runner import parse_options, run_pipeline
from dlts_beam.errors import DltsError
def use(path):
    options = parse_options(["--temp_location", path])
    run_pipeline(lambda pipeline: pipeline | beam.Create([1]), options)
"""


@pytest.fixture
def service() -> Iterator[Google]:
    with google() as state:
        yield state


def clean(tmp_path: Path, **more: str) -> dict[str, str]:
    """An environment without any credentials, but those in ``more``."""
    own = ("STORAGE_EMULATOR_HOST", "GS_NO_SIGN_REQUEST", "CPL_GS_ENDPOINT", "GOOGLE_APPLICATION_CREDENTIALS")
    env = {name: value for name, value in os.environ.items() if name not in own}
    return {**env, "HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"), **more}


def timed(work: str, env: dict[str, str]) -> tuple[str, float]:
    """What a fresh process says of the first use of gs://, and how long that took it."""
    done = subprocess.run(
        [sys.executable, "-c", TIMED.format(work=work), "gs://dlts-tests/a.tif"],
        env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stderr, float(done.stdout)


@pytest.mark.parametrize("work", [STORAGE, GDAL, BEAM], ids=["storage", "GDAL", "Beam"])
def test_missing_credentials_are_told_at_once(tmp_path: Path, work: str):
    told, seconds = timed(work, clean(tmp_path))
    assert told.count("\n") == 1
    assert told.startswith("cannot reach gs://: no usable Google Cloud credentials (")
    assert "run 'gcloud auth application-default login' or set GOOGLE_APPLICATION_CREDENTIALS" in told
    assert seconds < AT_ONCE


def test_a_command_without_credentials_ends_with_one_sentence(tmp_path: Path):
    command = [sys.executable, "-m", "pipelines.cli", "generate-img-series"]
    done = subprocess.run(
        [*command, "-i", "gs://dlts-tests/images", "-o", str(tmp_path / "series")],
        env=clean(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot reach gs://: no usable Google Cloud credentials")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("work", [STORAGE, GDAL, BEAM], ids=["storage", "GDAL", "Beam"])
def test_refused_credentials_are_told_at_once(tmp_path: Path, service: Google, work: str):
    service.grants = False
    path = service.credentials(tmp_path / "key.json")
    told, seconds = timed(work, clean(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(path)))
    assert told.startswith("cannot reach gs://: Google Cloud refuses the credentials (invalid_grant")
    assert told.count("\n") == 1
    assert service.asked == ["/token"]
    assert seconds < AT_ONCE


def test_a_network_that_does_not_answer_is_told_at_once(tmp_path: Path):
    nobody = Google(f"http://127.0.0.1:{free_port()}")
    path = nobody.credentials(tmp_path / "key.json")
    told, seconds = timed(STORAGE, clean(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(path)))
    assert "Google Cloud does not answer" in told
    assert told.count("\n") == 1
    assert seconds < AT_ONCE


def test_a_network_that_does_not_answer_has_a_status_of_its_own(tmp_path: Path):
    """Whatever starts containers can tell it from a refusal, and try again."""
    nobody = Google(f"http://127.0.0.1:{free_port()}")
    path = nobody.credentials(tmp_path / "key.json")
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "-i", "gs://dlts-tests/samples", "-o", str(tmp_path / "model")],
        env=clean(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(path)), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 75
    assert done.stderr.startswith("error: cannot reach gs://: Google Cloud does not answer")


def test_a_damaged_file_of_credentials_is_told(tmp_path: Path):
    (tmp_path / "key.json").write_text("{")
    path = str(tmp_path / "key.json")
    told, _ = timed(STORAGE, clean(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=path))
    assert "no usable Google Cloud credentials (" in told
    assert path in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("place", ["key.json", "gcloud/application_default_credentials.json"])
def test_gdal_uses_what_google_auth_finds(tmp_path: Path, service: Google, place: str):
    """Also in gcloud's default place, where GDAL alone does not look."""
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=3, width=4, count=1, dtype="uint8", crs=UTM,
        transform=Affine(*TRANSFORM),
    ) as image:  # fmt: skip
        image.write(np.full((1, 3, 4), 7, np.uint8))
    service.objects["/dlts-tests/a.tif"] = (tmp_path / "a.tif").read_bytes()
    path = service.credentials(tmp_path / place)
    named = {"GOOGLE_APPLICATION_CREDENTIALS": str(path)} if place == "key.json" else {}
    code = (
        "import rasterio; from dlts_beam import storage\n"
        "with rasterio.open(storage.gdal_path('gs://dlts-tests/a.tif')) as image: print(image.read().sum())"
    )
    own = {"CPL_GS_ENDPOINT": f"{service.address}/", "GO2A_AUD": f"{service.address}/token"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean(tmp_path, **named, **own), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout == "84\n", done.stderr


def test_a_bucket_that_refuses_is_named(service: Google, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        client = Client("p", AnonymousCredentials(), client_options={"api_endpoint": service.address})
        patch.setattr(gcs, "_client", lambda: client)
        began = time.monotonic()
        with pytest.raises(DltsError, match=r"cannot read gs://b/a\.tif: Google Cloud refuses access"):
            storage.stat("gs://b/a.tif")
        assert time.monotonic() - began < AT_ONCE


def test_beam_itself_uses_the_emulator_at_once(folder: str):
    storage.write_bytes(storage.join(folder, "a.txt"), b"hello")
    code = (
        "import sys, time; import dlts_beam.beam.worker; from apache_beam.io.filesystems import FileSystems\n"
        "began = time.monotonic()\n"
        "with FileSystems.open(sys.argv[1]) as file: print(file.read().decode(), time.monotonic() - began)"
    )
    if os.environ.get("STORAGE_EMULATOR_HOST") is None:
        pytest.skip("a real bucket: there is no emulator")
    done = subprocess.run(
        [sys.executable, "-c", code, storage.join(folder, "a.txt")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    text, seconds = done.stdout.split()
    assert text == "hello"
    assert float(seconds) < AT_ONCE
