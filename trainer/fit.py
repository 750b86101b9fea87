"""Training: epochs, the best models, history, and what stops them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from dlts_beam import storage
from dlts_beam.errors import DltsError
from trainer.augment import make_augment
from trainer.devices import Devices, choose_devices
from trainer.feed import FitData, steps_per_epoch, training_feed, validation_feed
from trainer.folder import ModelFolder
from trainer.models import branches_of
from trainer.optimise import compile_model, is_stopped, plateau_rate
from trainer.progress import (
    CHECKPOINT,
    Progress,
    capture,
    load_checkpoint,
    restore,
    save_checkpoint,
    set_branches,
)
from trainer.settings import FitSettings
from trainer.workers import LossIsNanError, fit_with_workers

Log = Callable[[str], None]
_BRANCH_SEED = 1_000_003  # branches of one model see their samples in different orders


def fit_model(
    model: keras.Model,
    data: FitData,
    settings: FitSettings,
    folder: ModelFolder,
    log: Log = print,
    key: str = "",
    devices: Devices | None = None,
) -> list[Progress]:
    """Train, and write the three Keras models, ``history.csv`` and TensorBoard's ``log/``.

    ``acc`` and ``loss`` are the epochs with the best validation accuracy and loss, the earliest of equal
    ones; without a validation split nothing can choose, and they are the last epoch too. The branches of a
    model (`branches_of`) are trained one after another, each on its own loss.

    Args:
        model: as built, with its statistics set.
        data: what it is trained on.
        settings: how.
        folder: where to.
        log: takes one line per epoch.
        key: names this training: a checkpoint in the folder is taken up if it bears the same key.
        devices: what shares each batch; the model was built in their scope.

    Raises:
        DltsError: the loss became NaN; epoch and batch are named, and the models up to then are written.
    """
    devices = devices or choose_devices()
    if not devices.is_chief:
        log = _silent
    branches = branches_of(model)
    path = folder.join(CHECKPOINT)
    state = load_checkpoint(path, key)
    done = list(state.done) if state else []
    if state:
        epochs = len(state.current.history)
        where = f" of {state.current.branch}" if len(branches) > 1 else ""
        log(f"going on after epoch {epochs}{where}, where an earlier run was stopped")
    for branch, progress in zip(branches, done, strict=False):
        branch.set_weights(progress.best["last"])
    with folder.log_folder() as logs:
        for number in range(len(done), len(branches)):
            branch = branches[number]
            progress = state.current if state else Progress(branch.name)
            steps = steps_per_epoch(data, settings.batch_size, devices.replicas)
            epochs = settings.epochs_of(steps)
            with devices.scope():
                compile_model(branch, settings, steps * epochs)
                if state:
                    restore(branch, state)
                    state = None
            keeper = Keeper(progress, settings, epochs, bool(len(data.validation)), log)
            keeper.prefix = f"{branch.name}  " if len(branches) > 1 else ""
            if devices.is_chief:
                keeper.save = partial(_save, path, key, branch, done, progress)
            log_folder = storage.join(logs, branch.name) if len(branches) > 1 else logs
            try:
                _fit_branch(branch, number, data, settings, keeper, log_folder, devices)
            except LossIsNanError as stop:
                reached = [*done, progress]
                raise _explain_nan(stop, model, branches, reached, folder, devices.is_chief) from None
            done.append(progress)
    set_branches(branches, done, "last")
    if devices.is_chief:
        write_models(model, branches, done, folder)
        storage.remove(path)
    return done


def _silent(line: str) -> None:
    """Takes the lines of workers other than the chief."""


def _save(path: str, key: str, branch: keras.Model, done: Sequence[Progress], current: Progress) -> None:
    save_checkpoint(path, key, capture(branch, done, current))


def write_models(
    model: keras.Model, branches: Sequence[keras.Model], reached: Sequence[Progress], folder: ModelFolder
) -> None:
    """Write ``acc``, ``loss`` and ``last``; the model has the last epoch's weights afterwards."""
    several = len(branches) > 1
    rows: list[dict[str, float | str]] = []
    for progress in reached:
        rows += [({"branch": progress.branch} if several else {}) | row for row in progress.history]
    folder.write_history(rows)
    for name in ("acc", "loss", "last"):
        set_branches(branches, reached, name)
        folder.save_model(model, name)


