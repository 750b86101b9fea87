"""The four steps with inputs and outputs on gs://, local, and mixed: the same samples and maps everywhere."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import Affine

from dlts_beam import storage
from pipelines.cli import main as dlts
from tests.helpers import TRANSFORM, UTM, make_series, pixel_centres, random_cube, write_points

CONFIG = '{"units": 4}'
ONE = ("--direct_num_workers", "1")
HEIGHT, WIDTH = 40, 50


@dataclass(frozen=True)
class Inputs:
    """Files that a user brings, in one folder; all paths are relative to it."""

    folder: str

    def __getattr__(self, name: str) -> str:
        places = {
            "images": "images",
            "points": "points.gpkg",
            "classes": "classes.csv",
            "dates": "dates.csv",
            "config": "config.json",
            "roi": "roi.geojson",
            "mask": "mask.tif",
            "like": "images/image_20200101.tif",
        }
        return storage.join(self.folder, places[name])


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Five images of two bands, 60 points of two classes in four formats, and an area of interest."""
    folder = tmp_path_factory.mktemp("inputs")
    cube = random_cube(steps=5, height=HEIGHT, width=WIDTH)
    cube[:, :6, :6] = 0
    series = make_series(folder, cube, nodata=0, block=16)
    (folder / "series.json").unlink()
    places = np.random.default_rng(1).choice(HEIGHT * WIDTH, 60, replace=False)
    x, y = pixel_centres(series.grid, [divmod(int(place), WIDTH) for place in places])
    labels = [3 if n % 2 else 7 for n in range(60)]
    for name in ("points.gpkg", "points.geojson", "points.shp"):
        write_points(folder / name, x, y, **{"class": labels})
    gpd.read_file(folder / "points.gpkg").to_parquet(folder / "points.parquet")
    rows = [f"{a},{b},{label}" for a, b, label in zip(x, y, labels, strict=True)]
    (folder / "points.csv").write_text("\n".join(["x,y,class", *rows]))
    (folder / "classes.csv").write_text("value,name,colour\n3,forest,#009e73\n7,crop,#8c564b\n")
    images = sorted((folder / "images").iterdir())
    dates = [f"{path.name},2021-03-{day:02d}" for day, path in enumerate(images, 1)]
    (folder / "dates.csv").write_text("\n".join(["file,date", *dates]) + "\n")
    (folder / "config.json").write_text(CONFIG)
    area = shapely.box(TRANSFORM[2] + 150, TRANSFORM[5] - 1000, TRANSFORM[2] + 1200, TRANSFORM[5] - 100)
    gpd.GeoDataFrame(geometry=[area], crs=UTM).to_file(folder / "roi.geojson")
    with rasterio.open(
        folder / "mask.tif", "w", driver="GTiff", height=HEIGHT, width=WIDTH, count=1, dtype="uint8",
        crs=UTM, transform=Affine(*TRANSFORM),
    ) as mask:  # fmt: skip
        mask.write(np.tile(np.arange(WIDTH) % 7 > 0, (HEIGHT, 1)).astype(np.uint8), 1)
    return Inputs(str(folder))


@pytest.fixture(scope="module")
def remote(local: Inputs, bucket: str) -> Inputs:
    """The same files on gs://."""
    folder = storage.join(bucket, "inputs")
    for entry in storage.list_files(local.folder, recursive=True):
        inside = entry.path.removeprefix(local.folder).lstrip("/")
        storage.upload(entry.path, storage.join(folder, inside))
    return Inputs(folder)


@dataclass(frozen=True)
class Results:
    """What the four steps wrote."""

    series: str
    samples: str
    model: str
    map: str


