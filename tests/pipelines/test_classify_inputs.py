"""What a map is made from must be what it was planned with, and what it is not made from does not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from dlts_beam.beam.map_plan import MapRequest, plan_map
from dlts_beam.beam.map_run import run_map
from dlts_beam.beam.runner import parse_options
from dlts_beam.errors import DltsError
from dlts_beam.spec import PreparationSpec, SeriesSpec
from pipelines.classify_img_series import main
from tests.fakes import FILL, Scene, make_model, random_scene, read_map
from tests.images import plan, write_image


@pytest.fixture
def band_files(tmp_path: Path) -> SeriesSpec:
    """Two time steps of three bands, each band of a date a file of its own."""
    generator = np.random.default_rng(0)
    for date in ("20200101", "20200117"):
        for band in (1, 2, 3):
            values = generator.integers(1, 2000, (1, 20, 30), np.uint16)
            write_image(tmp_path / "images" / f"S_{date}_B{band}.tif", values, nodata=0)
    series = plan(tmp_path / "images")
    (tmp_path / "series").mkdir()
    (tmp_path / "series/series.json").write_text(series.to_json())
    return series


def classify(folder: Path, *flags: str) -> int:
    given = ["-i", str(folder / "series"), "-m", str(folder / "model"), "-o", str(folder / "map.tif")]
    return main([*given, "--direct_num_workers", "1", *flags])


def test_files_of_other_bands_are_neither_checked_nor_counted(
    band_files: SeriesSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [band.name for band in band_files.bands]
    make_model(tmp_path / "model", band_files, preparation=PreparationSpec((names[1],), (FILL,)))
    used = [file for file in band_files.files if file.path.endswith("_B2.tif")]
    for file in band_files.files:
        if file not in used:
            Path(file.path).unlink()
    assert classify(tmp_path, "--dry-run") == 0
    told = capsys.readouterr().out
    assert f"to read: {sum(file.size for file in used) / 2**20:.1f} MiB of files" in told
    assert classify(tmp_path, "--on-error", "quarantine") == 0
    assert (read_map(tmp_path / "map.tif") != 255).all()
    (tmp_path / "map.tif").unlink()
    assert classify(tmp_path) == 0
    (tmp_path / "map.tif").unlink()
    Path(used[1].path).unlink()
    assert classify(tmp_path) == 1
    assert f"cannot read {used[1].path}" in capsys.readouterr().err


def write_mask(path: Path, scene: Scene, first: int, last: int) -> None:
    """Columns ``first`` to ``last`` of the scene are wanted."""
    grid = scene.spec.grid
    wanted = np.zeros((1, grid.height, grid.width), np.uint8)
    wanted[:, :, first:last] = 1
    profile = {"driver": "GTiff", "height": grid.height, "width": grid.width, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", crs=grid.crs, transform=Affine(*grid.transform), **profile) as mask:
        mask.write(wanted)


@pytest.mark.parametrize("quarantine", [False, True])
def test_a_mask_that_changes_in_mid_run_never_ends_in_a_map(tmp_path: Path, quarantine: bool) -> None:
    scene = random_scene(tmp_path / "series")
    model = make_model(tmp_path / "model", scene.spec)
    mask, output = tmp_path / "mask.tif", tmp_path / "map.tif"
    options = parse_options(["--direct_num_workers", "1"])
    request = MapRequest(
        str(scene.folder), str(model), str(output), tile=16, mask=str(mask), quarantine=quarantine
    )
    write_mask(mask, scene, 20, 40)
    planned = plan_map(request, options)
    write_mask(mask, scene, 0, 38)
    with pytest.raises(DltsError, match=f"the mask {mask} changed while the run was on its way"):
        run_map(planned, options)
    assert not output.exists()
    write_mask(mask, scene, 20, 40)
    certificate = run_map(plan_map(request, options), options).certificate
    found = read_map(output) != 255
    assert found[:, 20:40].any()
    assert not found[:, :20].any()
    assert not found[:, 40:].any()
    assert certificate.classified == found.sum()
