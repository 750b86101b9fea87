from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from dlts_beam.io.raster.calls import ReadCall, masks_of, plan_calls
from dlts_beam.spec import Band, Source, SourceFile, Warp
from tests.dlts_beam.spec.examples import make_series_spec

PLAIN = SourceFile("a.tif", 0, 0, 9, 9, 1, "1")
WARPED = replace(PLAIN, warp=Warp("bilinear"))
BYTE, WIDE = np.dtype("uint8"), np.dtype("uint16")


def bands(*nodata: float | None, dtype: str = "uint8") -> list[Band]:
    return [Band(k + 1, f"b{k}", dtype, value) for k, value in enumerate(nodata)]


def test_all_bands_of_a_file_are_read_in_one_call():
    layers = [(Source(0, 3), Source(1, 3)), (Source(0, 1), Source(1, 1))]
    assert plan_calls(layers, bands(0, 255), [PLAIN, PLAIN]) == [
        ReadCall(0, (0, 1), (3, 1), BYTE, None),
        ReadCall(1, (0, 1), (3, 1), BYTE, None),
    ]


def test_a_warped_file_is_read_once_per_nodata_value():
    layers = [(Source(0, 1),), (Source(0, 2),), (Source(0, 3),), (Source(0, 4),)]
    assert plan_calls(layers, bands(0, 255, 0, -9999), [WARPED]) == [
        ReadCall(0, (0, 2), (1, 3), BYTE, 0),
        ReadCall(0, (1,), (2,), BYTE, 255),
        ReadCall(0, (3,), (4,), BYTE, None),
    ]


def test_types_are_read_apart():
    mixed = [Band(1, "a", "uint8"), Band(2, "b", "uint16"), Band(3, "c", "uint8")]
    layers = [(Source(0, 1),), (Source(0, 2),), (Source(0, 3),)]
    assert plan_calls(layers, mixed, [PLAIN]) == [
        ReadCall(0, (0, 2), (1, 3), BYTE, None),
        ReadCall(0, (1,), (2,), WIDE, None),
    ]


def test_every_source_is_read_once_and_in_the_order_of_its_layer():
    """All series of up to three files in each of two layers."""
    choices = [p for n in range(4) for p in itertools.permutations(range(3), n)]
    for first, second in itertools.product(choices, choices):
        layers = [tuple(Source(f, out + 1) for f in order) for out, order in enumerate((first, second))]
        calls = plan_calls(layers, bands(0, 0), [PLAIN] * 3)
        for out, layer in enumerate(layers):
            seen = [(c.file, c.indexes[c.outs.index(out)]) for c in calls if out in c.outs]
            assert seen == [(source.file, source.index) for source in layer]
        files = [call.file for call in calls]
        if first == second:
            assert len(set(files)) == len(files)


def test_no_sources_no_calls():
    assert plan_calls([(), ()], bands(0, 0), []) == []


def test_masks_belong_to_the_file_that_holds_them():
    spec = make_series_spec()
    assert masks_of(spec, 0, 0) == (Source(0, 4),)
    assert masks_of(spec, 2, 1) == (Source(1, 4),)
    assert masks_of(spec, 1, 1) == ()
    # The mask of another extent is all there is at this time step.
    assert masks_of(spec, 2, 0) == (Source(1, 4),)
