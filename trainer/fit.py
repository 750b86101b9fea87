"""Training: epochs, the best models, history, and what stops them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import keras
import numpy as np

from dlts_beam import storage
from dlts_beam.spec.model import SAVED_MODELS
from trainer.augment import make_augment
from trainer.curves import Curves
from trainer.devices import Devices, choose_devices
from trainer.feed import FitData, steps_per_epoch
from trainer.folder import ModelFolder
from trainer.forest import grow_forest, is_forest, learned_from
from trainer.loop import DivergedError, Loop, LossIsNanError
from trainer.models import branches_of
from trainer.optimise import is_stopped, plateau_rate
from trainer.progress import (
    CHECKPOINT,
    Progress,
    Weights,
    capture,
    finished,
    load_checkpoint,
    restore,
    save_checkpoint,
    set_branches,
    state_digest,
)
from trainer.settings import FitSettings
from trainer.workers import check_alike, telling_of_lost_workers

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
    model (`branches_of`) are trained one after another, each on its own loss; a forest among them is
    grown.

    Args:
        model: as built, with its statistics set.
        data: what it is trained on.
        settings: how.
        folder: where to.
        log: takes one line per epoch.
        key: names this training: a checkpoint in the folder is taken up if it bears the same key. With a key,
            a last checkpoint stays when all is trained, so that what comes after needs no second training:
            whoever brings that to its end removes it.
        devices: what shares each batch; the model was built in their scope.

    Raises:
        DivergedError: the loss became NaN; epoch and batch are named, and the models up to then are written,
            unless the folder is a scratch one.
        DltsError: the workers would go on from different checkpoints.
    """
    devices = devices or choose_devices()
    if not devices.is_chief:
        log = _silent
    branches = branches_of(model)
    path = folder.join(CHECKPOINT)
    state = load_checkpoint(path, key)
    wrong = f"the workers see different checkpoints in {folder.path}: give -o a folder that all of them share"
    check_alike(devices, state_digest(state), wrong)
    done = list(state.done) if state else []
    if state and state.is_finished:
        log("an earlier run was stopped after its training: going on with what comes next")
        done, state = [*done, state.current], None
    elif state:
        reached = len(state.current.history)
        where = f" of {state.current.branch}" if len(branches) > 1 else ""
        log(f"going on after epoch {reached}{where}, where an earlier run was stopped")
    for branch, progress in zip(branches, done, strict=False):
        branch.set_weights(progress.best["last"])
    steps = steps_per_epoch(data, settings.batch_size, devices.replicas)
    epochs = settings.epochs_of(steps)
    loops: list[Loop] = []
    saved = time.monotonic()
    with folder.log_folder() if devices.is_chief else nullcontext("") as logs:
        for number in range(len(done), len(branches)):
            branch = branches[number]
            if is_forest(branch):
                done.append(_grow(branch, data, settings.seed, log))
                continue
            progress = state.current if state else Progress(branch.name)
            loop = next((one for one in loops if one.fits(branch)), None)
            if loop is None:
                loop = Loop(branch, settings, steps * epochs, devices)
                loops.append(loop)
            loop.start(branch)
            if state:
                restore(loop.model, loop.optimizer, state)
                state = None
            keeper = Keeper(progress, settings, epochs, bool(len(data.validation)), log)
            keeper.prefix = f"{branch.name}  " if len(branches) > 1 else ""
            if devices.is_chief:
                keeper.save = partial(_save, path, key, loop, done, progress)
            keeper.saved = saved  # many short branches are long work too
            log_folder = storage.join(logs, branch.name) if len(branches) > 1 else logs
            try:
                _fit_branch(loop, number, data, keeper, log_folder, devices)
            except LossIsNanError as stop:
                so_far = [*done, progress]
                raise _explain_nan(stop, model, branches, so_far, folder, devices.is_chief) from None
            saved = keeper.saved
            done.append(progress)
    set_branches(branches, done, "last")
    if devices.is_chief:
        write_models(model, branches, done, folder)
        if key:
            save_checkpoint(path, key, finished(done))
        else:
            storage.remove(path)
    return done


def _grow(branch: keras.Model, data: FitData, seed: int, log: Log) -> Progress:
    """A forest has one epoch, which is the best, the last and soon over: it needs no checkpoint."""
    started = time.monotonic()
    measured = grow_forest(branch, data, seed)
    seconds = time.monotonic() - started
    shown = "  ".join(f"{name} {value:.4f}" for name, value in measured.items())
    part = learned_from(len(data.training))
    log(f"{branch.name}  {shown}  {seconds:.1f} s" + (f"  ({part})" if part else ""))
    row: dict[str, float] = {"epoch": 1, "seconds": round(seconds, 3), **measured}
    weights = branch.get_weights()
    return Progress(branch.name, [row], dict.fromkeys(SAVED_MODELS, weights), dict.fromkeys(SAVED_MODELS, 1))


