"""The images without a container engine: what the Dockerfile installs and imports, in clean environments.

``python -m deploy.image_check`` takes the lines from the Dockerfile itself. What belongs to the base images
and to Debian (the SDK harness, shared libraries, the user) is left to a real build; each such line is named.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
TARGETS = ("worker", "trainer")
SOURCES = "/opt/dlts"  # where the images are built from the project's files
_VARIABLE = re.compile(r"\$\{(\w+)\}")
# The programs that a virtual environment brings.
_RUNS = ("pip", "python")
# Three gigabytes of libraries that do nothing without a GPU; a test compares their pins with its metadata.
_CUDA = "tensorflow[and-cuda]"


class Instruction(NamedTuple):
    """One instruction: its word, such as RUN, and its text on one line, variables filled in."""

    word: str
    text: str


def read_dockerfile(text: str) -> dict[str, list[Instruction]]:
    """The instructions of every named stage, those of the stages that it begins from first."""
    stages: dict[str, list[Instruction]] = {}
    variables: dict[str, str] = {}
    current: list[Instruction] = []
    for word, line in _lines(text):
        filled = _VARIABLE.sub(lambda found: variables.get(found[1], found[0]), line)
        if word == "ARG":
            name, equals, value = filled.partition("=")
            if equals:
                variables[name] = value
        elif word == "FROM":
            image, _, name = filled.partition(" AS ")
            current = [Instruction("FROM", image), *stages.get(image, [])]
            stages[name.strip()] = current
        if word != "FROM":
            current.append(Instruction(word, filled))
    return stages


def arguments_of(text: str) -> dict[str, str]:
    """Build arguments and their defaults."""
    found = (line.partition("=") for word, line in _lines(text) if word == "ARG")
    return {name: value for name, equals, value in found if equals}


def commands(stage: Sequence[Instruction]) -> Iterator[tuple[str, str]]:
    """(working folder, command) of a stage's RUN instructions, shell command by shell command."""
    folder = "/"
    for instruction in stage:
        if instruction.word == "WORKDIR":
            folder = instruction.text
        elif instruction.word == "RUN":
            yield from ((folder, command.strip()) for command in instruction.text.split("&&"))


def copied(stage: Sequence[Instruction]) -> Iterator[str]:
    """Files and folders that a stage copies from the project."""
    for instruction in stage:
        if instruction.word == "COPY" and not instruction.text.startswith("--from="):
            yield from shlex.split(instruction.text)[:-1]


def check(target: str, folder: Path, cuda: bool) -> float:
    """Do what a stage does, in an environment of its own; gives the seconds that it took.

    Raises:
        subprocess.CalledProcessError: a command failed.
    """
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    stage = read_dockerfile(text)[target]
    source = folder / "source"
    for name in copied(stage):
        _copy(ROOT / name, source / name)
    venv.create(folder / "venv", with_pip=True)
    environment = _environment(folder / "venv" / "bin", arguments_of(text))
    started = time.monotonic()
    for place, command in commands(stage):
        if command.split()[0] not in _RUNS:
            print(f"  left to a real build: {command}")
            continue
        if _CUDA in command and not cuda:
            print(f"  left to a real build: {_CUDA}")
            command = command.replace(f"'{_CUDA}'", "")
        print(f"  {command}", flush=True)
        # Elsewhere, so that what is imported is what was installed.
        _run(command, source if place == SOURCES else folder, environment)
    return time.monotonic() - started


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """(word, rest) of each instruction, continued lines joined, comments left out."""
    kept = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(kept)).splitlines():
        word, _, rest = line.partition(" ")
        yield word.upper(), rest.strip()


def _copy(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def _environment(bin_folder: Path, arguments: Mapping[str, str]) -> dict[str, str]:
    """The image's variables that matter here, and a PATH on which the environment comes first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_QUIET": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**kept, **quiet, **arguments, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}


def _run(command: str, folder: Path, environment: Mapping[str, str]) -> None:
    subprocess.run(["bash", "-euc", command], cwd=folder, env=environment, check=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Check the images; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.image_check", description=__doc__)
    parser.add_argument("--target", choices=TARGETS, action="append", help="only this one (default: both)")
    parser.add_argument("--cuda", action="store_true", help="install CUDA's libraries too: 3 GB")
    arguments = parser.parse_args(argv)
    for target in arguments.target or TARGETS:
        print(f"{target}:", flush=True)
        with tempfile.TemporaryDirectory(prefix=f"dlts-{target}-") as folder:
            try:
                seconds = check(target, Path(folder), arguments.cuda)
            except subprocess.CalledProcessError as error:
                print(f"{target}: FAILED with exit status {error.returncode}: {error.cmd[-1]}")
                return 1
        print(f"{target}: all commands passed, {seconds:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
