"""The trainer in Docker: the command line, and a stand-in for ``docker`` that is really run."""

from __future__ import annotations

import itertools
import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dlts_beam.errors import DltsError
from dlts_beam.launch import docker
from tests.dlts_beam.launch.test_job import job_of

# Notes every call; "run" ends with the statuses in the file "statuses", one after the other, or, with a file
# "slow", when it is told to stop.
STAND_IN = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/calls"
case "$1" in
  version) test ! -e "$here/dead" || { echo "Cannot connect to the daemon" >&2; exit 1; } ;;
  image) test -e "$here/image" || exit 1 ;;
  run)
    echo "epoch 1"
    if test -e "$here/slow"; then
      while ! test -e "$here/stopped"; do sleep 0.05; done
      echo "the container has ended"
      exit 143
    fi
    status=$(head -n 1 "$here/statuses" 2>/dev/null)
    sed -i 1d "$here/statuses" 2>/dev/null
    exit "${status:-0}" ;;
  stop) touch "$here/stopped" ;;
esac
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a stand-in for docker, first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text(STAND_IN)
    (folder / "docker").chmod(0o755)
    (folder / "image").touch()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def request_of(*flags: str, **machine: object) -> list[str]:
    return docker.make_request(job_of(*flags, **machine), None)  # type: ignore[arg-type]


def values(command: list[str], flag: str) -> list[str]:
    return [value for word, value in itertools.pairwise(command) if word == flag]


def test_the_command_says_all(tmp_path: Path) -> None:
    series, model = tmp_path / "a, b", tmp_path / "model"
    command = request_of("-i", str(series), "-o", str(model), "--model", "auto",
                         gpus=2, cpus=3.5, memory=1 << 30, env=["A=1"])  # fmt: skip
    assert command[:3] == ["docker", "run", "--rm"]
    assert command[-7:] == [
        "dlts-trainer",
        "-i",
        "/dlts/in/0/a, b",
        "-o",
        "/dlts/out/model",
        "--model",
        "auto",
    ]
    assert values(command, "--mount") == [
        f'type=bind,"source={series}","target=/dlts/in/0/a, b",readonly',
        f"type=bind,source={model},target=/dlts/out/model",
    ]
    assert values(command, "--gpus") == ["2"]
    assert values(command, "--cpus") == ["3.5"]
    assert values(command, "--memory") == [f"{1 << 30}b"]
    assert values(command, "--env") == ["HOME=/tmp", "A=1"]
    assert shlex.split(docker.show(command)) == command


def test_credentials_are_handed_on_for_gs_paths_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    assert "/dlts/credentials.json" not in " ".join(request_of("-i", "gs://b/a", "-o", "gs://b/m"))
    (tmp_path / "application_default_credentials.json").touch()
    assert "/dlts/credentials.json" not in " ".join(request_of("-i", "a", "-o", "m"))
    command = request_of("-i", "gs://b/a", "-o", "gs://b/m")
    source = tmp_path / "application_default_credentials.json"
    assert values(command, "--mount") == [f"type=bind,source={source},target=/dlts/credentials.json,readonly"]
    assert "GOOGLE_APPLICATION_CREDENTIALS=/dlts/credentials.json" in command
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(DltsError, match=r"names .*none\.json, and there is no such file"):
        request_of("-i", "gs://b/a", "-o", "gs://b/m")


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        ({"workers": 2}, "--workers needs"),
        ({"spot": True}, "--spot"),
        ({"service_account": "a"}, "--service"),
    ],
)
def test_what_one_machine_cannot_do_is_refused(machine: dict[str, object], text: str) -> None:
    with pytest.raises(DltsError, match=text):
        request_of("-i", "a", "-o", "b", **machine)


def start(tmp_path: Path, follow: bool = True, **machine: object) -> list[str]:
    """Run a job; gives what was said."""
    job = job_of("-i", str(tmp_path), "-o", str(tmp_path / "new/model"), **machine)
    said: list[str] = []
    docker.run(docker.make_request(job, None), job, said.append, follow)  # type: ignore[arg-type]
    return said


def calls(folder: Path) -> list[str]:
    return [line.split()[0] for line in (folder / "calls").read_text().splitlines()]


