"""How pipelines are run: strict options, the default local runner, and failures told in one sentence."""

from __future__ import annotations

import argparse
import copy
import importlib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    TestOptions,
)
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState

from dlts_beam.beam import flink, portable, worker
from dlts_beam.beam.flags import check_runner, read_dry_run, read_flags
from dlts_beam.beam.local_workers import watched_workers
from dlts_beam.errors import DltsError, causes
from dlts_beam.storage import credentials

# The names that mean Beam's in-process runner here, in lower case. Beam's own DirectRunner would first try to
# download Prism, and its flags would then mean something else.
_IN_PROCESS = frozenset({"direct", "directrunner", "switchingdirectrunner", "fnapi", "fnapirunner"})

# Runners with flags and checks of ours, each in a module with `default_flags`, `check` and `explain`.
_SERVICES = {
    "dataflow": "dlts_beam.beam.dataflow",
    "flink": "dlts_beam.beam.flink",
    "portable": "dlts_beam.beam.portable",
    "prism": "dlts_beam.beam.portable",
}

# How the text of a failed worker tells of an exception of ours: where its traceback ends.
_OWN_ERROR = re.compile(r"^(?P<module>dlts_beam(?:\.\w+)*)\.(?P<name>\w+): ", re.MULTILINE)
_AFTER_SENTENCE = re.compile(r" \[while running '|\n\n(?=The above exception|During handling|Traceback)")


def parse_options(
    flags: Sequence[str], own_flags: Iterable[str] = (), gpu: str | None = None
) -> PipelineOptions:
    """Beam's options from the flags that a command's own parser did not know.

    Beam itself only warns of flags that it does not know; here every one must belong to some options class of
    Beam, of any runner. For the local runner, one worker thread per usable core is the default.

    Args:
        flags: What ``ArgumentParser.parse_known_args`` left.
        own_flags: The command's own flags (``--input-dir``, …), to suggest for misspelt ones.
        gpu: type of GPU that the workers are to carry, for runners that rent machines.

    Raises:
        DltsError: a flag or a runner is unknown, or a value is not one that the flag takes.
    """
    own_flags = list(own_flags)
    known = read_flags(flags, own_flags)
    check_runner(known.runner)
    dry_run = read_dry_run(known, own_flags)
    known.gpu = gpu
    service = find_service(known.runner)
    if service is not None:
        defaults = service.default_flags(known, {flag.partition("=")[0] for flag in flags})
    else:
        defaults = _local_defaults(known, flags) if runs_in_process(known.runner) else []
    options = PipelineOptions([*defaults, *flags, f"--beam_plugin={worker.__name__}"])
    # DoFns live in modules, never in __main__; a service runner would pickle the main session unasked.
    options.view_as(SetupOptions).save_main_session = False
    options.view_as(TestOptions).dry_run = dry_run
    return options


def runs_in_process(runner: str | None) -> bool:
    """True when ``--runner runner`` (None: not given) means the default local runner."""
    return runner is None or runner.lower() in _IN_PROCESS


def find_service(runner: str | None) -> ModuleType | None:
    """Our module for ``--runner runner``; None for runners that need none."""
    name = _SERVICES.get((runner or "").lower().removesuffix("runner"))
    return None if name is None else importlib.import_module(name)


def check_submission(options: PipelineOptions, paths: Mapping[str, str] | None = None) -> None:
    """Tell what the runner would stumble over, before any work.

    Args:
        paths: by the words that name each, paths that the workers read or write.

    Raises:
        DltsError: what is missing or wrong.
    """
    service = find_service(options.view_as(StandardOptions).runner)
    if service is not None:
        service.check(options, paths)


def usable_cores() -> int:
    """How many cores this process may keep busy: its affinity, and a container's share where one is set."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):  # not Linux, or an older kind of container: affinity is all there is
        return cores
    return cores if quota == "max" else max(1, min(cores, math.ceil(int(quota) / int(period))))


def make_runner(options: PipelineOptions) -> PipelineRunner | str | None:
    """What to hand to ``beam.Pipeline``: our local runner, Flink's, or the name that the options give."""
    name = options.view_as(StandardOptions).runner
    if find_service(name) is flink:
        return flink.Submission()
    if not runs_in_process(name):
        return name
    # Without provision info, worker processes would never see the pipeline's options.
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(provision))


