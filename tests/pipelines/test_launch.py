"""``dlts launch train`` from its flags to the accuracy at the end; Docker is played by a script."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipelines.cli import main as dlts
from tests.pipelines.test_cli import loaded_by
from trainer.evaluate import metrics, table

REMOTE = ("-i", "gs://b/s", "-o", "gs://b/m", "--model", "auto")
# Writes what the trainer would have measured into the folder that is mounted for it.
STAND_IN = """#!{python}
import pathlib, shutil, sys
if sys.argv[1] == "run":
    mount = next(word for word in sys.argv if word.startswith("type=bind") and "/dlts/out" in word)
    folder = pathlib.Path(mount.split("source=")[1].split(",")[0], *{inside!r})
    folder.mkdir(exist_ok=True)
    shutil.copy({metrics!r}, folder / "metrics.json")
    print("epoch 1", flush=True)
"""


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """A folder that looks like samples to the launcher."""
    folder = tmp_path / "series"
    folder.mkdir()
    (folder / "samples.json").write_text("{}")
    return folder


def play_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: tuple[str, ...] = ()) -> str:
    """Put a stand-in for docker first on PATH; gives the table that should be printed."""
    found = metrics(np.array([[8, 2], [1, 9]]), ["forest", "pasture"])
    (tmp_path / "measured.json").write_text(json.dumps(found))
    script = STAND_IN.format(python=sys.executable, metrics=str(tmp_path / "measured.json"), inside=inside)
    (tmp_path / "docker").write_text(script)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return table(found)


@pytest.mark.parametrize("evaluate", [False, True])
def test_lines_and_accuracy_come_back(
    evaluate: bool,
    samples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    told = play_docker(tmp_path, monkeypatch, inside=("evaluation",) if evaluate else ())
    flags = ["-i", str(samples), "-o", str(tmp_path / "model"), *(["-n"] if evaluate else [])]
    assert dlts(["launch", "train", "--on", "docker", *flags]) == 0
    out = capfd.readouterr().out
    assert out == f"epoch 1\n{told}\n"
    assert "overall accuracy: 0.8500" in told
    assert "pasture" in told


def test_samples_must_be_there_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    play_docker(tmp_path, monkeypatch)
    assert dlts(["launch", "train", "--on", "docker", "-i", str(tmp_path), "-o", str(tmp_path / "m")]) == 1
    out, err = capfd.readouterr()
    assert err.startswith(f"error: there is no samples.json in {tmp_path}: run generate-series")
    assert out == ""


def test_the_dry_run_prints_what_would_be_sent(
    samples: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # nothing is started, looked for or asked

    def printed(*flags: str) -> str:
        assert dlts(["launch", "train", "--dry-run", *flags]) == 0
        return capsys.readouterr().out

    assert printed("--on", "docker", "-i", str(samples), "-o", "m").startswith(
        "docker run --rm --init --name dlts-"
    )
    service = ("--image", "eu.pkg.dev/p/r/dlts-trainer", "--workers", "2", "--name", "soy")
    job = list(yaml.safe_load_all(printed("--on", "kubernetes", *service, *REMOTE)))[1]
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "eu.pkg.dev/p/r/dlts-trainer"
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    place = ("--project", "p", "--region", "europe-west4", "--gpus", "0")
    sent = json.loads(printed("--on", "vertex", *service, *place, *REMOTE))
    assert sent["customJob"]["displayName"] == "soy"
    assert len(sent["customJob"]["jobSpec"]["workerPoolSpecs"]) == 2


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--on", "vertex", *REMOTE], "Vertex AI needs --image: 'docker build"),
        (
            ["--on", "vertex", "--image", "x", "--namespace", "n", *REMOTE],
            "--namespace is for --on kubernetes",
        ),
        (["--on", "docker", "--region", "r", *REMOTE], "--region is for --on vertex, and"),
        (
            ["--on", "kubernetes", "--image", "x", "-i", "s", "-o", "gs://b/m"],
            "Kubernetes reads and writes gs://",
        ),
        (["--on", "docker", "--gpus", "-1", *REMOTE], "--gpus must be 0 or more; got -1"),
        (["--on", "docker", "--workers", "0", *REMOTE], "--workers must be 1 or more; got 0"),
        (["--on", "docker", "--restarts", "-1", *REMOTE], "--restarts must be 0 or more"),
        (["--on", "docker", "--cpus", "0", *REMOTE], "--cpus must be more than 0"),
        (["--on", "docker", "--memory", "much", *REMOTE], "cannot read 'much' as an amount of memory"),
        (["--on", "docker", "--detach", *REMOTE], "--dry-run and --detach exclude each other"),
        (["--on", "docker", "-i", "s3://b/s", "-o", "m"], "paths are local or start with gs://"),
    ],
)
def test_each_mistake_is_one_sentence(
    flags: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dlts(["launch", "train", "--dry-run", *flags]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert text in err
    assert err.count("\n") == 1


def test_a_wrong_flag_of_the_trainer_is_told_by_the_trainer(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        dlts(["launch", "train", "--on", "docker", "--dry-run", *REMOTE, "--epoch", "3"])
    assert end.value.code == 2
    assert "dlts train-model: error: unrecognized arguments: --epoch 3" in capsys.readouterr().err


def test_help_is_quick() -> None:
    start = time.perf_counter()
    loaded, text, _ = loaded_by(["launch", "--help"])
    assert time.perf_counter() - start < 1
    assert loaded == set()
    assert "only on vertex:" in text
