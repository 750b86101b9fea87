"""Series that are stacked already: one file per band, one layer per time step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dlts_beam.acquisitions.bands import stacked_bands
from dlts_beam.acquisitions.header import Header
from dlts_beam.acquisitions.lattice import sub_grid
from dlts_beam.acquisitions.naming import relative_name, stem
from dlts_beam.acquisitions.placing import FileTable, Placed, extent_window
from dlts_beam.acquisitions.settings import SeriesSettings
from dlts_beam.dates import natural_key, parse_time
from dlts_beam.errors import DltsError
from dlts_beam.spec.series import MaskRule, SeriesSpec, Source, TimeStep


def build_stacked(headers: Sequence[Header], placed: Placed, settings: SeriesSettings) -> SeriesSpec:
    """The spec of a series that is already one file per band, one layer per time step.

    Raises:
        DltsError: files differ in their number of layers, or the dates do not fit the layers.
    """
    headers = sorted(headers, key=lambda header: natural_key(relative_name(header.path, settings.root)))
    names = [stem(relative_name(header.path, settings.root)) for header in headers]
    counts = {len(header.bands): name for header, name in zip(headers, names, strict=True)}
    if len(counts) > 1:
        listed = ", ".join(f"{count} in {name}" for count, name in sorted(counts.items()))
        raise DltsError(f"--stacked files differ in their number of layers: {listed}; all need one per date")
    times = _layer_times(headers, settings)
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
    grid_window = extent_window([[header.path for header in chosen]], placed, settings)
    table = FileTable(placed, grid_window, settings)
    order = sorted(range(len(times)), key=lambda layer: times[layer] or "")
    sources = tuple(
        tuple(
            (Source(table.number(header), layer + 1),) if table.touches(header) else () for header in chosen
        )
        for layer in order
    )
    masks: tuple[tuple[Source, ...], ...] = ()
    reading = settings.reading
    if mask is not None:
        file = table.number(headers[mask - 1], mask=True)
        masks = tuple((Source(file, layer + 1),) for layer in order)
        reading = replace(reading, mask=replace(reading.mask or MaskRule(mask, ()), band=mask))
    return SeriesSpec(
        grid=sub_grid(placed.lattice, grid_window),
        steps=tuple(TimeStep(number, times[layer]) for number, layer in enumerate(order)),
        bands=tuple(bands),
        files=tuple(table.files),
        sources=sources,
        mask_sources=masks,
        mask_dtype=headers[mask - 1].bands[0].dtype if mask is not None else "uint8",
        reading=reading,
    )


def _layer_times(headers: Sequence[Header], settings: SeriesSettings) -> list[str | None]:
    """The time of each layer of a stacked series: from the table, or from the layers' descriptions."""
    count = len(headers[0].bands)
    if settings.undated:
        return [None] * count
    if settings.dates is not None:
        times: list[str | None] = [time for _, time in settings.dates]
        told = "the table of --dates"
    else:
        described = [parse_time(band.description or "") for band in headers[0].bands]
        if any(time is None for time in described):
            raise DltsError(
                f"--stacked: the {count} layers of {headers[0].path} bear no dates;"
                " give --dates FILE with one date a line, or --undated"
            )
        times, told = list(described), f"{headers[0].path}"
    if len(times) != count:
        raise DltsError(f"{told} has {len(times)} dates, and each --stacked file has {count} layers")
    twice = sorted({time for time in times if time is not None and times.count(time) > 1})
    if twice and settings.same_day != "separate":
        raise DltsError(f"{told} has {twice[0]} twice; correct it, or give --same-day separate")
    return times
