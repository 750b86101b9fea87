"""Where workers live, and one sentence for each place where they cannot."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PortableOptions

from dlts_beam.beam.flink import environment
from dlts_beam.beam.flink.cluster import Cluster
from dlts_beam.beam.flink.environment import Environment, check_environment, check_paths, read_environment
from dlts_beam.errors import DltsError
from tests.dlts_beam.beam.flink.test_cluster import closed_port

HERE = Cluster("http://127.0.0.1:8081", "2.2", 2, 2, 0, ("127.0.0.1", "localhost"))
ELSEWHERE = Cluster("http://192.0.2.1:8081", "2.2", 2, 2, 0, ("192.0.2.7", "192.0.2.8"))
COMMAND = '{"command": "/opt/apache/beam/boot", "env": {"A": "1"}}'


def read(*flags: str) -> Environment:
    return read_environment(PortableOptions(list(flags)))


def sentence_of(call, *arguments: object) -> str:
    with pytest.raises(DltsError) as caught:
        call(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["EXTERNAL", "--environment_config=pool:50000"], Environment("EXTERNAL", "pool:50000")),
        (["EXTERNAL", '--environment_config={"url": "pool:5"}'], Environment("EXTERNAL", "pool:5")),
        (
            ["EXTERNAL", "--environment_option=external_service_address=pool:5"],
            Environment("EXTERNAL", "pool:5"),
        ),
        (["DOCKER", "--environment_config=dlts-worker"], Environment("DOCKER", "dlts-worker")),
        (
            ["DOCKER", "--environment_option=docker_container_image=dlts-worker"],
            Environment("DOCKER", "dlts-worker"),
        ),
        (["PROCESS", f"--environment_config={COMMAND}"], Environment("PROCESS", "/opt/apache/beam/boot")),
        (
            ["PROCESS", "--environment_option=process_command=/bin/boot"],
            Environment("PROCESS", "/bin/boot"),
        ),
        (["LOOPBACK"], Environment("LOOPBACK")),
    ],
)
def test_each_kind_is_read(flags: list[str], expected: Environment):
    assert read(f"--environment_type={flags[0]}", *flags[1:]) == expected


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            ["external"],
            "unknown --environment_type external: choose one of EXTERNAL, DOCKER, PROCESS, LOOPBACK",
        ),
        (
            ["EXTERNAL", "--environment_config=pool"],
            "--environment_type EXTERNAL needs --environment_config HOST:PORT of the worker pool, such as"
            " localhost:50000; got 'pool'",
        ),
        (
            ["DOCKER"],
            "--environment_type DOCKER needs --environment_config IMAGE: the image that the Dockerfile's"
            " target"
            " worker builds, pushed to where the task managers can pull it",
        ),
        (
            ["PROCESS"],
            "--environment_type PROCESS needs --environment_config with a command, such as"
            ' \'{"command": "/opt/apache/beam/boot"}\'',
        ),
        (
            ["PROCESS", "--environment_config=boot"],
            "--environment_config is not valid JSON (Expecting value: line 1 column 1 (char 0)); got 'boot'",
        ),
        (["PROCESS", "--environment_config=[1]"], "--environment_config must be a JSON object; got '[1]'"),
    ],
)
def test_wrong_environments_are_refused(flags: list[str], sentence: str):
    assert sentence_of(read, f"--environment_type={flags[0]}", *flags[1:]) == sentence


def test_a_pool_that_does_not_listen_is_told_where_it_can_be_known():
    port = closed_port()
    pool = Environment("EXTERNAL", f"localhost:{port}")
    assert sentence_of(check_environment, pool, HERE) == (
        f"no worker pool listens at localhost:{port}: start one beside each task manager, with python -m"
        f" apache_beam.runners.worker.worker_pool_main --service_port={port}"
    )
    check_environment(pool, ELSEWHERE)  # the task managers' localhost is not ours
    check_environment(pool, None)
    check_environment(Environment("EXTERNAL", "only-there.invalid:50000"), ELSEWHERE)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        check_environment(Environment("EXTERNAL", f"127.0.0.1:{listening.getsockname()[1]}"), HERE)


def test_loopback_needs_task_managers_here():
    check_environment(Environment("LOOPBACK"), HERE)
    check_environment(Environment("LOOPBACK"), None)
    assert sentence_of(check_environment, Environment("LOOPBACK"), ELSEWHERE) == (
        "--environment_type LOOPBACK works only with task managers on this machine, and those of"
        " http://192.0.2.1:8081 are elsewhere: use EXTERNAL with a worker pool beside each of them"
    )


def test_a_program_must_be_there(tmp_path: Path):
    program = tmp_path / "boot"
    assert sentence_of(check_environment, Environment("PROCESS", str(program)), HERE) == (
        f"--environment_type PROCESS: there is no program {program} on this machine, where the task managers"
        " are"
    )
    check_environment(Environment("PROCESS", str(program)), ELSEWHERE)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    check_environment(Environment("PROCESS", str(program)), HERE)


def test_docker_must_answer_where_it_can_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    image = Environment("DOCKER", "dlts-worker")
    monkeypatch.setenv("PATH", str(tmp_path))
    wanted = "--environment_type DOCKER needs a container engine beside the task managers"
    assert sentence_of(check_environment, image, HERE) == (
        f"{wanted}, and there is no docker program on this machine: use EXTERNAL"
    )
    check_environment(image, ELSEWHERE)
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho Cannot connect to the Docker daemon. >&2\nexit 1\n")
    docker.chmod(0o755)
    assert sentence_of(check_environment, image, HERE) == (
        f"{wanted}, and the one on this machine does not answer (Cannot connect to the Docker daemon.): start"
        " it"
    )
    docker.write_text("#!/bin/sh\necho 28.2.2\n")
    check_environment(image, HERE)


@pytest.mark.parametrize(
    ("kind", "setting", "cluster", "here"),
    [
        ("EXTERNAL", "localhost:50000", HERE, True),
        ("EXTERNAL", "localhost:50000", ELSEWHERE, False),
        ("EXTERNAL", "192.0.2.9:50000", HERE, False),
        ("EXTERNAL", "localhost:50000", None, None),
        ("PROCESS", "boot", HERE, True),
        ("DOCKER", "dlts-worker", HERE, False),  # a container does not see the machine's folders
        ("LOOPBACK", "", None, True),
    ],
)
def test_where_workers_are(kind: str, setting: str, cluster: Cluster | None, here: bool | None):
    assert Environment(kind, setting).are_here(cluster) is here


def test_local_paths_are_refused_where_workers_do_not_see_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pool = Environment("EXTERNAL", "localhost:50000")
    output = str(tmp_path / "map.tif")
    paths = {"--model": "gs://bucket/model", "--output": output}
    check_paths(paths, pool, HERE)
    check_paths({"--model": "gs://bucket/model"}, pool, ELSEWHERE)
    check_paths(paths, pool, ELSEWHERE, True)
    assert sentence_of(check_paths, paths, pool, ELSEWHERE) == (
        f"--output is {output}, a path of this machine, and the workers run elsewhere: use gs:// paths, or,"
        " if every worker sees the same files under the same names, --shared_local_paths"
    )
    network = [(str(tmp_path), "nfs4"), ("/", "ext4")]
    monkeypatch.setattr(environment, "_mounts", lambda: network)
    check_paths(paths, pool, ELSEWHERE)
    network[0] = (str(tmp_path), "fuse.gcsfuse")
    check_paths(paths, pool, ELSEWHERE)
    network[0] = (str(tmp_path) + "-other", "nfs4")
    assert "--shared_local_paths" in sentence_of(check_paths, paths, pool, ELSEWHERE)


def test_relative_paths_are_refused_unless_workers_share_our_folder():
    pool = Environment("EXTERNAL", "localhost:50000")
    check_paths({"--output": "map.tif"}, Environment("LOOPBACK"), HERE)
    assert sentence_of(check_paths, {"--output": "map.tif"}, pool, HERE) == (
        "--output is map.tif, a relative path, and workers run in folders of their own: give"
        f" {os.path.abspath('map.tif')}"
    )
