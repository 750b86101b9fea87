"""One training as a container, whatever service runs it: flags, paths, machines."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dlts_beam import storage
from dlts_beam.errors import DltsError

Parse = Callable[[Sequence[str]], argparse.Namespace]

# Where local folders appear in the container. Their own names come last: reports show them.
MOUNTED = "/dlts"
METRICS = "metrics.json"
EVALUATION = "evaluation"  # where train-model -n puts its figures, inside the model folder
# What Kubernetes takes as a name of a job that has pods with numbers behind it, and Docker and Vertex too.
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,50}[a-z0-9])?")


class Mount(NamedTuple):
    """A local folder that the container sees under another path."""

    source: str
    target: str
    readonly: bool


@dataclass(frozen=True)
class TrainerJob:
    """A container to start.

    Attributes:
        name: of the job, unique among those that run.
        image: of the trainer.
        arguments: flags of train-model, with paths as the container sees them.
        inputs: samples folders as the launcher sees them.
        output: model folder as the launcher sees it.
        mounts: local folders; none where the service runs elsewhere.
        environment: further variables.
        workers: machines that train together.
        gpus, cpus, memory: of each machine; memory in bytes, None leaves the choice to the service.
        spot: on machines that may be taken away at any time, for less.
        restarts: how often a crash is answered by a new start.
        service_account: that the container acts as.
    """

    name: str
    image: str
    arguments: tuple[str, ...]
    inputs: tuple[str, ...]
    output: str
    mounts: tuple[Mount, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    workers: int = 1
    gpus: int = 0
    cpus: float | None = None
    memory: int | None = None
    spot: bool = False
    restarts: int = 3
    service_account: str | None = None

    @property
    def remote_paths(self) -> bool:
        """Whether some path lies on gs://."""
        return any(storage.is_remote(path) for path in (*self.inputs, self.output))


def make_job(
    flags: Sequence[str], parse: Parse, service: str, remote: bool, machine: argparse.Namespace
) -> TrainerJob:
    """The job of these flags of train-model.

    Args:
        flags: of train-model, as the user gave them.
        parse: the trainer's own parser; it ends the process where a flag is wrong, as train-model would.
        service: name of the service in sentences.
        remote: whether the service reads gs:// paths only.
        machine: the launcher's own flags.

    Raises:
        DltsError: the name, the environment or a path cannot be used.
    """
    args = parse(flags)
    if not _NAME.fullmatch(machine.name):
        raise DltsError(
            f"--name must have at most 52 lower-case letters, digits and hyphens, a letter first; got"
            f" {machine.name!r}"
        )
    paths = [*args.series_dir, args.output_dir]
    if remote:
        for path in paths:
            if not storage.is_remote(path):
                raise DltsError(
                    f"{service} reads and writes gs:// paths only, and {path} is local: copy samples there"
                    " with 'gcloud storage cp -r FOLDER gs://BUCKET/' and give the new paths"
                )
    placed = [_placed(path, number, len(args.series_dir)) for number, path in enumerate(paths)]
    seen = [path if mount is None else mount.target for path, mount in placed]
    *series_dir, output_dir = seen
    config = _inline_config(args.model_config)
    arguments = _with_paths(flags, series_dir, output_dir, config)
    # Everything else must mean the same to the trainer.
    wanted = {"series_dir": series_dir, "output_dir": output_dir, "model_config": config}
    if vars(parse(arguments)) != {**vars(args), **wanted}:
        raise DltsError(
            "cannot tell the paths from the other flags: write -i and -o apart, such as -i DIR -o DIR"
        )
    return TrainerJob(
        name=machine.name,
        image=machine.image,
        arguments=tuple(arguments),
        inputs=tuple(args.series_dir),
        output=args.output_dir,
        mounts=tuple(mount for _, mount in placed if mount is not None),
        environment=tuple(_variable(text) for text in machine.env),
        workers=machine.workers,
        gpus=machine.gpus,
        cpus=machine.cpus,
        memory=machine.memory,
        spot=machine.spot,
        restarts=machine.restarts,
        service_account=machine.service_account,
    )


def metrics_path(job: TrainerJob, only_evaluate: bool) -> str:
    """Where the trainer writes its figures, as the launcher sees it."""
    return storage.join(job.output, *([EVALUATION] if only_evaluate else []), METRICS)


def _placed(path: str, number: int, inputs: int) -> tuple[str, Mount | None]:
    if storage.is_remote(path):
        return path, None
    source = os.path.abspath(path)
    place = f"in/{number}" if number < inputs else "out"
    target = f"{MOUNTED}/{place}/{os.path.basename(source) or 'root'}"
    return source, Mount(source, target, readonly=number < inputs)


def _with_paths(
    flags: Sequence[str], series_dir: Sequence[str], output_dir: str, config: str | None
) -> list[str]:
    """The flags with other paths; everything else stays as it was given."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-i", "--series-dir", action="append")
    parser.add_argument("-o", "--output-dir")
    parser.add_argument("--model-config")
    _, rest = parser.parse_known_args(list(flags))
    placed = [word for path in series_dir for word in ("-i", path)] + ["-o", output_dir]
    return [*placed, *([] if config is None else ["--model-config", config]), *rest]


def _inline_config(given: str | None) -> str | None:
    """Sizes from a local file travel as JSON; there is no such file in the container."""
    if given is None or given.lstrip().startswith("{") or storage.is_remote(given):
        return given
    try:
        return json.dumps(json.loads(storage.read_text(given)))
    except ValueError as error:
        raise DltsError(f"{given} (--model-config) is not valid JSON: {error}") from error


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)):
        raise DltsError(f"--env must look like NAME=VALUE; got {text!r}")
    return name, value
