"""Which devices train: none but the CPU, one GPU, or all GPUs of this machine together."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from dlts_beam.errors import DltsError


@dataclass(frozen=True)
class Devices:
    """The devices that share each batch.

    Attributes:
        names: their names.
        strategy: a strategy of `tf.distribute`; None leaves the choice to TensorFlow.
    """

    names: tuple[str, ...]
    strategy: Any = None

    @property
    def replicas(self) -> int:
        """How many parts each batch is cut into."""
        return len(self.names)

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU computes."""
        return any("GPU" in name for name in self.names)

    def scope(self) -> AbstractContextManager[Any]:
        """The context in which models are built and compiled."""
        return nullcontext() if self.strategy is None else self.strategy.scope()


def choose_devices(wanted: str | None = None) -> Devices:
    """All GPUs there are, else the CPU; or those named.

    Args:
        wanted: names such as ``GPU:0,GPU:1`` or ``CPU``.

    Raises:
        DltsError: a device is not there.
    """
    there = [
        f"{kind}:{number}"
        for kind in ("CPU", "GPU")
        for number in range(len(tf.config.list_logical_devices(kind)))
    ]
    if wanted:
        chosen = [name if ":" in name else f"{name}:0" for name in wanted.upper().split(",")]
    else:
        chosen = [name for name in there if name.startswith("GPU")] or ["CPU:0"]
    missing = [name for name in chosen if name not in there]
    if missing:
        raise DltsError(f"--devices: there is no {', '.join(missing)} here; there are {', '.join(there)}")
    if len(chosen) == 1:
        return Devices(tuple(chosen), tf.distribute.OneDeviceStrategy(f"/{chosen[0]}") if wanted else None)
    return Devices(tuple(chosen), tf.distribute.MirroredStrategy(chosen))


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seed Python, numpy and TensorFlow; deterministic operations give the same weights every time."""
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
