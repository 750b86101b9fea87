from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from tests.trainer.helpers import make_fake, write_fake
from trainer.__main__ import main
from trainer.devices import choose_devices, cluster
from trainer.folder import ModelFolder

TWO = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from trainer.__main__ import main
sys.exit(main(sys.argv[1:]))
"""

CLIPPED = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import numpy as np
from tests.trainer.fits import make_data, make_model
from trainer import loop
from trainer.devices import choose_devices
from trainer.feed import training_feed
from trainer.settings import FitSettings

made = loop.make_optimizer
loop.make_optimizer = lambda *args: keras.optimizers.SGD(1.0, global_clipnorm=made(*args).global_clipnorm)
data = make_data(40, 0)
for names in ("CPU:0", "CPU:0,CPU:1"):
    devices = choose_devices(names)
    with devices.scope():
        model = make_model(data)
    before = model.get_weights()
    one = loop.Loop(model, FitSettings(clip_norm=0.05), 1, devices)
    feed = lambda pieces: training_feed(data, 2, 40, 0, 1, None, devices.replicas, pieces)
    one.run(one.distribute(feed), 1, training=True)
    moved = [after - then for after, then in zip(model.get_weights(), before)]
    print("moved by", np.sqrt(sum((part**2).sum() for part in moved)))
"""

OVERFLOWING = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import numpy as np
from tests.trainer.fits import make_data, make_model
from trainer.devices import choose_devices
from trainer.feed import training_feed
from trainer.loop import Loop
from trainer.settings import FitSettings

data = make_data(2, 0)
keras.mixed_precision.set_global_policy("mixed_float16")
devices = choose_devices("CPU:0,CPU:1")
with devices.scope():
    model = make_model(data)
loop = Loop(model, FitSettings(optimizer="adamw", mixed_precision=True), 1, devices)
scale = lambda: float(np.asarray(loop.optimizer.dynamic_scale))
before, first_scale = model.get_weights(), scale()
for heavy in (None, 0, 1):
    loop.start(model)
    for variable, value in zip(model.weights, before):
        variable.assign(value)
    data.weights[:] = 1
    if heavy is not None:
        first, = next(iter(training_feed(data, 2, 2, 0, 1, None, 2, [heavy])))[0].numpy()
        data.weights[(data.series == first).all((1, 2, 3, 4))] = 1e7  # its gradients overflow in float16
    feed = lambda pieces: training_feed(data, 2, 2, 0, 1, None, 2, pieces)
    loop.run(loop.distribute(feed), 1, training=True)
    moved = any((after != then).any() for after, then in zip(model.get_weights(), before))
    print("update", heavy, "moved" if moved else "skipped", scale() / first_scale)
"""


def test_without_a_gpu_the_cpu_trains() -> None:
    devices = choose_devices()
    assert devices.replicas == 1
    with pytest.raises(DltsError, match=r"there is no GPU:7 here; there are CPU:0"):
        choose_devices("GPU:7")
    for wanted in ("foo", "CPU,", "GPU:x"):
        told = f"--devices takes CPU, GPU, or names such as GPU:0,GPU:1; got {wanted} .there are CPU:0"
        with pytest.raises(DltsError, match=told):
            choose_devices(wanted)
    with pytest.raises(DltsError, match=r"CPU:0 is named more than once"):
        choose_devices("cpu,CPU:0")


def test_two_devices_learn_what_one_learns(tmp_path: Path) -> None:
    write_fake(tmp_path / "s", make_fake((40, 40)))
    flags = ["-i", str(tmp_path / "s"), "--model", "lstm", "-e", "3", "-l", "0.01", "-b", "8"]
    flags += ["--no-random-forest", "--model-config", '{"units": 4}', "--optimizer", "adamw"]
    flags += ["--lr-decay", "cosine", "--warmup", "0.1"]
    two = [*flags, "-o", str(tmp_path / "two"), "--devices", "CPU:0,CPU:1"]
    found = subprocess.run([sys.executable, "-c", TWO, *two], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "on CPU:0, CPU:1" in found.stdout
    assert main([*flags, "-o", str(tmp_path / "one"), "--devices", "CPU"]) == 0
    ours = ModelFolder(str(tmp_path / "two")).load_model("last").get_weights()
    theirs = ModelFolder(str(tmp_path / "one")).load_model("last").get_weights()
    # 56 training samples and batches of 8: no sample is left out, and the halves add up to the whole.
    for left, right in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(left, right, atol=2e-4)


def test_two_devices_grow_the_forest_of_one(tmp_path: Path) -> None:
    write_fake(tmp_path / "s", make_fake((40, 40)))
    flags = ["-i", str(tmp_path / "s"), "--model", "ltae_mlp_forest", "-e", "1", "--no-random-forest"]
    two = [*flags, "-o", str(tmp_path / "two"), "--devices", "CPU:0,CPU:1"]
    found = subprocess.run([sys.executable, "-c", TWO, *two], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert main([*flags, "-o", str(tmp_path / "one"), "--devices", "CPU"]) == 0
    ours, theirs = (
        ModelFolder(str(tmp_path / name)).load_model("last").get_layer("forest").get_weights()
        for name in ("two", "one")
    )
    for left, right in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(left, right)
    assert np.unique(ours[0]).size > 3


def test_two_devices_move_the_weights_no_further_than_one_where_gradients_are_clipped() -> None:
    found = subprocess.run([sys.executable, "-c", CLIPPED], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    moved = [float(line.split()[-1]) for line in found.stdout.splitlines() if line.startswith("moved by")]
    assert moved == pytest.approx([0.05, 0.05], rel=1e-4)


def test_an_update_is_skipped_whichever_device_has_gradients_that_overflow() -> None:
    found = subprocess.run([sys.executable, "-c", OVERFLOWING], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    told = [line for line in found.stdout.splitlines() if line.startswith("update")]
    assert told == ["update None moved 1.0", "update 0 skipped 0.5", "update 1 skipped 0.5"]


@pytest.mark.parametrize(
    ("listed", "task", "found"),
    [
        ({"worker": ["a:1", "b:1", "c:1"]}, {"type": "worker", "index": 2}, (3, 2)),  # Kubernetes
        ({"chief": ["a:1"], "worker": ["b:1"]}, {"type": "worker", "index": 0}, (2, 1)),  # Vertex AI
        ({"chief": ["a:1"]}, {"type": "chief", "index": 0}, (1, 0)),  # Vertex AI, one machine
    ],
)
def test_workers_that_a_service_lists_are_understood(
    listed: object, task: object, found: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": listed, "task": task, "environment": "cloud"}))
    assert cluster() == found
