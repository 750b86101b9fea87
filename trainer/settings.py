"""How a model is trained: the settings of a fit and what they must satisfy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dlts_beam.errors import DltsError

OPTIMIZERS = ("nadam", "adamw")
DECAYS = ("none", "cosine", "plateau")
MOST_SEED = 2**32 - 1  # numpy and scikit-learn take no larger one
# A plateau: this many epochs without a better loss halve the learning rate.
PLATEAU_EPOCHS = 5
PLATEAU_FACTOR = 0.5


@dataclass(frozen=True)
class FitSettings:
    """How a model is trained.

    Attributes:
        seed: decides initial weights, order, dropout and augmentation.
        epochs, batch_size, learning_rate: as everywhere.
        optimizer: ``nadam`` or ``adamw``.
        weight_decay: of adamw; biases and normalisation layers are left out.
        lr_decay: ``none``; ``cosine`` to 0 at the end; ``plateau``: halved when the loss stops falling.
        warmup: fraction of the updates in which the learning rate rises from 0 (cosine only).
        min_updates, max_updates: bounds of epochs x batches, 0 for none; the epochs follow them, and one is
            always trained.
        early_stopping: stop after so many epochs without a better loss, of validation where there is a
            split, else of training; 0 for never.
        label_smoothing: share of the probability that is spread over all classes.
        clip_norm: largest norm of the gradients; 0 for none.
        class_weights: whether rare classes weigh more, so that all classes weigh the same in all.
        jitter: standard deviation of noise added to the values, in standard deviations of the band.
        time_shift: series are shifted by up to so many time steps.
        drop_dates: probability that a date is replaced by the mean of its neighbours.
        mixed_precision: float16 arithmetic where it is safe.
        checkpoint_seconds: least time between two checkpoints.
    """

    seed: int = 2
    epochs: int = 100
    batch_size: int = 16
    learning_rate: float = 0.00005
    optimizer: str = "nadam"
    weight_decay: float = 0.0001
    lr_decay: str = "none"
    warmup: float = 0.0
    min_updates: int = 0
    max_updates: int = 0
    early_stopping: int = 0
    label_smoothing: float = 0.0
    clip_norm: float = 0.0
    class_weights: bool = False
    jitter: float = 0.0
    time_shift: int = 0
    drop_dates: float = 0.0
    mixed_precision: bool = False
    checkpoint_seconds: float = 10.0

    def __post_init__(self) -> None:
        at_least = (
            ("-e/--epochs", self.epochs, 1),
            ("-b/--batch-size", self.batch_size, 1),
            ("-s/--seed", self.seed, 0),
            ("--early-stopping", self.early_stopping, 0),
            ("--min-updates", self.min_updates, 0),
            ("--max-updates", self.max_updates, 0),
            ("--time-shift", self.time_shift, 0),
            ("--clip-norm", self.clip_norm, 0),
            ("--jitter", self.jitter, 0),
            ("--weight-decay", self.weight_decay, 0),
            ("--checkpoint-seconds", self.checkpoint_seconds, 0),
        )
        for flag, value, least in at_least:
            if not least <= value < math.inf:
                raise DltsError(f"{flag} must be {least} or more; got {value:g}")
        if self.seed > MOST_SEED:
            raise DltsError(f"-s/--seed must be {MOST_SEED} (2**32 - 1) or less; got {self.seed}")
        if not 0 < self.learning_rate < math.inf:
            raise DltsError(f"-l/--learning-rate must be above 0; got {self.learning_rate:g}")
        for flag, share in (
            ("--warmup", self.warmup),
            ("--label-smoothing", self.label_smoothing),
            ("--drop-dates", self.drop_dates),
        ):
            if not 0 <= share < 1:
                raise DltsError(f"{flag} must be a fraction from 0 up to, not including, 1; got {share:g}")
        if self.optimizer not in OPTIMIZERS:
            raise DltsError(f"--optimizer must be one of {', '.join(OPTIMIZERS)}; got {self.optimizer!r}")
        if self.lr_decay not in DECAYS:
            raise DltsError(f"--lr-decay must be one of {', '.join(DECAYS)}; got {self.lr_decay!r}")
        if self.max_updates and self.max_updates < self.min_updates:
            raise DltsError(f"--max-updates {self.max_updates} is below --min-updates {self.min_updates}")

    def epochs_of(self, steps: int) -> int:
        """Epochs of so many batches each, within the bounds on updates."""
        epochs = self.epochs
        if self.min_updates:
            epochs = max(epochs, math.ceil(self.min_updates / steps))
        if self.max_updates:
            epochs = min(epochs, max(1, self.max_updates // steps))
        return epochs

    @property
    def augments(self) -> bool:
        """Whether training series are changed at random."""
        return bool(self.jitter or self.time_shift or self.drop_dates)
