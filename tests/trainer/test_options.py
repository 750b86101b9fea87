from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid, crs_key
from dlts_beam.sampling import block_ids
from dlts_beam.spec import IndexSpec, Timeline
from tests.trainer.helpers import make_fake, write_fake
from trainer.dataset import Samples, read_samples
from trainer.options import (
    blocks_caution,
    joined,
    parse_preparation,
    parse_timeline,
    prepared_days,
    read_config,
    sample_groups,
)
from trainer.split import assign_splits

SPEC = make_fake(steps=24).spec
WRONG_TIMELINES = [
    "", "a/b/c", "1", "0/10", "0/10/0", "10/0/1", "13-01/02-01/5", "0/inf/16", "0/352/inf", "nan/352/16",
    "0/1e308/1e-308",
]  # fmt: skip


def test_timelines() -> None:
    assert parse_timeline(None, "interpolate", SPEC) is None
    assert parse_timeline("0/352/16", "interpolate", SPEC) == Timeline(0.0, 16.0, 23)
    assert parse_timeline("09-01/08-31/30", "median", SPEC) == Timeline(243.0, 30.0, 13, False, "median")
    assert parse_timeline("5", "max:b1", SPEC) == Timeline(0.0, 92.0, 5, True, "max", "b1")


@pytest.mark.parametrize("text", WRONG_TIMELINES)
def test_wrong_timelines(text: str) -> None:
    with pytest.raises(DltsError, match="--timeline must look like"):
        parse_timeline(text, "interpolate", SPEC)


@pytest.mark.parametrize("text", ["10001", "0/1e12/1"])
def test_a_timeline_that_no_memory_holds_is_refused(text: str) -> None:
    with pytest.raises(DltsError, match=f"--timeline {text} has .* time steps: give 10,000 or fewer"):
        parse_timeline(text, "interpolate", SPEC)


def test_wrong_composites() -> None:
    with pytest.raises(DltsError, match="needs --timeline"):
        parse_timeline(None, "median", SPEC)
    with pytest.raises(DltsError, match="timeline method must be one of"):
        parse_timeline("0/352/16", "mean", SPEC)
    for composite in ("max", "median:b1"):
        told = f"--timeline 12 --composite {composite}: a composite by maximum names the band"
        with pytest.raises(DltsError, match=told):
            parse_timeline("12", composite, SPEC)


def test_preparation_from_flags() -> None:
    made = parse_preparation(SPEC, ["b2", "b1"], ["ND=b2,b1"], None, 2)
    assert made.names == ("b2", "b1", "ND")
    assert made.indices == (IndexSpec("ND", "b2", "b1"),)
    assert made.min_valid == 2
    for bands, indices, timeline, text in (
        (["b9"], [], None, "no band b9"),
        (["b1", "b1"], [], None, "b1 is named twice"),
        (None, ["b1=b1,b2"], None, "b1 is named twice"),
        (None, ["ND"], None, "must look like NDVI=NIR,RED"),
        (["b1"], ["ND=b1,b2"], None, "--index ND=b1,b2 needs b2, which --bands leaves out"),
        (["b1"], ["ND=b1,b9"], None, "the series has no band b9; it has b1, b2"),
        (None, [], Timeline(0, 16, 3, True, "max", "EVI"), "no such band or index"),
    ):
        with pytest.raises(DltsError, match=text):
            parse_preparation(SPEC, bands, indices, timeline, 1)


def test_groups_and_days(tmp_path: Path) -> None:
    fake = make_fake((4, 4))
    fake.kept["place"] = ["north"] * 3 + ["south"] * 5
    fake.features[:] = 7
    fake.days += np.arange(8)[:, None] * 365
    samples = read_samples([write_fake(tmp_path, fake)])
    assert len(set(sample_groups(samples, "sample"))) == 8
    assert set(sample_groups(samples, "polygon")) == {"0:7"}
    assert set(sample_groups(samples, "place")) == {"north", "south"}
    with pytest.raises(DltsError, match=r"--split-by region.*sample, block, polygon, place"):
        sample_groups(samples, "region")
    plain = parse_preparation(fake.spec, None, [], None, 1)
    assert prepared_days(samples, plain) == (0.0, 16.0, 32.0, 48.0, 64.0, 80.0)
    regular = replace(plain, timeline=Timeline(4.0, 30.0, 3))
    assert prepared_days(samples, regular) == (0.0, 30.0, 60.0)


@pytest.mark.parametrize("flag", ["--split-by", "--leave-out"])
def test_samples_of_unknown_groups_are_refused(tmp_path: Path, flag: str) -> None:
    fake = make_fake((4, 4))
    fake.kept["farm"] = ["", " ", "", *"abcde"]
    fake.kept["note"] = [""] * 8  # of no interest
    samples = read_samples([write_fake(tmp_path, fake)])
    told = f"^{flag} farm: 3 of 8 samples have no value in that column, so that nobody knows where they"
    with pytest.raises(DltsError, match=told):
        sample_groups(samples, "farm", flag)
    assert len(set(sample_groups(samples, "sample", flag))) == 8


