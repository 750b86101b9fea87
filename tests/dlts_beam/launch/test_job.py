"""From flags of train-model to a job: paths, mounts, names."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from dlts_beam.errors import DltsError
from dlts_beam.launch import SERVICES
from dlts_beam.launch.job import Mount, TrainerJob, make_job, metrics_path
from trainer.cli import parse_args


def job_of(*flags: str, remote: bool = False, **machine: object) -> TrainerJob:
    """The job of these flags, on one machine unless told otherwise."""
    given = {
        "name": "dlts-train-1", "image": "dlts-trainer", "env": [], "workers": 1, "gpus": 0, "cpus": None,
        "memory": None, "spot": False, "restarts": 3, "service_account": None, **machine,
    }  # fmt: skip
    return make_job(flags, parse_args, "Somewhere", remote, argparse.Namespace(**given))


def test_remote_paths_stay_and_other_flags_keep_their_order() -> None:
    flags = ("--model", "auto", "-i", "gs://b/one", "--bands", "red", "nir", "--series-dir=gs://b/two",
             "--index", "NDVI=nir,red", "-ogs://b/model", "-l", "0.001")  # fmt: skip
    job = job_of(*flags, remote=True)
    assert job.arguments == (
        "-i", "gs://b/one", "-i", "gs://b/two", "-o", "gs://b/model",
        "--model", "auto", "--bands", "red", "nir", "--index", "NDVI=nir,red", "-l", "0.001",
    )  # fmt: skip
    assert job.inputs == ("gs://b/one", "gs://b/two")
    assert job.mounts == ()
    assert job.remote_paths


def test_local_paths_become_mounts_under_their_own_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = job_of("-i", "samples/2019", "-i", "gs://b/2020", "-o", "model")
    assert job.arguments == ("-i", "/dlts/in/0/2019", "-i", "gs://b/2020", "-o", "/dlts/out/model")
    assert job.mounts == (
        Mount(str(tmp_path / "samples/2019"), "/dlts/in/0/2019", True),
        Mount(str(tmp_path / "model"), "/dlts/out/model", False),
    )


def test_sizes_in_a_local_file_travel_as_json(tmp_path: Path) -> None:
    (tmp_path / "sizes.json").write_text('{\n "units": 64\n}')
    job = job_of("-i", "a", "-o", "b", "--model-config", str(tmp_path / "sizes.json"), "--model", "lstm")
    words = list(job.arguments)
    assert json.loads(words[words.index("--model-config") + 1]) == {"units": 64}
    assert parse_args(job.arguments).model == "lstm"
    (tmp_path / "sizes.json").write_text("{")
    with pytest.raises(DltsError, match=r"sizes\.json \(--model-config\) is not valid JSON"):
        job_of("-i", "a", "-o", "b", "--model-config", str(tmp_path / "sizes.json"))


def test_the_trainer_s_parser_checks_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        job_of("-i", "gs://b/a", "-o", "gs://b/m", "--epochs", "many", remote=True)
    assert end.value.code == 2
    assert "argument -e/--epochs: invalid int value: 'many'" in capsys.readouterr().err
    with pytest.raises(DltsError, match="two ways to cross-validate"):
        job_of("-i", "gs://b/a", "-o", "gs://b/m", "--folds", "3", "--leave-out", "year", remote=True)


@pytest.mark.parametrize("flags", [("-i", "series", "-o", "gs://b/m"), ("-i", "gs://b/s", "-o", "model")])
def test_a_service_elsewhere_refuses_local_paths(flags: tuple[str, ...]) -> None:
    with pytest.raises(DltsError, match=r"reads and writes gs:// paths only, and (series|model) is local"):
        job_of(*flags, remote=True)


def test_paths_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(DltsError, match="write -i and -o apart"):
        job_of("-i", "a", "-o", "first", "-no", "b")


@pytest.mark.parametrize("name", ["", "Upper", "1st", "a_b", "a" * 53, "end-"])
def test_names_that_a_service_would_refuse_are_refused_here(name: str) -> None:
    with pytest.raises(DltsError, match="--name must have at most 52"):
        job_of("-i", "a", "-o", "b", name=name)


def test_variables_are_read_and_others_refused() -> None:
    job = job_of("-i", "a", "-o", "b", env=["A=1", "B=x=y", "C="])
    assert job.environment == (("A", "1"), ("B", "x=y"), ("C", ""))
    with pytest.raises(DltsError, match="--env must look like NAME=VALUE; got '1A=2'"):
        job_of("-i", "a", "-o", "b", env=["1A=2"])


def test_figures_lie_where_the_trainer_writes_them() -> None:
    job = job_of("-i", "gs://b/s", "-o", "gs://b/m")
    assert metrics_path(job, only_evaluate=False) == "gs://b/m/metrics.json"
    assert metrics_path(job, only_evaluate=True) == "gs://b/m/evaluation/metrics.json"


def test_the_trainer_agrees_on_file_names() -> None:
    source = Path(__file__).parents[3] / "trainer"
    assert 'METRICS_JSON = "metrics.json"' in (source / "folder.py").read_text()
    assert 'EVALUATION = "evaluation"' in (source / "folder.py").read_text()


def test_every_service_tells_what_it_is() -> None:
    assert set(SERVICES) == {"docker", "kubernetes", "vertex"}
    assert [name for name, service in SERVICES.items() if service.REMOTE] == ["kubernetes", "vertex"]