def _fit_branch(
    branch: keras.Model,
    number: int,
    data: FitData,
    settings: FitSettings,
    keeper: Keeper,
    log_folder: str,
    devices: Devices,
) -> None:
    first = len(keeper.progress.history)
    if first >= keeper.epochs or is_stopped(settings, keeper.progress.history, keeper.watched):
        return
    seed = settings.seed + _BRANCH_SEED * number
    augment = make_augment(settings, data.scale)
    if devices.workers > 1:
        fit_with_workers(branch, data, settings, keeper, devices, seed, augment, log_folder)
        return
    branch.fit(
        training_feed(data, seed, settings.batch_size, first, keeper.epochs, augment, devices.replicas),
        steps_per_epoch=steps_per_epoch(data, settings.batch_size, devices.replicas),
        initial_epoch=first,
        epochs=keeper.epochs,
        validation_data=validation_feed(data),
        callbacks=[
            Guard(),
            keeper,
            keras.callbacks.TensorBoard(log_folder, write_graph=False, profile_batch=0),
        ],
        verbose=0,
        shuffle=False,  # the feed has its own order
    )


class Guard(keras.callbacks.Callback):
    """Stops at the first batch whose loss is not finite."""

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Remembers the epoch."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Raises `LossIsNanError`."""
        if not math.isfinite(float((logs or {})["loss"])):
            raise LossIsNanError(self.epoch + 1, batch + 1)


class Keeper(keras.callbacks.Callback):
    """Keeps the history, the best and the last weights; prints a line, sets the rate, stops, checkpoints.

    Attributes:
        progress: what it fills.
        watched: the history's column that decides.
        save: writes a checkpoint.
        prefix: begins each line.
    """

    def __init__(
        self, progress: Progress, settings: FitSettings, epochs: int, has_validation: bool, log: Log
    ) -> None:
        super().__init__()
        self.progress, self.settings, self.epochs, self.log = progress, settings, epochs, log
        self.has_validation = has_validation
        self.watched = "val_loss" if has_validation else "loss"
        self.prefix = ""
        self.save: Callable[[], None] = lambda: None
        self.saved = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Starts the clock."""
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Takes the epoch over, or raises `LossIsNanError`."""
        measured = {name: float(value) for name, value in (logs or {}).items()}
        if not math.isfinite(measured[self.watched]):
            raise LossIsNanError(epoch + 1, None)
        history = self.progress.history
        seconds = round(time.monotonic() - self.started, 3)
        row: dict[str, float] = {"epoch": epoch + 1, "seconds": seconds}
        names = [name for name in ("loss", "accuracy", "val_loss", "val_accuracy") if name in measured]
        row |= {name: measured[name] for name in names}
        row["learning_rate"] = float(np.asarray(self.model.optimizer.learning_rate))
        history.append(row)
        self._keep(epoch)
        shown = "  ".join(f"{name} {row[name]:.4f}" for name in names)
        width = len(str(self.epochs))
        self.log(f"{self.prefix}epoch {epoch + 1:{width}}/{self.epochs}  {shown}  {seconds:.1f} s")
        if self.settings.lr_decay == "plateau":
            self.model.optimizer.learning_rate = plateau_rate(self.settings, history, self.watched)
        if is_stopped(self.settings, history, self.watched):
            waited = self.settings.early_stopping
            self.log(f"{self.prefix}stopped early: no better {self.watched} in {waited} epochs")
            self.model.stop_training = True
        if time.monotonic() - self.saved >= self.settings.checkpoint_seconds:
            self.save()
            self.saved = time.monotonic()

    def _keep(self, epoch: int) -> None:
        weights = self.model.get_weights()
        before, row = self.progress.history[:-1], self.progress.history[-1]
        better = {"last": True, "loss": True, "acc": True}
        if self.has_validation:
            better["loss"] = all(row["val_loss"] < old["val_loss"] for old in before)
            better["acc"] = all(row["val_accuracy"] > old["val_accuracy"] for old in before)
        for name, is_better in better.items():
            if is_better:
                self.progress.best[name] = weights
                self.progress.best_epoch[name] = epoch + 1


def _explain_nan(
    stop: LossIsNanError,
    model: keras.Model,
    branches: Sequence[keras.Model],
    reached: Sequence[Progress],
    folder: ModelFolder,
    is_chief: bool,
) -> DltsError:
    """Write what there is, and say what happened."""
    place = f"epoch {stop.epoch}" + (f", batch {stop.batch}" if stop.batch else " (on the validation split)")
    if len(branches) > 1:
        place += f" of {reached[-1].branch}"
    if len(reached) == len(branches) and reached[-1].history:
        if is_chief:
            write_models(model, branches, reached, folder)
        kept = f"the models up to epoch {len(reached[-1].history)} are in {folder.path}"
    elif len(branches) > 1:
        kept = "not all branches were trained, so no model was written"
    else:
        kept = "no epoch was finished, so no model was written"
    if is_chief:
        storage.remove(folder.join(CHECKPOINT))
    return DltsError(
        f"the loss became NaN or infinite in {place}: {kept}; lower the learning rate (-l), "
        "limit the gradients (--clip-norm 1), or look for absurd values in the samples"
    )
