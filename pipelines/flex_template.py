"""Flex Templates of the three pipelines: what describes them, and what their launcher starts.

``python -m pipelines.flex_template`` writes, from the commands' own parsers, one metadata and one spec file
for each pipeline. Inside the image the launcher of Dataflow starts `launch` with what the user gave for the
template's parameters.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from dlts_beam import storage
from dlts_beam.command import guarded
from dlts_beam.errors import DltsError
from pipelines._main import run_main
from pipelines.cli import COMMANDS

FOLDER = "deploy/dataflow"
IMAGE = "IMAGE"  # in the committed specs, in place of a name that only its owner knows
STEP = "step"
PIPELINES = ("generate-img-series", "generate-series", "classify-img-series")
# Flags for people at a terminal.
_LEFT_OUT = {"help", "dry_run", "profile"}
# What the console may check of a path; parsers do not tell a path from other texts.
PATHS = {
    "generate-img-series": {
        "input_dir": "GCS_READ_FOLDER",
        "output_dir": "GCS_WRITE_FOLDER",
        "dates": "GCS_READ_FILE",
        "like": "GCS_READ_FILE",
    },
    "generate-series": {
        "input_dir": "GCS_READ_FOLDER",
        "samples": "GCS_READ_FILE",
        "series_dir": "GCS_WRITE_FOLDER",
        "classes": "GCS_READ_FILE",
    },
    "classify-img-series": {
        "input_dir": "GCS_READ_FOLDER",
        "model": "GCS_READ_FOLDER",
        "output": "GCS_WRITE_FILE",
        "roi": "GCS_READ_FILE",
        "mask": "GCS_READ_FILE",
    },
}
_GS_PATH = r"^gs://[^\n\r]+$"
_TRUTH = {"true": True, "": True, "false": False}


def metadata(name: str) -> dict[str, Any]:
    """The metadata of a pipeline's template, as its JSON holds it.

    Args:
        name: one of ``PIPELINES``.
    """
    (help_line,) = [command.help for command in COMMANDS if command.name == name]
    step = {
        "name": STEP,
        "label": "Step",
        "helpText": f"Which pipeline of the image runs: always {name}.",
        "isOptional": False,
        "paramType": "ENUM",
        "enumOptions": [{"value": name, "label": name}],
        "defaultValue": name,
    }
    described = [_parameter(action, PATHS[name]) for action in _actions(name)]
    return {
        "name": f"dlts {name}",
        "description": f"{help_line[0].upper()}{help_line[1:]}.",
        "parameters": [step, *described],
    }


def spec(name: str, image: str) -> dict[str, Any]:
    """The whole spec of a pipeline's template: what launches it, and what its workers run."""
    return {
        "image": image,
        "sdkInfo": {"language": "PYTHON"},
        "metadata": metadata(name),
        "defaultEnvironment": {"sdkContainerImage": image},
    }


def files(image: str = IMAGE) -> dict[str, str]:
    """The text of each file, by its name."""
    texts = {}
    for name in PIPELINES:
        texts[f"{name}.metadata.json"] = _json(metadata(name))
        texts[f"{name}.spec.json"] = _json(spec(name, image))
    return texts


def to_flags(name: str, parameters: Sequence[str]) -> list[str]:
    """The command line of a pipeline, from parameters as Dataflow's launcher passes them.

    It writes each as ``--name=value``, so that lists come as one text and switches with a value.

    Raises:
        DltsError: a switch is neither true nor false.
    """
    known = {action.dest: action for action in _actions(name)}
    flags: list[str] = []
    for parameter in parameters:
        given, equals, value = parameter.partition("=")
        action = known.get(given.removeprefix("--").replace("-", "_"))
        if action is None:
            flags.append(parameter)
            continue
        flag = action.option_strings[-1]
        if action.nargs == 0:
            if value.lower() not in _TRUTH:
                raise DltsError(f"the parameter {action.dest} must be true or false; got {value!r}")
            flags += [flag] if _TRUTH[value.lower()] else []
        elif action.nargs == "?" and value.lower() in _TRUTH:
            flags += [flag] if _TRUTH[value.lower()] else []
        elif action.nargs in (None, "?"):
            flags.append(f"{flag}={value}" if equals else flag)
        else:
            flags += [flag, *shlex.split(value)]
    return flags


def launch(argv: Sequence[str] | None = None) -> int:
    """Write the job that Dataflow's launcher asks for; gives the exit status.

    The parameters have been checked against the metadata, so a flag that nobody knows is the launcher's
    own: it is named and left out.
    """
    parser = argparse.ArgumentParser(prog="flex template", allow_abbrev=False)
    parser.add_argument(f"--{STEP}", choices=PIPELINES, required=True)
    arguments, rest = parser.parse_known_args(argv)
    module = _module(arguments.step)

    def work() -> int:
        from dlts_beam.beam.flags import unknown_flags

        flags = to_flags(arguments.step, rest)
        own = module.build_parser()
        own.allow_abbrev = False
        strange = set(unknown_flags(own.parse_known_args(flags)[1]))
        for flag in sorted(strange):
            print(f"note: left out {flag}, which Apache Beam does not know", file=sys.stderr)
        status: int = module.main([flag for flag in flags if flag not in strange])
        return status

    return guarded(work)


def build_parser() -> argparse.ArgumentParser:
    """The command line of the generator."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.flex_template",
        description="Write metadata and spec of the Flex Templates, from the commands' own flags.",
    )
    parser.add_argument(
        "--image", default=IMAGE, help="the worker image that launches and runs them (default: a placeholder)"
    )
    parser.add_argument(
        "-o", "--output-dir", default=FOLDER, metavar="DIR",
        help=f"where to write them, local or gs:// (default {FOLDER})",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files; gives the exit status."""
    return run_main(build_parser, _write, argv)


def _write(arguments: argparse.Namespace) -> None:
    for name, text in files(arguments.image).items():
        path = storage.join(arguments.output_dir, name)
        storage.write_text(path, text)
        print(path)


def _module(name: str) -> Any:
    (module,) = [command.module for command in COMMANDS if command.name == name]
    return importlib.import_module(module)


def _actions(name: str) -> Iterator[argparse.Action]:
    for action in _module(name).build_parser()._actions:
        if action.dest not in _LEFT_OUT:
            yield action


def _parameter(action: argparse.Action, paths: dict[str, str]) -> dict[str, Any]:
    """One flag as a parameter."""
    text = (action.help or "") % {"default": action.default}
    kind = _kind(action, paths)
    several = action.nargs in ("+", "*") or (isinstance(action.nargs, int) and action.nargs > 1)
    found: dict[str, Any] = {
        "name": action.dest,
        "label": action.dest.replace("_", " ").capitalize(),
        "helpText": f"{text[:1].upper()}{text[1:]}{'; values separated by spaces' if several else ''}.",
        "isOptional": not action.required,
        "paramType": kind,
    }
    if kind.startswith("GCS_"):
        found["regexes"] = [_GS_PATH]
    if kind == "ENUM":
        found["enumOptions"] = [{"value": choice, "label": choice} for choice in action.choices or ()]
    if action.default not in (None, False, []):
        found["defaultValue"] = str(action.default)
    return found


def _kind(action: argparse.Action, paths: dict[str, str]) -> str:
    if action.nargs == 0:
        return "BOOLEAN"
    if action.dest in paths:
        return paths[action.dest]
    if action.choices is not None:
        return "ENUM"
    if action.type in (int, float) and action.nargs is None:
        return "NUMBER"
    return "TEXT"


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
