"""``--gpu``: never silently on a CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dlts_beam.beam.classify import make_handler
from dlts_beam.beam.map_plan import MapRequest, plan_map
from dlts_beam.beam.runner import parse_options
from dlts_beam.engines import require_gpu, tensorflow
from dlts_beam.errors import DltsError
from tests.fakes import classify, make_model, random_scene


def test_a_machine_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tensorflow, "find_gpus", list)
    with pytest.raises(DltsError, match=r"^TensorFlow finds no GPU on this machine: check its driver"):
        require_gpu()
    monkeypatch.setattr(tensorflow, "find_gpus", lambda: ["/physical_device:GPU:0"])
    require_gpu()


def test_the_handler_asks_for_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tensorflow, "find_gpus", list)
    scene = random_scene(tmp_path / "series")
    model = make_model(tmp_path / "model", scene.spec)
    (model / "serving/loss/saved_model").mkdir()
    (model / "serving/loss/saved_model/saved_model.pb").write_bytes(b"never loaded")
    output = str(tmp_path / "map.tif")
    request = MapRequest(str(scene.folder), str(model), output, engine="tensorflow", gpu="nvidia-l4")
    planned = plan_map(request, parse_options([]))
    assert planned.settings.gpu
    assert planned.settings.hints == {}  # this machine is what it is
    # Tiles of a GPU are never taken for those of a CPU.
    on_cpu = plan_map(replace(request, gpu=None), parse_options([]))
    assert (planned.job.engine, on_cpu.job.engine) == ("tensorflow-gpu", "tensorflow")
    assert not {task.key for task in planned.job.tasks} & {task.key for task in on_cpu.job.tasks}
    with pytest.raises(DltsError, match="finds no GPU"):
        make_handler(planned.settings).load_model()


def test_onnx_has_no_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    scene = random_scene(tmp_path / "series")
    model = make_model(tmp_path / "model", scene.spec)
    assert classify(scene, model, tmp_path / "map.tif", "--gpu", "--engine", "onnx") == 1
    assert capsys.readouterr().err == (
        "error: --gpu needs --engine tensorflow: the engine onnx computes on CPUs only\n"
    )
