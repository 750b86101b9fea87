"""Dockerfile and workflow, as far as they can be checked without a container engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import apache_beam
import pytest
import yaml
from packaging.requirements import Requirement

from deploy.image_check import SOURCES, TARGETS, Instruction, arguments_of, commands, copied, read_dockerfile
from dlts_beam import __version__

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STAGES = read_dockerfile(TEXT)
WORKFLOW = ROOT / ".github/workflows/ci.yml"


def texts(target: str, word: str) -> list[str]:
    return [each.text for each in STAGES[target] if each.word == word]


def workflow() -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    return found


def test_the_dockerfile_is_lint_free():
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint has no package for this platform")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_versions_are_those_of_the_project():
    arguments = arguments_of(TEXT)
    assert arguments["BEAM"] == apache_beam.__version__
    assert arguments["VERSION"] == __version__
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"\napache-beam=={arguments['BEAM']}\n" in pinned


def test_every_base_image_is_pinned():
    arguments = arguments_of(TEXT)
    for line in TEXT.splitlines():
        if line.startswith("FROM "):
            image = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], line.split()[1])
            assert image in STAGES or re.search(r":[\w.-]*\d", image), image


def test_every_install_is_constrained_and_checked():
    for target in ("worker", "worker-gpu", "trainer"):
        run = [command for _, command in commands(STAGES[target])]
        installs = [number for number, command in enumerate(run) if command.startswith("pip install")]
        assert installs
        for number in installs:
            assert " -c constraints.txt " in run[number]
            assert run[number + 1] == "pip check"


def test_cuda_s_libraries_are_pinned_as_tensorflow_wants_them():
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    versions = {pin.name: next(iter(pin.specifier)).version for pin in pins}
    needs = [Requirement(text) for text in requires("tensorflow") or ()]
    wanted = [need for need in needs if need.marker is not None and "and-cuda" in str(need.marker)]
    assert len(wanted) > 8
    for need in wanted:
        assert need.specifier.contains(versions[need.name]), need


def test_imports_are_tried_away_from_the_sources():
    for target in TARGETS:
        tried = [folder for folder, command in commands(STAGES[target]) if command.startswith("python ")]
        assert tried
        assert SOURCES not in tried


def test_what_is_copied_is_there_and_not_ignored():
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for target in ("worker", "trainer"):
        for name in copied(STAGES[target]):
            assert (ROOT / name).exists()
            assert f"!{name}" in allowed


def test_entry_points_labels_and_users():
    worker, trainer = STAGES["worker"], STAGES["trainer"]
    assert Instruction("ENTRYPOINT", '["/opt/apache/beam/boot"]') in worker
    assert Instruction("ENTRYPOINT", '["python", "-m", "trainer"]') in trainer
    assert texts("trainer", "USER") == ["10001"]
    for target in ("worker", "trainer"):
        labels = " ".join(texts(target, "LABEL"))
        for name in ("title", "description", "version", "vendor", "documentation"):
            assert f"org.opencontainers.image.{name}=" in labels
    environment = " ".join(texts("worker", "ENV"))
    assert "FLEX_TEMPLATE_PYTHON_PY_FILE=/opt/dlts/flex_main.py" in environment
    assert Instruction("COPY", "deploy/dataflow/flex_main.py /opt/dlts/flex_main.py") in worker


def test_the_workflow_builds_targets_that_exist():
    jobs = workflow()["jobs"]
    assert {"worker", "trainer"} <= set(jobs["images"]["strategy"]["matrix"]["target"]) <= set(STAGES)
    assert any(step.get("run") == "bash .ci/run" for step in jobs["test"]["steps"])
    for job in jobs.values():
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])


def test_the_workflow_s_scripts_are_shell():
    bash = shutil.which("bash")
    assert bash is not None
    scripts = [step["run"] for job in workflow()["jobs"].values() for step in job["steps"] if "run" in step]
    assert len(scripts) >= 6
    for script in scripts:
        done = subprocess.run([bash, "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
