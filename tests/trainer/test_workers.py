"""Several processes that train together, as ``TF_CONFIG`` tells them to."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from tests.trainer.helpers import make_fake, write_fake
from trainer.__main__ import main
from trainer.devices import choose_devices
from trainer.folder import ModelFolder

FLAGS = ["--model", "mlp", "-e", "12", "-l", "0.001", "-b", "8", "--no-random-forest"]
FLAGS += ["--optimizer", "adamw", "--lr-decay", "cosine"]
# Neither noise nor dropout: with them, every replica draws its own.
FLAGS += ["--model-config", '{"units": 8, "layers": 1, "dropout": 0.0, "noise": 0.0}']


def start(number: int, ports: list[int], flags: list[str], log: Path) -> subprocess.Popen[str]:
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    task = {"type": "worker", "index": number}
    environment = {**os.environ, "TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}
    command = [sys.executable, "-m", "trainer", *flags]
    error = log.open("w")
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=error, text=True, env=environment)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_two_workers_killed_and_started_again_learn_what_one_process_learns(tmp_path: Path) -> None:
    write_fake(tmp_path / "s", make_fake((40, 40)))
    flags = ["-i", str(tmp_path / "s"), *FLAGS]
    both = [*flags, "-o", str(tmp_path / "two"), "--checkpoint-seconds", "0"]
    ports = free_ports(2)
    chief, other = (start(number, ports, both, tmp_path / f"first{number}.log") for number in range(2))
    assert chief.stdout is not None
    for line in chief.stdout:
        if line.startswith("epoch  4/12"):
            os.kill(other.pid, signal.SIGKILL)
            break
    chief.communicate(timeout=240)
    other.communicate()
    assert chief.returncode != 0
    assert "start all workers again" in (tmp_path / "first0.log").read_text()
    assert (tmp_path / "two" / "checkpoint.npz").exists()

    ports = free_ports(2)
    again = [start(number, ports, both, tmp_path / f"again{number}.log") for number in range(2)]
    told = [one.communicate(timeout=300)[0] for one in again]
    assert [one.returncode for one in again] == [0, 0], (tmp_path / "again0.log").read_text()
    assert "going on after epoch" in told[0]
    assert "epoch 12/12" in told[0]
    assert "epoch 12/12" not in told[1]
    digests = [re.findall(r"worker \d: weights (\w+)", text) for text in told]
    assert digests[0] == digests[1] != []

    assert main([*flags, "-o", str(tmp_path / "one")]) == 0
    ours = ModelFolder(str(tmp_path / "two")).load_model("last")
    theirs = ModelFolder(str(tmp_path / "one")).load_model("last")
    assert [w.shape for w in ours.get_weights()] == [w.shape for w in theirs.get_weights()]
    # Batch normalisation sees half batches, so the weights are near, not equal.
    hidden = [model.get_layer("dense0").get_weights()[0] for model in (ours, theirs)]
    assert np.abs(hidden[0] - hidden[1]).mean() < 0.02
    assert (tmp_path / "two" / "model.json").exists()


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
