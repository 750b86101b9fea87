from __future__ import annotations

import keras
import numpy as np
import pytest

from dlts_beam.errors import DltsError
from trainer.optimise import is_stopped, make_optimizer, plateau_rate
from trainer.settings import FitSettings


def history(*losses: float) -> list[dict[str, float]]:
    return [{"loss": loss} for loss in losses]


def test_a_plateau_halves_the_rate_each_time() -> None:
    settings = FitSettings(learning_rate=0.8, lr_decay="plateau")
    assert plateau_rate(settings, history(3, 2, 1), "loss") == 0.8
    assert plateau_rate(settings, history(1, 2, 2, 2, 2), "loss") == 0.8
    assert plateau_rate(settings, history(1, 2, 2, 2, 2, 2), "loss") == 0.4
    assert plateau_rate(settings, history(1, *[2] * 10), "loss") == 0.2
    assert plateau_rate(settings, history(1, 2, 2, 2, 2, 0.5, 2, 2, 2, 2), "loss") == 0.8


def test_early_stopping_counts_epochs_without_a_better_loss() -> None:
    settings = FitSettings(early_stopping=2)
    assert not is_stopped(settings, [], "loss")
    assert not is_stopped(settings, history(3, 2, 2), "loss")
    assert is_stopped(settings, history(3, 2, 2, 2), "loss")
    assert not is_stopped(FitSettings(), history(1, *[2] * 99), "loss")


def test_cosine_warms_up_and_falls_to_zero() -> None:
    settings = FitSettings(learning_rate=0.1, lr_decay="cosine", warmup=0.1)
    rate = make_optimizer(settings, 100)._learning_rate
    values = [float(rate(step)) for step in (0, 5, 10, 55, 100)]
    np.testing.assert_allclose(values, [0, 0.05, 0.1, 0.05, 0], atol=1e-6)
    rate = make_optimizer(FitSettings(learning_rate=0.1, lr_decay="cosine"), 100)._learning_rate
    np.testing.assert_allclose([float(rate(step)) for step in (0, 50, 100)], [0.1, 0.05, 0], atol=1e-6)


def test_adamw_leaves_biases_and_norms_alone() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    optimizer = make_optimizer(FitSettings(optimizer="adamw", weight_decay=0.5, clip_norm=1.0), 10)
    optimizer.build(model.trainable_variables)
    decayed = [v.path for v in model.trainable_variables if optimizer._use_weight_decay(v)]
    assert [path.split("/")[-1] for path in decayed] == ["kernel"]
    assert optimizer.global_clipnorm == 1.0


def test_adamw_in_one_operation_is_keras_adamw() -> None:
    generator = np.random.default_rng(0)
    start = generator.normal(size=(4, 3)).astype(np.float32)
    gradients = [generator.normal(size=(4, 3)).astype(np.float32) for _ in range(20)]
    found = []
    settings = FitSettings(
        optimizer="adamw", learning_rate=0.1, weight_decay=0.01, lr_decay="cosine", warmup=0.2
    )
    ours = make_optimizer(settings, 20)
    theirs = keras.optimizers.AdamW(ours._learning_rate, weight_decay=0.01, beta_2=0.99)
    for optimizer in (ours, theirs):
        variable = keras.Variable(start, name="kernel")
        optimizer.build([variable])
        for gradient in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        found.append(np.asarray(variable))
    assert np.abs(found[0] - start).max() > 0.1
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_epochs_follow_the_bounds_on_updates() -> None:
    settings = FitSettings(epochs=80, min_updates=800, max_updates=6000)
    assert settings.epochs_of(7) == 115
    assert settings.epochs_of(20) == 80
    assert settings.epochs_of(200) == 30
    assert settings.epochs_of(9000) == 1
    assert FitSettings(epochs=3).epochs_of(1) == 3


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"epochs": 0}, "-e/--epochs must be 1 or more"),
        ({"batch_size": 0}, "-b/--batch-size"),
        ({"learning_rate": 0.0}, "-l/--learning-rate must be above 0"),
        ({"learning_rate": float("nan")}, "-l/--learning-rate"),
        ({"seed": -1}, "-s/--seed must be 0 or more"),
        ({"seed": 2**32}, r"-s/--seed must be 4294967295 \(2\*\*32 - 1\) or less; got 4294967296"),
        ({"drop_dates": 1.0}, "--drop-dates must be a fraction"),
        ({"lr_decay": "step"}, "--lr-decay must be one of none, cosine, plateau"),
        ({"optimizer": "sgd"}, "--optimizer must be one of"),
        ({"min_updates": 9, "max_updates": 8}, "--max-updates 8 is below --min-updates 9"),
    ],
)
def test_settings_are_checked(wrong: dict, text: str) -> None:
    with pytest.raises(DltsError, match=text):
        FitSettings(**wrong)
