"""What step 4 refuses before it computes anything."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from dlts_beam.beam.map_plan import MapPlan, MapRequest, plan_map
from dlts_beam.beam.runner import parse_options
from dlts_beam.errors import DltsError
from tests.fakes import Scene, make_model, random_scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return random_scene(tmp_path / "series", 20, 30)


def plan(scene: Scene, output: Path, **flags: object) -> MapPlan:
    model = make_model(output.parent / "model", scene.spec)
    request = MapRequest(str(scene.folder), str(model), str(output), **flags)  # type: ignore[arg-type]
    return plan_map(request, parse_options([]))


@pytest.mark.parametrize(
    ("side", "name", "probabilities", "refused"),
    [
        (46_300, "map.img", False, r"map\.img"),
        (30_000, "map.img", True, r"map\.probabilities\.img"),  # two bands of two bytes
        (30_000, "map.img", False, None),
        (46_300, "map.tif", True, None),
    ],
)
def test_an_erdas_file_that_is_too_large_is_refused(
    scene: Scene, tmp_path: Path, side: int, name: str, probabilities: bool, refused: str | None
) -> None:
    spec = dataclasses.replace(scene.spec, grid=dataclasses.replace(scene.spec.grid, height=side, width=side))
    (scene.folder / "series.json").write_text(spec.to_json())
    flags = {"probabilities": probabilities, "tile": 16_384}
    if refused is None:
        assert len(plan(scene, tmp_path / name, **flags).job.tasks) == (4 if side == 30_000 else 9)
        return
    with pytest.raises(DltsError, match=f"cannot write .*{refused}: .* ERDAS"):
        plan(scene, tmp_path / name, **flags)


def test_probabilities_that_take_much_to_put_together_are_told_beforehand(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dlts_beam.plan.MUCH_TO_ASSEMBLE", 0)
    notes = [plan(scene, tmp_path / "map.tif", probabilities=on).notes for on in (False, True)]
    assert [any("putting it together" in note for note in each) for each in notes] == [False, True]


@pytest.mark.parametrize("days", [math.inf, math.nan, -1.0])
def test_a_date_tolerance_that_is_no_number_of_days_is_refused(
    scene: Scene, tmp_path: Path, days: float
) -> None:
    with pytest.raises(DltsError, match=f"--date-tolerance must be a number of 0 or more; got {days:g}"):
        plan(scene, tmp_path / "map.tif", date_tolerance=days)


def test_no_image_of_the_series_is_overwritten_though_start_leaves_it_out(tmp_path: Path) -> None:
    long = random_scene(tmp_path / "long", 20, 20, steps=32)
    first = {name: getattr(long.spec, name)[:4] for name in ("steps", "sources", "files")}
    model = make_model(tmp_path / "model", dataclasses.replace(long.spec, **first))
    request = MapRequest(str(long.folder), str(model), str(long.images[20]), start="2020-01-01")
    with pytest.raises(DltsError, match="the map is made from this file"):
        plan_map(request, parse_options([]))
