from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.convolutions import TwoConvolutions


def _patches(patch: int, steps: int = 4) -> np.ndarray:
    return np.random.default_rng(patch).normal(size=(6, steps, patch, patch, 2)).astype(np.float32)


@pytest.mark.parametrize("patch", [3, 5, 9])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_they_give_and_learn_what_two_layers_of_keras_do(patch: int, depth: int) -> None:
    patches = tf.constant(_patches(patch))
    layer = TwoConvolutions(7, depth)
    layer.build(patches.shape)
    generator = np.random.default_rng(depth)
    layer.set_weights([generator.normal(size=weight.shape) for weight in layer.weights])
    first = keras.layers.Conv3D(7, (depth, 3, 3), padding="same")
    second = keras.layers.Conv3D(7, (1, 3, 3), padding="valid")
    second(first(patches))
    first.set_weights(layer.get_weights()[:2])
    second.set_weights(layer.get_weights()[2:])

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(patches)
        ours, theirs = layer(patches), second(first(patches))
        losses = [tf.reduce_sum(tf.sin(found)) for found in (ours, theirs)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)
    assert ours.shape == layer.compute_output_shape(patches.shape) == (6, 4, patch - 2, patch - 2, 7)
    of_ours = tape.gradient(losses[0], [patches, *layer.trainable_variables])
    of_theirs = tape.gradient(losses[1], [patches, *first.trainable_variables, *second.trainable_variables])
    for one, other in zip(of_ours, of_theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * float(tf.reduce_max(tf.abs(other))))


def test_they_begin_as_two_layers_of_keras_do() -> None:
    layer = TwoConvolutions(64, 5)
    layer.build((None, 4, 3, 3, 2))
    for kernel, inputs, outputs in ((layer.kernel1, 5 * 9 * 2, 5 * 9 * 64), (layer.kernel2, 9 * 64, 9 * 64)):
        bound = np.sqrt(6 / (inputs + outputs))
        assert 0.95 * bound < np.abs(kernel).max() <= bound
    assert not np.any([layer.bias1, layer.bias2])


def test_they_are_saved_and_loaded(tmp_path: Path) -> None:
    inputs = keras.Input((4, 5, 5, 2))
    model = keras.Model(inputs, TwoConvolutions(3, 2, name="convolutions")(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(model(_patches(5)), loaded(_patches(5)))