def _silent(line: str) -> None:
    """Takes the lines of workers other than the chief."""


def _save(path: str, key: str, loop: Loop, done: Sequence[Progress], current: Progress) -> None:
    save_checkpoint(path, key, capture(loop.model, loop.optimizer, done, current))


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
    loop: Loop, number: int, data: FitData, keeper: Keeper, log_folder: str, devices: Devices
) -> None:
    first = len(keeper.progress.history)
    if first >= keeper.epochs or is_stopped(loop.settings, keeper.progress.history, keeper.watched):
        return
    seed = loop.settings.seed + _BRANCH_SEED * number
    augment = make_augment(loop.settings, data.scale)
    epochs = loop.epochs(data, first, keeper.epochs, seed, augment)
    with telling_of_lost_workers(), Curves(log_folder if devices.is_chief else None) as curves:
        for epoch in range(first, keeper.epochs):
            started = time.monotonic()
            measured = epochs.run()
            curves.add(epoch, measured)
            if keeper.take(measured, time.monotonic() - started, loop):
                return


class Keeper:
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
        self.progress, self.settings, self.epochs, self.log = progress, settings, epochs, log
        self.has_validation = has_validation
        self.watched = "val_loss" if has_validation else "loss"
        self.prefix = ""
        self.save: Callable[[], None] = lambda: None
        self.saved = time.monotonic()

    def take(self, measured: Mapping[str, float], seconds: float, loop: Loop) -> bool:
        """Take an epoch over; whether it was the last one because none was better for long.

        Raises:
            LossIsNanError: a weight is not finite; behind a ReLU that does not show in the loss.
        """
        history = self.progress.history
        epoch = len(history) + 1
        weights = loop.model.get_weights()
        if not all(np.isfinite(values).all() for values in weights):
            raise LossIsNanError(epoch, "the weights")
        row: dict[str, float] = {"epoch": epoch, "seconds": round(seconds, 3), **measured}
        history.append(row)
        self._keep(weights)
        names = [name for name in ("loss", "accuracy", "val_loss", "val_accuracy") if name in row]
        shown = "  ".join(f"{name} {row[name]:.4f}" for name in names)
        width = len(str(self.epochs))
        self.log(f"{self.prefix}epoch {epoch:{width}}/{self.epochs}  {shown}  {seconds:.1f} s")
        if self.settings.lr_decay == "plateau":
            loop.optimizer.learning_rate = plateau_rate(self.settings, history, self.watched)
        stopped = is_stopped(self.settings, history, self.watched)
        if stopped:
            waited = self.settings.early_stopping
            self.log(f"{self.prefix}stopped early: no better {self.watched} in {waited} epochs")
        if time.monotonic() - self.saved >= self.settings.checkpoint_seconds:
            self.save()
            self.saved = time.monotonic()
        return stopped

    def _keep(self, weights: Weights) -> None:
        before, row = self.progress.history[:-1], self.progress.history[-1]
        better = {"last": True, "loss": True, "acc": True}
        if self.has_validation:
            better["loss"] = all(row["val_loss"] < old["val_loss"] for old in before)
            better["acc"] = all(row["val_accuracy"] > old["val_accuracy"] for old in before)
        for name, is_better in better.items():
            if is_better:
                self.progress.best[name] = weights
                self.progress.best_epoch[name] = len(before) + 1


def _explain_nan(
    stop: LossIsNanError,
    model: keras.Model,
    branches: Sequence[keras.Model],
    reached: Sequence[Progress],
    folder: ModelFolder,
    is_chief: bool,
) -> DivergedError:
    """Write what there is, unless to a scratch folder, and say what happened."""
    place = f"epoch {stop.epoch}, {stop.where}"
    if len(branches) > 1:
        place += f" of {reached[-1].branch}"
    if folder.is_scratch:
        kept = ""
    elif len(reached) == len(branches) and reached[-1].history:
        if is_chief:
            write_models(model, branches, reached, folder)
        kept = f": the models up to epoch {len(reached[-1].history)} are in {folder.path}"
    elif len(branches) > 1:
        kept = ": not all branches were trained, so no model was written"
    else:
        kept = ": no epoch was finished, so no model was written"
    if is_chief:
        storage.remove(folder.join(CHECKPOINT))
    return DivergedError(
        f"the loss became NaN or infinite in {place}{kept}; lower the learning rate (-l), "
        "limit the gradients (--clip-norm 1), or look for absurd values in the samples"
    )
