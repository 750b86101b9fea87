"""All engines give the same map of a real scene, save where two classes are as good as equal."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely

from dlts_beam.engines import ENGINES, tensorflow
from dlts_beam.grid import Grid
from dlts_beam.postprocess import LEVELS
from dlts_beam.spec import SeriesSpec
from pipelines.classify_img_series import main
from tests.pipelines.conftest import RealScene

ROWS, COLS = (0, 100), (200, 300)  # all classes, and an edge of the grid
TOLERANCE = 1e-4


def write_box(path: Path, grid: Grid) -> None:
    """The rows and columns as a polygon."""
    corners = [grid.xy(row, col) for row in ROWS for col in COLS]
    outline = shapely.MultiPoint(corners).envelope
    gpd.GeoDataFrame(geometry=[outline], crs=grid.crs).to_file(path)


def test_all_engines_give_the_same_map_of_a_real_scene(
    real_scene: RealScene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The work for a GPU too, with its longer strips, although it is the CPU that does it here."""
    monkeypatch.setattr(tensorflow, "_set_up", lambda tf, threads, gpu: None)
    monkeypatch.setattr(tensorflow, "find_gpus", lambda: ["GPU:0"])
    grid = SeriesSpec.from_json((real_scene.series / "series.json").read_text()).grid
    assert (grid.height, grid.width) == (400, 400)
    write_box(tmp_path / "box.gpkg", grid)
    given = ["-i", str(real_scene.series), "-m", str(real_scene.model), "--roi", str(tmp_path / "box.gpkg")]
    maps, chances = {}, {}
    engines = [*ENGINES, "tensorflow-gpu"]
    for engine in engines:
        folder = tmp_path / engine
        chosen = ["--gpu"] if engine == "tensorflow-gpu" else ["--engine", engine]
        flags = [*chosen, "--probabilities", "--tile", "64"]
        assert main([*given, "-o", str(folder / "map.tif"), *flags]) == 0
        assert json.loads((folder / "map.tif.json").read_text())["engine"] == engine
        with rasterio.open(folder / "map.tif") as dataset:
            maps[engine] = dataset.read(1)
        with rasterio.open(folder / "map.probabilities.tif") as dataset:
            chances[engine] = dataset.read().astype(np.int64)
    seen = maps["onnx"] != 255
    assert seen.sum() == 100 * 100
    assert len(np.unique(maps["onnx"][seen])) > 2
    best = np.sort(chances["onnx"], axis=0)
    lead = best[-1] - best[-2]
    for engine in engines[1:]:
        assert (maps[engine] != 255).sum() == seen.sum()
        apart = np.abs(chances[engine] - chances["onnx"])[:, seen].max() / LEVELS
        others = maps[engine] != maps["onnx"]
        with capsys.disabled():
            told = f"probabilities within {apart:.1e} of onnx's"
            print(f"\n  {engine}: {told}, {others.sum()} of {seen.sum()} labels differ")
        assert apart <= TOLERANCE
        assert (lead[others] <= 2 * TOLERANCE * LEVELS).all()
