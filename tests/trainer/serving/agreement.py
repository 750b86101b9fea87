"""Trained-looking models and strips for the tests of serving graphs."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import onnxruntime

from trainer.feed import FitData
from trainer.forest import grow_forest, is_forest
from trainer.layers import Statistics, set_statistics
from trainer.models import ModelShape, branches_of, build_model, find_architecture


def small_settings(name: str) -> dict[str, Any]:
    """Settings that make the architecture small, sizes that are no multiple of one another included."""
    defaults = find_architecture(name).defaults
    large = [key for key, value in defaults.items() if isinstance(value, int) and value > 32]
    return dict(zip(large, itertools.cycle((8, 12, 16, 24)), strict=False))


def make_model(name: str, shape: ModelShape, settings: dict[str, Any], seed: int = 0) -> keras.Model:
    """A model with random weights, biases and batch norm statistics, and the statistics of `make_strip`."""
    keras.utils.set_random_seed(seed)
    generator = np.random.default_rng(seed)
    model = build_model(name, shape, settings)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight in (layer.gamma, layer.moving_variance):
                weight.assign(generator.uniform(0.3, 3, weight.shape))
            for weight in (layer.beta, layer.moving_mean):
                weight.assign(generator.normal(0, 0.5, weight.shape))
    for weight in model.trainable_weights:
        if weight.name.startswith("bias"):
            weight.assign(np.asarray(weight) + generator.normal(0, 0.2, weight.shape))
    strip = make_strip(shape, 64, seed)
    series = patches_of(strip, shape)
    set_statistics(model, Statistics.measure(series, percentiles=(2, 98)))
    for branch in branches_of(model):
        if is_forest(branch):
            grow_forest(branch, random_classes(series, shape.classes, seed), seed)
            continue
        # Logits of mean 0 and spread 1.5, as of a model that has learnt to tell these series apart.
        layer = branch.get_layer("probabilities")
        logits = np.asarray(keras.Model(branch.input, layer.input)(series)) @ np.asarray(layer.kernel)
        gain = 1.5 / (logits.std(axis=0) + 1e-6)
        layer.kernel.assign(np.asarray(layer.kernel) * gain)
        layer.bias.assign(-logits.mean(axis=0) * gain)
    return model


def random_classes(series: np.ndarray, classes: int, seed: int) -> FitData:
    """Training data in which every series has a class by chance, so that trees grow large."""
    count = len(series)
    class_ids = np.random.default_rng(seed).permutation(np.arange(count) % classes)
    every, none = np.arange(count), np.arange(0)
    scale = np.ones(series.shape[-1], np.float32)
    return FitData(series, class_ids, classes, every, none, np.ones(count, np.float32), scale)


def make_strip(shape: ModelShape, batch: int, seed: int = 0) -> np.ndarray:
    """A strip (T, 1 + 2h, batch + 2h, B) of reflectances, each band with a level of its own."""
    generator = np.random.default_rng(seed + 100)
    halo = shape.halo
    wide = (shape.time_steps, 1 + 2 * halo, batch + 2 * halo, shape.bands)
    level = np.random.default_rng(7).uniform(200, 4000, shape.bands)
    return (level * (1 + 0.3 * generator.normal(size=wide))).astype(np.float32)


def patches_of(strip: np.ndarray, shape: ModelShape) -> np.ndarray:
    """The patch series (N, T, P, P, B) that a strip holds."""
    batch = strip.shape[2] - 2 * shape.halo
    return np.stack([strip[:, :, column : column + shape.patch] for column in range(batch)])


def session_of(model: Any, threads: int = 1) -> onnxruntime.InferenceSession:
    """The session in which an ONNX model runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def assert_same_answers(ours: np.ndarray, wanted: np.ndarray) -> None:
    """Probabilities within 1e-4 and equal labels, save where the two best are closer than that."""
    assert ours.shape == wanted.shape
    assert ours.dtype == np.float32
    assert np.abs(ours - wanted).max() <= 1e-4
    best = np.sort(wanted, axis=1)
    clear = best[:, -1] - best[:, -2] > 2e-4
    np.testing.assert_array_equal(ours.argmax(1)[clear], wanted.argmax(1)[clear])
