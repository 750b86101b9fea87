"""Series that are stacked already: one file per band, one layer per time step."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from dlts_beam.acquisitions.bands import stacked_bands
from dlts_beam.acquisitions.header import Header
from dlts_beam.acquisitions.lattice import sub_grid
from dlts_beam.acquisitions.naming import relative_name, stem
from dlts_beam.acquisitions.placing import FileTable, Placed, extent_window, without_alpha
from dlts_beam.acquisitions.settings import SeriesSettings
from dlts_beam.dates import natural_key, parse_time
from dlts_beam.errors import DltsError
from dlts_beam.spec.series import MaskRule, SeriesSpec, Source, TimeStep


def build_stacked(headers: Sequence[Header], placed: Placed, settings: SeriesSettings) -> SeriesSpec:
    """The spec of a series that is already one file per band, one layer per time step.

    Raises:
        DltsError: files differ in their number of layers or in their dates, or the dates do not fit the
            layers.
    """
    headers = sorted(headers, key=lambda header: natural_key(relative_name(header.path, settings.root)))
    # A layer is a date, whatever GDAL calls the fourth band of bytes.
    headers = [without_alpha(header, placed, settings) for header in headers]
    names = [stem(relative_name(header.path, settings.root)) for header in headers]
    counts = {len(header.bands): name for header, name in zip(headers, names, strict=True)}
    if len(counts) > 1:
        listed = ", ".join(f"{count} in {name}" for count, name in sorted(counts.items()))
        raise DltsError(f"--stacked files differ in their number of layers: {listed}; all need one per date")
    if settings.mask_band is not None and not settings.mask_band.isdigit():
        if settings.mask_band not in names:
            raise DltsError(f"--mask-band {settings.mask_band}: no file is called so; there are {names}")
        settings = replace(settings, mask_band=str(names.index(settings.mask_band) + 1))
    mask = int(settings.mask_band) if settings.mask_band is not None else None
    if mask is not None and not 1 <= mask <= len(headers):
        raise DltsError(f"--mask-band {mask}: {len(headers)} files make bands 1 to {len(headers)}")
    numbers = settings.bands or tuple(n for n in range(1, len(headers) + 1) if n != mask)
    bands = stacked_bands(headers, names, replace(settings, bands=numbers))
    chosen = [headers[band.number - 1] for band in bands]
    masking = [headers[mask - 1]] if mask is not None else []
    times, layers = _layers_in_order([*chosen, *masking], settings)
    grid_window = extent_window([[header.path for header in chosen]], placed, settings)
    table = FileTable(placed, grid_window, settings)
    sources = tuple(
        tuple(
            (Source(table.number(header), layers[header.path][step]),) if table.touches(header) else ()
            for header in chosen
        )
        for step in range(len(times))
    )
    masks: tuple[tuple[Source, ...], ...] = ()
    reading = settings.reading
    if mask is not None:
        file = table.number(headers[mask - 1], mask=True)
        masks = tuple((Source(file, layer),) for layer in layers[headers[mask - 1].path])
        reading = replace(reading, mask=replace(reading.mask or MaskRule(mask, ()), band=mask))
    return SeriesSpec(
        grid=sub_grid(placed.lattice, grid_window),
        steps=tuple(TimeStep(number, time) for number, time in enumerate(times)),
        bands=tuple(bands),
        files=tuple(table.files),
        sources=sources,
        mask_sources=masks,
        mask_dtype=headers[mask - 1].bands[0].dtype if mask is not None else "uint8",
        reading=reading,
    )


def _layers_in_order(
    headers: Sequence[Header], settings: SeriesSettings
) -> tuple[list[str | None], dict[str, list[int]]]:
    """The times of the steps in order, and path -> the layer (from 1) that each file has for each step.

    A table of dates counts layers by number. Without one, every file tells the dates of its own layers, in
    whatever order they are.
    """
    count = len(headers[0].bands)
    if settings.undated:
        return [None] * count, {header.path: list(range(1, count + 1)) for header in headers}
    if settings.dates is not None:
        told, found = "the table of --dates", [[time for _, time in settings.dates]] * len(headers)
    else:
        told, found = headers[0].path, [_described_times(header) for header in headers]
    if len(found[0]) != count:
        raise DltsError(f"{told} has {len(found[0])} dates, and each --stacked file has {count} layers")
    times = sorted(found[0])
    twice = [time for time, next_time in itertools.pairwise(times) if time == next_time]
    if twice and settings.same_day != "separate":
        raise DltsError(f"{told} has {twice[0]} twice; correct it, or give --same-day separate")
    for header, own in zip(headers, found, strict=True):
        pairs = zip(times, sorted(own), strict=True)
        gap = next((min(ours, theirs) for ours, theirs in pairs if ours != theirs), None)
        if gap is not None:
            lacks = header.path if times.count(gap) > own.count(gap) else headers[0].path
            other = headers[0].path if lacks == header.path else header.path
            raise DltsError(
                f"--stacked: {lacks} lacks the date {gap} that a layer of {other} bears; correct the layers'"
                " descriptions, or give --dates FILE with one date a line for the layers of all files"
            )
    return list(times), {
        header.path: [layer + 1 for layer in sorted(range(count), key=own.__getitem__)]
        for header, own in zip(headers, found, strict=True)
    }


def _described_times(header: Header) -> list[str]:
    """The time that the description of each layer tells."""
    times = [parse_time(band.description or "") for band in header.bands]
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        raise DltsError(
            f"--stacked: the {len(times)} layers of {header.path} bear no dates;"
            " give --dates FILE with one date a line, or --undated"
        )
    return known
