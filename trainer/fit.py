"""Training: epochs, the best models, history, and what stops them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from dlts_beam.errors import DltsError
from trainer.feed import FitData, steps_per_epoch, training_feed, validation_feed
from trainer.folder import ModelFolder

Weights = list[NDArray[Any]]
Log = Callable[[str], None]


@dataclass(frozen=True)
class FitSettings:
    """How a model is trained.

    Attributes:
        seed: decides initial weights, order and dropout.
        epochs, batch_size, learning_rate: as everywhere.
    """

    seed: int = 2
    epochs: int = 100
    batch_size: int = 16
    learning_rate: float = 0.00005

    def __post_init__(self) -> None:
        for flag, value in (("-e/--epochs", self.epochs), ("-b/--batch-size", self.batch_size)):
            if value < 1:
                raise DltsError(f"{flag} must be 1 or more; got {value}")
        if not 0 < self.learning_rate < math.inf:
            raise DltsError(f"-l/--learning-rate must be above 0; got {self.learning_rate:g}")


@dataclass
class Progress:
    """What training has reached: enough to write the models.

    Attributes:
        history: one row per finished epoch.
        best: for ``acc`` and ``loss``, the best epoch's weights.
        best_epoch: for each of ``last``, ``acc`` and ``loss``, its epoch from 1.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Weights] = field(default_factory=dict)
    best_epoch: dict[str, int] = field(default_factory=dict)


def seed_everything(seed: int) -> None:
    """Make all that follows repeatable: the seeds of Python, numpy and TensorFlow, and its operations."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def compile_model(model: keras.Model, settings: FitSettings) -> None:
    """Nadam and categorical cross-entropy, as the network's authors trained it."""
    model.compile(
        optimizer=keras.optimizers.Nadam(settings.learning_rate),
        loss=keras.losses.CategoricalCrossentropy(),
        weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=False,
    )


def fit_model(
    model: keras.Model, data: FitData, settings: FitSettings, folder: ModelFolder, log: Log = print
) -> Progress:
    """Train, and write the three Keras models, ``history.csv`` and TensorBoard's ``log/``.

    ``acc`` and ``loss`` are the epochs with the best validation accuracy and loss (of the training split
    where there is no validation split); among equal epochs the earliest.

    Raises:
        DltsError: the loss became NaN; epoch and batch are named, and the models up to then are written.
    """
    compile_model(model, settings)
    progress = Progress()
    keeper = _Keeper(progress, settings, has_validation=bool(len(data.validation)), log=log)
    guard = _Guard()
    with folder.log_folder() as log_folder:
        board = keras.callbacks.TensorBoard(log_folder, write_graph=False, profile_batch=0)
        try:
            model.fit(
                training_feed(data, settings.seed, settings.batch_size, 0, settings.epochs),
                steps_per_epoch=steps_per_epoch(data, settings.batch_size),
                epochs=settings.epochs,
                validation_data=validation_feed(data),
                callbacks=[guard, keeper, board],
                verbose=0,
                shuffle=False,  # the feed has its own order
            )
        except LossIsNanError as stop:
            raise _explain_nan(stop, model, progress, folder) from None
    write_models(model, progress, folder)
    return progress


def write_models(model: keras.Model, progress: Progress, folder: ModelFolder) -> None:
    """Write ``last``, ``acc`` and ``loss``; the model holds the last epoch's weights before and after."""
    folder.write_history(progress.history)
    last = model.get_weights()
    folder.save_model(model, "last")
    for name, weights in progress.best.items():
        model.set_weights(weights)
        folder.save_model(model, name)
    model.set_weights(last)


class LossIsNanError(Exception):
    """Training cannot go on; epoch and batch count from 1."""

    def __init__(self, epoch: int, batch: int | None) -> None:
        super().__init__(epoch, batch)
        self.epoch, self.batch = epoch, batch


class _Guard(keras.callbacks.Callback):
    """Stops at the first batch whose loss is not finite."""

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if not math.isfinite(float((logs or {})["loss"])):
            raise LossIsNanError(self.epoch + 1, batch + 1)


class _Keeper(keras.callbacks.Callback):
    """Keeps the history, the best and the last weights, and prints one line per epoch."""

    def __init__(self, progress: Progress, settings: FitSettings, has_validation: bool, log: Log) -> None:
        super().__init__()
        self.progress, self.settings, self.log = progress, settings, log
        self.prefix = "val_" if has_validation else ""

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        measured = {name: float(value) for name, value in (logs or {}).items()}
        watched = measured[self.prefix + "loss"]
        if not math.isfinite(watched):
            raise LossIsNanError(epoch + 1, None)
        progress = self.progress
        row: dict[str, float] = {"epoch": epoch + 1, "seconds": round(time.monotonic() - self.started, 3)}
        names = [name for name in ("loss", "accuracy", "val_loss", "val_accuracy") if name in measured]
        row |= {name: measured[name] for name in names}
        row["learning_rate"] = float(np.asarray(self.model.optimizer.learning_rate))
        accuracy = self.prefix + "accuracy"
        if all(watched < old[self.prefix + "loss"] for old in progress.history):
            self._keep("loss", epoch)
        if all(measured[accuracy] > old[accuracy] for old in progress.history):
            self._keep("acc", epoch)
        self._keep("last", epoch)
        progress.history.append(row)
        shown = "  ".join(f"{name} {row[name]:.4f}" for name in names)
        width = len(str(self.settings.epochs))
        self.log(f"epoch {epoch + 1:{width}}/{self.settings.epochs}  {shown}  {row['seconds']:.1f} s")

    def _keep(self, name: str, epoch: int) -> None:
        self.progress.best[name] = self.model.get_weights()
        self.progress.best_epoch[name] = epoch + 1


def _explain_nan(
    stop: LossIsNanError, model: keras.Model, progress: Progress, folder: ModelFolder
) -> DltsError:
    """Write what there is, and say what happened."""
    place = f"epoch {stop.epoch}" + (f", batch {stop.batch}" if stop.batch else " (on the validation split)")
    if progress.history:
        model.set_weights(progress.best["last"])
        write_models(model, progress, folder)
        kept = f"the models up to epoch {len(progress.history)} are in {folder.path}"
    else:
        kept = "no epoch was finished, so no model was written"
    return DltsError(
        f"the loss became NaN or infinite in {place}: {kept}; lower the learning rate (-l), "
        "limit the gradients (--clip-norm 1), or look for absurd values in the samples"
    )
