from __future__ import annotations

import numpy as np

from benchmarks._contestants import _one_after_the_other
from trainer.convolutions import TwoConvolutions
from trainer.models import ModelShape, build_model


def test_the_naive_network_evaluates_two_convolutions_and_gives_the_same() -> None:
    settings = {"filters": 8, "units": 6, "dense1": 12, "dense2": 5}
    network = build_model("conv_bilstm", ModelShape(4, 3, 5, 3), settings)
    plain = _one_after_the_other(network)
    assert not any(isinstance(layer, TwoConvolutions) for layer in plain.layers)
    series = np.random.default_rng(1).normal(size=(9, 4, 5, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(network(series), plain(series), atol=1e-5)
