"""The map is the same bytes however the grid is cut: tiles, windows, workers; and the comparison can fail."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from dlts_beam import storage
from dlts_beam.beam.handler import Cube, Unread
from dlts_beam.beam.read_windows import _ReadWindows
from dlts_beam.beam.stage import TileTask
from dlts_beam.beam.write_tiles import NO_PROBABILITY
from dlts_beam.grid import Window
from dlts_beam.io.raster.reader import SeriesReader
from dlts_beam.plan import make_plan, pixel_bytes, tile_bytes, tile_pixel_bytes, window_bytes
from dlts_beam.postprocess import LEVELS
from dlts_beam.spec import ModelSpec, PreparationSpec, SeriesSpec, Warp
from dlts_beam.tensors.inputs import prepare_samples
from dlts_beam.tensors.patches import extract_patches
from pipelines.cli import main as dlts
from tests.fakes import (
    NODATA,
    Scene,
    classify,
    expected_map,
    make_model,
    model_spec,
    random_scene,
    read_map,
)
from tests.images import write_image

HEIGHT, WIDTH = 37, 53
# Side of the tiles (53 is the whole scene), side of the windows, workers.
CUTS = ((53, 64, 1), (16, 7, 1), (16, 7, 2), (32, 16, 2), (64, 16, 1), (64, 7, 1))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return random_scene(tmp_path_factory.mktemp("scene") / "series", HEIGHT, WIDTH)


def budget(scene: Scene, model: Path, tile: int, window: int) -> str:
    """The smallest --memory that gives windows of this side (a window of 64 holds the whole scene)."""
    spec = ModelSpec.from_json((model / "model.json").read_text())
    height, width = min(window, HEIGHT), min(window, WIDTH)
    windows = window_bytes(height, width, spec.serving.halo, pixel_bytes(scene.spec, spec))
    per_pixel = tile_pixel_bytes(spec, probabilities=True, area=False)
    plan = make_plan(scene.spec, spec, 64, windows + tile_bytes(scene.spec, 64, per_pixel), True)
    assert (plan.window_height, plan.window_width) == (height, width)
    return str(windows + tile_bytes(scene.spec, tile, per_pixel))


def flags_of(scene: Scene, model: Path, cut: tuple[int, int, int]) -> tuple[str, ...]:
    """The flags of step 4 for a cut."""
    tile, window, workers = cut
    memory = budget(scene, model, tile, window)
    return "--tile", str(tile), "--memory", memory, "--direct_num_workers", str(workers)


def maps(scene: Scene, model: Path, folder: Path, cuts: Sequence[tuple[int, int, int]] = CUTS) -> list[bytes]:
    """The bytes of the map and of its probabilities for every cut."""
    found = []
    for number, cut in enumerate(cuts):
        output = folder / f"cut_{number}" / "map.tif"
        assert classify(scene, model, output, "--probabilities", *flags_of(scene, model, cut)) == 0
        found.append(output.read_bytes() + output.with_name("map.probabilities.tif").read_bytes())
    return found


@pytest.mark.parametrize("patch", [1, 3, 5])
def test_the_map_is_that_of_plain_numpy_for_every_cut(scene: Scene, tmp_path: Path, patch: int) -> None:
    model = make_model(tmp_path / "model", scene.spec, patch, batch=64)
    assert len(set(maps(scene, model, tmp_path))) == 1
    found = read_map(tmp_path / "cut_0" / "map.tif")
    np.testing.assert_array_equal(found, expected_map(scene.stored, scene.spec.days, patch))
    assert set(np.unique(found)) == {3, 7, 255}


@pytest.mark.parametrize(("architecture", "patch"), [("lstm", 1), ("conv_bilstm", 3), ("conv_bilstm", 5)])
def test_a_real_network_gives_one_map_for_every_cut(
    scene: Scene, tmp_path: Path, architecture: str, patch: int
) -> None:
    model = real_model(tmp_path / "model", scene, architecture, patch)
    assert len(set(maps(scene, model, tmp_path))) == 1
    assert len(np.unique(read_map(tmp_path / "cut_0" / "map.tif"))) == 3


@pytest.mark.parametrize(("architecture", "patch"), [("conv_bilstm", 3), ("conv_bilstm", 5)])
def test_border_pixels_get_what_keras_says(
    scene: Scene, tmp_path: Path, architecture: str, patch: int
) -> None:
    """Every pixel of the outermost rows and columns, through the patches that the trainer sees."""
    model = real_model(tmp_path / "model", scene, architecture, patch)
    assert classify(scene, model, tmp_path / "map.tif", "--tile", "16", "--probabilities") == 0
    rows, cols = np.mgrid[0:HEIGHT, 0:WIDTH]
    edge = (np.minimum(rows, HEIGHT - 1 - rows) < 2) | (np.minimum(cols, WIDTH - 1 - cols) < 2)
    rows, cols = rows[edge], cols[edge]
    half, spec, series = patch // 2, ModelSpec.from_json((model / "model.json").read_text()), scene.spec
    padded = np.pad(scene.stored, ((0, 0), (half, half), (half, half), (0, 0)))  # holes outside, as in step 2
    stored = extract_patches(padded, rows, cols, patch)
    prepared = prepare_samples(
        stored, stored != NODATA, series.days, rows, cols, spec.preparation, series.grid, series.bands
    )
    wanted = np.asarray(load_network(model)(prepared))
    with rasterio.open(tmp_path / "map.probabilities.tif") as dataset:
        found = dataset.read()[:, rows, cols].T
    seen = found[:, 0] != NO_PROBABILITY
    assert 100 < seen.sum() < len(seen)
    assert np.abs(found[seen] / LEVELS - wanted[seen]).max() <= 1e-4
    clear = np.abs(wanted[:, 0] - wanted[:, 1]) > 2e-4
    labels = np.array([3, 7])[wanted.argmax(axis=1)]
    np.testing.assert_array_equal(
        read_map(tmp_path / "map.tif")[rows, cols][seen & clear], labels[seen & clear]
    )


def test_aligned_images_give_one_map_for_every_cut(tmp_path: Path) -> None:
    scene = off_lattice_scene(tmp_path / "series")
    model = make_model(tmp_path / "model", scene.spec, patch=3)
    assert len(set(maps(scene, model, tmp_path))) == 1
    assert len(np.unique(read_map(tmp_path / "cut_0" / "map.tif"))) == 3


def test_overlapping_images_with_holes_and_clouds_give_one_map_for_every_cut(tmp_path: Path) -> None:
    """Three images a date cover parts of the grid; holes in single bands, NaN and nodata, a dilated mask."""
    generator = np.random.default_rng(3)
    places = [(0, 0, 40, 35), (5, 25, 37, 45), (30, 3, 30, 20)]
    for date, (part, (row, col, height, width)) in itertools.product(range(4), enumerate(places)):
        if (date, part) == (2, 2):
            continue
        values = generator.integers(1, 2000, (3, height, width)).astype(np.float32)
        values[0, generator.random((height, width)) < 0.1] = np.nan
        values[1, generator.random((height, width)) < 0.1] = -9999
        values[2] = (generator.random((height, width)) < 0.15) * 3
        name = f"T{part}_2020{date + 1:02d}15.tif"
        tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16}
        write_image(tmp_path / "images" / name, values, row, col, nodata=-9999, **tiles)
    flags = ["--mask-band", "3", "--mask-drop", "3", "--mask-dilate", "1", "--same-day", "merge"]
    given = ["-i", str(tmp_path / "images"), "-b", "1", "2", "-o", str(tmp_path / "series")]
    assert dlts(["generate-img-series", *given, *flags]) == 0
    spec = SeriesSpec.from_json((tmp_path / "series" / "series.json").read_text())
    scene = Scene(tmp_path / "series", (), spec, np.empty(0))
    model = make_model(tmp_path / "model", spec, patch=5)
    found = set()
    cuts = (("--tile", "64"), ("--tile", "7"), ("--tile", "16", "--memory", "448.2MB"))
    for number, cut in enumerate(cuts):
        output = tmp_path / f"cut_{number}" / "map.tif"
        assert classify(scene, model, output, "--probabilities", *cut) == 0
        found.add(output.read_bytes() + output.with_name("map.probabilities.tif").read_bytes())
    assert len(found) == 1
    with SeriesReader(spec) as reader:
        _, valid = reader.read(spec.grid.window)
    never = ~valid.any(axis=(0, 3))
    assert 1000 < never.sum() < never.size
    np.testing.assert_array_equal(read_map(output) == 255, never)


def test_imagine_maps_are_the_same_bytes_too(scene: Scene, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", scene.spec, patch=3)
    outputs = [tmp_path / tile / "map.img" for tile in ("16", "64")]
    for output in outputs:
        assert classify(scene, model, output, "--tile", output.parent.name) == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_the_comparison_can_fail(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the halo every cut shows: the comparison above would see it."""

    def read_without_halo(
        reading: _ReadWindows, task: TileTask, window: Window
    ) -> tuple[Cube | Unread, int]:
        values, valid = reading._reader.read(window)
        return Cube(window, window, values, valid), 0

    monkeypatch.setattr(_ReadWindows, "_read", read_without_halo)
    model = make_model(tmp_path / "model", scene.spec, patch=3)
    assert len(set(maps(scene, model, tmp_path, CUTS[:2]))) > 1


