from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlts_beam.model_folder import saved_model_digest
from dlts_beam.spec import ModelSpec
from tests.trainer.helpers import make_fake, write_fake
from trainer.__main__ import build_parser, main
from trainer.cli import parse_args
from trainer.dataset import read_samples
from trainer.evaluate import predict, predicted_classes
from trainer.folder import ModelFolder
from trainer.prepared import prepare_samples
from trainer.results import Predictions
from trainer.run import _forest_beside
from trainer.split import from_csv

SMALL = {"lstm": {"units": 8}, "conv_bilstm": {"filters": 4, "units": 4, "dense1": 8, "dense2": 8}}


def run(*flags: object) -> int:
    return main([str(flag) for flag in flags])


def small(folder: Path, name: str) -> str:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(SMALL[name]))
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of ``lstm`` beside its samples folder."""
    base = tmp_path_factory.mktemp("trained")
    write_fake(base / "samples", make_fake((40, 30, 30), patch=3))
    flags = ["-i", base / "samples", "-o", base / "model", "--model", "lstm", "-e", 8, "-l", 0.02]
    assert run(*flags, "--model-config", small(base, "lstm")) == 0
    return base


def test_the_model_folder_is_complete(trained: Path) -> None:
    model = trained / "model"
    files = {path.name for path in model.iterdir()}
    assert files >= {
        "last_model.keras", "acc_model.keras", "loss_model.keras", "serving", "model.json", "classes.csv",
        "log", "metrics.json", "report.html", "history.csv", "splits.csv", "confusion_matrix.png",
    }  # fmt: skip
    spec = ModelSpec.from_json((model / "model.json").read_text())
    assert spec.architecture == "lstm"
    assert spec.config == {"units": 8}
    assert spec.preparation.bands == ("b1", "b2")
    assert spec.serving.classes == 3
    assert spec.settings["learning_rate"] == 0.02
    for name, digest in spec.serving_sha256.items():
        onnx = (model / "serving" / name / "model.onnx").read_bytes()
        assert hashlib.sha256(onnx).hexdigest() == digest
        assert spec.saved_model_sha256[name] == saved_model_digest(str(model / "serving" / name))
    assert set(spec.serving_sha256) == {"last", "acc", "loss"}
    report = (model / "report.html").read_text()
    assert "data:image/png;base64," in report
    assert "http" not in report
    assert "confusion matrix" in EventAccumulator(str(model / "log" / "test")).Reload().Tags()["tensors"]


def test_the_report_tells_what_was_trained_on_what(trained: Path) -> None:
    page = (trained / "model" / "report.html").read_text()
    rows = dict(re.findall("<tr><td>([^<]*)</td><td>([^<]*)</td></tr>", page))
    parameters = ModelFolder(str(trained / "model")).load_model("loss").count_params()
    told = {
        "samples": f"{trained / 'samples'}: 100 samples",
        "groups": "100, by sample",
        "split": "by sample, seed 2",
        "architecture": f"lstm, {parameters:,} parameters",
        "input": "6 time steps of b1, b2; the pixel alone",
        "devices": "CPU:0; deterministic",
        "epochs": "8",
        "epochs trained": "8",
    }
    assert {name: rows[name] for name in told} == told
    assert "units 8" in rows["sizes"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC", rows["date"])
    assert not {"list_models", "bands", "deterministic", "weight_decay", "warmup", "composite"} & set(rows)
    assert all(rows.values())
    counts = re.findall("<tr><td>(all|class 0)</td><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td></tr>", page)
    assert counts == [("class 0", "28", "6", "6"), ("all", "72", "14", "14")]
    assert "Measured with loss_model.keras, " in page
    assert "95 % intervals, by a bootstrap over the 14 independent groups of these samples" in page


def test_metrics_are_those_of_the_test_split(trained: Path) -> None:
    model = trained / "model"
    found = json.loads((model / "metrics.json").read_text())
    lines = from_csv((model / "splits.csv").read_text(), "splits.csv")
    splits = {line.id: line.split for line in lines}
    assert found["split"] == "test"
    assert found["samples"] == list(splits.values()).count("test") == 14
    spec = ModelSpec.from_json((model / "model.json").read_text())
    samples = read_samples([str(trained / "samples")], centre=True)
    prepared = prepare_samples(samples, spec.preparation)
    places = np.array([k for k, name in enumerate(samples.ids) if splits[name] == "test"])
    predicted = predicted_classes(predict(ModelFolder(str(model)).load_model("loss"), prepared, places))
    share = (predicted == samples.class_ids[places]).mean()
    overall = found["overall_accuracy"]
    assert overall["value"] == pytest.approx(share, abs=1e-6)
    assert overall["low"] <= overall["value"] <= overall["high"]
    assert found["random_forest"]["overall_accuracy"]["value"] > 0.9
    assert share > 0.9


def test_only_evaluate_measures_the_same_and_trains_nothing(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = trained / "model"
    before = {p: p.stat().st_mtime_ns for p in model.iterdir() if p.is_file()}
    assert run("-i", trained / "samples", "-o", model, "-n") == 0
    assert "14 of 100 samples are measured" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in model.iterdir() if p.is_file()} == before
    again = json.loads((model / "evaluation" / "metrics.json").read_text())
    first = json.loads((model / "metrics.json").read_text())
    del first["random_forest"]
    assert again == first


def test_only_evaluate_on_other_samples_counts_all(trained: Path, tmp_path: Path) -> None:
    other = write_fake(tmp_path / "other", make_fake((10, 10, 10), seed=5, patch=1))
    assert run("-i", other, "-o", trained / "model", "-n") == 0
    found = json.loads((trained / "model" / "evaluation" / "metrics.json").read_text())
    lines = from_csv((trained / "model" / "splits.csv").read_text(), "")
    known = {line.id: line.split for line in lines}
    names = make_fake((10, 10, 10), seed=5).ids
    assert found["samples"] == sum(known.get(name, "test") == "test" for name in names)


@pytest.mark.parametrize(
    ("fake", "text"),
    [
        (make_fake((5, 5, 5), bands=1), "no band b2"),
        (make_fake((5, 5, 5), steps=7), "7 time steps, the model takes 6"),
        (make_fake((5, 5, 5), class_names=["a", "b", "c"]), "their classes are a, b, c"),
    ],
)
def test_samples_that_do_not_fit_the_model_are_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fake: object, text: str
) -> None:
    folder = write_fake(tmp_path, fake)  # type: ignore[arg-type]
    assert run("-i", folder, "-o", trained / "model", "-n") == 1
    assert text in capsys.readouterr().err


def test_conv_bilstm_on_patches_with_all_options(tmp_path: Path) -> None:
    fake = make_fake((20, 20), patch=3, bands=3)
    fake.valid[:, 3] = False
    write_fake(tmp_path / "s", fake)
    flags = ["-i", tmp_path / "s", "-o", tmp_path / "m", "-e", 1, "-t", 0, "-v", 0.2, "--bands", "b3", "b1"]
    flags += ["--index", "ND=b3,b1", "--timeline", "0/80/20", "--split-by", "block", "--class-weights"]
    flags += ["--clip-norm", 1, "--drop-dates", 0.1, "--label-smoothing", 0.1, "--mixed-precision"]
    assert run(*flags, "--model-config", small(tmp_path, "conv_bilstm")) == 0
    spec = ModelSpec.from_json((tmp_path / "m" / "model.json").read_text())
    assert spec.serving.time_steps == 5
    assert spec.serving.patch == 3
    assert spec.preparation.names == ("b3", "b1", "ND")
    assert [band.name for band in spec.bands] == ["b3", "b1"]
    found = json.loads((tmp_path / "m" / "metrics.json").read_text())
    assert found["split"] == "validation"
    assert run("-i", tmp_path / "s", "-o", tmp_path / "m", "-n") == 0
    again = json.loads((tmp_path / "m" / "evaluation" / "metrics.json").read_text())
    assert (again["samples"], again["split"]) == (40, "all")  # trained with -t 0: all of them
    page = (tmp_path / "m" / "evaluation" / "report.html").read_text()
    assert "on samples of which the model has used some or all: the figures flatter" in page


def test_samples_that_trained_prove_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No forest is measured on what it learned, nothing is concluded from a model without an error there."""
    write_fake(tmp_path / "s", make_fake((8, 8)))
    flags = ["-i", tmp_path / "s", "-o", tmp_path / "m", "--model", "mlp", "-e", 30, "-v", 0, "-t", 0]
    assert run(*flags, "-l", 0.02, "--model-config", '{"units": 8}') == 0
    found = json.loads((tmp_path / "m" / "metrics.json").read_text())
    assert (found["split"], found["overall_accuracy"]["value"]) == ("train", 1)
    assert "random_forest" not in found
    assert "note" not in found
    told = "no random forest stands beside the model: without a test and a validation split"
    assert told in capsys.readouterr().out
    assert told in (tmp_path / "m" / "report.html").read_text()


