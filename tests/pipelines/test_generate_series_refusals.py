"""Step 2 on bad input: one sentence that says what is wrong, and no samples."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers import UTM, pixel_centres, write_points
from tests.pipelines.sampling import SampledScene, make_scene, rejected_of, run


@pytest.fixture
def scene(tmp_path: Path) -> SampledScene:
    return make_scene(tmp_path)


def test_an_unreadable_image_names_file_band_step_and_window(scene, capsys: pytest.CaptureFixture[str]):
    folder, _, series = scene
    file = series.files[2]
    data = bytearray(Path(file.path).read_bytes())
    data[300:700] = bytes(400)  # the start of the pixels
    Path(file.path).write_bytes(data)
    os.utime(file.path, ns=(int(file.stamp), int(file.stamp)))
    assert run(folder) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    for part in (file.path, "band", "time step 2", "window row"):
        assert part in told
    assert list((folder / "out").iterdir()) == []
    assert run(folder, "--skip-unreadable", "--min-valid", "1") == 1  # one window: nothing is left
    assert "60 unreadable source" in capsys.readouterr().err
    assert {row["reason"] for row in rejected_of(folder / "out")} == {"unreadable source"}


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["-n", "4"], "-n/--num-classes is 4, but column 'class' has 3 classes: 3, 5, 9"),
        (["-c", "kind"], "has no column 'kind' (-c/--column-label); it has class, plot"),
        (["--keep", "nothing"], "has no column 'nothing' (--keep)"),
        (["--keep", "plot", "plot"], "--keep names a column twice"),
        (["--patch", "4"], "--patch must be odd, so that a pixel sits in the middle; got 4"),
        (["--start-column", "plot"], "--start-column and --end-column go together"),
        (["--steps", "3"], "--steps goes with --start-column and --end-column"),
        (["--block-size", "0"], "--block-size must be more than 0"),
        (["--min-valid", "0"], "--min-valid must be 1 or more"),
        (["--min-valid", "5"], "no sample is left of 60 pixels: 60 too few valid observations"),
        (["--samples-crs", "EPSG:4326"], "all 60 features lie outside the series"),
        (["--classes", "nowhere.csv"], "nowhere.csv"),
        (["-i", "nowhere"], "nowhere is not a series folder"),
        (["-s", "nowhere.gpkg"], "there is no vector file nowhere.gpkg"),
        (["-o", "/proc/nowhere"], "/proc/nowhere"),
        (["--pach", "5"], "unknown flag --pach"),
    ],
)
def test_bad_input_is_one_sentence(
    scene, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
):
    folder, _, _ = scene
    assert run(folder, *flags) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert sentence in told


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([-1, 0, 1], "must be texts or integers in 0..65534; got -1"),
        ([0, 1, 65535], "must be texts or integers in 0..65534; got 65535"),
        ([0.5, 1, 2], "label 0.5 in column 'class' is neither integer nor text"),
        ([None, None, None], "column 'class' holds no label"),
    ],
)
def test_labels_out_of_range_are_one_sentence(
    scene, capsys: pytest.CaptureFixture[str], labels: list, sentence: str
):
    folder, _, series = scene
    x, y = pixel_centres(series.grid, [(0, 0), (1, 1), (2, 2)])
    write_points(folder / "odd.gpkg", x, y, **{"class": labels})
    assert run(folder, samples="odd.gpkg") == 1
    assert sentence in capsys.readouterr().err


def test_points_without_a_crs_are_one_sentence(scene, capsys: pytest.CaptureFixture[str]):
    folder, _, series = scene
    x, y = pixel_centres(series.grid, [(0, 0), (1, 1)])
    write_points(folder / "none.shp", x, y, None, **{"class": [0, 1]})
    assert run(folder, samples="none.shp") == 1
    assert "names no CRS: give it with --samples-crs" in capsys.readouterr().err
    assert run(folder, "--samples-crs", UTM, samples="none.shp") == 0
