"""What the trainer feeds a model for a sample is, bit for bit, what step 4 feeds it for that pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.grid import Window, split_window
from dlts_beam.io.raster.reader import SeriesReader
from dlts_beam.spec import Band, IndexSpec, MaskRule, PreparationSpec, Reading, SeriesSpec, Timeline, TimeStep
from dlts_beam.tensors.inputs import prepare_samples, prepare_window
from dlts_beam.tensors.patches import iter_strips
from tests.dlts_beam.io.raster.scenes import Scene

STEPS, HEIGHT, WIDTH = 7, 6, 7
DAYS_APART = (0, 3, 3, 20, 41, 44, 90)

INDICES = (IndexSpec("ndvi", "nir", "red"),)
FILL = (0.3, 0.4, 0.5, 0.1)


def timeline(method: str, relative: bool = True) -> Timeline:
    start = 0.0 if relative else 5.0
    return Timeline(start, 16.0, 6, relative, method, by="ndvi" if method == "max" else None)


PREPARATIONS = {
    "as read": PreparationSpec(("red", "nir", "swir"), FILL[:3]),
    "some bands": PreparationSpec(("swir", "red"), FILL[:2]),
    "indices": PreparationSpec(("red", "nir", "swir"), FILL, indices=INDICES),
    "interpolated": PreparationSpec(("red", "nir", "swir"), FILL, INDICES, timeline("interpolate")),
    "day of year": PreparationSpec(("red", "nir", "swir"), FILL, INDICES, timeline("interpolate", False)),
    "median": PreparationSpec(("red", "nir", "swir"), FILL, INDICES, timeline("median")),
    "maximum": PreparationSpec(("nir", "red"), FILL[:3], INDICES, timeline("max")),
}
MISSING = ("nothing", "gaps in all bands", "gaps band by band", "masks and pieces")


class Case:
    """A series, and readers of it that stay open for all tests."""

    def __init__(self, spec: SeriesSpec) -> None:
        self.spec = spec
        self.days = spec.days
        self.given = spec.grid, spec.bands
        self._readers: dict[tuple[str, ...] | None, SeriesReader] = {}
        self.stored, self.valid = self.reader(None).read_stored(spec.grid.window)

    def reader(self, bands: tuple[str, ...] | None) -> SeriesReader:
        """The reader of some bands, or of all."""
        return self._readers.setdefault(bands, SeriesReader(self.spec, bands))

    def close(self) -> None:
        """Close all files."""
        for reader in self._readers.values():
            reader.close()


@pytest.fixture(scope="module", params=MISSING)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    made = Case(make_parity_series(request.param, tmp_path_factory.mktemp("parity")))
    yield made
    made.close()


def make_parity_series(missing: str, folder: Path) -> SeriesSpec:
    """A series of uint16 and float32 bands on irregular days, two of them the same."""
    random = np.random.default_rng(7)
    scene = Scene(folder, HEIGHT, WIDTH)
    bands = [
        Band(1, "red", "uint16", 0.0, 0.0001),
        Band(2, "nir", "uint16", 0.0, 0.0001, -0.1),
        Band(3, "swir", "float32", -9999.0),
    ]
    reading, steps, masks = Reading(), [], []
    if missing != "nothing":
        reading = Reading(valid_min=-0.05, valid_max=1.5)
    if missing == "masks and pieces":
        reading = Reading(valid_min=-0.05, valid_max=1.5, mask=MaskRule(4, (3,), 1))
    for _ in range(STEPS):
        shape = (HEIGHT, WIDTH)
        optical = random.integers(1000, 9000, (*shape, 2)).astype(np.uint16)
        other = random.random((*shape, 1)).astype(np.float32)
        if missing == "gaps in all bands":
            cloud = random.random(shape) < 0.4
            optical[cloud], other[cloud] = 0, -9999
        if missing == "gaps band by band":
            optical[random.random(optical.shape) < 0.4] = 0
            other[random.random(other.shape) < 0.3] = -9999
            other[random.random(other.shape) < 0.1] = 7
        if missing != "nothing":
            # One pixel is never seen, and it lies in a corner.
            optical[0, 0], other[0, 0] = 0, -9999
        # The grid cuts the optical image; the other band comes in two overlapping pieces.
        wide = np.zeros((HEIGHT + 2, WIDTH + 1, 2), np.uint16)
        wide[1:-1, 1:] = optical
        pieces = [scene.add(wide, -1, -1)]
        pieces += [scene.add(other[:4]), scene.add(other[2:], 2)]
        if reading.mask is not None:
            pieces.append(scene.add(np.where(random.random(shape) < 0.06, 3, 0).astype(np.uint8)))
            masks.append([(pieces[3], 1)])
        others = [(pieces[1], 1), (pieces[2], 1)]
        steps.append([[(pieces[0], 1)], [(pieces[0], 2)], others])
    spec = scene.series(steps, bands, masks=masks, reading=reading)
    times = [np.datetime64("2015-12-20") + days for days in DAYS_APART]
    return replace(spec, steps=tuple(TimeStep(k, f"{time}") for k, time in enumerate(times)))


def stored_samples(case: Case, patch: int) -> tuple[np.ndarray, ...]:
    """A sample at every pixel, as step 2 stores it: outside the grid 0 and not valid."""
    half = patch // 2
    around = ((0, 0), (half, half), (half, half), (0, 0))
    stored, valid = np.pad(case.stored, around), np.pad(case.valid, around)
    rows, cols = (axis.ravel() for axis in np.mgrid[:HEIGHT, :WIDTH])
    patches = [
        np.stack([cube[:, r : r + patch, c : c + patch] for r, c in zip(rows, cols, strict=True)])
        for cube in (stored, valid)
    ]
    return *patches, rows, cols


def patches_of_step_4(
    case: Case, spec: PreparationSpec, patch: int, window_size: tuple[int, int], batch: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """(row, col, (T', P, P, B')) of every pixel as an engine sees it."""
    half = patch // 2
    for window in split_window(case.spec.grid.window, *window_size):
        wanted = window.grow(half)
        read = wanted.intersect(case.spec.grid.window)
        assert read is not None
        values, valid = case.reader(spec.bands).read(read)
        cube = prepare_window(values, valid, case.days, spec, read, wanted)
        everything = np.ones((window.height, window.width), bool)
        for strip in iter_strips(cube, half, batch, everything):
            for output, pixel in zip(strip.outputs, strip.pixels, strict=True):
                row, col = divmod(int(pixel), window.width)
                yield window.row + row, window.col + col, strip.cube[:, :, output : output + patch]


@pytest.mark.parametrize("name", PREPARATIONS)
@pytest.mark.parametrize("patch", [1, 3, 5])
def test_trainer_and_step_4_feed_the_same_bits(case: Case, name: str, patch: int):
    spec = PREPARATIONS[name]
    stored, valid, rows, cols = stored_samples(case, patch)
    fed = prepare_samples(stored, valid, case.days, rows, cols, spec, *case.given)
    assert fed.dtype == np.float32
    assert np.isfinite(fed).all()
    own_days = np.tile(case.days, (len(rows), 1))
    for part in (slice(0, 3), slice(5, 6)):
        where = rows[part], cols[part]
        few = prepare_samples(stored[part], valid[part], own_days[part], *where, spec, *case.given)
        assert few.tobytes() == np.ascontiguousarray(fed[part]).tobytes()
    for window_size, batch in (((HEIGHT, WIDTH), 16), ((4, 3), 7)):
        seen = set()
        for row, col, cube in patches_of_step_4(case, spec, patch, window_size, batch):
            seen.add((row, col))
            assert np.ascontiguousarray(cube).tobytes() == fed[row * WIDTH + col].tobytes(), (row, col)
        assert len(seen) == HEIGHT * WIDTH


def test_own_days_per_sample_are_heeded(case: Case):
    """Samples of two years in one batch: each gets what it would get alone."""
    spec = PREPARATIONS["day of year"]
    stored, valid, rows, cols = stored_samples(case, 3)
    later = case.days + np.where(np.arange(STEPS) > 2, 400.0, 366.0)
    days = np.where((np.arange(len(rows)) % 2 == 0)[:, None], case.days, later)
    together = prepare_samples(stored, valid, days, rows, cols, spec, *case.given)
    for n in range(0, len(rows), 5):
        part = slice(n, n + 1)
        alone = prepare_samples(stored[part], valid[part], days[n], rows[part], cols[part], spec, *case.given)
        assert alone.tobytes() == np.ascontiguousarray(together[part]).tobytes()


def test_the_comparison_can_fail(case: Case):
    """Without the repeated edge pixels the two sides differ at borders, and only there."""
    spec = PREPARATIONS["as read"]
    stored, valid, rows, cols = stored_samples(case, 3)
    fed = prepare_samples(stored, valid, case.days, rows, cols, spec, *case.given)
    values, observed = case.reader(spec.bands).read(case.spec.grid.window)
    around = ((0, 0), (1, 1), (1, 1), (0, 0))
    wrong = prepare_window(
        np.pad(values, around), np.pad(observed, around), case.days, spec,
        Window(0, 0, HEIGHT + 2, WIDTH + 2), Window(0, 0, HEIGHT + 2, WIDTH + 2),
    )  # fmt: skip
    same = np.array(
        [
            (wrong[:, r : r + 3, c : c + 3] == fed[n]).all()
            for n, (r, c) in enumerate(zip(rows, cols, strict=True))
        ]
    ).reshape(HEIGHT, WIDTH)
    assert same[1:-1, 1:-1].all()
    assert same.sum() == (HEIGHT - 2) * (WIDTH - 2)


def test_window_must_have_the_size_that_was_read():
    spec = PREPARATIONS["as read"]
    values = np.zeros((2, 3, 4, 3), np.float32)
    with pytest.raises(ValueError, match="values must be 3 x 5 pixels; got 3 x 4"):
        prepare_window(values, values > 0, np.arange(2.0), spec, Window(0, 0, 3, 5), Window(0, 0, 3, 5))
