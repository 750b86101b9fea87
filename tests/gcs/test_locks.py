"""The lock of an output on gs://, on a server that honours the condition that there be no object yet."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlts_beam import storage
from dlts_beam.beam import map_run
from dlts_beam.command import guarded
from dlts_beam.errors import DltsError
from dlts_beam.storage import lease
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


# As a version before leases wrote it, and on a machine that nobody can ask.
GONE = json.dumps({"host": "elsewhere", "process": 1, "born": "0"})


@pytest.fixture
def holder(lock: str, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock; a test may give more arguments of `HOLD`."""
    command = [sys.executable, "-c", HOLD, lock, *getattr(request, "param", ())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
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


def test_a_run_of_another_machine_that_gives_no_sign_of_life_is_succeeded(
    lock: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(lease, "LEASE", 0.5)
    storage.write_text(lock, GONE)
    began = time.monotonic()
    with storage.exclusive(lock, "the map"):
        assert time.monotonic() - began >= 0.5
        assert json.loads(storage.read_bytes(lock))["process"] == os.getpid()
    assert not storage.exists(lock)
    assert capsys.readouterr().err == (
        f"waiting to see whether the run that holds {lock} (process 1 on elsewhere) still lives:"
        " up to 0.5 seconds\n"
    )


@pytest.mark.parametrize("holder", [("pid:[7]", "0.5")], indirect=True)
def test_a_run_of_another_container_of_the_same_name_lives_while_it_renews(
    lock: str, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lease, "RENEW", 0.5)
    before = storage.stat(lock)
    with (
        pytest.raises(DltsError, match=f"another run .process {holder.pid} on {socket.gethostname()}."),
        storage.exclusive(lock, "the map"),
    ):
        pytest.fail("two runs at once")
    assert storage.stat(lock) != before
    monkeypatch.setattr(lease, "LEASE", 1.0)
    os.kill(holder.pid, signal.SIGKILL)
    with storage.exclusive(lock, "the map"):
        assert json.loads(storage.read_bytes(lock))["process"] == os.getpid()


def test_a_lock_that_goes_while_it_is_watched_is_taken(lock: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lease, "RENEW", 0.5)
    storage.write_text(lock, GONE)
    threading.Timer(0.3, storage.remove, [lock]).start()
    began = time.monotonic()
    with storage.exclusive(lock, "the map"):
        assert time.monotonic() - began < lease.LEASE / 2


def test_of_two_that_find_a_dead_run_s_lock_one_succeeds(lock: str, monkeypatch: pytest.MonkeyPatch):
    """Both have watched it for as long, so both try to replace the object that they watched."""
    storage.write_text(lock, GONE)
    both, seen, told = threading.Barrier(2), [], []

    def watch(path: str, found: lease._Found) -> lease._Found:
        both.wait(30)
        return found

    def contend() -> None:
        try:
            with storage.exclusive(lock, "the map"):
                seen.append(storage.read_bytes(lock))
                both.wait(30)
        except DltsError as error:
            told.append(str(error))
            both.wait(30)

    monkeypatch.setattr(lease, "_watch", watch)
    threads = [threading.Thread(target=contend) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1
    assert [f"process {os.getpid()} on" in each for each in told] == [True]
    assert not storage.exists(lock)


def test_a_run_whose_lock_was_taken_ends_with_a_sentence(lock: str):
    def run(body_checks: bool) -> None:
        with storage.exclusive(lock, "the map") as check:
            check()
            storage.write_text(lock, GONE)
            if body_checks:
                check()
                pytest.fail("the body went on")

    for body_checks in (True, False):
        storage.remove(lock)
        with pytest.raises(DltsError, match=r"another run .process 1 on elsewhere. took over the map"):
            run(body_checks)
        assert storage.read_text(lock) == GONE  # the other run goes on to hold it


def test_a_lost_lock_is_told_at_once_and_explains_what_comes_of_it(
    lock: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(lease, "RENEW", 0.05)

    def run() -> None:
        with storage.exclusive(lock, "the map"):
            storage.remove(lock)
            deadline = time.monotonic() + 30
            while "warning: somebody removed" not in capsys.readouterr().err:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            raise FileNotFoundError("a tile that the other run has cleared away")

    with pytest.raises(DltsError, match=f"somebody removed {lock}, so another run may have") as caught:
        run()
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_command_whose_lock_was_taken_is_stopped(
    lock: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """It would go on for hours, and in the folder of the run that holds the lock now."""
    monkeypatch.setattr(lease, "RENEW", 0.05)

    def compute() -> None:
        # Two, as for a map with probabilities, both lost.
        with storage.exclusive(f"{lock}.2", "the probabilities"), storage.exclusive(lock, "the map"):
            storage.write_text(lock, GONE)
            storage.write_text(f"{lock}.2", GONE)
            threading.Event().wait(60)
            pytest.fail("the run went on")

    assert guarded(compute) == 1
    (last,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "another run (process 1 on elsewhere) took over the" in last
    assert storage.read_text(lock) == GONE


def test_a_write_whose_answer_was_lost_is_no_loss(lock: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lease, "RENEW", 0.05)
    with storage.exclusive(lock, "the map") as check:
        for _ in range(3):  # as if the server had done what the client thinks failed
            storage.write_bytes(lock, storage.read_bytes(lock))
            time.sleep(0.1)
        check()
    assert not storage.exists(lock)


def test_a_renewal_that_fails_in_any_way_is_told_once_and_tried_again(
    lock: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(lease, "RENEW", 0.05)
    failures = [ValueError("odd answer"), DltsError("no network"), ValueError("odd")]
    write = lease._Lease.write

    def fail_at_first(self: lease._Lease, over: int, **how: object) -> bool:
        if over and failures:
            raise failures.pop(0)
        return write(self, over, **how)

    monkeypatch.setattr(lease._Lease, "write", fail_at_first)
    with storage.exclusive(lock, "the map") as check:
        before, deadline = storage.stat(lock), time.monotonic() + 30
        while storage.stat(lock) == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        check()
    told = capsys.readouterr().err
    assert told.startswith("warning: the lock of the map was not renewed (odd answer); it is tried again")
    assert told.count("\n") == 1


def test_a_map_whose_lock_was_taken_is_not_published(
    strict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    scene = random_scene(tmp_path / "series", 37, 53)
    model = make_model(tmp_path / "model", scene.spec, patch=3)
    output = storage.join(strict, "taken", "map.tif")
    monkeypatch.setattr(  # what comes between the last tile and the publishing
        map_run, "give_freed_memory_back", lambda: storage.write_text(output + ".lock", GONE)
    )
    command = ["-i", str(scene.folder), "-m", str(model), "-o", output, "--direct_num_workers", "1"]
    assert classify(command) == 1
    assert "process 1 on elsewhere) took over gs://locks/taken/map.tif" in capsys.readouterr().err
    assert not storage.exists(output)
    assert storage.list_files(output + ".parts") != []
    assert storage.read_text(output + ".lock") == GONE


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
