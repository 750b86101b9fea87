from __future__ import annotations

import dataclasses

import pytest

from dlts_beam.errors import DltsError
from dlts_beam.plan import (
    BASE_BYTES,
    MIB,
    assembly_notes,
    default_memory,
    default_tile,
    make_plan,
    parse_bytes,
    pixel_bytes,
    source_block,
    tile_bytes,
    tile_pixel_bytes,
    window_bytes,
)
from dlts_beam.spec import ClassTable, PreparationSpec, SeriesSpec, ServingSpec
from tests.dlts_beam.test_fit_rule import every, series_of
from tests.fakes import model_spec


def series_with(height: int, width: int, block: tuple[int, int]) -> SeriesSpec:
    series = series_of(every("2020-01-01", 10, 24))
    grid = dataclasses.replace(series.grid, height=height, width=width)
    files = tuple(dataclasses.replace(file, height=height, width=width, block=block) for file in series.files)
    return dataclasses.replace(series, grid=grid, files=files)


def model_with(series: SeriesSpec, halo: int) -> object:
    return model_spec(series, ServingSpec(256, halo, 24, 2, 2), PreparationSpec(("red", "nir"), (0.0, 0.0)))


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MB", 512 * MIB), ("512MiB", 512 * MIB), ("1.5g", 1536 * MIB), ("100", 100), ("2 GB", 2048 * MIB)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "1XB", "1e3"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(DltsError, match="amount of memory"):
        parse_bytes(text)


def test_the_default_is_half_a_share_and_never_much() -> None:
    assert default_memory(None, 1) == 600 * MIB
    assert default_memory(64 << 30, 2) == 600 * MIB
    assert default_memory(2 << 30, 4) == BASE_BYTES + (1024 * MIB - BASE_BYTES) // 4
    assert default_memory(3 << 30, 2, processes=True) == 600 * MIB
    assert default_memory(2 << 30, 2, processes=True) == BASE_BYTES + (1024 * MIB - 2 * BASE_BYTES) // 2


@pytest.mark.parametrize("available", [1 << 20, 256 << 20, 1 << 30, 4 << 30])
@pytest.mark.parametrize("workers", [1, 8, 64])
@pytest.mark.parametrize("processes", [False, True])
def test_a_machine_with_little_memory_still_gets_a_plan(
    available: int, workers: int, processes: bool
) -> None:
    series = series_with(5000, 5000, (256, 256))
    memory = default_memory(available, workers, processes)
    plan = make_plan(series, model_with(series, 2), 512, memory)
    assert plan.window_height * plan.window_width >= 100 * 100
    assert plan.needed <= memory


@pytest.mark.parametrize(
    ("height", "width", "tile"),
    [(37, 53, 64), (256, 256, 64), (400, 400, 128), (512, 512, 128), (1100, 900, 256), (1537, 1537, 512)],
)
def test_small_grids_get_small_tiles(height: int, width: int, tile: int) -> None:
    assert default_tile(height, width) == tile


@pytest.mark.parametrize("halo", [0, 1, 2])
@pytest.mark.parametrize("block", [(1, 3000), (16, 3000), (128, 128), (256, 512), (512, 512)])
@pytest.mark.parametrize("extra", [1, 3, 20, 100, 300, 5000])
def test_windows_keep_within_the_budget_and_on_the_block_grid(
    halo: int, block: tuple[int, int], extra: int
) -> None:
    series = series_with(2000, 3000, block)
    model = model_with(series, halo)
    memory = BASE_BYTES + extra * MIB
    plan = make_plan(series, model, 512, memory)  # type: ignore[arg-type]
    assert plan.needed <= memory
    assert 1 <= plan.window_height <= 512
    assert 1 <= plan.window_width <= 512
    for size, side in ((plan.window_height, block[0]), (plan.window_width, block[1])):
        assert size % side == 0 or size < side or size == 512
    # Twice the rows would not fit, or the window is as large as it may be: nothing is given away.
    if plan.window_height < 512:
        taller = window_bytes(
            2 * plan.window_height + max(block[0], 1), plan.window_width, halo, pixel_bytes(series, model)
        ) + tile_bytes(series, 512, 3)
        assert taller > memory or plan.window_height >= plan.window_width


def test_blocks_of_bands_that_are_not_read_do_not_shape_the_windows() -> None:
    series = series_with(2000, 3000, (128, 128))
    other = dataclasses.replace(series.files[0], block=(1, 3000))
    series = dataclasses.replace(series, files=(*series.files, other))
    assert source_block(series, [band.name for band in series.bands]) == (128, 128)
    assert source_block(series, []) == (1, 1)


def test_the_need_does_not_grow_with_the_scene() -> None:
    small, large = series_with(512, 512, (128, 128)), series_with(20480, 20480, (128, 128))
    plans = [make_plan(series, model_with(series, 1), 512, 700 * MIB) for series in (small, large)]  # type: ignore[arg-type]
    assert plans[0].needed == plans[1].needed
    assert plans[1].tiles == 1600 * plans[0].tiles


