"""The search goes on where it was killed, looks at the validation split only, and tells what to run."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from dlts_beam.errors import DltsError
from tests.trainer.helpers import make_fake, write_fake
from trainer import tune
from trainer.cli import parse_args
from trainer.journal import JOURNAL
from trainer.models import ARCHITECTURES
from trainer.setup import Setup


def run(folder: Path, *flags: object) -> int:
    given = ("-i", folder / "samples", "-o", folder / "tuned", "--model", "lstm", "-e", 2, *flags)
    return tune.main([str(flag) for flag in given])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_fake(tmp_path / "samples", make_fake((20, 20)))
    return tmp_path


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "tuned" / tune.TRIALS_CSV).open() as file:
        return list(csv.DictReader(file))


def begun(folder: Path) -> int:
    """How many trials have begun."""
    backend = JournalFileBackend(str(folder / "tuned" / JOURNAL))
    return len(optuna.load_study(study_name=None, storage=JournalStorage(backend)).trials)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_has_sizes_to_try_and_keeps_its_shape(name: str) -> None:
    architecture = ARCHITECTURES[name]
    space = tune.search_space(architecture.defaults)
    assert space
    for pick in (0, -1):
        settings = architecture.settings({setting: values[pick] for setting, values in space.items()})
        if "heads" in settings:
            assert settings["width"] % settings["heads"] == 0


def test_trials_resume_and_the_best_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = folder / "sizes.json"
    sizes.write_text('{"units": 32}')
    assert run(folder, "--trials", 2, "--model-config", sizes) == 0
    first = rows(folder)
    assert [row["trial"] for row in first] == ["0", "1"]
    assert {row["units"] for row in first} <= {"16", "32", "64"}
    capsys.readouterr()
    assert run(folder, "--trials", 3, "--model-config", sizes) == 0
    out = capsys.readouterr().out
    assert "2 trials are finished already" in out
    again = rows(folder)
    assert again[:2] == first
    assert len(again) == 3
    best = min(again, key=lambda row: float(row["validation_loss"]))
    config = json.loads((folder / "tuned" / tune.BEST_JSON).read_text())
    assert config == {"units": int(best["units"])}
    assert f"--model-config {folder}/tuned/{tune.BEST_JSON} -b {best['batch_size']} -l" in out


def test_a_search_killed_in_a_trial_goes_on_after_the_last_finished_one(folder: Path) -> None:
    flags = ("-i", folder / "samples", "-o", folder / "tuned", "--model", "lstm", "--trials", 3)
    # So many epochs that the second trial still trains when the signal comes.
    command = [sys.executable, "-m", "trainer.tune", *map(str, flags), "-e", "60"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = next(line for line in process.stdout if line.startswith("trial 0: loss"))
    while begun(folder) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert not (folder / "tuned" / tune.TRIALS_CSV).exists()

    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1 trial is finished already" in again.stdout
    assert first.strip() in again.stdout
    # The killed trial keeps its number and has no row.
    assert [row["trial"] for row in rows(folder)] == ["0", "2", "3"]


def command(*flags: str) -> list[str]:
    """The words of the command that is told after a search with these flags."""
    best = {"batch_size": 64, "learning_rate": 0.00123456789}
    told = shlex.split(tune.train_command(["-i", "a", "-o", "b", *flags], "b/best.json", best))
    assert told[:2] == ["dlts", "train-model"]
    return told[2:]


def test_trials_of_auto_are_told_from_those_of_its_architecture() -> None:
    end = ["--model-config", "b/best.json", "-b", "64", "-l", "0.00123457", "-o", "model"]
    flags = ("--model", "auto", "-v", "0.2", "-e", "5", "-l", "0.01", "-b", "32")
    assert command(*flags) == ["-i", "a", "-v", "0.2", "-e", "5", "--model", "auto", *end]
    nadam = command("--model", "auto", "--optimizer", "nadam")
    assert nadam == ["-i", "a", "--model", "auto", "--optimizer", "nadam", *end]
    assert command("--model", "ltae_mlp_forest")[2:4] == ["--model", "ltae_mlp_forest"]


def test_the_told_command_trains_as_the_trials_did() -> None:
    flags = [
        "-i", "my samples/19", "--series-dir=20", "-ob", "--trials", "3", "--model-config", "old.json", "-s7",
        "--model", "lstm", "--bands", "red", "near infrared", "--optimizer", "adamw", "--lr-decay=cosine",
        "--split-by", "block", "--split-column", "part", "--index", "ND=red,swir", "--index", "X=red,nir",
        "--class-weights", "--no-random-forest", "--deterministic", "-n", "--folds", "5", "-b", "4", "-l1",
    ]  # fmt: skip
    best = {"batch_size": 64, "learning_rate": 0.25}
    text = tune.train_command(flags, "out of/best.json", best)
    words = shlex.split(text)
    assert words[:2] == ["dlts", "train-model"]
    assert "--trials" not in words
    searched, told = parse_args(flags, tune.build_parser()), parse_args(words[2:])
    replaced = {"model_config": "out of/best.json", "output_dir": "model", "only_evaluate": False}
    wanted = vars(searched) | replaced | best
    del wanted["trials"]
    assert vars(told) == wanted


def suggest(trial: optuna.Trial, setup: Setup, splits: np.ndarray) -> tuple[float, float]:
    """A trial that suggests and trains nothing."""
    rate = trial.suggest_float("learning_rate", *tune.LEARNING_RATES, log=True)
    trial.suggest_categorical("batch_size", tune.BATCH_SIZES)
    trial.suggest_categorical("units", tune.search_space(setup.config)["units"])
    return rate, 0.5


def test_a_search_that_goes_on_tries_something_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "_run_trial", suggest)
    for trials in (1, 2, 3):
        assert run(folder, "--trials", trials) == 0
    in_parts = rows(folder)
    assert len({row["learning_rate"] for row in in_parts}) == 3
    at_once = []
    for name in ("one", "two"):
        assert run(folder, "--trials", 3, "-o", folder / name) == 0
        text = (folder / name / tune.TRIALS_CSV).read_text().splitlines()
        at_once.append([line for line in csv.DictReader(text) if line.pop("seconds")])
    assert at_once[0] == at_once[1]
    assert at_once[0][0]["learning_rate"] == in_parts[0]["learning_rate"]


def test_other_sizes_in_the_same_file_are_another_search(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "_run_trial", suggest)
    sizes = folder / "sizes.json"
    for units, told in ((32, False), (64, False), (32, True)):
        sizes.write_text(json.dumps({"units": units}))
        assert run(folder, "--trials", 1, "--model-config", sizes) == 0
        assert ("finished already" in capsys.readouterr().out) == told
        assert int(rows(folder)[0]["units"]) in (units // 2, units, units * 2)
    (folder / "moved.json").write_text('{"units": 32}')
    assert run(folder, "--trials", 1, "--model-config", folder / "moved.json") == 0
    assert "finished already" in capsys.readouterr().out
    # What is only passed on to the command that is told, or searched, makes no other search.
    passed_on = ("--folds", 2, "-b", 8, "-l", 0.5, "--no-random-forest")
    assert run(folder, "--trials", 1, "--model-config", folder / "moved.json", *passed_on) == 0
    assert "finished already" in capsys.readouterr().out


def test_trials_train_on_what_train_model_trains_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = make_fake((20, 20))
    parts = ["test", "train", "val", "train"]
    fake.kept["part"] = [parts[k % 4] for k in range(40)]
    samples = Path(write_fake(tmp_path / "samples", fake))
    quality = [f"{name},{0.1 if k % 8 == 1 else 0.9}" for k, name in enumerate(fake.ids)]
    (samples / "quality.csv").write_text("\n".join(["id,quality", *quality]) + "\n")
    seen: list[dict[str, str]] = []

    def look(trial: optuna.Trial, setup: Setup, splits: np.ndarray) -> tuple[float, float]:
        seen.append(dict(zip(setup.samples.ids.tolist(), splits.tolist(), strict=True)))
        return suggest(trial, setup, splits)

    monkeypatch.setattr(tune, "_run_trial", look)
    flags = ("--trials", 1, "--split-column", "part", "--min-quality", 0.5)
    assert run(tmp_path, *flags, "-v", 0) == 0
    known = {"test": "test", "val": "validation", "train": "train"}
    for k, name in enumerate(fake.ids):
        assert seen[0][name] == ("unused" if k % 8 == 1 else known[parts[k % 4]])
    # Another least quality is another search.
    capsys.readouterr()
    assert run(tmp_path, "--trials", 1, "--split-column", "part", "-v", 0) == 0
    assert "finished already" not in capsys.readouterr().out

    fake.kept["part"] = [{"val": "train"}.get(part, part) for part in fake.kept["part"]]
    write_fake(tmp_path / "samples", fake)
    assert run(tmp_path, *flags) == 1
    assert "no sample is in it" in capsys.readouterr().err


def test_a_full_disk_is_no_trial(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object, **named: object) -> None:
        raise DltsError("cannot write /tmp/acc_model.keras: the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("trainer.setup.fit_splits", full)
        assert run(folder, "--trials", 2) == 1
    told = capsys.readouterr()
    assert "the disk is full" in told.err
    assert "trial 0" not in told.out
    monkeypatch.setattr(tune, "_run_trial", suggest)
    assert run(folder, "--trials", 2) == 0
    assert "finished already" not in capsys.readouterr().out
    assert [(row["trial"], row["failed"]) for row in rows(folder)] == [("1", ""), ("2", "")]


def test_what_cannot_be_trained_is_a_finished_trial(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--model", "transformer", "-e", 1, "--trials")
    with monkeypatch.context() as patched:
        patched.setattr(tune, "search_space", lambda config: {"width": (18,)})  # no multiple of 4 heads
        assert run(folder, *flags, 1) == 1
    assert "every trial failed, the last with: transformer: width must be even" in capsys.readouterr().err
    monkeypatch.setattr(tune, "search_space", lambda config: {})
    monkeypatch.setattr(tune, "LEARNING_RATES", (1e38, 1e38))
    assert run(folder, *flags, 2) == 1
    told = capsys.readouterr()
    assert "1 trial is finished already" in told.out
    assert "every trial failed, the last with: the loss became NaN" in told.err
    assert [row["trial"] for row in rows(folder)] == ["0", "1"]


@pytest.mark.parametrize(
    ("sizes", "rates", "told"),
    [
        ('{"units": 1000000000000}', tune.LEARNING_RATES, "mlp cannot be built with layers 2, units"),
        # Nobody can look into the folder of a trial, so nothing is said about models.
        ('{"units": 32}', (1e38, 2e38), "the loss became NaN or infinite in epoch 1, the validation split; "),
    ],
)
def test_a_trial_that_fails_is_a_row_of_the_table(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    sizes: str,
    rates: tuple[float, float],
    told: str,
) -> None:
    monkeypatch.setattr(tune, "LEARNING_RATES", rates)
    monkeypatch.setattr(tune, "BATCH_SIZES", (64,))
    assert run(folder, "--trials", 1, "--model", "mlp", "--model-config", sizes) == 1
    assert f"every trial failed, the last with: {told}" in capsys.readouterr().err
    assert rows(folder)[0]["failed"].startswith(told)
    assert "dlts-tune-" not in rows(folder)[0]["failed"]


def test_other_flags_are_another_search(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--trials", 1) == 0
    assert run(folder, "--trials", 1, "-s", 5) == 0
    assert "finished already" not in capsys.readouterr().out


def test_several_workers_are_refused_before_they_wait_for_each_other(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = {"worker": ["a:1", "b:2"]}
    task = {"type": "worker", "index": 1}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    assert run(folder, "--trials", 1) == 1
    told = capsys.readouterr()
    assert "TF_CONFIG lists 2 workers" in told.err
    assert "waiting" not in told.out
    assert not (folder / "tuned").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [(("--trials", 0), "--trials must be 1 or more"), (("-v", 0), "give -v above 0")],
)
def test_bad_flags_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], flags: tuple[object, ...], told: str
) -> None:
    assert run(folder, *flags) == 1
    assert told in capsys.readouterr().err
