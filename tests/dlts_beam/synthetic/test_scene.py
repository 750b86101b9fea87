import dataclasses
from collections import deque

import numpy as np
import pytest

from dlts_beam.synthetic import Scene, make_scene
from dlts_beam.synthetic.landscape import CLEARING
from dlts_beam.synthetic.scene import CLASSES

SIZE = 128


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(SIZE, seed=7)


def test_shapes_types_and_order(scene):
    assert scene.cube.shape == (24, SIZE, SIZE, 4)
    assert scene.cube.dtype == np.uint16
    assert scene.truth.dtype == np.uint8
    assert len(scene.bands) == 4
    assert list(scene.dates) == sorted(set(scene.dates))
    gaps = np.diff([date.toordinal() for date in scene.dates])
    assert len(set(gaps)) > 5, "dates must be irregular"
    assert 300 < gaps.sum() < 366


def test_one_seed_gives_one_scene_and_another_gives_another(scene):
    again, other = make_scene(SIZE, seed=7), make_scene(SIZE, seed=8)
    for field in dataclasses.fields(Scene):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(scene, field.name))
    assert (other.truth != scene.truth).mean() > 0.2


def test_size_refines_and_dates_leave_the_ground_as_it_is(scene):
    finer = make_scene(SIZE * 3, seed=7, dates=2)
    assert (finer.truth[1::3, 1::3] == scene.truth).mean() > 0.995


@pytest.mark.parametrize("cloud", [0.0, 0.3, 0.5])
def test_the_share_of_cloud_is_the_one_asked_for(cloud):
    scene = make_scene(96, seed=1, cloud=cloud)
    covered = scene.truth != scene.classes.nodata
    assert 1 - scene.valid[:, covered].mean() == pytest.approx(cloud, abs=0.01)


def test_clouds_come_in_blobs(scene):
    covered = scene.truth != scene.classes.nodata
    cloudy = ~scene.valid & covered
    pairs = cloudy[:, :, 1:] & cloudy[:, :, :-1]
    assert pairs.sum() / cloudy[:, :, 1:].sum() > 0.85, "the neighbour of a cloudy pixel is cloudy, too"
    assert _components(cloudy[0]) < 40


def _components(mask: np.ndarray) -> int:
    todo = {(int(row), int(col)) for row, col in np.argwhere(mask)}
    count = 0
    while todo:
        queue = deque([todo.pop()])
        count += 1
        while queue:
            row, col = queue.popleft()
            for place in ((row + 1, col), (row - 1, col), (row, col + 1), (row, col - 1)):
                if place in todo:
                    todo.remove(place)
                    queue.append(place)
    return count


def test_nodata_holds_for_all_bands_at_once_and_outside_the_swath_always(scene):
    missing = scene.cube == scene.nodata
    assert (missing.all(axis=-1) == missing.any(axis=-1)).all()
    never = ~scene.valid.any(axis=0)
    outside = scene.truth == scene.classes.nodata
    assert 0.01 < outside.mean() < 0.05
    assert never[outside].all()
    assert not never[~outside].any()


def test_every_class_is_there_and_none_dominates(scene):
    covered = scene.truth[scene.truth != scene.classes.nodata]
    shares = [(covered == value).mean() for value in scene.classes.values]
    assert min(shares) > 0.02
    assert max(shares) < 0.5


def test_clearings_fall_on_the_events(scene):
    """Before its event a clearing is as green as forest, after it is not."""
    clearing = CLASSES.rows[CLEARING].value
    assert ((scene.cleared >= 0) == (scene.truth == clearing))[scene.truth != scene.classes.nodata].all()
    red, nir = scene.bands.index("red"), scene.bands.index("nir")
    bands = np.where(scene.valid[..., None], scene.cube, 1).astype(np.float64)
    greenness = (bands[..., nir] - bands[..., red]) / (bands[..., nir] + bands[..., red])
    for number, event in enumerate(scene.events):
        here = scene.valid & (scene.cleared == number)
        before = np.array([date < event for date in scene.dates])
        just_after = np.array([0 <= (date - event).days < 50 for date in scene.dates])
        assert np.median(greenness[before][here[before]]) > 0.65
        assert np.median(greenness[just_after][here[just_after]]) < 0.55


@pytest.mark.parametrize(
    ("arguments", "message"), [({"size": 10}, "size"), ({"dates": 1}, "dates"), ({"cloud": 0.9}, "cloud")]
)
def test_arguments_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_scene(**arguments)