def test_blocks_of_several_folders_are_of_one_size(tmp_path: Path) -> None:
    first, second = make_fake((40, 40), seed=1), make_fake((40, 40), seed=1)
    second.spec = replace(second.spec, block_size=330.0)  # a slightly larger extent
    folders = [write_fake(tmp_path / "a", first), write_fake(tmp_path / "b", second)]
    alone = read_samples(folders[1:])
    assert sample_groups(alone, "block").tolist() == alone.blocks.tolist()
    samples = read_samples(folders)
    blocks, pixels = sample_groups(samples, "block"), sample_groups(samples, "sample")
    assert set(blocks) == set(alone.blocks)
    splits = assign_splits(samples.class_ids, blocks, 2, 0.15, 0.15)
    for pixel in np.unique(pixels):
        assert len(set(splits[pixels == pixel])) == 1


def test_a_pixel_on_a_border_of_blocks_is_in_one_of_them(tmp_path: Path) -> None:
    """Two grids give the centre of one pixel with rounding errors of their own."""
    folders = []
    for name, left in (("a", 0.0), ("b", -2e-9)):
        fake = make_fake((20, 20), seed=3)
        grid = Grid(fake.spec.grid.crs, (0.1, 0.0, left, 0.0, -0.1, 2e-9 + left), 40, 50)
        fake.spec = replace(fake.spec, grid=grid, block_size=0.05)
        folders.append(write_fake(tmp_path / name, fake))
    samples = read_samples(folders)
    blocks, pixels = sample_groups(samples, "block"), sample_groups(samples, "sample")
    assert len(set(zip(blocks, pixels, strict=True))) == len(set(pixels)) == 40


def read_in(tmp_path: Path, systems: Sequence[tuple[str, float]]) -> Samples:
    """Samples of a folder for each CRS and size of blocks."""
    folders = []
    for number, (crs, size) in enumerate(systems):
        fake = make_fake((20, 20), seed=number)
        grid = replace(fake.spec.grid, crs=crs)
        fake.spec = replace(fake.spec, grid=grid, block_size=size)
        folders.append(write_fake(tmp_path / str(number), fake))
    return read_samples(folders)


def test_blocks_of_two_coordinate_systems_are_kept_apart(tmp_path: Path) -> None:
    own = "LOCAL_CS[mine]"
    systems = [("EPSG:32721", 300.0), ("EPSG:32722", 450.0), ("EPSG:32721", 330.0), (own, 90.0)]
    samples = read_in(tmp_path, systems)
    blocks = sample_groups(samples, "block")
    sizes = {"EPSG:32721": 330.0, "EPSG:32722": 450.0, crs_key(own): 90.0}
    for folder, key in enumerate(("EPSG:32721", "EPSG:32722", "EPSG:32721", crs_key(own))):
        inside = samples.folders == folder
        named = block_ids(samples.x[inside], samples.y[inside], sizes[key])
        assert blocks[inside].tolist() == [f"{key} {block}" for block in named]
    caution = blocks_caution(samples, "block")
    assert caution is not None
    assert caution.startswith("the samples are in 3 coordinate systems (")
    assert "EPSG:32721, EPSG:32722" in caution
    assert blocks_caution(samples, "sample") is None


def test_blocks_of_two_spellings_of_one_coordinate_system_are_the_same(tmp_path: Path) -> None:
    spelled = 'PROJCS["{}",UNIT["{}",1],AUTHORITY["EPSG","32721"]]'
    geotiff, erdas = spelled.format("UTM 21S", "metre"), spelled.format("UTM 21S", "meters")
    samples = read_in(tmp_path, [(geotiff, 300.0), (erdas, 300.0)])
    assert sample_groups(samples, "block").tolist() == samples.blocks.tolist()
    assert blocks_caution(samples, "block") is None


def test_groups_with_a_place_in_common_are_one() -> None:
    groups = np.array(["a", "a", "b", "c", "d", "e", "e"])
    places = np.array(["1", "2", "3", "2", "4", "4", "5"])
    assert joined(groups, places).tolist() == ["a", "a", "b", "a", "d", "d", "d"]
    # A chain of a hundred groups, each with a place of the next one, in any order of samples.
    chain, links = np.repeat(np.arange(100), 2).astype(str), np.arange(200) // 2 + np.arange(200) % 2
    order = np.random.default_rng(0).permutation(200)
    assert set(joined(chain[order], links[order].astype(str))) == {"0"}


def test_model_config(tmp_path: Path) -> None:
    assert read_config(None) == {}
    assert read_config('{"units": 4}') == {"units": 4}
    (tmp_path / "c.json").write_text('{"units": 8}')
    assert read_config(str(tmp_path / "c.json")) == {"units": 8}
    (tmp_path / "c.json").write_text("[1]")
    with pytest.raises(DltsError, match="must hold an object"):
        read_config(str(tmp_path / "c.json"))
    for given in ("[1,2]", str(tmp_path / "d.json")):
        with pytest.raises(DltsError, match=r"^--model-config takes a JSON file, or JSON .* no file "):
            read_config(given)
