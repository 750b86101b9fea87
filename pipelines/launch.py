"""``dlts launch train``: step 3 in a container, on this machine, a cluster or Vertex AI."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from dlts_beam import storage
from dlts_beam.command import crash_told
from dlts_beam.errors import DltsError
from dlts_beam.launch import SERVICES, TrainerJob, make_job, metrics_path
from pipelines import cli
from pipelines._main import run_open_main

DESCRIPTION = """\
Run step 3 in the trainer's container: on this machine (docker), on a cluster (kubernetes) or on Vertex AI
(vertex). Every flag that is not listed here goes to train-model, whose own parser checks it before anything
is sent. On kubernetes and vertex all paths are gs://; docker takes local ones too. The trainer's lines come
back to this terminal, and at the end the accuracy that it wrote to the model folder. Killed or preempted, the
trainer goes on at its last checkpoint; so does the same command given again.
"""
EPILOG = """\
examples:
  dlts launch train --on docker -i series -o model --model auto
  dlts launch train --on kubernetes --image REGISTRY/dlts-trainer --spot -i gs://b/series -o gs://b/model
  dlts launch train --on vertex --project P --region europe-west4 --image REGISTRY/dlts-trainer \\
      -i gs://b/series -o gs://b/model --model auto
Add --dry-run to see exactly what would be sent.
"""
LOCAL_IMAGE = "dlts-trainer"


def build_parser() -> argparse.ArgumentParser:
    """The launcher's own flags; every other flag goes to the trainer."""
    parser = argparse.ArgumentParser(
        prog="dlts launch",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("what", choices=("train",), help="what to launch")
    add("--on", required=True, choices=tuple(SERVICES), help="where it runs")
    add("--image", metavar="NAME", help=f"the trainer's image (default on docker: {LOCAL_IMAGE})")
    add("--name", metavar="NAME", help="name of the job (default: dlts-train- and the time)")
    add("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    add("--detach", action="store_true", help="do not wait for the end")
    machine = parser.add_argument_group("machine")
    add = machine.add_argument
    add("--gpus", type=int, metavar="N", help="of each machine (default: 1; 0 on docker)")
    add("--cpus", type=float, metavar="N", help="of each machine, on docker and kubernetes")
    add("--memory", metavar="SIZE", help="of each machine, such as 16GB, on docker and kubernetes")
    add("--workers", type=int, default=1, metavar="N",
        help="machines that train together, on kubernetes and vertex (default: 1)")  # fmt: skip
    add("--spot", action="store_true",
        help="cheaper machines that may be taken away at any time, on vertex and on Google's kubernetes",
    )  # fmt: skip
    add("--restarts", type=int, default=3, metavar="N",
        help="start again so often after a crash; 0 never (default: %(default)s)")  # fmt: skip
    add("--service-account", metavar="NAME", help="that the job acts as, on kubernetes and vertex")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    for name, service in SERVICES.items():
        service.add_flags(parser.add_argument_group(f"only on {name}").add_argument)
    return parser


def launch(arguments: argparse.Namespace, rest: list[str]) -> None:
    """Check, then print the request or run it."""
    service = SERVICES[arguments.on]
    _check_flags(arguments)
    trainer = cli.load("train-model")
    if arguments.dry_run and arguments.detach:
        raise DltsError("--dry-run and --detach exclude each other")
    job = make_job(rest, trainer.parse_args, service.TITLE, service.REMOTE, _machine(arguments))
    request = service.make_request(job, arguments)
    if arguments.dry_run:
        print(service.show(request))
        return
    check_samples(job)
    service.run(request, job, _say, not arguments.detach)
    if not arguments.detach:
        print(trainer.table(read_metrics(metrics_path(job, trainer.parse_args(rest).only_evaluate))))


def check_samples(job: TrainerJob) -> None:
    """Look for the samples before a machine is paid for.

    Raises:
        DltsError: a folder has none, or its bucket cannot be read.
    """
    from dlts_beam.spec.samples import SAMPLES_JSON

    for folder in job.inputs:
        if not storage.exists(storage.join(folder, SAMPLES_JSON)):
            raise DltsError(
                f"there is no {SAMPLES_JSON} in {folder}: run generate-series with -o {folder} first"
            )


def read_metrics(path: str) -> dict[str, Any]:
    """What the trainer measured.

    Raises:
        DltsError: it is not there.
    """
    if not storage.exists(path):
        raise DltsError(f"the training ended well, and yet there is no {path}: is -o the right folder?")
    found: dict[str, Any] = json.loads(storage.read_bytes(path))
    return found


def _machine(arguments: argparse.Namespace) -> argparse.Namespace:
    """The launcher's flags with their defaults, checked."""
    from dlts_beam.plan import parse_bytes

    service = SERVICES[arguments.on]
    image = arguments.image or (None if service.REMOTE else LOCAL_IMAGE)
    if image is None:
        raise DltsError(
            f"{service.TITLE} needs --image: 'docker build --target trainer -t REGISTRY/{LOCAL_IMAGE} .'"
            " makes it, and 'docker push' puts it where the service can pull it"
        )
    gpus = service.GPUS if arguments.gpus is None else arguments.gpus
    for flag, value, least in (
        ("--gpus", gpus, 0), ("--workers", arguments.workers, 1), ("--restarts", arguments.restarts, 0)
    ):  # fmt: skip
        if value < least:
            raise DltsError(f"{flag} must be {least} or more; got {value}")
    if arguments.cpus is not None and not arguments.cpus > 0:
        raise DltsError(f"--cpus must be more than 0; got {arguments.cpus:g}")
    memory = None if arguments.memory is None else parse_bytes(arguments.memory)
    name = arguments.name or time.strftime("dlts-train-%Y%m%d-%H%M%S", time.gmtime())
    chosen = {"image": image, "gpus": gpus, "memory": memory, "name": name}
    return argparse.Namespace(**{**vars(arguments), **chosen})


def _check_flags(arguments: argparse.Namespace) -> None:
    """Refuse a flag of another service: it would do nothing."""
    for name, service in SERVICES.items():
        own = argparse.ArgumentParser(add_help=False)
        service.add_flags(own.add_argument)
        for action in own._actions:
            if name != arguments.on and getattr(arguments, action.dest) is not None:
                flag = action.option_strings[0]
                raise DltsError(f"{flag} is for --on {name}, and this is --on {arguments.on}: leave it out")


def _say(line: str) -> None:
    print(line, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Launch step 3; gives the exit status."""
    return run_open_main(build_parser, launch, argv)


if __name__ == "__main__":
    sys.exit(crash_told(main))
