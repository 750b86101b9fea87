"""kill -9 in mid-epoch, and the same command again."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.helpers import make_fake, write_fake
from trainer import run, tune
from trainer.__main__ import main
from trainer.cli import parse_args
from trainer.folder import ModelFolder
from trainer.kept import keep
from trainer.setup import make_setup, split_samples


@pytest.mark.parametrize(
    ("model", "config", "stop"),
    [
        ("mlp", '{"units": 16}', "epoch  4/12"),
        ("ltae_mlp_forest", '{"mlp_units": 16, "ltae_width": 16, "forest_trees": 20}', "mlp0  epoch  4/12"),
    ],
)
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    tmp_path: Path, model: str, config: str, stop: str
) -> None:
    write_fake(tmp_path / "s", make_fake((40, 40)))
    flags = ["-i", str(tmp_path / "s"), "--model", model, "-e", "12", "-l", "0.001", "--drop-dates", "0.2"]
    flags += ["--checkpoint-seconds", "0", "--no-random-forest", "--model-config", config]
    killed = [*flags, "-o", str(tmp_path / "killed")]
    process = subprocess.Popen([sys.executable, "-m", "trainer", *killed], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(stop):
            os.kill(process.pid, signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert (tmp_path / "killed" / "checkpoint.npz").exists()
    assert not (tmp_path / "killed" / "model.json").exists()

    assert main(killed) == 0
    assert main([*flags, "-o", str(tmp_path / "whole")]) == 0
    rows = (tmp_path / "killed" / "history.csv").read_text().splitlines()
    branches = {"mlp": 12, "ltae_mlp_forest": 12 + 12 + 1}
    assert len(rows) == 1 + branches[model]
    for name in ("last", "acc", "loss"):
        ours = ModelFolder(str(tmp_path / "killed")).load_model(name).get_weights()
        theirs = ModelFolder(str(tmp_path / "whole")).load_model(name).get_weights()
        for left, right in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(left, right)
    onnx = [(tmp_path / run / "serving" / "loss" / "model.onnx").read_bytes() for run in ("killed", "whole")]
    assert onnx[0] == onnx[1]


class KilledError(Exception):
    """Stands for kill -9."""


def test_a_run_killed_between_folds_and_after_its_training_trains_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fake(tmp_path / "s", make_fake((16, 16)))
    config = '{"mlp_units": 8, "ltae_width": 8, "ltae_units": 8, "forest_trees": 20}'
    flags = ["-i", str(tmp_path / "s"), "--model", "ltae_mlp_forest", "-e", "2", "-l", "0.01", "--folds", "3"]
    flags += ["--no-random-forest", "--model-config", config]
    assert main([*flags, "-o", str(tmp_path / "whole")]) == 0
    capsys.readouterr()

    def killed_at(place: str, call: int) -> str:
        """What a run says that dies in the given call of a function."""
        module, name = place.rsplit(".", 1)
        whole = getattr(sys.modules[module], name)
        calls = itertools.count(1)

        def dying(*args: object, **kwargs: object) -> object:
            if next(calls) == call:
                raise KilledError
            return whole(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(place, dying)
            with pytest.raises(KilledError):
                main([*flags, "-o", str(tmp_path / "killed")])
        return capsys.readouterr().out

    def folds(told: str) -> list[str]:
        return [line.split(":")[0] for line in told.splitlines() if line.startswith("fold ")]

    told = killed_at("trainer.crossval.fit_splits", 3)
    assert folds(told) == ["fold 1", "fold 2"]
    told = killed_at("trainer.run.export_all", 1)
    assert "going on after fold 2, where" in told
    assert folds(told) == ["fold 3"]
    assert "epoch 2/2" in told
    assert main([*flags, "-o", str(tmp_path / "killed")]) == 0
    told = capsys.readouterr().out
    assert "going on after fold 3, where" in told
    assert "an earlier run was stopped after its training: going on with what comes next" in told
    assert "epoch" not in told
    assert folds(told) == []
    assert not list((tmp_path / "killed").glob("*.npz"))
    for file in ("metrics.json", "splits.csv", "serving/loss/model.onnx"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_damaged_file_of_folds_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fake(tmp_path / "s", make_fake((8, 8)))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "folds.npz").write_bytes(b"PK")
    flags = ["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), "--model", "mlp", "--folds", "2"]
    assert main(flags) == 1
    assert "folds.npz is damaged: remove it, and the folds start" in capsys.readouterr().err


def test_an_unfinished_training_with_other_flags_is_not_replaced_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fake(tmp_path / "s", make_fake((16, 16)))
    flags = ["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), "--model", "mlp", "-e", "2"]
    flags += ["--model-config", '{"units": 4}', "--checkpoint-seconds", "0", "--no-random-forest"]
    line = f"the unfinished training in {tmp_path / 'm'} had other flags, samples or versions: it is replaced"

    def die(*_: object, **__: object) -> None:
        raise KilledError

    monkeypatch.setattr("trainer.run.export_all", die)
    for more, told in (((), False), ((), False), (("-v", "0.2"), True), (("-v", "0.2"), False)):
        with pytest.raises(KilledError):
            main([*flags, *more])
        assert (line in capsys.readouterr().out) is told
    monkeypatch.setattr("trainer.run.cross_validate", die)
    keep(str(tmp_path / "m" / "folds.npz"), "of another", {}, {})
    (tmp_path / "m" / "checkpoint.npz").unlink()
    for more in ((), ("--folds", "2")):
        with pytest.raises(KilledError):
            main([*flags, *more])
        assert line in capsys.readouterr().out


def test_what_trains_is_part_of_what_a_checkpoint_and_a_search_are_known_by(tmp_path: Path) -> None:
    """The second folder's series and the weights count; a quality that is not used does not."""
    fakes = [make_fake((20, 20), seed=seed) for seed in (0, 1)]
    folders = [write_fake(tmp_path / str(seed), fake) for seed, fake in enumerate(fakes)]
    flags = ["-i", folders[0], "-i", folders[1], "-o", str(tmp_path / "m"), "--model", "mlp"]

    def weigh(least: float) -> None:
        for folder, fake in zip(folders, fakes, strict=True):
            lines = [f"{name},{least if k % 2 else 1}" for k, name in enumerate(fake.ids)]
            (Path(folder) / "quality.csv").write_text("\n".join(["id,quality", *lines]))

    def names(*more: str) -> tuple[str, str]:
        args = parse_args([*flags, *more])
        setup = make_setup(args)
        splits = split_samples(setup, args)
        return run._key(args, setup, ""), tune._study_name(args, setup, splits)

    weigh(0.5)
    plain, weighed = names(), names("--quality-weights")
    assert names("--quality-weights") == weighed
    weigh(0.25)
    assert names() == plain
    for ours, theirs in zip(names("--quality-weights"), weighed, strict=True):
        assert ours != theirs
    write_fake(tmp_path / "1", replace(fakes[1], spec=replace(fakes[1].spec, series="1" * 64)))
    for ours, theirs in zip(names(), plain, strict=True):
        assert ours != theirs
