"""The trainer in a container on this machine, by the ``docker`` command."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dlts_beam import storage
from dlts_beam.command import UNREACHABLE
from dlts_beam.errors import DltsError
from dlts_beam.launch.job import TrainerJob
from dlts_beam.launch.service import Say

TITLE = "Docker"
REMOTE = False
GPUS = 0
# Exit statuses that no new start puts right: a refusal, a wrong flag, and what Docker itself cannot run.
FINAL = frozenset({1, 2, 125, 126, 127})
# Ctrl-C and SIGTERM, of `docker stop` too: somebody wanted the end.
STOPPED = frozenset({130, 143})
# From here on the container was killed by a signal, by the kernel too where memory ran out.
KILLED = 128
_ADC = "/dlts/credentials.json"
_CHECK_SECONDS = 20
_STOP_SECONDS = 1.0  # for the client to end after its container
_GOES_ON = "The same command goes on at the last checkpoint"


def add_flags(add: Callable[..., Any]) -> None:
    """Docker has no flags of its own."""


def make_request(job: TrainerJob, flags: argparse.Namespace) -> list[str]:
    """The command line: one word an item.

    Raises:
        DltsError: it is asked for what one machine cannot do.
    """
    if job.workers > 1:
        raise DltsError("--workers needs a service with several machines: --on kubernetes or --on vertex")
    if job.spot:
        raise DltsError("--spot is for --on kubernetes and --on vertex: nobody takes this machine away")
    if job.service_account is not None:
        raise DltsError("--service-account is for --on kubernetes and --on vertex")
    # Files must belong to the user, and that user has no home in the container.
    command = ["docker", "run", "--rm", "--init", "--name", job.name]
    command += ["--user", f"{os.getuid()}:{os.getgid()}", "--env", "HOME=/tmp"]
    if job.gpus:
        command += ["--gpus", str(job.gpus)]
    if job.gpus > 1:
        command += ["--shm-size", "1g"]  # GPUs exchange gradients through it, and the default is 64 MB
    if job.cpus is not None:
        command += ["--cpus", f"{job.cpus:g}"]
    if job.memory is not None:
        command += ["--memory", f"{job.memory}b"]
    for source, target, readonly in job.mounts:
        command += ["--mount", _mount(source, target, readonly)]
    if job.remote_paths:
        command += _credentials()
    for name, value in job.environment:
        command += ["--env", f"{name}={value}"]
    return [*command, job.image, *job.arguments]


def show(request: list[str]) -> str:
    """The command as a shell takes it."""
    return shlex.join(request)


def run(request: list[str], job: TrainerJob, say: Say, follow: bool) -> None:
    """Start the container; it is started again where it was killed or crashed, and goes on at its checkpoint.

    An interrupt stops the container too, and is raised again.

    Raises:
        DltsError: Docker, its daemon or the image is missing, or the training failed or was stopped.
    """
    _check(job.image)
    for mount in job.mounts:
        if not mount.readonly:
            storage.check_writable(mount.source)
    if not follow:
        detached = [*request[:2], "--detach", *request[2:]]
        done = subprocess.run(detached, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DltsError(f"docker could not start {job.name}: {_last_line(done.stderr)}")
        say(f"{job.name} runs: 'docker logs -f {job.name}' shows it, 'docker stop {job.name}' ends it")
        return
    for start in range(job.restarts + 1):
        status = _run_to_its_end(request, job.name)
        if status == 0:
            return
        if status in STOPPED:
            raise DltsError(f"the training in {job.name} was stopped. {_GOES_ON}")
        # Below 0 it is the client that was killed, and the container may still run.
        if status < 0 or status in FINAL or start == job.restarts:
            break
        died = "was killed" if status >= KILLED else "got no answer" if status == UNREACHABLE else "crashed"
        say(f"{job.name} {died} (exit status {status}): it is started again and goes on")
    told = f"the training in {job.name} ended with exit status {status}; see its lines above"
    if status >= KILLED:
        told += f". Is the memory enough? {_GOES_ON}"
    raise DltsError(told)


def _run_to_its_end(request: list[str], name: str) -> int:
    """The container's exit status; an interrupt stops it, waits for its end and is raised again."""
    # The container writes to this terminal itself.
    client = subprocess.Popen(request)
    try:
        return client.wait()
    except KeyboardInterrupt:
        while client.poll() is None:
            # Again and again: at first Docker may not have made the container yet, and knows no such name.
            subprocess.run(["docker", "stop", name], capture_output=True, check=False)
            with suppress(subprocess.TimeoutExpired):
                client.wait(_STOP_SECONDS)
        raise


def _check(image: str) -> None:
    if shutil.which("docker") is None:
        raise DltsError("there is no docker command: install Docker, or use --on kubernetes or --on vertex")
    try:
        found = _docker("version", "--format", "{{.Server.Version}}")
        if found.returncode:
            raise DltsError(f"docker does not answer: {_last_line(found.stderr)}")
        found = _docker("image", "inspect", "--format", "{{.Id}}", image)
    except subprocess.TimeoutExpired as error:
        raise DltsError(f"docker does not answer within {_CHECK_SECONDS} s: is its daemon well?") from error
    if found.returncode:
        raise DltsError(
            f"there is no image {image} on this machine: 'docker build --target trainer -t {image} .' in the"
            f" project's folder makes it, or 'docker pull {image}' fetches it"
        )


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *words], capture_output=True, text=True, check=False, timeout=_CHECK_SECONDS
    )


def _mount(source: str, target: str, readonly: bool) -> str:
    """One value of ``--mount``: fields of CSV, quoted where a path has a comma or a quote."""
    fields = ["type=bind", f"source={source}", f"target={target}", *(["readonly"] if readonly else [])]
    quoted = [f'"{field.replace(chr(34), chr(34) * 2)}"' if {",", '"'} & set(field) else field
              for field in fields]  # fmt: skip
    return ",".join(quoted)


def _credentials() -> list[str]:
    """Flags that hand on the user's Google credentials; none where the machine itself has some."""
    given = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    settings = os.environ.get("CLOUDSDK_CONFIG") or os.path.join(os.path.expanduser("~"), ".config", "gcloud")
    path = given or os.path.join(settings, "application_default_credentials.json")
    if given and not os.path.isfile(given):
        raise DltsError(f"GOOGLE_APPLICATION_CREDENTIALS names {given}, and there is no such file")
    if not os.path.isfile(path):
        return []
    mount = _mount(os.path.abspath(path), _ADC, readonly=True)
    return ["--mount", mount, "--env", f"GOOGLE_APPLICATION_CREDENTIALS={_ADC}"]


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it does not say why")
