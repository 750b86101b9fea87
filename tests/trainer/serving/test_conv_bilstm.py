from __future__ import annotations

import keras
import numpy as np
import pytest

from trainer.serving.conv_bilstm import fold_convolutions


@pytest.mark.parametrize("patch", [3, 5, 7, 9])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_two_convolutions_are_one_linear_map_at_every_position(patch: int, depth: int) -> None:
    generator = np.random.default_rng(patch * 10 + depth)
    bands, channels, filters, steps = 2, 3, 4, 3
    conv1 = generator.normal(size=(depth, 3, 3, bands, channels))
    conv2 = generator.normal(size=(3, 3, channels, filters))
    patches = generator.normal(size=(5, steps, patch, patch, bands)).astype(np.float32)
    first = keras.ops.conv(patches, conv1.astype(np.float32), padding="same")
    wanted = np.asarray(keras.ops.conv(first, conv2[None].astype(np.float32), padding="valid"))

    before = (depth - 1) // 2
    in_time = [(0, 0)] * 5
    in_time[1] = (before, depth - 1 - before)
    padded = np.pad(patches, in_time)
    maps = fold_convolutions(conv1, conv2, patch)
    assert len(maps) == patch - 2
    for column, each in enumerate(maps):
        seen = padded[:, :, :, each.first : each.last + 1]
        for step in range(steps):
            ours = np.einsum("ndijb,jdibrf->nrf", seen[:, step : step + depth], each.kernel)
            np.testing.assert_allclose(ours, wanted[:, step, :, column], atol=1e-4)
