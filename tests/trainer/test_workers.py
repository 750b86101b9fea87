"""Several processes that train together, as ``TF_CONFIG`` tells them to."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from tests.trainer.helpers import make_fake, write_fake
from trainer.__main__ import main
from trainer.devices import Devices, choose_devices
from trainer.folder import ModelFolder
from trainer.workers import check_alike

FLAGS = ["--model", "mlp", "-e", "12", "-l", "0.001", "-b", "8", "--no-random-forest"]
FLAGS += ["--optimizer", "adamw", "--lr-decay", "cosine"]
# Neither noise nor dropout: with them, every replica draws its own.
FLAGS += ["--model-config", '{"units": 8, "layers": 1, "dropout": 0.0, "noise": 0.0}']


# Several commands in one process, since TensorFlow takes most of the time to start; workers meet but once.
SEVERAL = """
import functools
import json
import sys
from trainer import setup
from trainer.__main__ import main

setup.choose_devices = functools.cache(setup.choose_devices)
print("ended with", [main(flags) for flags in json.loads(sys.argv[1])])
"""


def start(
    number: int, ports: list[int], flags: list[str], log: Path, program: tuple[str, str] = ("-m", "trainer")
) -> subprocess.Popen[str]:
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    task = {"type": "worker", "index": number}
    environment = {**os.environ, "TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}
    command = [sys.executable, *program, *flags]
    error = log.open("w")
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=error, text=True, env=environment)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def contents(folder: Path) -> dict[str, bytes | None]:
    """All that is in a folder: files with their bytes, folders with None."""
    found = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


def test_two_workers_killed_and_started_again_learn_what_one_process_learns(tmp_path: Path) -> None:
    write_fake(tmp_path / "s", make_fake((40, 40)))
    flags = ["-i", str(tmp_path / "s"), *FLAGS]
    both = [*flags, "--folds", "2", "--checkpoint-seconds", "0"]
    two = tmp_path / "two"
    ports = free_ports(2)
    chief, other = (
        start(number, ports, [*both, "-o", str(two)], tmp_path / f"first{number}.log") for number in range(2)
    )
    assert chief.stdout is not None
    for line in chief.stdout:
        if line.startswith("epoch  4/12"):
            os.kill(other.pid, signal.SIGKILL)
            break
    chief.communicate(timeout=240)
    other.communicate()
    assert chief.returncode != 0
    assert "start all workers again" in (tmp_path / "first0.log").read_text()
    assert (two / "checkpoint.npz").exists()

    # The other worker finds less than the chief in a folder of its own, or has another flag: neither trains.
    reached = contents(two)
    (tmp_path / "none").mkdir()
    (tmp_path / "folds").mkdir()
    shutil.copy(two / "folds.npz", tmp_path / "folds")
    shutil.copytree(two, tmp_path / "all", ignore=shutil.ignore_patterns("log"))
    held = contents(tmp_path / "all")
    ports = free_ports(2)
    refused = []
    for number, folders in enumerate((("two", "two", "two"), ("none", "folds", "all"))):
        commands = [[*both, "-o", str(tmp_path / name)] for name in folders]
        commands[2] += ["--clip-norm", str(1 + number)]
        log = tmp_path / f"refused{number}.log"
        refused.append(start(number, ports, [json.dumps(commands)], log, ("-c", SEVERAL)))
    told = [one.communicate(timeout=300)[0] for one in refused]
    for number, folders in enumerate((("two", "two"), ("none", "folds"))):
        why = (tmp_path / f"refused{number}.log").read_text()
        assert "ended with [1, 1, 1]" in told[number], why
        for found, name in zip(("folds", "checkpoints"), folders, strict=True):
            assert f"the workers see different {found} in {tmp_path / name}: give -o a folder that all" in why
        assert "the workers would train differently" in why
    assert contents(two) == reached
    assert contents(tmp_path / "none") == {}
    assert list(contents(tmp_path / "folds")) == ["folds.npz"]

    # In a folder that holds the same, the other worker may go on, and its folder shows whether it writes.
    ports = free_ports(2)
    again = [
        start(number, ports, [*both, "-o", str(tmp_path / name)], tmp_path / f"again{number}.log")
        for number, name in enumerate(("two", "all"))
    ]
    told = [one.communicate(timeout=300)[0] for one in again]
    assert [one.returncode for one in again] == [0, 0], (tmp_path / "again0.log").read_text()
    assert contents(tmp_path / "all") == held
    assert "going on after fold 2" in told[0]
    assert "going on after epoch" in told[0]
    assert "epoch 12/12" in told[0]
    assert "epoch 12/12" not in told[1]
    digests = [re.findall(r"worker \d: weights (\w+)", text) for text in told]
    assert digests[0] == digests[1] != []

    assert main([*flags, "-o", str(tmp_path / "one")]) == 0
    ours = ModelFolder(str(two)).load_model("last")
    theirs = ModelFolder(str(tmp_path / "one")).load_model("last")
    assert [w.shape for w in ours.get_weights()] == [w.shape for w in theirs.get_weights()]
    # Batch normalisation sees half batches, so the weights are near, not equal.
    hidden = [model.get_layer("dense0").get_weights()[0] for model in (ours, theirs)]
    assert np.abs(hidden[0] - hidden[1]).mean() < 0.02
    assert (two / "model.json").exists()
    crossed = json.loads((two / "metrics.json").read_text())["cross_validation"]
    assert [row["fold"] for row in crossed["folds"]] == ["fold 1", "fold 2"]
    assert crossed["samples"] == 80


class Pretended:
    """A strategy of two workers with three devices each, the other of which brings its row."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def run(self, function: Callable[[], np.ndarray]) -> np.ndarray:
        return np.asarray(function())

    def reduce(self, how: object, own: np.ndarray, axis: None) -> np.ndarray:
        self.own = own
        return 3 * (own + self.rows)


def test_workers_go_on_where_all_found_the_same() -> None:
    names = tuple("abcdef")
    alone = Pretended(np.zeros((2, 16), np.float32))
    with pytest.raises(DltsError, match="not alike"):
        check_alike(Devices(names, alone, 1, 2), "found", "not alike")
    assert not alone.own[0].any()
    assert alone.own[1].any()
    check_alike(Devices(names, Pretended(alone.own[::-1]), 1, 2), "found", "not alike")
    for number in range(16):
        other = alone.own[::-1].copy()
        other[0, number] += 1
        with pytest.raises(DltsError, match="not alike"):
            check_alike(Devices(names, Pretended(other), 1, 2), "found", "not alike")
    check_alike(Devices(("CPU:0",)), "found", "not alike")


def test_whom_a_worker_waits_for_is_told_before_it_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never() -> None:
        raise TimeoutError("nobody came")

    monkeypatch.setattr("trainer.devices.tf.distribute.MultiWorkerMirroredStrategy", never)
    cluster = {"chief": ["a:1"], "worker": ["b:2", "c:3"]}
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    with pytest.raises(TimeoutError):
        choose_devices()
    assert capsys.readouterr().out == "waiting for the other workers: a:1, c:3\n"


def test_a_tf_config_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("{", '{"cluster": {"worker": ["a:1", "b:2"]}}', "[1]"):
        monkeypatch.setenv("TF_CONFIG", text)
        with pytest.raises(DltsError, match="TF_CONFIG must look like"):
            choose_devices()
    monkeypatch.setenv(
        "TF_CONFIG", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}'
    )
    assert choose_devices().workers == 1