def run_pipeline(build: Callable[[beam.Pipeline], object], options: PipelineOptions) -> PipelineResult:
    """Build a pipeline, run it and wait until it is finished.

    Args:
        build: Applies the transforms to the pipeline that it is given.
        options: From `parse_options`; left as they are.

    Returns:
        The finished result, for its metrics.

    Raises:
        DltsError: a transform or a worker raised one (with its own sentence), or the job did not finish.
    """
    # Runners write into their options: a second run with the same ones would not be what was asked for.
    options = copy.deepcopy(options)
    service = find_service(options.view_as(StandardOptions).runner)
    check_submission(options)
    _check_credentials(options)
    try:
        runner = make_runner(options)
        pipeline = beam.Pipeline(runner=runner, options=options)
        with _care(options, runner):
            build(pipeline)
            result = pipeline.run()
            result.wait_until_finish()
    except Exception as error:
        if _was_interrupted(error):
            raise KeyboardInterrupt from error
        sentence = find_sentence(error) or (None if service is None else service.explain(error))
        if sentence is None:
            raise
        raise DltsError(sentence) from error
    if result.state not in (PipelineState.DONE, PipelineState.UPDATED):
        raise DltsError(f"the pipeline ended as {result.state}; the runner's log says why")
    return result


def find_sentence(error: BaseException) -> str | None:
    """The sentence of the `DltsError` that ``error`` is, was caused by, or tells of in its text; else None.

    A worker's exception arrives as text: its traceback, with the name of the transform appended.
    """
    for seen in causes(error):
        if isinstance(seen, DltsError):
            return _AFTER_SENTENCE.split(str(seen), maxsplit=1)[0]
        told = _sentence_in(str(seen))
        if told is not None:
            return told
    return None


def _was_interrupted(error: BaseException) -> bool:
    """True where Ctrl-C came while this thread was in a transform: Beam makes an error of that too."""
    return any(isinstance(seen, KeyboardInterrupt) for seen in causes(error))


def _sentence_in(text: str) -> str | None:
    for found in reversed(list(_OWN_ERROR.finditer(text))):
        module = importlib.import_module(found["module"])
        if issubclass(getattr(module, found["name"]), DltsError):
            return _AFTER_SENTENCE.split(text[found.end() :], maxsplit=1)[0].strip()
    return None


def _check_credentials(options: PipelineOptions) -> None:
    """Tell of missing credentials before Beam looks for them, which takes it 22 seconds.

    Raises:
        DltsError: Beam is to use gs:// itself, and there are none, or Google refuses them.
    """
    worker.use_emulator()
    cloud = options.view_as(GoogleCloudOptions)
    folders = (cloud.temp_location, cloud.staging_location, cloud.template_location)
    remote = any(str(folder).startswith("gs://") for folder in folders)
    if remote and not options.view_as(TestOptions).dry_run:
        credentials.find()


def _care(
    options: PipelineOptions, runner: PipelineRunner | str | None
) -> AbstractContextManager[None]:
    """A context for the run: quiet, and with an eye on the workers, where they are this machine's."""
    if isinstance(runner, flink.Submission):
        return flink.attended(runner)
    if find_service(options.view_as(StandardOptions).runner) is portable:
        return portable.attended()
    if not runs_in_process(options.view_as(StandardOptions).runner):
        return nullcontext()
    worker.quiet()
    return watched_workers()


def _local_defaults(known: argparse.Namespace, flags: Sequence[str]) -> list[str]:
    """Flags to put before the user's own, which win."""
    given = {flag.partition("=")[0] for flag in flags}
    defaults = []
    mode = known.direct_running_mode if "--direct_running_mode" in given else "multi_threading"
    if "--direct_running_mode" not in given:
        defaults.append(f"--direct_running_mode={mode}")
    if "--default_sdk_harness_log_level" not in given:
        defaults.append("--default_sdk_harness_log_level=WARNING")
    if "--direct_num_workers" not in given:
        workers = 1 if mode == "in_memory" else usable_cores()
        defaults.append(f"--direct_num_workers={workers}")
    elif known.direct_num_workers < 1:
        raise DltsError(f"--direct_num_workers must be 1 or more; got {known.direct_num_workers}")
    return defaults


def describe_local(options: PipelineOptions) -> str | None:
    """How the local runner will run, for a log line; None when another runner does."""
    if not runs_in_process(options.view_as(StandardOptions).runner):
        return None
    direct = options.view_as(DirectOptions)
    return f"{direct.direct_num_workers} local workers, {direct.direct_running_mode}"
