"""A series of one time step is no reason to warn of softmax; other warnings are shown."""

from __future__ import annotations

import argparse
import warnings

import keras
import numpy as np
import pytest

from trainer import tune
from trainer.__main__ import main


@pytest.mark.parametrize("command", ["train-model", "tune"])
def test_one_time_step_is_no_warning(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(args: argparse.Namespace, *_: object) -> int:
        keras.ops.softmax(np.ones((4, 1, 8), np.float32), axis=1)
        warnings.warn("something else", stacklevel=1)
        return 0

    monkeypatch.setattr("trainer.run.train", work)
    monkeypatch.setattr(tune, "_tune", work)
    run = main if command == "train-model" else tune.main
    with pytest.warns(UserWarning, match="something else") as shown:
        assert run(["-i", "s", "-o", "m"]) == 0
    assert ["softmax" in str(warning.message) for warning in shown] == [False]
