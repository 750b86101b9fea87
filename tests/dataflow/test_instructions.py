"""The commands in the instructions are commands that the project takes."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions

from dlts_beam.beam.runner import check_submission, parse_options
from pipelines import flex_template
from pipelines.cli import COMMANDS
from tests.dataflow.conftest import IMAGE

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "deploy/dataflow/README.md").read_text(encoding="utf-8")
VARIABLES = {
    "PROJECT": "my-project",
    "REGION": "europe-west1",
    "BUCKET": "gs://my-bucket",
    "IMAGE": IMAGE,
    "WORKER": "w@x",
}


def lines_of(text: str) -> list[str]:
    """The commands of the instructions, continued lines joined, variables filled in."""
    (on_dataflow,) = re.findall(r"ON_DATAFLOW=\(([^)]+)\)", text)
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    code = [line.strip() for line in joined.splitlines() if line.startswith("    ")]
    code = [line.replace('"${ON_DATAFLOW[@]}"', " ".join(on_dataflow.split())) for line in code]
    return [re.sub(r"\$(\w+)", lambda found: VARIABLES.get(found[1], found[0]), line) for line in code]


COMMAND_LINES = [line for line in lines_of(TEXT) if line.startswith("dlts ")]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_every_command_is_accepted(line: str) -> None:
    name, *flags = shlex.split(line)[1:]
    (module,) = [command.module for command in COMMANDS if command.name == name]
    arguments, rest = importlib.import_module(module).build_parser().parse_known_args(flags)
    if name == "train-model":
        assert rest == []
        return
    options = parse_options(rest, gpu=getattr(arguments, "gpu", None))
    check_submission(options, {"--input-dir": arguments.input_dir})
    assert options.view_as(GoogleCloudOptions).service_account_email == "w@x"


def test_no_list_of_flags_is_left_to_the_shell_to_split() -> None:
    """zsh hands an unquoted variable on in one piece."""
    assert "$ON_DATAFLOW" not in TEXT
    commands = [line for line in COMMAND_LINES if "train-model" not in line]
    assert TEXT.count('"${ON_DATAFLOW[@]}"\n') + TEXT.count('"${ON_DATAFLOW[@]}" --') == len(commands)


def test_all_four_steps_and_the_gpu_are_there() -> None:
    assert [line.split()[1] for line in COMMAND_LINES] == [
        "generate-img-series", "generate-series", "train-model", "classify-img-series", "classify-img-series",
    ]  # fmt: skip


def test_the_template_s_parameters_exist() -> None:
    (line,) = [line for line in lines_of(TEXT) if "flex-template run" in line]
    given = dict(pair.split("=", 1) for pair in shlex.split(line)[-1].split(","))
    described = flex_template.metadata(given["step"])["parameters"]
    assert set(given) <= {parameter["name"] for parameter in described}
    assert {parameter["name"] for parameter in described if not parameter["isOptional"]} <= set(given)
    assert f"templates/{given['step']}.spec.json" in line
