"""The lock of an output on gs://, on a server that honours the condition that there be no object yet."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlts_beam import storage
from dlts_beam.errors import DltsError
from pipelines.classify_img_series import main as classify
from tests.fakes import make_model, random_scene
from tests.servers import free_port, server, tool
from tests.storage_laws import HOLD, check_no_two_are_ever_inside


@pytest.fixture(scope="module")
def strict() -> Iterator[str]:
    """A bucket of a server that honours preconditions, which the emulator of the other tests does not."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    start = [str(tool("fake-gcs-server")), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    start += ["-backend", "memory", "-external-url", address, "-public-host", f"127.0.0.1:{port}"]
    with server(start, port), pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", address)
        # What GDAL is told for this server goes with it.
        patch.setenv("CPL_GS_ENDPOINT", f"{address}/")
        patch.setenv("GS_NO_SIGN_REQUEST", "YES")
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client

        Client("tests", AnonymousCredentials()).create_bucket("locks")
        yield "gs://locks"


@pytest.fixture
def lock(strict: str, request: pytest.FixtureRequest) -> str:
    """A lock of its own for each test."""
    return storage.join(strict, request.node.name, "map.tif.lock")


@pytest.fixture
def holder(lock: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, lock], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_told_who_holds_the_lock(lock: str, holder: subprocess.Popen[str]):
    with (
        pytest.raises(DltsError, match=f"the map is being written by another run .process {holder.pid} on"),
        storage.exclusive(lock, "the map"),
    ):
        pytest.fail("two runs at once")
    assert storage.exists(lock)


def test_a_killed_run_of_this_machine_locks_nobody_out(lock: str, holder: subprocess.Popen[str]):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert storage.exists(lock)
    with storage.exclusive(lock, "the map"):
        assert json.loads(storage.read_bytes(lock))["process"] == os.getpid()
    assert not storage.exists(lock)


def test_a_run_of_another_machine_is_believed_to_live(lock: str):
    storage.write_text(lock, json.dumps({"host": "elsewhere", "process": 1, "born": "0"}))
    with (
        pytest.raises(DltsError, match=rf"process 1 on elsewhere.*; if it was killed, remove {lock}"),
        storage.exclusive(lock, "the map"),
    ):
        pytest.fail("two runs at once")
    assert storage.exists(lock)


def test_no_two_are_ever_inside(lock: str, tmp_path: Path):
    check_no_two_are_ever_inside(lock, tmp_path / "log", crowd=3, times=10, start="spawn")


def test_a_killed_run_goes_on_where_it_was(strict: str, tmp_path: Path):
    """The whole step 4: the lock that the kill left behind does not keep the next run out."""
    scene = random_scene(tmp_path / "series", 37, 53)
    model = make_model(tmp_path / "model", scene.spec, patch=3)
    command = ["-i", str(scene.folder), "-m", str(model), "--tile", "4", "--direct_num_workers", "1"]
    output = storage.join(strict, "killed", "map.tif")
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.classify_img_series", *command, "-o", output],
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        tiles = 0
        while tiles < 5 and process.poll() is None:
            time.sleep(0.02)
            # The list of tiles to do lies beside them, and is not one of them.
            tiles = sum(entry.path.endswith(".tif") for entry in storage.list_files(output + ".parts"))
        assert process.poll() is None, process.communicate()
        os.killpg(process.pid, signal.SIGKILL)
    assert storage.exists(output + ".lock")
    assert not storage.exists(output)
    assert classify([*command, "-o", output]) == 0
    assert json.loads(storage.read_text(output + ".run.json"))["reused"] >= 5
    assert classify([*command, "-o", str(tmp_path / "map.tif")]) == 0
    assert storage.read_bytes(output) == (tmp_path / "map.tif").read_bytes()
    assert not storage.exists(output + ".lock")
    assert storage.list_files(output + ".parts") == []
