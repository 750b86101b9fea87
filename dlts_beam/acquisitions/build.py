"""Headers on one lattice to the spec of a series: the last step of the check, pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dlts_beam.acquisitions.bands import plan_bands
from dlts_beam.acquisitions.header import Header
from dlts_beam.acquisitions.lattice import covered_pixels, sub_grid
from dlts_beam.acquisitions.naming import first_few, read_names
from dlts_beam.acquisitions.placing import FileTable, Placed, extent_window, without_alpha
from dlts_beam.acquisitions.settings import SeriesSettings
from dlts_beam.acquisitions.steps import Step, check_names, group_steps
from dlts_beam.dates import natural_key
from dlts_beam.errors import DltsError
from dlts_beam.spec.series import MaskRule, SeriesSpec, Source, TimeStep


def build_series(headers: Sequence[Header], placed: Placed, settings: SeriesSettings) -> SeriesSpec:
    """The spec of a series of images, each with one or all bands of one acquisition.

    Raises:
        DltsError: times, bands or extents do not make a series.
    """
    images = read_names(headers, settings)
    check_names(images)
    plan = plan_bands(images, settings)
    # A band that is asked for is data, whatever GDAL calls the fourth band of bytes.
    images = [
        replace(image, header=without_alpha(image.header, placed, settings))
        if image.header.alpha in plan.reads(image)
        else image
        for image in images
    ]
    steps = group_steps(images, placed.boxes, settings)
    grid_window = extent_window(
        [[image.header.path for image in step.images] for step in steps], placed, settings
    )
    table = FileTable(placed, grid_window, settings)
    sources, masks = [], []
    for step in steps:
        sources.append(
            tuple(
                tuple(
                    Source(table.number(image.header), index)
                    for image in step.images
                    if (index := plan.indexes(image, band.number)) is not None and table.touches(image.header)
                )
                for band in plan.bands
            )
        )
        masks.append(
            tuple(
                Source(table.number(image.header, mask=True), index)
                for image in step.images
                if plan.mask is not None
                and (index := plan.indexes(image, plan.mask)) is not None
                and table.touches(image.header)
            )
        )
    reading = settings.reading
    if plan.mask is not None:
        reading = replace(reading, mask=replace(reading.mask or MaskRule(plan.mask, ()), band=plan.mask))
    _check_labels(steps)
    return SeriesSpec(
        grid=sub_grid(placed.lattice, grid_window),
        steps=tuple(TimeStep(number, step.time) for number, step in enumerate(steps)),
        bands=plan.bands,
        files=tuple(table.files),
        sources=tuple(sources),
        mask_sources=tuple(masks) if plan.mask is not None else (),
        mask_dtype=plan.mask_dtype,
        reading=reading,
    )


def coverage(spec: SeriesSpec) -> list[float]:
    """Share of the grid that the sources of each time step cover, holes in them not counted."""
    shares = []
    for step in spec.sources:
        files = {source.file for layer in step for source in layer}
        covered = covered_pixels((spec.files[number].window for number in sorted(files)), spec.grid.window)
        shares.append(covered / spec.grid.window.pixels)
    return shares


def _check_labels(steps: Sequence[Step]) -> None:
    """Every time step must have a file for every band label that any of them has."""
    every = {image.label for step in steps for image in step.images}
    if every == {None}:
        return
    gaps = []
    for number, step in enumerate(steps):
        lacking = sorted((label or "" for label in every - {i.label for i in step.images}), key=natural_key)
        if lacking:
            gaps.append(f"{step.time or f'step {number}'} lacks {', '.join(lacking)}")
    if gaps:
        raise DltsError(f"not every date has a file for every band: {first_few(gaps)}; add or remove files")