def run_steps(inputs: Inputs, place: Callable[[str], str]) -> Results:
    """The four steps; ``place`` gives where each writes."""
    wrote = Results(place("series"), place("samples"), place("model"), storage.join(place("map"), "map.tif"))
    assert dlts(["generate-img-series", "-i", inputs.images, "-o", wrote.series, *ONE]) == 0
    given = ["-i", wrote.series, "-s", inputs.points, "--classes", inputs.classes, "-o", wrote.samples]
    assert dlts(["generate-series", *given, *ONE]) == 0
    training = ["-e", "2", "-b", "16", "--model", "lstm", "--model-config", inputs.config]
    assert dlts(["train-model", "-i", wrote.samples, "-o", wrote.model, *training]) == 0
    area = ["--roi", inputs.roi, "--mask", inputs.mask, "--probabilities", "--tile", "16"]
    given = ["-i", wrote.series, "-m", wrote.model, "-o", wrote.map]
    assert dlts(["classify-img-series", *given, *area, *ONE]) == 0
    return wrote


@pytest.fixture(scope="module")
def plain(local: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """All local."""
    folder = tmp_path_factory.mktemp("results")
    return run_steps(local, lambda name: str(folder / name))


def maps_of(results: Results) -> list[bytes]:
    """Bytes of the map and of its probabilities."""
    folder = storage.parent(results.map)
    return [storage.read_bytes(storage.join(folder, name)) for name in ("map.tif", "map.probabilities.tif")]


def shards_of(results: Results) -> list[bytes]:
    entries = storage.list_files(results.samples)
    return [storage.read_bytes(e.path) for e in entries if e.path.endswith(".tfrecord.gz")]


def names_in(folder: str) -> set[str]:
    entries = storage.list_files(folder, recursive=True)
    return {entry.path.removeprefix(folder).lstrip("/") for entry in entries}


def test_everything_on_gs(remote: Inputs, plain: Results, bucket: str):
    results = run_steps(remote, lambda name: storage.join(bucket, "all", name))
    assert shards_of(results) == shards_of(plain)
    assert maps_of(results) == maps_of(plain)
    for ours, other in zip(vars(results).values(), vars(plain).values(), strict=True):
        ours, other = (path.removesuffix("/map.tif") for path in (ours, other))
        written = {name for name in names_in(ours) if "events.out" not in name}
        assert written == {name for name in names_in(other) if "events.out" not in name}
    logs = [name for name in names_in(results.model) if "events.out" in name]
    assert len(logs) >= 2
    certificate = json.loads(storage.read_text(results.map + ".json"))
    local = json.loads(storage.read_text(plain.map + ".json"))
    assert certificate["files"] == local["files"]
    # People and QGIS open the VRTs, which name the images on gs://.
    vrt = storage.join(results.series, "ts_b1.vrt")
    assert "<SourceFilename relativeToVRT=\"0\">/vsigs/" in storage.read_text(vrt)
    with rasterio.open(storage.gdal_path(vrt)) as ours, rasterio.open(f"{plain.series}/ts_b1.vrt") as other:
        assert (ours.read() == other.read()).all()


def test_steps_alternate_between_local_and_gs(
    local: Inputs, remote: Inputs, plain: Results, bucket: str, tmp_path: Path
):
    """Images local, series on gs://; samples local; model on gs://; map local. Then the other way round."""

    def odd(name: str) -> str:
        far = name in ("series", "model")
        return storage.join(bucket, "odd", name) if far else str(tmp_path / "odd" / name)

    def even(name: str) -> str:
        far = name in ("samples", "map")
        return storage.join(bucket, "even", name) if far else str(tmp_path / "even" / name)

    for inputs, place in ((local, odd), (remote, even)):
        results = run_steps(inputs, place)
        assert shards_of(results) == shards_of(plain)
        assert maps_of(results) == maps_of(plain)


@pytest.mark.parametrize("name", ["points.geojson", "points.shp", "points.csv", "points.parquet"])
def test_vector_files_of_every_kind(remote: Inputs, plain: Results, folder: str, name: str):
    given = ["-i", plain.series, "-s", storage.join(remote.folder, name), "-o", folder]
    more = ["--classes", remote.classes, "--samples-crs", UTM, "--no-summary"]
    assert dlts(["generate-series", *given, *more, *ONE]) == 0
    written = Results("", folder, "", "")
    assert shards_of(written) == shards_of(plain)


def test_a_table_of_dates_and_a_raster_to_align_to(remote: Inputs, folder: str, tmp_path: Path):
    shifted = storage.join(folder, "shifted.tif")
    with rasterio.open(storage.gdal_path(remote.like)) as image:
        profile, pixels = image.profile, image.read()
    a, b, c, d, e, f = TRANSFORM
    profile["transform"] = Affine(a, b, c + 10, d, e, f - 10)
    with rasterio.open(tmp_path / "shifted.tif", "w", **profile) as image:
        image.write(pixels)
    storage.upload(tmp_path / "shifted.tif", shifted)
    flags = ["--dates", remote.dates, "--align", "--like", shifted]
    for name, output in (("near", str(tmp_path / "near")), ("far", storage.join(folder, "far"))):
        assert dlts(["generate-img-series", "-i", remote.images, "-o", output, *flags, *ONE]) == 0, name
    assert "2021-03-05" in storage.read_text(storage.join(folder, "far", "series.json"))
    with (
        rasterio.open(storage.gdal_path(storage.join(folder, "far", "ts_b2.vrt"))) as far,
        rasterio.open(tmp_path / "near" / "ts_b2.vrt") as near,
    ):
        assert (far.read() == near.read()).all()
        assert far.read().any()


def test_an_imagine_file_and_an_older_map_on_gs(remote: Inputs, plain: Results, folder: str):
    output = storage.join(folder, "map.img")
    command = ["classify-img-series", "-i", plain.series, "-m", plain.model, "-o", output, *ONE]
    assert dlts([*command, "--tile", "32"]) == 0
    first = storage.read_bytes(output)
    record = json.loads(storage.read_text(output + ".run.json"))
    assert record["written"] == record["expected"] > 1
    # Tiles of the older map are taken over, through GDAL, where one tile is not what it was.
    certificate = json.loads(storage.read_text(output + ".json"))
    certificate["files"]["map.img"] = "0" * 64
    storage.write_text(output + ".json", json.dumps(certificate))
    assert dlts([*command, "--tile", "32"]) == 0
    record = json.loads(storage.read_text(output + ".run.json"))
    assert record["reused"] == record["expected"]
    assert storage.read_bytes(output) == first


def test_a_killed_training_goes_on_where_it_was(plain: Results, folder: str, tmp_path: Path):
    samples = storage.join(folder, "samples")
    for entry in storage.list_files(plain.samples):
        storage.upload(entry.path, storage.join(samples, storage.name(entry.path)))
    flags = ["-i", samples, "-e", "8", "-b", "16", "--model", "lstm", "--model-config", CONFIG]
    flags += ["--checkpoint-seconds", "0", "--no-random-forest"]
    killed, whole = storage.join(folder, "killed"), str(tmp_path / "whole")
    with subprocess.Popen(
        [sys.executable, "-m", "trainer", *flags, "-o", killed], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 4/8"):
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    assert storage.exists(storage.join(killed, "checkpoint.npz"))
    assert not storage.exists(storage.join(killed, "model.json"))
    for output in (killed, whole):
        assert dlts(["train-model", *flags, "-o", output]) == 0
    serving = ("serving", "loss", "model.onnx")
    ours, other = (storage.read_bytes(storage.join(model, *serving)) for model in (killed, whole))
    assert ours == other
    assert not storage.exists(storage.join(killed, "checkpoint.npz"))


def test_a_replaced_object_is_never_answered_from_memory(folder: str, tmp_path: Path):
    path = storage.join(folder, "a.tif")
    for value in (1, 2):
        with rasterio.open(
            tmp_path / "a.tif", "w", driver="GTiff", height=8, width=8, count=1, dtype="uint8",
            crs=UTM, transform=Affine(*TRANSFORM),
        ) as image:  # fmt: skip
            image.write(np.full((8, 8), value, np.uint8), 1)
        storage.upload(tmp_path / "a.tif", path)
        with rasterio.open(storage.gdal_path(path)) as image:
            assert (image.read() == value).all()
    shutil.rmtree(tmp_path)
