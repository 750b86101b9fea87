"""Step 2 from the command line: what it writes is what plain numpy cuts out, and nothing is lost."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from dlts_beam import samples_folder
from dlts_beam.records import RecordLayout, decode_days, decode_series, unpack_valid
from dlts_beam.spec import sample_id, shard_name
from tests.helpers import TRANSFORM, UTM, make_series, pixel_centres, random_cube, write_points
from tests.pipelines.sampling import SampledScene, make_scene, records_of, rejected_of, run, spec_of


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


def naive_patch(cube: np.ndarray, row: int, col: int, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel by pixel: what is outside or 0 is not valid."""
    steps, height, width, bands = cube.shape
    series = np.zeros((steps, patch, patch, bands), cube.dtype)
    for i in range(patch):
        for j in range(patch):
            r, c = row + i - patch // 2, col + j - patch // 2
            if 0 <= r < height and 0 <= c < width:
                series[:, i, j] = cube[:, r, c]
    return series, series != 0


@pytest.fixture
def scene(tmp_path: Path) -> SampledScene:
    return make_scene(tmp_path)


@pytest.mark.parametrize("patch", [1, 3, 5])
def test_samples_are_what_plain_numpy_cuts_out(scene, patch: int):
    folder, cube, series = scene
    assert run(folder, "--patch", str(patch), "-n", "3", "--keep", "plot") == 0
    spec = spec_of(folder / "out")
    layout = RecordLayout.of(spec)
    records = records_of(folder / "out")
    assert (spec.samples, spec.classes.values, spec.shape) == (len(records), (3, 5, 9), (4, patch, patch, 2))
    series_of = decode_series([r["series"] for r in records], layout)
    valid_of = unpack_valid([r["valid"] for r in records], layout.shape)
    for record, got, got_valid in zip(records, series_of, valid_of, strict=True):
        want, want_valid = naive_patch(cube, record["row"], record["col"], patch)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(got_valid, want_valid)
        x, y = series.grid.xy(record["row"] + 0.5, record["col"] + 0.5)
        assert (record["x"], record["y"]) == (x, y)
        assert record["id"].decode() == sample_id(x, y)
        assert record["class_id"] == record["feature"] % 3
        assert record["kept/plot"].decode() == f"plot {record['feature']}"
    np.testing.assert_array_equal(decode_days([records[0]["days"]], layout)[0], series.days)
    assert sum(spec.class_counts) == len(records) == spec.candidates.used
    found = digests(folder / "out")
    assert spec.shards_sha256 == tuple(found[shard_name(n, spec.shards)] for n in range(spec.shards))


def test_tensorflow_reads_the_files(scene):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tf = pytest.importorskip("tensorflow")
    folder, cube, _ = scene
    assert run(folder) == 0
    features = {
        "series": tf.io.FixedLenFeature([], tf.string),
        "class_id": tf.io.FixedLenFeature([], tf.int64),
        "row": tf.io.FixedLenFeature([], tf.int64),
        "col": tf.io.FixedLenFeature([], tf.int64),
        "x": tf.io.FixedLenFeature([], tf.float32),
    }
    shards = [str(path) for path in sorted((folder / "out").glob("*.tfrecord.gz"))]
    seen = 0
    for record in tf.data.TFRecordDataset(shards, "GZIP"):
        parsed = tf.io.parse_single_example(record, features)
        series = tf.io.decode_raw(parsed["series"], tf.uint16).numpy().reshape(4, 3, 3, 2)
        np.testing.assert_array_equal(series[:, 1, 1], cube[:, int(parsed["row"]), int(parsed["col"])])
        seen += 1
    assert seen == spec_of(folder / "out").samples


def test_any_layout_gives_the_same_set_and_a_rerun_the_same_bytes(scene):
    folder, _, _ = scene
    assert run(folder) == 0
    first, everything = digests(folder / "out"), sorted(map(str, records_of(folder / "out")))
    assert run(folder, "--direct_num_workers", "1") == 0
    assert digests(folder / "out") == first
    assert run(folder, "--shards", "3", output="three") == 0
    assert sorted(map(str, records_of(folder / "three"))) == everything


def test_killed_at_any_point_and_run_again_it_gives_the_same_bytes(scene, monkeypatch: pytest.MonkeyPatch):
    """Kill it after every file it writes or removes, and run it again each time."""
    from dlts_beam.storage import local

    folder, _, _ = scene
    assert run(folder, output="whole") == 0
    whole = digests(folder / "whole")
    out = folder / "out"
    shutil.copytree(folder / "whole", out)
    (out / "samples-00007-of-00009.tfrecord.gz").write_bytes(b"of an older run")
    (out / "notes.txt").write_text("of the user")

    class Killed(BaseException):
        pass

    def killing(call, left: list[int]):
        def wrapped(path: str, *more):
            # The lock of a killed process goes with it.
            if str(out) in path and "tmp-" not in path and not path.endswith(".lock"):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
            return call(path, *more)

        return wrapped

    deaths = 0
    for after in range(40):
        left = [after]
        with monkeypatch.context() as patched:
            patched.setattr(local, "remove", killing(local.remove, left))
            patched.setattr(local, "write_bytes", killing(local.write_bytes, left))
            try:
                assert run(folder) == 0
                break
            except Killed:
                deaths += 1
        if (out / "samples.json").exists():
            # Not touched yet: the old run is still whole.
            assert {name: digests(out)[name] for name in whole} == whole
    assert deaths > 5
    (out / "notes.txt").unlink()
    assert sorted(path.name for path in out.iterdir()) == sorted(whole)
    assert digests(out) == whole


