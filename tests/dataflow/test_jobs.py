"""The three pipelines as Dataflow jobs: what would be sent, from templates in the emulated bucket."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from google.cloud import dataflow_v1beta3 as dataflow

from dlts_beam import storage
from dlts_beam.beam.assembly import GatherRecords, finished_certificate
from dlts_beam.beam.classify import ClassifyTiles
from dlts_beam.beam.detached import submit_map
from dlts_beam.beam.map_plan import MapRequest, plan_map
from dlts_beam.beam.runner import parse_options, run_pipeline
from pipelines.classify_img_series import main as classify_img_series
from pipelines.flex_template import launch
from pipelines.generate_img_series import main as generate_img_series
from pipelines.generate_series import main as generate_series
from tests.dataflow.conftest import BUCKET, FLAGS, IMAGE, QUICK, Translated, World, read_template

Main = Callable[[Sequence[str]], int]
READ = "ClassifyTiles/ReadWindows/Read"
INFER = "ClassifyTiles/InferWindows/RunInference/BeamML_RunInference"
WRITE = "ClassifyTiles/WriteTiles/Write"


def template(main: Main, *flags: str, quick: str = QUICK) -> Translated:
    """Run a command up to its template; gives what is in it."""
    path = f"{BUCKET}/templates/job"
    storage.remove(path)
    extra = [quick] if quick else []
    assert main([*flags, *FLAGS, *extra, f"--template_location={path}"]) == 0
    return read_template(path)


def classify_flags(world: World, output: str) -> list[str]:
    return ["-i", world.series, "-m", world.model, "-o", output, "--tile", "16"]


@pytest.fixture(scope="module")
def classified(world: World) -> Translated:
    """Step 4 as a template, without flags about machines."""
    return template(classify_img_series, *classify_flags(world, f"{BUCKET}/maps/template.tif"), quick="")


def test_pixels_never_cross_a_shuffle(classified: Translated) -> None:
    """From the reading of windows to the records of tiles, all steps are one stage."""
    assert {READ, INFER, WRITE} <= classified.stage_of(READ)


def test_the_fuser_would_show_a_shuffle(classified: Translated) -> None:
    """The reshuffle before the stage does part it from the steps before."""
    assert len(classified.stages()) > 1
    assert not any("Tiles/Impulse" in stage and READ in stage for stage in classified.stages())


def test_a_job_that_is_waited_for_is_fused_too(world: World) -> None:
    options = parse_options([*FLAGS, QUICK, "--dry_run=True"])
    planned = plan_map(MapRequest(world.series, world.model, f"{BUCKET}/maps/attached.tif", 16), options)

    def build(pipeline: beam.Pipeline) -> None:
        records = pipeline | "Tiles" >> beam.Create(planned.job.tasks)
        records = records | "ClassifyTiles" >> ClassifyTiles(planned.settings)
        _ = records | "GatherRecords" >> GatherRecords(planned.job.parts)

    job = run_pipeline(build, options).job
    translated = Translated(dataflow.Job(), job.proto_pipeline)
    assert {READ, INFER, WRITE} <= translated.stage_of(READ)


def test_the_machines_are_those_of_our_defaults(classified: Translated) -> None:
    pool = classified.pool
    assert pool.machine_type == "n2-standard-4"
    assert pool.num_threads_per_worker == 1
    assert pool.autoscaling_settings.algorithm == dataflow.AutoscalingAlgorithm.AUTOSCALING_ALGORITHM_BASIC
    assert pool.ip_configuration == dataflow.WorkerIPAddressConfiguration.WORKER_IP_UNSPECIFIED
    experiments = classified.job.environment.experiments
    assert "use_multiple_sdk_containers" in experiments  # a process for each core
    assert "use_runner_v2" in experiments
    assert classified.job.type_ == dataflow.JobType.JOB_TYPE_BATCH
    assert classified.hints(INFER) == {}


def test_workers_run_our_image(classified: Translated) -> None:
    assert classified.pool.worker_harness_container_image == IMAGE
    (image,) = classified.pool.sdk_harness_container_images
    assert image.container_image == IMAGE
    assert image.use_single_core_per_container


def test_all_that_is_staged_lies_in_the_bucket(classified: Translated) -> None:
    assert classified.job.environment.temp_storage_prefix.startswith("storage.googleapis.com/dlts-test/temp")
    packages = [package.location for package in classified.pool.packages]
    assert packages
    for location in packages:
        path = location.replace("storage.googleapis.com/", "gs://")
        assert path.startswith(f"{BUCKET}/temp/")
        assert storage.exists(path)


def test_the_user_s_flags_win(world: World) -> None:
    job = template(
        classify_img_series, *classify_flags(world, f"{BUCKET}/maps/flags.tif"),
        "--machine_type=c2-standard-8", "--number_of_worker_harness_threads=3", "--max_num_workers=7",
        "--autoscaling_algorithm=NONE", "--num_workers=5", "--no_use_public_ips", "--disk_size_gb=60",
        "--service_account_email=worker@test-project.iam.gserviceaccount.com",
    )  # fmt: skip
    pool = job.pool
    assert (pool.machine_type, pool.num_threads_per_worker, pool.num_workers) == ("c2-standard-8", 3, 5)
    assert pool.autoscaling_settings.algorithm == dataflow.AutoscalingAlgorithm.AUTOSCALING_ALGORITHM_NONE
    assert pool.autoscaling_settings.max_num_workers == 7
    assert pool.ip_configuration == dataflow.WorkerIPAddressConfiguration.WORKER_IP_PRIVATE
    assert pool.disk_size_gb == 60
    assert job.job.environment.service_account_email.startswith("worker@")


def test_one_flag_asks_for_gpus(world: World) -> None:
    output = f"{BUCKET}/maps/gpu.tif"
    storage.upload(world.local_model / "serving/loss/model.onnx", f"{world.model}/serving/loss/saved_model/x")
    job = template(
        classify_img_series, *classify_flags(world, output), "--gpu", "nvidia-tesla-t4", "--engine=tensorflow"
    )
    wanted = "type:nvidia-tesla-t4;count:1;machine_type:n1-standard-4;install-nvidia-driver:5xx"
    for step in (READ, INFER, WRITE):
        assert job.hints(step) == {"accelerator": wanted}
    assert job.hints("FinishMap/Publish") == {}
    assert {READ, INFER, WRITE} <= job.stage_of(READ)
    assert "FinishMap/Publish" not in job.stage_of(READ)
    assert "no_use_multiple_sdk_containers" in job.job.environment.experiments
    assert "use_multiple_sdk_containers" not in job.job.environment.experiments
    assert job.pool.num_threads_per_worker == 4
    assert job.pool.machine_type == "n2-standard-4"  # of the steps that do not compute


def test_step_1_is_a_job(world: World) -> None:
    job = template(generate_img_series, "-i", world.images, "-o", f"{BUCKET}/series-of-a-job")
    steps = {each.unique_name for each in job.pipeline.components.transforms.values()}
    assert {"WriteSeries/ReadHeaders", "WriteSeries/CheckAndWrite"} <= steps
    assert "WriteSeries/CheckAndWrite" not in job.stage_of("WriteSeries/ReadHeaders")  # one check of all
    assert_ours(job)


def test_step_2_is_a_job(world: World) -> None:
    folder = f"{BUCKET}/samples-of-a-job"
    job = template(generate_series, "-i", world.series, "-s", str(world.points), "-o", folder)
    stage = job.stage_of("ExtractSamples/WriteShards")
    assert not {"Plans/Impulse", "FinishSamples/Complete"} & stage
    assert_ours(job)
    # The job finds its plans there; its last step removes them.
    assert {storage.name(entry.path) for entry in storage.list_files(f"{folder}/plans")} == {
        "job.pickle",
        "plan-00000-of-00001.npz",
    }


def assert_ours(job: Translated) -> None:
    """Our machines, our image, and all that is staged in the bucket."""
    assert (job.pool.machine_type, job.pool.num_threads_per_worker) == ("n2-standard-4", 1)
    assert job.pool.worker_harness_container_image == IMAGE
    assert job.job.environment.temp_storage_prefix.startswith("storage.googleapis.com/dlts-test/temp")


@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_dry_run_translates_and_changes_nothing(
    step: int, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = f"{BUCKET}/dry-{step}"
    for name in ("samples.json", "plans/plan-00000-of-00001.npz"):  # of a run that goes on beside
        storage.write_text(f"{folder}/{name}", "kept")
    commands: dict[int, tuple[Main, list[str]]] = {
        1: (generate_img_series, ["-i", world.images, "-o", folder]),
        2: (generate_series, ["-i", world.series, "-s", str(world.points), "-o", folder]),
        4: (classify_img_series, classify_flags(world, f"{folder}/map.tif")),
    }
    seen = []
    run = DataflowRunner.run_pipeline

    def watched(self: DataflowRunner, pipeline: beam.Pipeline, options: PipelineOptions) -> object:
        result = run(self, pipeline, options)
        seen.append(result.job.proto_pipeline)
        return result

    monkeypatch.setattr(DataflowRunner, "run_pipeline", watched)
    main, flags = commands[step]
    assert main([*flags, *FLAGS, QUICK, "--dry_run=True"]) == 0
    assert "translated for Dataflow, and not submitted" in capsys.readouterr().out
    assert len(seen[0].components.transforms) > 3
    left = {entry.path: storage.read_text(entry.path) for entry in storage.list_files(folder, recursive=True)}
    assert left == {
        f"{folder}/plans/plan-00000-of-00001.npz": "kept",
        f"{folder}/samples.json": "kept",
    }


@pytest.mark.parametrize("what", ["--input-dir", "--output-dir"])
def test_local_paths_are_refused_by_step_1(
    what: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = {"--input-dir": str(world.local_series / "images"), "--output-dir": str(tmp_path / "series")}
    remote = {"--input-dir": world.images, "--output-dir": f"{BUCKET}/refused"}
    paths = {**remote, what: local[what]}
    flags = [text for pair in paths.items() for text in pair]
    assert generate_img_series([*flags, *FLAGS]) == 1
    assert capsys.readouterr().err == (
        f"error: Dataflow's workers cannot see {local[what]} ({what}): copy it to a bucket, as with"
        " 'gcloud storage cp -r', and give its gs:// path\n"
    )


@pytest.mark.parametrize(
    ("series", "model", "output", "what"),
    [
        ("local_series", "model", f"{BUCKET}/refused.tif", "an image of the series"),
        ("series", "local_model", f"{BUCKET}/refused.tif", "--model"),
        ("series", "model", "refused.tif", "--output"),
    ],
)
def test_local_paths_are_refused_by_step_4(
    series: str, model: str, output: str, what: str, world: World, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    flags = ["-i", str(getattr(world, series)), "-m", str(getattr(world, model)), "-o", output]
    assert classify_img_series([*flags, *FLAGS]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: Dataflow's workers cannot see ")
    assert f"({what}): copy it to a bucket" in error
    assert list(tmp_path.iterdir()) == []


def test_a_local_series_of_samples_is_refused_by_step_2(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["-i", world.series, "-s", str(world.points), "-o", str(tmp_path / "samples")]
    assert generate_series([*flags, *FLAGS]) == 1
    assert "(--series-dir): copy it to a bucket" in capsys.readouterr().err
    assert not (tmp_path / "samples").exists()


def test_the_launcher_of_a_flex_template_makes_the_same_job(
    world: World, classified: Translated, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"{BUCKET}/templates/flex"
    parameters = {"input_dir": world.series, "model": world.model, "output": f"{BUCKET}/maps/template.tif"}
    given = [f"--{name}={value}" for name, value in parameters.items()]
    given += ["--step=classify-img-series", "--tile=16", "--probabilities=false", "--flag_of_a_launcher=1"]
    assert launch([*given, *FLAGS, QUICK, f"--template_location={path}"]) == 0
    assert capsys.readouterr().err == (
        "note: left out --flag_of_a_launcher=1, which Apache Beam does not know\n"
    )
    job = read_template(path)
    names = [
        sorted(each.unique_name for each in found.pipeline.components.transforms.values())
        for found in (job, classified)
    ]
    assert names[0] == names[1]
    assert {READ, INFER, WRITE} <= job.stage_of(READ)


def test_the_last_step_publishes_in_the_bucket(world: World) -> None:
    """The same graph, run here on the bucket: the map and what lies beside it, and nothing else."""
    options = parse_options(["--direct_num_workers=1"])
    folder = f"{BUCKET}/maps-of-a-job"
    planned = plan_map(MapRequest(world.series, world.model, f"{folder}/map.tif", 16), options)
    assert submit_map(planned, options) == len(planned.job.tasks) == 12
    names = {storage.name(entry.path) for entry in storage.list_files(folder, recursive=True)}
    assert {"map.tif", "map.tif.json", "map.tif.run.json"} <= names <= {
        "map.tif", "map.tif.json", "map.tif.run.json", "map.tif.aux.xml",
    }  # fmt: skip
    assert finished_certificate(planned.job) is not None
