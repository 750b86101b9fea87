"""A bucket on this machine with a series, a model and labelled points, and jobs translated from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from apache_beam.internal.gcp import auth
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import translations
from google.cloud import dataflow_v1beta3

from dlts_beam import storage
from dlts_beam.storage import gcs
from pipelines.generate_img_series import main as generate_img_series
from tests.fakes import make_model, random_scene
from tests.helpers import pixel_centres, write_points
from tests.servers import gcs_emulator

BUCKET = "gs://dlts-test"
IMAGE = "region-docker.pkg.dev/project/images/dlts-worker:0.1.0-beam2.77.0"
FLAGS = (
    "--runner=DataflowRunner", "--project=test-project", "--region=europe-west1", "--no_auth",
    f"--temp_location={BUCKET}/temp", f"--sdk_container_image={IMAGE}",
)  # fmt: skip
# Saves the seconds in which pip lists what is installed here, for the job's log.
QUICK = "--experiments=disable_logging_submission_environment"


@pytest.fixture(scope="package")
def bucket() -> Iterator[str]:
    """A bucket of an emulator, which every library here is pointed at."""
    patch = pytest.MonkeyPatch()
    with gcs_emulator(BUCKET.removeprefix("gs://")) as address:
        for name, value in {
            "STORAGE_EMULATOR_HOST": address,
            "CPL_GS_ENDPOINT": f"{address}/",
            "GS_NO_SIGN_REQUEST": "YES",
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
            "GOOGLE_CLOUD_PROJECT": "test-project",
        }.items():
            patch.setenv(name, value)
        # There are no credentials to find; Beam would look for them for half a minute.
        patch.setattr(auth._Credentials, "_credentials_init", True)
        gcs._client_of.cache_clear()
        try:
            yield BUCKET
        finally:
            patch.undo()
            gcs._client_of.cache_clear()


@dataclass(frozen=True)
class World:
    """Inputs of all steps in the bucket, and a local file of points.

    Attributes:
        images, series, model: gs:// folders.
        points: local vector file.
        local_series, local_model: the same on this machine.
    """

    images: str
    series: str
    model: str
    points: Path
    local_series: Path
    local_model: Path


@pytest.fixture(scope="package")
def world(bucket: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A scene of 37 x 53 pixels in the bucket."""
    folder = tmp_path_factory.mktemp("world")
    scene = random_scene(folder / "series")
    model = make_model(folder / "model", scene.spec, patch=3)
    _upload(folder / "series" / "images", f"{bucket}/images")
    _upload(model, f"{bucket}/model")
    made = ["-i", f"{bucket}/images", "-o", f"{bucket}/series", "--direct_num_workers=1"]
    assert generate_img_series(made) == 0
    pixels = [(row, col) for row in range(8, 36, 4) for col in range(10, 50, 5)]
    x, y = pixel_centres(scene.spec.grid, pixels)
    labels = [("forest", "crop")[n % 2] for n in range(len(x))]
    points = write_points(folder / "points.gpkg", x, y, **{"class": labels})
    return World(f"{bucket}/images", f"{bucket}/series", f"{bucket}/model", points, scene.folder, model)


def _upload(folder: Path, target: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            storage.upload(path, storage.join(target, path.relative_to(folder).as_posix()))


@dataclass(frozen=True)
class Translated:
    """What would have been sent to Dataflow."""

    job: dataflow_v1beta3.Job
    pipeline: beam_runner_api_pb2.Pipeline

    @property
    def pool(self) -> dataflow_v1beta3.WorkerPool:
        """Its one pool of workers."""
        (pool,) = self.job.environment.worker_pools
        return pool

    def stages(self) -> list[set[str]]:
        """Names of the steps of each stage, as Beam's own fuser makes them of this pipeline."""
        phases = [
            translations.annotate_downstream_side_inputs,
            translations.expand_gbk,  # else nothing parts the steps on its two sides
            translations.greedily_fuse,
        ]
        _, stages = translations.create_and_optimize_stages(
            self.pipeline, phases=phases, known_runner_urns=frozenset()
        )
        return [{transform.unique_name for transform in stage.transforms} for stage in stages]

    def stage_of(self, step: str) -> set[str]:
        """The stage that a step is part of."""
        (stage,) = [stage for stage in self.stages() if step in stage]
        return stage

    def hints(self, step: str) -> dict[str, str]:
        """Resource hints of a step, by the last word of their name."""
        components = self.pipeline.components
        (found,) = [each for each in components.transforms.values() if each.unique_name == step]
        hints = components.environments[found.environment_id].resource_hints
        return {urn.split(":")[2]: value.decode() for urn, value in hints.items()}


def read_template(path: str) -> Translated:
    """The job in a template, and the pipeline staged for it."""
    job = dataflow_v1beta3.Job.from_json(storage.read_text(path))
    options = dict(job.environment.sdk_pipeline_options)["options"]
    pipeline = beam_runner_api_pb2.Pipeline.FromString(storage.read_bytes(options["pipelineUrl"]))
    return Translated(job, pipeline)