def test_a_forest_beside_a_model_has_not_learned_what_it_is_measured_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learned: list[list[int]] = []

    def predictions(_: object, class_ids: np.ndarray, known: np.ndarray, places: np.ndarray) -> np.ndarray:
        learned.append(known.tolist())
        return class_ids[places]

    monkeypatch.setattr("trainer.run.forest_predictions", predictions)
    splits = np.array(["train", "validation", "test", "unused", "train"])
    class_ids = np.array([0, 1, 0, 1, 1])
    setup: Any = SimpleNamespace(
        samples=SimpleNamespace(class_ids=class_ids),
        spec=SimpleNamespace(classes=SimpleNamespace(names=("a", "b"))),
        settings=SimpleNamespace(seed=2),
    )
    for part in ("test", "validation"):
        places = np.flatnonzero(splits == part)
        truth = class_ids[places]
        measured = Predictions(places, truth, truth, np.ones((1, 2), np.float32), np.array(["x"]))
        fitted: Any = SimpleNamespace(prepared=None)
        assert _forest_beside(fitted, setup, splits, part, measured)["overall_accuracy"]["value"] == 1
    assert learned == [[0, 1, 4], [0, 4]]


def test_a_model_that_is_replaced_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fake(tmp_path / "samples", make_fake((10, 10)))
    flags = ["-i", tmp_path / "samples", "-o", tmp_path / "model", "--model", "lstm", "-e", 1]
    flags += ["--model-config", small(tmp_path, "lstm")]
    assert run(*flags) == 0
    told = f"the model of an earlier training in {tmp_path / 'model'} is replaced"
    assert told not in capsys.readouterr().out
    assert run(*flags, "-l", 0.02) == 0
    assert told in capsys.readouterr().out


