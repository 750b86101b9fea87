"""Several processes that train together, on one machine or many, as ``TF_CONFIG`` tells them to.

Every worker makes all batches and takes its share of each, so the samples of an update are those that one
device would have had, and every worker holds the same weights at all times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

from dlts_beam.errors import DltsError
from trainer.devices import Devices


@contextmanager
def telling_of_lost_workers() -> Iterator[None]:
    """Turns TensorFlow's errors about workers into `DltsError`."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        raise _lost(error) from error
    except tf.errors.InternalError as error:
        if "ollective" not in str(error):
            raise
        raise _lost(error) from error


def _lost(error: tf.errors.OpError) -> DltsError:
    reason = str(error.message).strip().partition("\n")[0]
    return DltsError(
        f"another worker was lost ({reason[:200]}): start all workers again with the same command, and the "
        "training goes on after the last checkpoint"
    )


def check_alike(devices: Devices, found: str, wrong: str) -> None:
    """Compare what every worker has found, before they train together; all of them must come here.

    A collective operation: no worker goes on before all have read what they have found.

    Args:
        devices: of this worker; one that trains alone has nobody to compare with.
        found: any text.
        wrong: the sentence to stop with.

    Raises:
        DltsError: in every worker, where the texts differ; or another worker was lost.
    """
    if devices.workers == 1:
        return
    words = np.frombuffer(hashlib.sha256(found.encode()).digest(), "<u2")
    own = np.zeros((devices.workers, len(words)), np.float32)  # which holds 16 bits, and their sums, exactly
    own[devices.worker] = words
    with telling_of_lost_workers():
        of_replicas = devices.strategy.run(lambda: tf.constant(own))
        summed = devices.strategy.reduce(tf.distribute.ReduceOp.SUM, of_replicas, axis=None)
        of_all = np.asarray(summed) / (devices.replicas // devices.workers)
    if (of_all != of_all[0]).any():
        raise DltsError(wrong)


def weights_digest(model: keras.Model) -> str:
    """SHA-256 of all weights: workers that trained together must agree on it."""
    parts = hashlib.sha256()
    for weights in model.get_weights():
        parts.update(np.ascontiguousarray(weights).tobytes())
    return parts.hexdigest()
