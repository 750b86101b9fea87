"""Strict options, the local runner in its two modes, and sentences that survive the way back."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    PipelineOptions,
    PrismRunnerOptions,
    SetupOptions,
    StandardOptions,
)
from apache_beam.runners.worker import sdk_worker, sdk_worker_main

from dlts_beam.beam import runner
from dlts_beam.errors import DltsError

MODES = ("in_memory", "multi_threading", "multi_processing")


class TellProcess(beam.DoFn):
    """Writes which process it runs in and one of the pipeline's options as that process sees them."""

    def __init__(self, folder: str):
        self._folder = folder

    def process(self, element: int):
        options = json.loads(os.environ.get("PIPELINE_OPTIONS", "{}"))
        seen = PipelineOptions.from_dictionary(sdk_worker_main._load_pipeline_options(json.dumps(options)))
        Path(self._folder, f"{element}-{os.getpid()}").write_text(seen.get_all_options()["job_name"] or "")
        yield element


class Refuse(beam.DoFn):
    """Refuses every element as our own code does: with a sentence."""

    def process(self, element: int):
        raise DltsError(f"cannot read image_{element}.tif: it's cut short; copy it again")
        yield element


class Break(beam.DoFn):
    """Fails as a defect does."""

    def process(self, element: int):
        yield [][element]


@pytest.mark.parametrize("mode", MODES)
def test_a_pipeline_runs_and_counts(mode: str):
    def build(pipeline: beam.Pipeline) -> None:
        numbers = pipeline | "Create" >> beam.Create(range(20)) | "Spread" >> beam.Reshuffle()
        total = numbers | "Sum" >> beam.CombineGlobally(sum)
        total | "Check" >> beam.Map(_must_equal, 190)

    result = runner.run_pipeline(build, runner.parse_options([f"--direct_running_mode={mode}"]))
    assert result.state == "DONE"


def _must_equal(value: int, expected: int) -> None:
    assert value == expected


def test_a_run_leaves_its_options_alone():
    options = runner.parse_options(["--direct_num_workers=1"])
    before = options.get_all_options()

    def build(pipeline: beam.Pipeline) -> None:
        pipeline._options.view_as(StandardOptions).runner = "other"
        pipeline | "Create" >> beam.Create([1])

    runner.run_pipeline(build, options)
    assert options.get_all_options() == before


def test_worker_processes_see_the_pipeline_options(tmp_path: Path):
    options = runner.parse_options(
        ["--direct_running_mode=multi_processing", "--direct_num_workers=2", "--job_name=told"]
    )

    def build(pipeline: beam.Pipeline) -> None:
        spread = pipeline | "Create" >> beam.Create(range(8)) | "Spread" >> beam.Reshuffle()
        spread | "Tell" >> beam.ParDo(TellProcess(str(tmp_path)))

    runner.run_pipeline(build, options)
    told = list(tmp_path.iterdir())
    processes = {path.name.partition("-")[2] for path in told}
    assert {path.read_text() for path in told} == {"told"}
    assert len(processes) == 2
    assert str(os.getpid()) not in processes


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_s_sentence_comes_back_unchanged(mode: str, capfd: pytest.CaptureFixture[str]):
    def build(pipeline: beam.Pipeline) -> None:
        pipeline | "Create" >> beam.Create([7]) | "Refuse" >> beam.ParDo(Refuse())

    with pytest.raises(DltsError) as caught:
        runner.run_pipeline(build, runner.parse_options([f"--direct_running_mode={mode}"]))
    assert str(caught.value) == "cannot read image_7.tif: it's cut short; copy it again"
    assert capfd.readouterr().err == ""


class Die(beam.DoFn):
    """The first to come ends its process as the kernel does when memory runs out; the others take long."""

    def __init__(self, marker: str):
        self._marker = marker

    def process(self, element: int):
        try:
            Path(self._marker).touch(exist_ok=False)
        except FileExistsError:
            time.sleep(100)
        else:
            time.sleep(1)  # let the other worker begin
            os.kill(os.getpid(), signal.SIGKILL)
        yield element


def test_a_worker_process_that_dies_ends_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    def build(pipeline: beam.Pipeline) -> None:
        spread = pipeline | "Create" >> beam.Create(range(8)) | "Spread" >> beam.Reshuffle()
        spread | "Die" >> beam.ParDo(Die(str(tmp_path / "marker")))

    options = runner.parse_options(["--direct_running_mode=multi_processing", "--direct_num_workers=2"])
    start = time.perf_counter()
    with pytest.raises(
        DltsError, match=r"a worker process was killed, most likely because memory ran out; run"
    ):
        runner.run_pipeline(build, options)
    assert time.perf_counter() - start < 60  # the worker that was still busy has been ended, not waited for
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("late", [0, 1])
def test_a_run_that_fails_before_its_last_worker_reports_ends(late: int, monkeypatch: pytest.MonkeyPatch):
    started: list[sdk_worker.SdkHarness] = []
    run_at_once = sdk_worker.SdkHarness.run

    def run_late(harness: sdk_worker.SdkHarness) -> None:
        started.append(harness)
        if len(started) == late + 1:
            time.sleep(2)
        run_at_once(harness)

    monkeypatch.setattr(sdk_worker.SdkHarness, "run", run_late)

    def build(pipeline: beam.Pipeline) -> None:
        pipeline | "Create" >> beam.Create([7]) | "Refuse" >> beam.ParDo(Refuse())

    with pytest.raises(DltsError):
        runner.run_pipeline(build, runner.parse_options(["--direct_num_workers=2"]))
    assert len(started) == 2