def test_auto_on_two_folders_with_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fake(tmp_path / "a", make_fake((16, 16), seed=1))
    write_fake(tmp_path / "b", make_fake((10, 12), seed=2))
    flags = ["-i", tmp_path / "a", "-i", tmp_path / "b", "-o", tmp_path / "m", "--model", "auto"]
    flags += ["--members", 1, "--min-updates", 30, "-e", 2, "--folds", 2]
    assert run(*flags) == 0
    spec = ModelSpec.from_json((tmp_path / "m" / "model.json").read_text())
    assert spec.architecture == "ltae_mlp_forest"
    assert spec.config["members"] == 1
    assert spec.settings["lr_decay"] == "cosine"
    assert spec.settings["validation_split"] == 0
    found = json.loads((tmp_path / "m" / "metrics.json").read_text())
    cross = found["cross_validation"]
    assert cross["samples"] == 54
    assert len(cross["folds"]) == 2
    assert cross["overall_accuracy"]["value"] > 0.9
    assert cross["random_forest"]["overall_accuracy"]["value"] > 0.9
    out = capsys.readouterr().out
    assert "cross-validation (2 folds by sample): overall accuracy" in out
    page = (tmp_path / "m" / "report.html").read_text()
    assert "folds by sample" in page
    assert "forest: grown, not trained in epochs; loss 0." in page
    # Two epochs are what the flag says, the least number of updates makes it more.
    assert re.search(r"epochs trained</t[dh]><td>15<", page)
    assert len((tmp_path / "m" / "splits.csv").read_text().splitlines()) == 55
    assert "forest  loss 0." in out
    last = (tmp_path / "m" / "history.csv").read_text().splitlines()[-1]
    assert last.startswith("forest,1,")


