"""The ``dlts`` command: names the steps and hands over to the module of the one that is asked for."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple, NoReturn

from dlts_beam import __version__
from dlts_beam.command import crash_told, leave


class Command(NamedTuple):
    """A command, the module whose ``main(argv)`` runs it, and one line of help."""

    name: str
    module: str
    help: str


COMMANDS = (
    Command("generate-img-series", "pipelines.generate_img_series", "step 1: dated images to one series"),
    Command("generate-series", "pipelines.generate_series", "step 2: series and labelled points to samples"),
    Command("train-model", "trainer.__main__", "step 3: samples to a trained model"),
    Command(
        "classify-img-series", "pipelines.classify_img_series", "step 4: series and model to a class map"
    ),
    Command("plan", "pipelines.plan", "what step 4 would do: tiles, bytes, memory, time"),
    Command("launch", "pipelines.launch", "step 3 in a container: docker, kubernetes or vertex"),
    Command("tune", "trainer.tune", "try sizes and learning rates for step 3 on the validation split"),
    Command("demo", "pipelines.demo", "all four steps on a scene that is made up on the spot"),
)


def load(name: str) -> ModuleType:
    """The module of a command; each brings its own heavy libraries, so only when it is needed."""
    return importlib.import_module(next(command.module for command in COMMANDS if command.name == name))


def usage() -> str:
    """The text of ``dlts --help``."""
    width = max(len(command.name) for command in COMMANDS)
    lines = [f"  {command.name:<{width}}  {command.help}" for command in COMMANDS]
    return "\n".join(
        [
            "usage: dlts COMMAND [flags]",
            "",
            "Class maps from satellite image time series.",
            "",
            "commands:",
            *lines,
            "",
            "dlts COMMAND --help tells the flags of a command; dlts --version the version.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``dlts``; gives the exit status (2 for an unknown command)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"dlts-beam {__version__}")
        return 0
    by_name = {command.name: command for command in COMMANDS}
    command = by_name.get(arguments[0])
    if command is None:
        close = difflib.get_close_matches(arguments[0], by_name, n=1)
        hint = f"did you mean {close[0]}?" if close else "dlts --help lists the commands"
        print(f"error: unknown command {arguments[0]}: {hint}", file=sys.stderr)
        return 2
    status: int = load(command.name).main(arguments[1:])
    return status


def run() -> NoReturn:
    """The command ``dlts``: `main` in a process of its own; 70 after a traceback, which no refusal gives."""
    leave(crash_told(main))


if __name__ == "__main__":
    run()