def test_a_sentence_at_construction_comes_back_too():
    def build(pipeline: beam.Pipeline) -> None:
        raise DltsError("no images in scene/; check --input-dir")

    with pytest.raises(DltsError, match=r"^no images in scene/; check --input-dir$"):
        runner.run_pipeline(build, runner.parse_options([]))


def test_a_defect_keeps_its_traceback():
    def build(pipeline: beam.Pipeline) -> None:
        pipeline | "Create" >> beam.Create([7]) | "Break" >> beam.ParDo(Break())

    with pytest.raises(RuntimeError, match=r"IndexError: list index out of range"):
        runner.run_pipeline(build, runner.parse_options([]))


def test_local_defaults_are_threads_on_all_cores():
    direct = runner.parse_options([]).view_as(DirectOptions)
    assert direct.direct_running_mode == "multi_threading"
    assert direct.direct_num_workers == runner.usable_cores()
    direct = runner.parse_options(["--direct_running_mode", "in_memory"]).view_as(DirectOptions)
    assert (direct.direct_running_mode, direct.direct_num_workers) == ("in_memory", 1)
    direct = runner.parse_options(["--runner=DirectRunner", "--direct_num_workers", "3"]).view_as(
        DirectOptions
    )
    assert (direct.direct_running_mode, direct.direct_num_workers) == ("multi_threading", 3)


@pytest.mark.parametrize("name", [None, "DirectRunner", "direct", "FnApiRunner"])
def test_the_local_runner_is_in_process(name: str | None):
    made = runner.make_runner(runner.parse_options([] if name is None else ["--runner", name]))
    assert type(made).__name__ == "FnApiRunner"


def test_other_runners_stay_available_by_name_with_their_own_flags():
    options = runner.parse_options(["--runner=PrismRunner", "--prism_location=/opt/prism"])
    assert runner.make_runner(options) == "PrismRunner"
    assert options.view_as(PrismRunnerOptions).prism_location == "/opt/prism"
    assert options.view_as(DirectOptions).direct_num_workers == 1  # Beam's own, untouched
    options = runner.parse_options(
        ["--runner", "FlinkRunner", "--parallelism=4", "--environment_type=EXTERNAL"]
    )
    assert options.view_as(FlinkRunnerOptions).parallelism == 4
    assert options.view_as(StandardOptions).runner == "FlinkRunner"


def test_a_runner_by_the_name_of_its_class_is_taken():
    name = "apache_beam.runners.direct.direct_runner.BundleBasedDirectRunner"
    assert runner.make_runner(runner.parse_options([f"--runner={name}"])) == name


def test_the_main_session_is_never_pickled():
    assert runner.parse_options(["--runner=DataflowRunner"]).view_as(SetupOptions).save_main_session is False


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--direct_num_worker=2"], "unknown flag --direct_num_worker: did you mean --direct_num_workers?"),
        (["--input_dir", "x"], "unknown flag --input_dir: did you mean --input-dir?"),
        (["--zzz"], "unknown flag --zzz: see --help, and Apache Beam's pipeline options"),
        (["-q"], "unknown flag -q: see --help, and Apache Beam's pipeline options"),
        (["scene"], "unexpected argument 'scene': every value must follow its flag"),
        (["--runner=PrizmRunner"], "unknown runner PrizmRunner: did you mean PrismRunner?"),
        (
            ["--runner=DataflowRunner --project=p --temp_location=gs://a.b/c"],
            "--runner is one name without spaces; got 'DataflowRunner --project=p"
            " --temp_location=gs://a.b/c'. Where that came from a shell variable: zsh does not split it into"
            ' flags, so make it an array and write "${NAME[@]}"',
        ),
        (
            ["--runner=no_such_module.Runner"],
            "--runner no_such_module.Runner: there is no such runner here (No module named 'no_such_module');"
            " give a runner of Beam, such as FlinkRunner, or MODULE.CLASS of one that is installed",
        ),
        (
            ["--runner=os.getpid"],
            "--runner os.getpid: there is no such runner here (getpid is no runner); give a runner of"
            " Beam, such as FlinkRunner, or MODULE.CLASS of one that is installed",
        ),
        (["--direct_num_workers=0"], "--direct_num_workers must be 1 or more; got 0"),
        (
            ["--direct_num_workers=two"],
            "argument --direct_num_workers: invalid int value: 'two' (a flag of Apache Beam)",
        ),
    ],
)
def test_wrong_flags_are_refused_in_one_sentence(flags: list[str], sentence: str):
    with pytest.raises(DltsError) as caught:
        runner.parse_options(flags, own_flags=["--input-dir"])
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "dlts_beam.errors.DltsError: the disk is full [while running 'Write-ptransform-3']\n",
            "the disk is full",
        ),
        ("dlts_beam.errors.DltsError: two lines:\n  a.tif\n", "two lines:\n  a.tif"),
        ("dlts_beam.dates.AmbiguousDatesError: which day? [while running 'Read']", "which day?"),
        ("dlts_beam.errors.DltsError: first\n\nThe above exception was …:\n\nOSError: no", "first"),
        (
            "dlts_beam.errors.DltsError: first\n\nDuring handling …\n\ndlts_beam.errors.DltsError: last",
            "last",
        ),
        ("IndexError: 3", None),
    ],
)
def test_sentences_are_found_in_the_text_of_remote_failures(text: str, sentence: str | None):
    traceback = f'Traceback (most recent call last):\n  File "a.py", line 1\n{text}'
    assert runner.find_sentence(RuntimeError(traceback)) == sentence
