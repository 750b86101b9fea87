"""Which devices train: the CPU, one GPU, all GPUs of this machine, or several machines together."""

from __future__ import annotations

import json
import os
import re
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
        names: their names, of all workers.
        strategy: a strategy of `tf.distribute`; None leaves the choice to TensorFlow.
        worker: number of this process among the workers.
        workers: how many processes train together.
    """

    names: tuple[str, ...]
    strategy: Any = None
    worker: int = 0
    workers: int = 1

    @property
    def replicas(self) -> int:
        """How many parts each batch is cut into."""
        return len(self.names)

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU computes."""
        return any("GPU" in name for name in self.names)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes files and tells what happens; one among the workers does."""
        return self.worker == 0

    def scope(self) -> AbstractContextManager[Any]:
        """The context in which models are built and compiled."""
        return nullcontext() if self.strategy is None else self.strategy.scope()


def choose_devices(wanted: str | None = None) -> Devices:
    """All GPUs there are, else the CPU; or those named; or the workers that ``TF_CONFIG`` lists.

    Must come before all else that TensorFlow does: workers find each other only then.

    Args:
        wanted: names such as ``GPU:0,GPU:1`` or ``CPU``.

    Raises:
        DltsError: a device is not there or named twice, or ``TF_CONFIG`` cannot be read.
    """
    workers, worker = cluster()
    if workers > 1:
        if wanted:
            raise DltsError("--devices and TF_CONFIG exclude each other: every worker uses all its GPUs")
        # TensorFlow waits without a word, maybe for long, and nothing of Python's runs meanwhile.
        print(f"waiting for the other workers: {', '.join(_others(worker))}", flush=True)
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        each = strategy.num_replicas_in_sync // workers
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        names = tuple(f"worker {w} {kind}:{r}" for w in range(workers) for r in range(each))
        return Devices(names, strategy, worker, workers)
    there = [
        f"{kind}:{number}"
        for kind in ("CPU", "GPU")
        for number in range(len(tf.config.list_logical_devices(kind)))
    ]
    if wanted:
        chosen = [name if ":" in name else f"{name}:0" for name in wanted.upper().split(",")]
    else:
        chosen = [name for name in there if name.startswith("GPU")] or ["CPU:0"]
    if not all(re.fullmatch(r"(CPU|GPU):\d+", name) for name in chosen):
        raise DltsError(
            f"--devices takes CPU, GPU, or names such as GPU:0,GPU:1; got {wanted} (there are "
            f"{', '.join(there)})"
        )
    missing = [name for name in chosen if name not in there]
    if missing:
        raise DltsError(f"--devices: there is no {', '.join(missing)} here; there are {', '.join(there)}")
    if len(set(chosen)) < len(chosen):
        twice = sorted({name for name in chosen if chosen.count(name) > 1})
        raise DltsError(f"--devices: {', '.join(twice)} is named more than once: name each device once")
    if len(chosen) == 1:
        return Devices(tuple(chosen), tf.distribute.OneDeviceStrategy(f"/{chosen[0]}") if wanted else None)
    return Devices(tuple(chosen), tf.distribute.MirroredStrategy(chosen))


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seed Python, numpy and TensorFlow; deterministic operations give the same weights every time."""
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def cluster() -> tuple[int, int]:
    """How many workers ``TF_CONFIG`` lists, and which one this process is; the chief is number 0.

    Raises:
        DltsError: the variable is not as TensorFlow wants it.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return 1, 0
    wrong = DltsError(
        'TF_CONFIG must look like {"cluster": {"worker": ["host:port", …]}, '
        f'"task": {{"type": "worker", "index": 0}}}}; got {text}'
    )
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        chiefs, workers = len(cluster.get("chief", [])), len(cluster.get("worker", []))
        if chiefs + workers <= 1:
            return 1, 0
        number = int(task["index"]) + (chiefs if task["type"] == "worker" else 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise wrong from error
    if task["type"] not in ("chief", "worker") or number >= chiefs + workers:
        raise wrong
    return chiefs + workers, number


def _others(number: int) -> list[str]:
    """Addresses of the workers that ``TF_CONFIG`` lists, without that of this process."""
    cluster = json.loads(os.environ["TF_CONFIG"])["cluster"]
    addresses = [str(address) for kind in ("chief", "worker") for address in cluster.get(kind, [])]
    return addresses[:number] + addresses[number + 1 :]