def test_the_container_runs_and_its_lines_come_to_the_terminal(
    stand_in: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert start(tmp_path) == []
    assert capfd.readouterr().out == "epoch 1\n"
    assert calls(stand_in) == ["version", "image", "run"]
    # Docker would make the folder itself, and make it root's.
    assert (tmp_path / "new/model").is_dir()


def test_a_killed_container_is_started_again(stand_in: Path, tmp_path: Path) -> None:
    (stand_in / "statuses").write_text("137\n139\n70\n75\n0\n")
    said = start(tmp_path, restarts=4)
    assert [line.partition(":")[0] for line in said] == [
        "dlts-train-1 was killed (exit status 137)",
        "dlts-train-1 was killed (exit status 139)",
        "dlts-train-1 crashed (exit status 70)",
        "dlts-train-1 got no answer (exit status 75)",
    ]
    assert calls(stand_in).count("run") == 5


@pytest.mark.parametrize("status", [130, 143])
def test_a_container_that_somebody_stopped_stays_stopped(stand_in: Path, tmp_path: Path, status: int) -> None:
    (stand_in / "statuses").write_text(f"{status}\n0\n")
    with pytest.raises(DltsError, match=r"^the training in dlts-train-1 was stopped\. The same command goes"):
        start(tmp_path)
    assert calls(stand_in).count("run") == 1


LAUNCH = """
import sys
from dlts_beam.command import guarded
from dlts_beam.launch import docker
from tests.dlts_beam.launch.test_job import job_of

job = job_of("-i", sys.argv[1], "-o", sys.argv[1] + "/model")
sys.exit(guarded(lambda: docker.run(docker.make_request(job, None), job, print, follow=True)))
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_who_ends_the_launcher_ends_the_training(
    stand_in: Path, tmp_path: Path, number: int, status: int
) -> None:
    (stand_in / "slow").touch()
    command = [sys.executable, "-c", LAUNCH, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == "epoch 1\n"
        launcher.send_signal(number)
        assert launcher.wait(60) == status
        # The client was not killed: it came to its own end after the container's.
        assert launcher.stdout.read() == "the container has ended\n"
    assert calls(stand_in) == ["version", "image", "run", "stop"]
    assert (stand_in / "calls").read_text().endswith("stop dlts-train-1\n")


@pytest.mark.parametrize(
    ("statuses", "restarts", "runs"),
    [("1\n", 3, 1), ("125\n", 3, 1), ("137\n" * 9, 2, 3), ("70\n" * 9, 1, 2), ("137\n", 0, 1)],
)
def test_a_refusal_is_final_and_so_is_the_last_start(
    stand_in: Path, tmp_path: Path, statuses: str, restarts: int, runs: int
) -> None:
    (stand_in / "statuses").write_text(statuses)
    with pytest.raises(DltsError, match=f"ended with exit status {statuses.split()[0]}; see its lines above"):
        start(tmp_path, restarts=restarts)
    assert calls(stand_in).count("run") == runs


def test_without_waiting_it_says_how_to_look(stand_in: Path, tmp_path: Path) -> None:
    (said,) = start(tmp_path, follow=False)
    assert "docker logs -f dlts-train-1" in said
    assert "run --detach --rm" in (stand_in / "calls").read_text()


def test_what_is_missing_is_told_at_once(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stand_in / "image").unlink()
    with pytest.raises(DltsError, match="no image dlts-trainer on this machine: 'docker build"):
        start(tmp_path)
    (stand_in / "dead").touch()
    with pytest.raises(DltsError, match="docker does not answer: Cannot connect to the daemon"):
        start(tmp_path)
    assert "run" not in calls(stand_in)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DltsError, match="there is no docker command"):
        start(tmp_path)


def test_paths_survive_the_command_line(tmp_path: Path) -> None:
    odd = tmp_path / 'a "b" $c'
    command = request_of(
        "-i", str(odd), "-o", str(tmp_path / "m"), "--model-config", json.dumps({"units": 8})
    )
    assert shlex.split(docker.show(command)) == command
    assert values(command, "--mount")[0].startswith(f'type=bind,"source={tmp_path}/a ""b"" $c"')
