from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dlts_beam.certificate import Certificate, TileKeys, TileRecord, make_certificate
from dlts_beam.errors import DltsError
from dlts_beam.grid import Tile, Window, iter_tiles
from dlts_beam.spec import (
    Band,
    MaskRule,
    ModelSpec,
    PreparationSpec,
    Reading,
    SeriesSpec,
    ServingSpec,
    Source,
)
from dlts_beam.spec.series import SourceFile
from tests.dlts_beam.test_fit_rule import every, series_of
from tests.fakes import CLASSES, model_spec

SERVING = ServingSpec(64, 1, 2, 2, 2)
PREPARATION = PreparationSpec(("red", "nir"), (0.0, 0.0))


def mosaic() -> SeriesSpec:
    """Two time steps of two files each, left and right half of 10 x 10 pixels."""
    series = series_of(every("2020-01-01", 10, 2))
    files = tuple(
        SourceFile(f"/{step}{side}.tif", 0, 5 * side, 10, 5, 100, f"{step}{side}")
        for step in range(2)
        for side in range(2)
    )
    sources = tuple(
        tuple((Source(2 * step, b + 1), Source(2 * step + 1, b + 1)) for b in range(2)) for step in range(2)
    )
    return dataclasses.replace(series, files=files, sources=sources)


SERIES = mosaic()
MODEL = model_spec(SERIES, SERVING, PREPARATION)
LEFT, RIGHT = Tile(0, 0, Window(0, 0, 10, 3)), Tile(0, 1, Window(0, 6, 10, 4))


def keys(
    series: SeriesSpec = SERIES, model: ModelSpec = MODEL, digest: str = "d", engine: str = "onnx"
) -> Any:
    made = TileKeys(series, model, digest, engine)
    return made.key(LEFT), made.key(RIGHT)


def with_file(number: int, **changes: Any) -> SeriesSpec:
    files = list(SERIES.files)
    files[number] = dataclasses.replace(files[number], **changes)
    return dataclasses.replace(SERIES, files=tuple(files))


def test_the_same_content_has_the_same_keys_wherever_it_lies() -> None:
    assert keys() == keys()
    assert keys(with_file(0, path="/elsewhere/00.tif")) == keys()
    assert len(set(keys())) == 2


def test_a_changed_file_changes_the_keys_of_the_tiles_it_touches() -> None:
    left, right = keys()
    for changes in ({"stamp": "later"}, {"size": 101}, {"sha256": "0" * 64}):
        changed = keys(with_file(0, **changes))
        assert changed[0] != left
        assert changed[1] == right


def test_a_file_that_only_the_halo_touches_counts() -> None:
    beside = Tile(0, 0, Window(0, 0, 10, 5))
    keys_of = [
        TileKeys(series, MODEL, "d", "onnx").key(beside) for series in (SERIES, with_file(1, stamp="x"))
    ]
    assert keys_of[0] != keys_of[1]
    reading = Reading(mask=MaskRule(3, (1,), dilate=3))
    masks = ((Source(0, 3), Source(1, 3)), (Source(2, 3), Source(3, 3)))
    wide = dataclasses.replace(SERIES, reading=reading, mask_sources=masks)
    pixel_model = model_spec(SERIES, dataclasses.replace(SERVING, halo=0), PREPARATION)
    touched = dataclasses.replace(wide, files=with_file(1, stamp="x").files)
    keys_of = [TileKeys(series, pixel_model, "d", "onnx").key(LEFT) for series in (wide, touched)]
    assert keys_of[0] != keys_of[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda: keys(digest="other model"),
        lambda: keys(engine="tensorflow"),
        lambda: keys(model=model_spec(SERIES, SERVING, dataclasses.replace(PREPARATION, min_valid=2))),
        lambda: keys(model=model_spec(SERIES, SERVING, dataclasses.replace(PREPARATION, fill=(1.0, 0.0)))),
        lambda: keys(model=dataclasses.replace(MODEL, numerics_version=99)),
        lambda: keys(dataclasses.replace(SERIES, reading=Reading(valid_min=0.0))),
        lambda: keys(
            dataclasses.replace(SERIES, bands=(Band(1, "red", "uint16", scale=2.0), SERIES.bands[1]))
        ),
        lambda: keys(dataclasses.replace(SERIES, steps=series_of(every("2021-01-01", 10, 2)).steps)),
        lambda: keys(dataclasses.replace(SERIES, grid=dataclasses.replace(SERIES.grid, crs="EPSG:32722"))),
    ],
)
def test_whatever_decides_the_pixels_changes_every_key(change: Any) -> None:
    assert not set(change()) & set(keys())


def test_names_colours_metrics_and_unused_bands_change_no_key() -> None:
    assert keys(model=dataclasses.replace(MODEL, metrics={"accuracy": 0.5})) == keys()
    more = dataclasses.replace(
        SERIES,
        bands=(*SERIES.bands, Band(3, "swir", "uint16")),
        sources=tuple((*layers, (Source(0, 3),)) for layers in SERIES.sources),
    )
    assert keys(more) == keys()


def records() -> list[TileRecord]:
    tiles = iter_tiles(10, 10, 6)
    return [TileRecord(tile.key, tile.window, "k", "c", (1, 2), tile.window.pixels - 3) for tile in tiles]


def certify(found: list[TileRecord]) -> Certificate:
    return make_certificate(
        series=SERIES, model=MODEL, digest="d", engine="onnx", tile_size=6, tiles=list(iter_tiles(10, 10, 6)),
        records=found, probability_levels=None, files={},
    )  # fmt: skip


def test_a_certificate_adds_up_and_survives_its_json() -> None:
    certificate = certify(records()[::-1])
    assert [record.name for record in certificate.tiles] == [
        "r00000c00000", "r00000c00001", "r00001c00000", "r00001c00001",
    ]  # fmt: skip
    assert (certificate.classified, certificate.nodata_pixels) == (12, 88)
    assert certificate.class_pixels == {"darker": 4, "brighter": 8}
    assert Certificate.from_json(certificate.to_json()) == certificate
    assert certificate.classes == CLASSES


def test_missing_twofold_and_miscounted_tiles_are_refused() -> None:
    with pytest.raises(DltsError, match="1 of 4 tiles are missing, first r00000c00001"):
        certify([records()[0], *records()[2:]])
    changed = dataclasses.replace(records()[0], checksum="other")
    with pytest.raises(DltsError, match="r00000c00000 was made twice"):
        certify([*records(), changed])
    assert certify([*records(), records()[0]]).tiles == tuple(records())
    with pytest.raises(DltsError, match="r00000c00000 do not add up"):
        certify([dataclasses.replace(records()[0], nodata=0), *records()[1:]])