def test_leave_one_out_with_weights_and_early_stopping(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = make_fake((24, 24))
    fake.kept["season"] = [str(2010 + k % 2) for k in range(48)]
    folder = Path(write_fake(tmp_path / "s", fake))
    scores = [f"{name},{0.2 + 0.8 * (k % 3 > 0)}" for k, name in enumerate(fake.ids)]
    (folder / "quality.csv").write_text("\n".join(["id,quality", *scores]) + "\n")
    flags = ["-i", folder, "-o", tmp_path / "m", "--model", "mlp", "-e", 60, "-l", 0.02, "--no-random-forest"]
    flags += ["--quality-weights", "--min-quality", 0.1, "--class-weights", "--early-stopping", 2]
    assert run(*flags, "--leave-out", "season", "--model-config", '{"units": 8}') == 0
    found = json.loads((tmp_path / "m" / "metrics.json").read_text())
    cross = found["cross_validation"]
    assert cross["how"] == "one season left out"
    assert [(row["fold"], row["samples"]) for row in cross["folds"]] == [
        ("season 2010", 24),
        ("season 2011", 24),
    ]
    assert cross["overall_accuracy"]["low"] <= cross["overall_accuracy"]["value"]
    out = capsys.readouterr().out
    assert "48 of 48 samples have a quality of at least 0.1" in out
    assert "stopped early: no better val_loss in 2 epochs" in out


def test_flags_of_the_user_win_over_auto() -> None:
    args = parse_args(["-i", "a", "-o", "b", "--model", "auto", "-l", "0.5"])
    assert (args.model, args.learning_rate) == ("ltae_mlp_forest", 0.5)
    assert (args.members, args.batch_size) == (3, 32)
    plain = parse_args(["-i", "a", "-o", "b"])
    assert (plain.model, plain.learning_rate, plain.members) == ("conv_bilstm", 5e-5, None)


def test_only_an_evaluation_leaves_the_groups_to_the_model() -> None:
    flags = ["-i", "a", "-o", "b"]
    assert parse_args(flags).split_by == parse_args([*flags, "--model", "auto"]).split_by == "sample"
    assert parse_args([*flags, "-n"]).split_by is None
    assert parse_args([*flags, "-n", "--split-by", "block"]).split_by == "block"
    assert parse_args([*flags, "-n"], build_parser()).split_by == "sample"


def test_help_is_fast_and_loads_no_framework() -> None:
    code = (
        "import sys\nfrom trainer.__main__ import build_parser\nbuild_parser().format_help()\n"
        "print([m for m in ('tensorflow', 'keras', 'apache_beam', 'rasterio') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert found.stdout.strip() == "[]", found.stderr
    defaults = build_parser().parse_args(["-i", "a", "-o", "b"])
    assert (defaults.seed, defaults.epochs, defaults.batch_size, defaults.learning_rate) == (2, 100, 16, 5e-5)
    assert (defaults.validation_split, defaults.test_split, defaults.model) == (0.15, 0.15, "conv_bilstm")