@pytest.mark.parametrize(
    ("values", "probabilities", "area", "expected"),
    [
        # Map values; probabilities of two bytes a class; the larger file twice, encoded and copied; the area.
        ((3, 7), False, False, 1 + 0 + 2 * 1),
        ((3, 7), False, True, 1 + 0 + 2 * 1 + 1),
        ((3, 700), False, False, 2 + 0 + 2 * 2),
        ((3, 7), True, False, 1 + 4 + 2 * 4),
        ((1, 2, 3, 4, 500), True, True, 2 + 10 + 2 * 10 + 1),
    ],
)
def test_a_tile_is_held_whole_with_its_encoded_file(
    values: tuple[int, ...], probabilities: bool, area: bool, expected: int
) -> None:
    series = series_with(1000, 300, (16, 16))
    classes = ClassTable.from_csv("value,name\n" + "".join(f"{value},c{value}\n" for value in values))
    serving = ServingSpec(256, 0, 24, 2, len(values))
    model = model_spec(series, serving, PreparationSpec(("red", "nir"), (0.0, 0.0)), classes)
    per_pixel = tile_pixel_bytes(model, probabilities, area)
    assert per_pixel == expected
    assert tile_bytes(series, 64, per_pixel) == 64 * 64 * expected
    assert tile_bytes(series, 512, per_pixel) == 512 * 300 * expected


def test_a_plan_counts_the_tile() -> None:
    series = series_with(8192, 8192, (256, 256))
    model = model_with(series, 0)
    plan = make_plan(series, model, 8192, 1400 * MIB, probabilities=True)  # type: ignore[arg-type]
    windows = window_bytes(plan.window_height, plan.window_width, 0, pixel_bytes(series, model))  # type: ignore[arg-type]
    assert plan.needed == windows + 64 * MIB * (1 + 4 + 2 * 4)
    assert windows - BASE_BYTES <= (1400 - 448 - 64 * 13) * MIB
    assert plan.window_height >= 256
    small = make_plan(series, model, 512, 1400 * MIB, probabilities=True)  # type: ignore[arg-type]
    assert small.needed <= 1400 * MIB


def test_a_tile_that_does_not_fit_is_refused_with_one_that_does() -> None:
    series = series_with(8192, 8192, (256, 256))
    model = model_with(series, 1)
    told = "--memory 500 MiB is too little for --tile 8192 with --probabilities: a worker needs at least"
    with pytest.raises(DltsError, match=told + " 1281 MiB; give it that, or --tile 1408"):
        make_plan(series, model, 8192, 500 * MIB, probabilities=True)  # type: ignore[arg-type]
    plan = make_plan(series, model, 1408, 500 * MIB, probabilities=True)  # type: ignore[arg-type]
    assert plan.needed <= 500 * MIB
    assert plan.window_height >= 64
    make_plan(series, model, 8192, 1281 * MIB, probabilities=True)  # type: ignore[arg-type]
    with pytest.raises(DltsError, match=r"too little for --tile 16384: .* --tile 3008"):
        make_plan(series_with(16384, 16384, (256, 256)), model, 16384, 500 * MIB)  # type: ignore[arg-type]
    with pytest.raises(DltsError, match="for this series and model: a worker needs at least"):
        make_plan(series, model, 64, BASE_BYTES + 100, probabilities=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("per_pixel", "tile"),
    [
        (3, 512),
        (128, 512),  # 32 MiB, as much as the least windows
        (129, 256),
        (1500, 128),
        (100_000, 64),
    ],
)
def test_default_tiles_do_not_take_more_than_windows(per_pixel: int, tile: int) -> None:
    assert default_tile(8192, 8192, per_pixel) == tile
    assert default_tile(100, 100, per_pixel) == 64


def test_the_default_memory_holds_a_large_tile_too() -> None:
    assert default_memory(None, 1, tile=10 * MIB) == 600 * MIB
    assert default_memory(None, 1, tile=832 * MIB) == BASE_BYTES + (32 + 832) * MIB
    assert default_memory(1 << 20, 8, tile=20 * MIB) == BASE_BYTES + 52 * MIB


def test_too_little_memory_and_odd_tiles_are_refused() -> None:
    series = series_with(100, 100, (16, 16))
    model = model_with(series, 1)
    with pytest.raises(
        DltsError, match="is too little for this series and model: a worker needs at least 449"
    ):
        make_plan(series, model, 512, 100 * MIB)  # type: ignore[arg-type]
    for tile in (0, -5, 100_000):
        with pytest.raises(DltsError, match="--tile must lie in"):
            make_plan(series, model, tile, 600 * MIB)  # type: ignore[arg-type]


def test_what_takes_much_memory_to_put_together_is_told() -> None:
    """By tiles times classes, and by classes alone."""
    assert assembly_notes(10, 1024) == assembly_notes(100, 16) == []
    (many,) = assembly_notes(10, 16_384)
    assert "10 bands in 16384 tiles: putting it together takes about 1031 MiB on the machine" in many
    assert many.endswith("larger tiles (--tile) take less")
    (wide,) = assembly_notes(300, 4)
    assert "300 bands in 4 tiles" in wide
    assert wide.endswith("whatever --memory says")
