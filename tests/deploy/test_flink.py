"""What ``deploy/flink`` says agrees with the code's own defaults, with the image and with itself."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from apache_beam.options.pipeline_options import FlinkRunnerOptions, JobServerOptions, PortableOptions

from dlts_beam.beam.flink.cluster import SUPPORTED, master_url
from dlts_beam.beam.flink.environment import POOL, POOL_PORT, read_environment
from dlts_beam.beam.runner import parse_options
from dlts_beam.storage import is_remote
from pipelines.cli import COMMANDS
from tests.flink.standalone import CONFIG, VERSION, java_options

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "deploy" / "flink"
GUIDES = (FOLDER / "README.md", ROOT / "docs" / "running.md")


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "kubernetes" / "cluster.yaml").read_text())


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "kubernetes" / "job.yaml").read_text())


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def pool_of(cluster: dict[str, Any]) -> dict[str, Any]:
    """The worker pool's container beside each task manager."""
    containers = cluster["spec"]["taskManager"]["podTemplate"]["spec"]["containers"]
    assert [container["name"] for container in containers] == ["flink-main-container", "worker-pool"]
    return containers[1]


def launcher_of(job: dict[str, Any]) -> dict[str, Any]:
    """The container that submits."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return container


def test_the_cluster_is_of_a_version_that_beam_knows(cluster: dict[str, Any]):
    assert (cluster["apiVersion"], cluster["kind"]) == ("flink.apache.org/v1beta1", "FlinkDeployment")
    spec = cluster["spec"]
    assert spec["image"] == f"flink:{VERSION}-java17"
    minor = ".".join(VERSION.split(".")[:2])
    assert spec["flinkVersion"] == "v" + minor.replace(".", "_")
    assert minor == SUPPORTED[-1] == FlinkRunnerOptions([]).flink_version


def test_both_kinds_of_cluster_are_set_alike(cluster: dict[str, Any]):
    on_kubernetes = cluster["spec"]["flinkConfiguration"]
    standalone = yaml.safe_load(CONFIG.read_text())
    del standalone["env.java.opts.all"]  # the operator gives these by itself
    assert {key: _text(value) for key, value in standalone.items()} == on_kubernetes
    assert on_kubernetes["web.submit.enable"] == "true"  # jobs come through REST
    assert on_kubernetes["restart-strategy.type"] == "none"  # finished tiles are not computed again
    assert not [key for key in on_kubernetes if "checkpointing" in key]
    assert cluster["spec"]["mode"] == "standalone"
    assert cluster["spec"]["taskManager"]["replicas"] >= 2


def _text(value: object) -> str:
    """A value as the operator, which takes text only, wants it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_java_17_opens_to_a_standalone_flink_what_flink_needs():
    options = java_options()
    opened = re.findall(r"--add-opens=java\.base/(\S+)=ALL-UNNAMED", " ".join(options))
    assert {"java.lang", "java.lang.reflect", "java.nio", "java.util", "sun.nio.ch"} <= set(opened)
    assert all(re.fullmatch(r"--add-(opens|exports)=[\w.]+/[\w.]+=ALL-UNNAMED", each) for each in options)
    assert "env.java" not in (FOLDER / "kubernetes" / "cluster.yaml").read_text()


def test_the_worker_pool_is_where_our_default_looks(cluster: dict[str, Any]):
    pool = pool_of(cluster)
    (port,) = pool["ports"]
    assert port["containerPort"] == POOL_PORT
    assert pool["readinessProbe"]["tcpSocket"]["port"] == port["name"]
    options = parse_options(["--runner=FlinkRunner", "--flink_master=dlts-flink-rest:8081"])
    environment = read_environment(options.view_as(PortableOptions))
    assert (environment.kind, environment.setting) == ("EXTERNAL", POOL)
    assert POOL.endswith(f":{POOL_PORT}")


def test_the_image_can_be_a_worker_pool(cluster: dict[str, Any], job: dict[str, Any], dockerfile: str):
    pool, launcher = pool_of(cluster), launcher_of(job)
    assert pool["image"] == launcher["image"]
    name = pool["image"].partition(":")[0]
    assert re.search(rf"--target worker +-t {re.escape(name)} \.", dockerfile)
    worker = re.search(r"^FROM \S+ AS worker\n(.*?)(?=^FROM |\Z)", dockerfile, re.MULTILINE | re.DOTALL)
    assert worker is not None
    # Beam's boot program takes --worker_pool, as long as it is the entry point itself.
    assert re.findall(r"^ENTRYPOINT (.+)$", worker[1], re.MULTILINE) == ['["/opt/apache/beam/boot"]']
    assert "command" not in pool
    assert pool["args"] == ["--worker_pool"]


def test_the_job_submits_to_this_cluster_with_flags_that_exist(job: dict[str, Any], cluster: dict[str, Any]):
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert job["spec"]["backoffLimit"] >= 1
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    launcher = launcher_of(job)
    program, step = launcher["command"]
    assert program == "dlts"
    (module,) = [command.module for command in COMMANDS if command.name == step]
    own, rest = importlib.import_module(module).build_parser().parse_known_args(launcher["args"])
    assert all(is_remote(path) for path in (own.input_dir, own.model, own.output))
    options = parse_options(rest)
    flink = options.view_as(FlinkRunnerOptions)
    # The operator names the REST service so.
    assert master_url(flink.flink_master) == f"http://{cluster['metadata']['name']}-rest:8081"
    assert flink.flink_submit_uber_jar
    assert options.view_as(JobServerOptions).jar_cache_dir == "/tmp/jars"


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_every_command_in_the_guides_exists(guide: Path):
    text = guide.read_text()
    if guide.name == "running.md":
        text = text.partition("\n## Flink\n")[2].partition("\n## ")[0]
    assert text
    lines = re.sub(r" \\\n\s*", " ", text).splitlines()
    commands = [line.strip() for line in lines if line.startswith("    ")]
    ours = [line for line in commands if line.startswith("dlts ")]
    for line in ours:
        _, step, *flags = line.split()
        (module,) = [command.module for command in COMMANDS if command.name == step]
        parser = importlib.import_module(module).build_parser()
        _, rest = parser.parse_known_args([flag.replace("MASTER:8081", "master:8081") for flag in flags])
        parse_options(rest)
    for path in re.findall(r"\bdeploy/flink/[\w./-]*\w", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"^    make (\S+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def test_no_guide_names_another_version():
    for guide in GUIDES:
        text = guide.read_text()
        assert set(re.findall(r"flink[:-](\d+\.\d+\.\d+)", text)) <= {VERSION}
        assert set(re.findall(r"beam-runners-flink-(\d+\.\d+)-", text)) <= {SUPPORTED[-1]}