def test_two_readers_at_once_see_the_same_pixels(scene: Scene) -> None:
    """Workers are threads of one process: each has a reader of its own."""
    def read(_: int) -> bytes:
        with SeriesReader(scene.spec) as reader:
            return reader.read(Window(3, 5, 20, 30))[0].tobytes()

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(read, range(8)))) == 1


def real_model(folder: Path, scene: Scene, architecture: str, patch: int) -> Path:
    """A network of the trainer's with weights that are not trivial, exported as the trainer does it."""
    from tests.trainer.serving.agreement import make_model as make_network
    from tests.trainer.serving.agreement import small_settings
    from trainer.export import export_serving, serving_digest
    from trainer.layers import Statistics, set_statistics
    from trainer.models import ModelShape, find_architecture

    steps, _, _, bands = scene.stored.shape
    shape = ModelShape(time_steps=steps, bands=bands, patch=patch, classes=2)
    network = make_network(architecture, shape, small_settings(architecture))
    uniform = np.random.default_rng(1).uniform(1, 2000, (200, steps, patch, patch, bands))
    set_statistics(network, Statistics.measure(uniform))
    serving_folder = str(folder / "serving" / "loss")
    serving = export_serving(network, find_architecture(architecture), shape, serving_folder, batch=64)
    names = tuple(band.name for band in scene.spec.bands)
    preparation = PreparationSpec(names, (900.0,) * bands)
    digests = {"loss": serving_digest(serving_folder)}
    spec = model_spec(scene.spec, serving, preparation, digests=digests)
    (folder / "model.json").write_text(spec.to_json())
    network.save(folder / "network.keras")
    return folder


def load_network(model: Path) -> Any:
    """The Keras model that `real_model` exported."""
    import keras

    import trainer.layers  # noqa: F401

    return keras.models.load_model(model / "network.keras")


def off_lattice_scene(folder: Path) -> Scene:
    """A series whose second image lies half a pixel off and is turned onto the grid when read."""
    scene = random_scene(folder, HEIGHT, WIDTH, cloud=0.05)
    path = scene.images[-1]
    a, b, c, d, e, f = scene.spec.grid.transform
    with rasterio.open(path) as image:
        profile, pixels = image.profile, image.read()
    profile["transform"] = Affine(a, b, c + 0.4 * a, d, e, f - 0.3 * a)
    with rasterio.open(path, "w", **profile) as image:
        image.write(pixels)
    stamp = storage.stat(path)
    files = list(scene.spec.files)
    files[-1] = dataclasses.replace(
        files[-1], row=0, col=0, size=stamp.size, stamp=stamp.stamp, warp=Warp("bilinear")
    )
    spec = dataclasses.replace(scene.spec, files=tuple(files))
    (folder / "series.json").write_text(spec.to_json())
    assert spec.bands[0].nodata == NODATA
    return dataclasses.replace(scene, spec=spec)
