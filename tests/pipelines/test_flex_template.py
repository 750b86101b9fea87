"""Flex Templates: the committed files are what the commands' own flags make, and flags come out as meant."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from google.cloud import dataflow_v1beta3 as dataflow

from dlts_beam.errors import DltsError
from pipelines import flex_template
from pipelines.cli import COMMANDS

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / flex_template.FOLDER


def parameters(name: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in flex_template.metadata(name)["parameters"]}


def test_the_committed_files_are_those_of_the_generator():
    texts = flex_template.files()
    committed = {path.name for path in FOLDER.glob("*.json")}
    assert committed == set(texts)
    for name, text in texts.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, (
            f"{name} is not what the flags say: run python -m pipelines.flex_template"
        )


def test_the_generator_writes_specs_of_a_user_s_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    image = "europe-docker.pkg.dev/p/images/dlts-worker:1"
    assert flex_template.main(["--image", image, "-o", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
    spec = dataflow.ContainerSpec.from_json((tmp_path / "classify-img-series.spec.json").read_text())
    assert spec.image == spec.default_environment.sdk_container_image == image


@pytest.mark.parametrize("name", flex_template.PIPELINES)
def test_the_service_s_own_types_take_them(name: str):
    metadata = dataflow.TemplateMetadata.from_json((FOLDER / f"{name}.metadata.json").read_text())
    spec = dataflow.ContainerSpec.from_json((FOLDER / f"{name}.spec.json").read_text())
    assert spec.metadata == metadata
    assert spec.sdk_info.language == dataflow.SDKInfo.Language.PYTHON
    assert metadata.name == f"dlts {name}"
    for parameter in metadata.parameters:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", parameter.name)
        assert len(parameter.help_text) > 10
        assert "%(" not in parameter.help_text
        for regex in parameter.regexes:
            assert re.match(regex, "gs://bucket/some/path")
            assert not re.match(regex, "/some/path")


@pytest.mark.parametrize("name", flex_template.PIPELINES)
def test_every_flag_is_a_parameter(name: str):
    (module,) = [command.module for command in COMMANDS if command.name == name]
    actions = {each.dest: each for each in importlib.import_module(module).build_parser()._actions}
    found = parameters(name)
    assert set(found) - {"step"} == set(actions) - {"help", "dry_run", "profile"}
    assert set(flex_template.PATHS[name]) <= set(found)
    for dest in set(found) - {"step"}:
        assert found[dest]["isOptional"] is not actions[dest].required


def test_kinds_of_parameters():
    classify, extract = parameters("classify-img-series"), parameters("generate-series")
    assert classify["output"]["paramType"] == "GCS_WRITE_FILE"
    assert classify["probabilities"]["paramType"] == "BOOLEAN"
    assert [option["value"] for option in classify["on_error"]["enumOptions"]] == ["fail", "quarantine"]
    assert classify["on_error"]["defaultValue"] == "fail"
    assert extract["patch"] | {"helpText": ""} == {
        "name": "patch", "label": "Patch", "helpText": "", "isOptional": True, "paramType": "NUMBER",
        "defaultValue": "3",
    }  # fmt: skip
    assert extract["keep"]["helpText"].endswith("; values separated by spaces.")


@pytest.mark.parametrize(
    ("name", "given", "flags"),
    [
        ("classify-img-series", ["--input_dir=gs://b/s"], ["--input-dir=gs://b/s"]),
        ("classify-img-series", ["--input-dir=gs://b/s"], ["--input-dir=gs://b/s"]),
        ("classify-img-series", ["--probabilities=true"], ["--probabilities"]),
        ("classify-img-series", ["--probabilities"], ["--probabilities"]),
        ("classify-img-series", ["--probabilities=False"], []),
        ("classify-img-series", ["--gpu=true"], ["--gpu"]),
        ("classify-img-series", ["--gpu=false"], []),
        ("classify-img-series", ["--gpu=nvidia-tesla-t4"], ["--gpu=nvidia-tesla-t4"]),
        ("generate-img-series", ["--bands=1 2 3"], ["--bands", "1", "2", "3"]),
        ("generate-img-series", ["--band_names=red 'near ir'"], ["--band-names", "red", "near ir"]),
        ("generate-img-series", ["--valid_range=0 1"], ["--valid-range", "0", "1"]),
        ("generate-series", ["--keep=a=b c"], ["--keep", "a=b", "c"]),
        ("generate-series", ["--region=us-east4", "--streaming"], ["--region=us-east4", "--streaming"]),
    ],
)
def test_parameters_become_flags(name: str, given: list[str], flags: list[str]):
    assert flex_template.to_flags(name, given) == flags


def test_a_switch_is_true_or_false():
    with pytest.raises(DltsError, match="the parameter probabilities must be true or false; got 'maybe'"):
        flex_template.to_flags("classify-img-series", ["--probabilities=maybe"])
    assert flex_template.launch(["--step=classify-img-series", "--probabilities=maybe"]) == 1
