"""A job that nobody waits for ends with the same files as one whose launcher waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dlts_beam import storage
from dlts_beam.beam import dataflow
from dlts_beam.beam.detached import finish_map, finish_samples, submit_map
from dlts_beam.beam.map_plan import MapPlan, MapRequest, plan_map
from dlts_beam.beam.runner import parse_options
from dlts_beam.errors import DltsError
from pipelines.generate_series import main as generate_series
from tests.fakes import Scene, classify, make_model, random_scene
from tests.helpers import pixel_centres, write_points

ONE_WORKER = ["--direct_num_workers=1"]


def files_of(folder: Path) -> dict[str, bytes]:
    """All files by their path in the folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def planned_map(scene: Scene, folder: Path, output: Path) -> MapPlan:
    model = make_model(folder / "model", scene.spec)
    request = MapRequest(str(scene.folder), str(model), str(output), tile=16)
    return plan_map(request, parse_options(ONE_WORKER))


def test_the_map_is_the_same(tmp_path: Path):
    attached, detached = tmp_path / "attached", tmp_path / "detached"
    scene = random_scene(tmp_path / "series", 20, 30)
    planned = planned_map(scene, tmp_path, detached / "map.tif")
    assert submit_map(planned, parse_options(ONE_WORKER)) == 4
    assert classify(scene, tmp_path / "model", attached / "map.tif", "--tile", "16") == 0
    made, wanted = files_of(detached), files_of(attached)
    assert sorted(made) == sorted(wanted)  # no lock, no parts
    assert '"written": 4' in made["map.tif.run.json"].decode()
    for name in wanted.keys() - {"map.tif.run.json"}:
        assert made[name] == wanted[name], name
    # A last step that is done again, as services may do, changes nothing; nor does a second job.
    finish_map([], planned, 0.0, frozenset())
    assert submit_map(planned, parse_options(ONE_WORKER)) == 0
    assert files_of(detached) == made


def test_a_tile_that_is_gone_is_no_map(tmp_path: Path):
    planned = planned_map(random_scene(tmp_path / "series", 20, 30), tmp_path, tmp_path / "map.tif")
    with pytest.raises(DltsError, match=r"^4 of 4 tiles, such as \S+, are not in \S+map.tif.parts as they"):
        finish_map([], planned, 0.0, frozenset())
    assert not (tmp_path / "map.tif").exists()


@contextmanager
def taken(path: str, what: str) -> Iterator[Callable[[], None]]:
    """Stands for `storage.exclusive`: the lock is another run's at once."""

    def check() -> None:
        raise DltsError(f"another run took over {what}")

    yield check


def test_a_last_step_whose_lock_was_taken_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    planned = planned_map(random_scene(tmp_path / "series", 20, 30), tmp_path, tmp_path / "map.tif")
    monkeypatch.setattr(storage, "exclusive", taken)
    with pytest.raises(DltsError, match=r"^another run took over \S+map.tif$"):
        finish_map([], planned, 0.0, frozenset())


def test_a_last_step_whose_lock_was_taken_leaves_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """They are the other run's by then; as where this one only finds the map finished."""
    planned = planned_map(random_scene(tmp_path / "series", 20, 30), tmp_path, tmp_path / "map.tif")
    submit_map(planned, parse_options(ONE_WORKER))
    storage.write_bytes(tmp_path / "map.tif.parts" / "r00000c00000.tif", b"another run's")
    monkeypatch.setattr(storage, "exclusive", taken)
    with pytest.raises(DltsError, match=r"^another run took over \S+map.tif$"):
        finish_map([], planned, 0.0, frozenset())
    assert (tmp_path / "map.tif.parts" / "r00000c00000.tif").exists()


def test_the_samples_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    scene = random_scene(tmp_path / "series")
    pixels = [(row, col) for row in range(2, 36, 3) for col in range(2, 50, 5)]
    x, y = pixel_centres(scene.spec.grid, pixels)
    labels = [("forest", "crop", "water")[n % 3] for n in range(len(x))]
    points = write_points(tmp_path / "points.gpkg", [*x, 0.0], [*y, 0.0], **{"class": [*labels, "crop"]})
    common = ["-i", str(scene.folder), "-s", str(points), "--shards", "2", *ONE_WORKER]
    assert generate_series([*common, "-o", str(tmp_path / "attached")]) == 0
    monkeypatch.setattr(dataflow, "is_detached", lambda options: True)
    capsys.readouterr()
    assert generate_series([*common, "-o", str(tmp_path / "detached")]) == 0
    assert capsys.readouterr().out.endswith(f"{len(pixels)} pixels to cut out\n")
    assert files_of(tmp_path / "detached") == files_of(tmp_path / "attached")
    # Done again, the last step finds its scratch gone, and changes nothing.
    finish_samples([], str(tmp_path / "detached/plans/job.pickle"))
    assert files_of(tmp_path / "detached") == files_of(tmp_path / "attached")
