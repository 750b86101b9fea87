"""kill -9 in mid-epoch, and the same command again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.helpers import make_fake, write_fake
from trainer.__main__ import main
from trainer.folder import ModelFolder


@pytest.mark.parametrize(
    ("model", "config", "stop"),
    [
        ("mlp", '{"units": 16}', "epoch  4/12"),
        ("ltae_mlp_forest", '{"mlp_units": 16, "ltae_width": 16, "forest_trees": 20}', "mlp0  epoch  4/12"),
    ],
)
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    tmp_path: Path, model: str, config: str, stop: str
) -> None:
    write_fake(tmp_path / "s", make_fake((40, 40)))
    flags = ["-i", str(tmp_path / "s"), "--model", model, "-e", "12", "-l", "0.001", "--drop-dates", "0.2"]
    flags += ["--checkpoint-seconds", "0", "--no-random-forest", "--model-config", config]
    killed = [*flags, "-o", str(tmp_path / "killed")]
    process = subprocess.Popen([sys.executable, "-m", "trainer", *killed], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(stop):
            os.kill(process.pid, signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert (tmp_path / "killed" / "checkpoint.npz").exists()
    assert not (tmp_path / "killed" / "model.json").exists()

    assert main(killed) == 0
    assert main([*flags, "-o", str(tmp_path / "whole")]) == 0
    rows = (tmp_path / "killed" / "history.csv").read_text().splitlines()
    branches = {"mlp": 12, "ltae_mlp_forest": 12 + 12 + 1}
    assert len(rows) == 1 + branches[model]
    for name in ("last", "acc", "loss"):
        ours = ModelFolder(str(tmp_path / "killed")).load_model(name).get_weights()
        theirs = ModelFolder(str(tmp_path / "whole")).load_model(name).get_weights()
        for left, right in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(left, right)
    onnx = [(tmp_path / run / "serving" / "loss" / "model.onnx").read_bytes() for run in ("killed", "whole")]
    assert onnx[0] == onnx[1]
