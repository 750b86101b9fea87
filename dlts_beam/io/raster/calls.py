"""Which files are read for one time step, in which order and with which masks: decided before any reading."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dlts_beam.spec.series import Band, SeriesSpec, Source, SourceFile
from dlts_beam.tensors.reading import holds


class ReadCall(NamedTuple):
    """One read: some bands of one file, all of one data type.

    Attributes:
        file: number of the file.
        outs: band positions in the cube, ascending.
        indexes: bands in the file, as many.
        dtype: of these bands.
        nodata: for a warped file, what the resampling leaves out; None otherwise.
    """

    file: int
    outs: tuple[int, ...]
    indexes: tuple[int, ...]
    dtype: np.dtype
    nodata: float | None


def plan_calls(
    layers: Sequence[tuple[Source, ...]], bands: Sequence[Band], files: Sequence[SourceFile]
) -> list[ReadCall]:
    """Return the calls for one time step; done in this order, the first valid source of each layer wins.

    Args:
        layers: sources of each band of the cube.
        bands: the bands, as many.
        files: files of the series.
    """
    calls = []
    for number, wanted in _in_order(layers):
        groups: dict[tuple[np.dtype, float | None], list[tuple[int, int]]] = {}
        for out, index in sorted(wanted):
            dtype, nodata = np.dtype(bands[out].dtype), None
            if files[number].warp is not None and holds(dtype, bands[out].nodata):
                nodata = bands[out].nodata
            groups.setdefault((dtype, nodata), []).append((out, index))
        for (dtype, nodata), members in groups.items():
            outs, indexes = zip(*members, strict=True)
            calls.append(ReadCall(number, outs, indexes, dtype, nodata))
    return calls


def _in_order(layers: Sequence[tuple[Source, ...]]) -> list[tuple[int, list[tuple[int, int]]]]:
    """(file, [(out, index)]): each file once where that keeps the order of every layer, else by depth."""
    by_file: dict[int, list[tuple[int, int]]] = {}
    by_depth: list[tuple[int, list[tuple[int, int]]]] = []
    for depth in range(max((len(layer) for layer in layers), default=0)):
        level: dict[int, list[tuple[int, int]]] = {}
        for out, layer in enumerate(layers):
            if depth < len(layer):
                source = layer[depth]
                by_file.setdefault(source.file, []).append((out, source.index))
                level.setdefault(source.file, []).append((out, source.index))
        by_depth.extend(level.items())
    place = {number: k for k, number in enumerate(by_file)}
    for layer in layers:
        places = [place[source.file] for source in layer]
        if any(later <= sooner for sooner, later in itertools.pairwise(places)):
            return by_depth
    return list(by_file.items())


def masks_of(spec: SeriesSpec, step: int, file: int) -> tuple[Source, ...]:
    """Sources of the mask band that belong to an image of a time step.

    A mask belongs to the file that holds it, or to the file of the same extent; of several such files
    of one time step, to the one at the same place in the order of the sources. Where it can be matched
    to none, all masks of the time step count: a pixel is dropped if any of them says so.
    """
    layer = spec.mask_sources[step]
    own = tuple(source for source in layer if source.file == file)
    if own:
        return own
    window = spec.files[file].window
    same = [source for source in layer if spec.files[source.file].window == window]
    for images in spec.sources[step]:
        numbers = [s.file for s in images if spec.files[s.file].window == window]
        if file in numbers and len(numbers) == len(same):
            return (same[numbers.index(file)],)
    return tuple(same) or layer
