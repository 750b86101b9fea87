"""Runs and workers that real signals end: a clear failure, nobody left behind, and a rerun that goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes import Scene, classify, make_model, random_scene
from tests.pipelines.maps import is_right, run_record


@pytest.mark.parametrize("mode", ["multi_threading", "multi_processing", "in_memory"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_nobody_behind(tmp_path: Path, mode: str, number: int) -> None:
    scene = random_scene(tmp_path / "series", 160, 160, steps=6, bands=1)
    model, output = make_model(tmp_path / "model", scene.spec, batch=64), tmp_path / "map.tif"
    workers = "1" if mode == "in_memory" else "2"
    process = start(scene, model, output, "--direct_running_mode", mode, "--direct_num_workers", workers)
    workers_then = children(process.pid)
    os.kill(process.pid, number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert told == ("interrupted\n" if number == signal.SIGINT else "terminated\n")
    assert not (tmp_path / "map.tif.lock").exists()
    deadline = time.monotonic() + 30
    while any(is_running(worker) for worker in workers_then):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not output.exists()
    assert classify(scene, model, output, "--tile", "10") == 0
    assert run_record(output)["reused"] >= 5
    assert is_right(scene, output)
    assert not list(tmp_path.glob(".tmp-*"))
    assert not (tmp_path / "map.tif.lock").exists()


def start(scene: Scene, model: Path, output: Path, *flags: str) -> subprocess.Popen[str]:
    """Step 4 in a process of its own, with tiles of 10 pixels, when five of them are committed."""
    command = [sys.executable, "-m", "pipelines.classify_img_series", "-i", str(scene.folder)]
    command += ["-m", str(model), "-o", str(output), "--tile", "10", *flags]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    parts = output.with_name(output.name + ".parts")
    deadline = time.monotonic() + 120
    while len(list(parts.glob("r*.tif"))) < 5:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def is_running(process: int) -> bool:
    """False for one that is gone, or that only waits to be taken note of."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_killed_by_the_system_ends_the_run(tmp_path: Path) -> None:
    scene = random_scene(tmp_path / "series", 160, 160, steps=6, bands=1)
    model = make_model(tmp_path / "model", scene.spec, batch=64)
    output = tmp_path / "map.tif"
    flags = ("--direct_running_mode", "multi_processing", "--direct_num_workers", "2")
    process = start(scene, model, output, *flags)
    workers = children(process.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert "worker" in line
    assert not output.exists()
    assert classify(scene, model, output, "--tile", "10") == 0
    assert run_record(output)["reused"] >= 5
    assert is_right(scene, output)


def children(process: int) -> list[int]:
    """Processes whose parent this is."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended while we looked
                continue
            if int(fields[1]) == process:
                found.append(int(entry.name))
    return sorted(found)