def test_two_runs_never_write_one_folder(
    scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder, _, _ = scene
    assert run(folder) == 0
    first = digests(folder / "out")
    second: list[int] = []

    def at_the_end(*arguments) -> None:
        if not second:  # the other run comes when this one is about to complete the folder
            second.append(-1)
            second.append(run(folder, "--min-valid", "4"))
        complete(*arguments)

    complete = samples_folder.complete_folder
    monkeypatch.setattr(samples_folder, "complete_folder", at_the_end)
    capsys.readouterr()
    assert run(folder) == 0
    assert second == [-1, 1]
    told = f"error: {folder / 'out'} is being written by another run (process {os.getpid()} on "
    assert capsys.readouterr().err.startswith(told)
    assert digests(folder / "out") == first  # and no lock


def test_what_a_killed_run_had_begun_to_write_goes(scene):
    folder, _, _ = scene
    assert run(folder) == 0
    first = digests(folder / "out")
    for name in ("samples-00000-of-00001.tfrecord.gz", "quality.csv", "notes.txt"):
        (folder / "out" / f".tmp-0a1b2c3d-{name}").write_text("half")
    assert run(folder) == 0
    (folder / "out" / ".tmp-0a1b2c3d-notes.txt").unlink()  # is not ours
    assert digests(folder / "out") == first


def test_everything_is_accounted_for(tmp_path: Path):
    cube = random_cube(steps=3, height=10, width=12, bands=1)
    cube[:, 5, 5] = 0
    cube[1:, 6, 6] = 0
    series = make_series(tmp_path / "series", cube, nodata=0)
    x, y = pixel_centres(
        series.grid, [(1, 1), (1, 1), (2, 2), (2, 2), (3, 3), (5, 5), (6, 6), (-1, 0), (4, 4), (7, 7)]
    )
    labels = ["a", "a", "a", "b", "b", "a", "a", "a", None, "odd"]
    write_points(tmp_path / "points.gpkg", x, y, **{"class": labels})
    (tmp_path / "classes.csv").write_text("value,name,colour\n20,b,#112233\n10,a,#445566\n")
    assert run(tmp_path, "--classes", str(tmp_path / "classes.csv"), "--min-valid", "2") == 0
    spec = spec_of(tmp_path / "out")
    assert spec.features.rejected == {"no label": 1, "outside the grid": 1, "unknown label": 1}
    assert spec.candidates.rejected == {
        "conflicting labels": 2, "duplicate": 1, "too few valid observations": 2,
    }  # fmt: skip
    assert (spec.features.total, spec.features.used, spec.candidates.total, spec.samples) == (10, 7, 7, 2)
    assert spec.class_counts == (1, 1)
    told = {
        int(row["feature"]): (row["ledger"], row["reason"], row["label"])
        for row in rejected_of(tmp_path / "out")
    }
    assert sorted(told) == [1, 2, 3, 5, 6, 7, 8, 9]
    assert told[7] == ("feature", "outside the grid", "a")
    assert told[9] == ("feature", "unknown label", "odd")
    assert (
        tmp_path / "out" / "classes.csv"
    ).read_text() == "id,value,name,colour\n0,20,b,#112233\n1,10,a,#445566\n"
    assert {r["class_id"]: (r["row"], r["col"]) for r in records_of(tmp_path / "out")} == {
        0: (3, 3),
        1: (1, 1),
    }


def test_the_summary_may_be_left_out_and_an_older_one_goes(scene, capsys: pytest.CaptureFixture[str]):
    folder = scene[0]
    summary = {"statistics.json", "quality.csv", "samples.html"}
    assert run(folder) == 0
    whole = digests(folder / "out")
    assert summary <= set(whole)
    assert "samples.html" in capsys.readouterr().out
    assert run(folder, "--no-summary") == 0
    assert digests(folder / "out") == {name: sha for name, sha in whole.items() if name not in summary}
    assert "samples.html" not in capsys.readouterr().out


def test_a_classes_file_beside_the_points_is_not_taken_unasked(scene):
    folder, _, _ = scene
    (folder / "classes.csv").write_text("value,name\n3,Three\n5,Five\n9,Nine\n")
    assert run(folder) == 0
    assert spec_of(folder / "out").classes.names == ("3", "5", "9")


def test_a_classes_file_of_the_users_own_is_never_overwritten(scene, capsys: pytest.CaptureFixture[str]):
    folder, _, _ = scene
    (folder / "classes.csv").write_text("value,name\n3,Three\n5,Five\n9,Nine\n")
    assert run(folder, "--classes", str(folder / "classes.csv"), output=".") == 1
    assert "classes.csv that is not of a samples folder" in capsys.readouterr().err
    assert (folder / "classes.csv").read_text().startswith("value,name\n3,Three")
    assert run(folder, "--classes", str(folder / "classes.csv")) == 0
    # Its own table may serve again, from the folder that it stands in.
    assert run(folder, "--classes", str(folder / "out" / "classes.csv")) == 0
    assert spec_of(folder / "out").classes.names == ("Three", "Five", "Nine")


def test_each_feature_may_have_its_own_interval(scene):
    folder, cube, series = scene
    x, y = pixel_centres(series.grid, [(3, 3), (3, 3), (4, 4)])
    columns = {"class": [1, 2, 1], "from": ["2020-01-01", "2020-01-30", "2020-01-01"],
               "to": ["2020-01-20", "2020-02-28", "2020-01-20"]}  # fmt: skip
    write_points(folder / "seasons.gpkg", x, y, **columns)
    flags = ["--start-column", "from", "--end-column", "to", "--min-valid", "1", "--patch", "1"]
    assert run(folder, *flags, samples="seasons.gpkg") == 0
    spec = spec_of(folder / "out")
    assert (spec.interval, spec.samples, spec.shape) == (True, 3, (2, 1, 1, 2))
    layout = RecordLayout.of(spec)
    found = {}
    for record in records_of(folder / "out"):
        found[record["feature"]] = decode_series([record["series"]], layout)[0, :, 0, 0]
    np.testing.assert_array_equal(found[0], cube[:2, 3, 3])
    np.testing.assert_array_equal(found[1], cube[2:, 3, 3])
    assert len({record["id"] for record in records_of(folder / "out")}) == 3


def test_one_interval_in_two_spellings_is_one(scene):
    folder, _, series = scene
    x, y = pixel_centres(series.grid, [(3, 3), (3, 3), (4, 4), (5, 5), (5, 5)])
    columns = {"class": [1, 2, 1, 2, 2], "from": ["2020-01-01", "20200101", "2020-01-01"] + ["20200101"] * 2,
               "to": ["2020-01-20"] * 4 + ["20200120"]}  # fmt: skip
    write_points(folder / "seasons.gpkg", x, y, **columns)
    flags = ["--start-column", "from", "--end-column", "to", "--patch", "1", "--no-summary"]
    assert run(folder, *flags, samples="seasons.gpkg") == 0
    assert [(r["row"], r["col"]) for r in records_of(folder / "out")] == [(4, 4), (5, 5)]
    assert sorted(row["reason"] for row in rejected_of(folder / "out")) == [
        "conflicting labels", "conflicting labels", "duplicate",
    ]  # fmt: skip


def test_polygons_give_their_pixels(scene):
    folder, _, _ = scene
    left, top = TRANSFORM[2], TRANSFORM[5]
    boxes = [
        shapely.box(left + 60, top - 300, left + 300, top - 60),
        shapely.box(left + 600, top - 90, left + 690, top),
    ]
    gpd.GeoDataFrame({"class": ["a", "b"]}, geometry=boxes, crs=UTM).to_file(folder / "fields.gpkg")
    assert run(folder, "--erode", "1", samples="fields.gpkg") == 0
    records = records_of(folder / "out")
    assert {(r["row"], r["col"]) for r in records if r["feature"] == 0} == {
        (row, col) for row in range(3, 9) for col in range(3, 9)
    }
    # The grid's edge is not the polygon's, but this polygon ends there.
    assert {(r["row"], r["col"]) for r in records if r["feature"] == 1} == {(1, 21)}
    assert run(folder, "--samples-per-polygon", "5", samples="fields.gpkg", output="few") == 0
    assert spec_of(folder / "few").class_counts == (5, 5)


def test_help_is_quick_and_loads_nothing_heavy():
    script = (
        "import sys\nfrom pipelines.generate_series import build_parser\nbuild_parser().format_help()\n"
        "heavy = ('apache_beam', 'numpy', 'rasterio', 'geopandas', 'tensorflow')\n"
        "print(*(name for name in heavy if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_tensorflow_is_not_needed(scene):
    folder, _, _ = scene
    script = (
        "import sys\nfrom pipelines.generate_series import main\n"
        f"code = main(['-i', {str(folder / 'series')!r}, '-s', {str(folder / 'points.gpkg')!r}, '-o',"
        f" {str(folder / 'out')!r}])\nprint('tensorflow' in sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"
    assert "candidate pixels: 60 in" in done.stdout
